//! What portknockd and its commands inherit, and what its processes may use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use portknock_tests::{Daemon, Lab, PATIENCE, wait_until};

/// A door whose command records the descriptors and the umask that it has.
const DOOR: &str = "[door]\nsequence = 7000,5000,6000\nseq_timeout = 30\n\
    start_command = for fd in /proc/$$/fd/*; do if [ -e $fd ]; then all=\"$all ${fd##*/}\"; fi; done; \
    echo $all > %DIR%/descriptors; umask > %DIR%/umask; echo done > %DIR%/done\n";

/// Starts portknockd after these shell commands, opens the door, and gives the descriptors and umask of its command.
fn inherited(lab: &Lab, before: &str) -> (Daemon, String, String) {
    let script = format!("{before}; exec \"$@\"");
    let daemon = Daemon::portknockd_under(&lab.server, &["sh", "-c", &script, "sh"], DOOR);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 5000 6000");
    daemon.wait_for("OPEN SESAME");
    assert!(wait_until(PATIENCE, || daemon.read("done") == "done\n"));
    let words = |name: &str| daemon.read(name).split_whitespace().collect::<Vec<_>>().join(" ");
    let (descriptors, umask) = (words("descriptors"), words("umask"));
    (daemon, descriptors, umask)
}

#[test]
fn commands_inherit_no_descriptors_and_a_sane_umask() {
    let lab = Lab::pair();
    for (before, expected) in [("umask 0", "0022"), ("umask 777", "0077"), ("umask 027", "0027")] {
        let (daemon, descriptors, umask) =
            inherited(&lab, &format!("{before}; exec 3</dev/null 7<>/dev/zero 9</etc/passwd"));
        assert_eq!((&*descriptors, &*umask), ("0 1 2", expected), "after {before}");
        // The daemon's own files do not depend on it.
        let log = fs::metadata(daemon.path("log")).expect("the log");
        assert_eq!(log.permissions().mode() & 0o027, 0);
        let reader = format!("/proc/{}/fd/9", daemon.reader());
        assert_ne!(fs::read_link(reader).ok().as_deref(), Some(Path::new("/etc/passwd")));
    }
}

#[test]
fn closed_standard_streams_are_replaced_before_anything_is_opened() {
    let lab = Lab::pair();
    for closed in ["exec <&- >&- 2>&-", "exec <&-", "exec 2>&-"] {
        let (daemon, descriptors, _) = inherited(&lab, closed);
        assert_eq!(descriptors, "0 1 2", "after {closed}");
        let stream = if closed.ends_with("2>&-") { "2" } else { "0" };
        let target = fs::read_link(format!("/proc/{}/fd/{stream}", daemon.id())).expect("an open descriptor");
        assert_eq!(target, Path::new("/dev/null"), "after {closed}");
    }
}
