//! Resources that portknockd and its commands inherit, and limits of its reader.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, Output, Process, WAIT_TIMEOUT, binary, cost, other_users, require, wait_until};
use tempfile::TempDir;

/// A door whose command records its descriptors and its umask.
const DOOR: &str = "[door]\nsequence = 7000,5000,6000\nseq_timeout = 30\n\
    start_command = for fd in /proc/$$/fd/*; do if [ -e $fd ]; then all=\"$all ${fd##*/}\"; fi; done; \
    echo $all > %DIR%/descriptors; umask > %DIR%/umask; echo done > %DIR%/done\n";

/// Starts portknockd after these shell commands, opens the door, and returns the descriptors and
/// umask of its command.
fn inherited(lab: &Lab, before: &str) -> (Daemon, String, String) {
    let script = format!("{before}; exec \"$@\"");
    let daemon = Daemon::portknockd_under(&lab.server, &["sh", "-c", &script, "sh"], DOOR);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 5000 6000");
    daemon.wait_for("OPEN SESAME");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done") == "done\n"));
    let words = |name: &str| daemon.read(name).split_whitespace().collect::<Vec<_>>().join(" ");
    let (descriptors, umask) = (words("descriptors"), words("umask"));
    (daemon, descriptors, umask)
}

#[test]
fn commands_inherit_no_descriptors_and_a_safe_umask() {
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

/// The hard limit of a process (proc_pid_limits(5)); `None` for an unlimited one.
fn limit(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a known limit");
    line[name.len()..].split_whitespace().nth(1).expect("a hard limit").parse().ok()
}

fn oom_score(pid: u32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it runs");
    text.trim().parse().expect("a number")
}

#[test]
fn the_reader_has_limits_and_ends_first_when_memory_runs_out() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let reader = daemon.reader();
    for (name, most) in [
        ("Max core file size", 0),
        ("Max file size", 0),
        ("Max processes", 0),
        ("Max open files", 16),
        ("Max address space", 1 << 30),
    ] {
        let limit = limit(reader, name);
        assert!(limit.is_some_and(|limit| limit <= most), "{name}: {limit:?}");
    }
    assert_eq!(limit(daemon.id(), "Max address space"), None, "its own limit is not the daemon's");
    assert_eq!(oom_score(reader), oom_score(daemon.id()) + 500);
    assert_eq!(daemon.count("keeps privileges"), daemon.count("the user root"), "{}", daemon.log());
}

#[test]
fn a_reader_whose_attempts_outgrow_its_memory_is_restarted_and_attempts_continue() {
    let lab = Lab::pair();
    let config = |attempts: u32| format!("[options]\nMaxAttempts = {attempts}\n{DOOR}");
    let daemon = Daemon::portknockd(&lab.server, &config(1_000));
    let first = daemon.reader();
    let before = limit(first, "Max address space").expect("a limit");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 5000");
    daemon.wait_for("Stage 2");
    daemon.reload(&config(1_000_000));
    assert!(wait_until(WAIT_TIMEOUT, || cost::reader(daemon.id()).is_some_and(|next| next != first)));
    let after = limit(daemon.reader(), "Max address space").expect("a limit");
    assert!(after > before + 300_000_000, "{before} and then {after}");
    lab.knock_from("10.0.0.2", "10.0.0.1", "6000");
    daemon.wait_for("OPEN SESAME");
    // A smaller limit causes no restart.
    let second = daemon.reader();
    daemon.reload(&config(1_000));
    assert_eq!(daemon.reader(), second);
}

/// The user of a process (proc_pid_status(5)).
fn user(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a user");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn a_reader_started_by_root_shares_its_user_with_no_other_program() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let user = user(daemon.reader());
    // In a user namespace with few users the user stays the same, or becomes `nobody`, and that is
    // logged.
    if daemon.count("keeps privileges that it does not need: the user") == 0 {
        let known = lab.server.run(&format!("getent passwd {user}"));
        assert!(known.stdout.is_empty() || known.stdout.starts_with("portknock:"), "{}", known.stdout);
        assert_ne!(user, 0);
    }
}

#[test]
fn a_process_that_occupies_the_daemons_processor_keeps_no_door_open() {
    ["taskset", "timeout"].into_iter().for_each(require);
    let lab = Lab::pair();
    let door = format!("{DOOR}cmd_timeout = 2\nstop_command = true\n");
    // Like a reader that never waits: a process of the daemon's session, on the one processor that
    // the daemon has.
    let burn = "timeout 8 sh -c 'while :; do :; done' & exec \"$@\"";
    let pinned = ["taskset", "-c", "0", "sh", "-c", burn, "sh"];
    let daemon = Daemon::portknockd_under(&lab.server, &pinned, &door);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 5000 6000");
    daemon.wait_for("OPEN SESAME");
    let opened = Instant::now();
    daemon.wait_for("command timeout");
    let open = opened.elapsed();
    assert!((Duration::from_millis(1_700)..Duration::from_millis(2_500)).contains(&open), "{open:?}");
}

/// A directory that is not intended for temporary files as /tmp is; the sandbox has a separate
/// /run.
fn system_directory() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/run").expect("a directory in /run")
}

#[test]
fn secrets_that_others_can_read_are_warned_of_at_the_start_and_in_check() {
    let lab = Lab::pair();
    let directory = system_directory();
    let path = |name: &str| directory.path().join(name);
    let text = format!(
        "[options]\nInterface = lo\nStateFile = {0}/openings\nControlSocket = none\n[door]\none_time_sequences = {0}/list\n\
         command = true\n",
        directory.path().display()
    );
    fs::write(path("knockd.conf"), text).expect("a test directory");
    fs::write(path("list"), " 7391,2284:udp,48213\n").expect("a test directory");
    let mode = |mode| {
        for name in ["knockd.conf", "list"] {
            fs::set_permissions(path(name), Permissions::from_mode(mode)).expect("a test file");
        }
    };
    let conf = path("knockd.conf").display().to_string();
    let checks = || {
        let [daemon, cli] = [["portknockd", "--check", "-c", &conf].as_slice(), &["portknock", "check", &conf]]
            .map(|words| Output::of(lab.server.command(binary(words[0])).args(&words[1..])));
        let start = Process::spawn(lab.server.command(binary("portknockd")).args(["-c", &conf]));
        start.wait_for("starting up");
        [daemon.stdout, cli.stdout, start.output()]
    };
    mode(0o644);
    let warnings = checks();
    for text in &warnings {
        assert_eq!(text.matches("warning[PK071]: any user can read ").count(), 2, "{text}");
    }
    // Following the advice solves the problem.
    for line in warnings[0].lines().filter_map(|line| line.trim().strip_prefix("= help: run: ")) {
        lab.server.ok(line);
    }
    for text in checks() {
        assert!(!text.contains("PK071"), "{text}");
    }
}

#[test]
fn commands_that_the_service_forbids_are_named_at_the_start_and_in_check() {
    require("setpriv");
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let config = "[door]\nsequence = 7391,2284:udp,48213\ncmd_timeout = 9\n\
        start_command = sudo iptables -I INPUT -s %IP% -j ACCEPT && echo %IP% >> /etc/allowed\nstop_command = ufw reload\n";
    let named = |text: &str| {
        let found: Vec<_> = text.lines().filter(|line| line.contains("warning[PK070]")).collect();
        assert_eq!(found.len(), 3, "{text}");
        for (line, name) in found.iter().zip(["`sudo`", "/etc/allowed", "`ufw`"]) {
            assert!(line.contains(name), "{text}");
        }
        assert!(text.contains("root.conf"), "{text}");
    };
    // As the unit runs it.
    let capabilities = ["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"];
    let user = ["setpriv", "--no-new-privs", "--reuid=54321", "--regid=54321", "--clear-groups"];
    let daemon = Daemon::portknockd_under(&lab.server, &[&user[..], &capabilities].concat(), config);
    named(&daemon.output());
    // Its reader has its limits nevertheless.
    assert_eq!(daemon.count("keeps privileges"), 0, "{}", daemon.log());
    assert_eq!(oom_score(daemon.reader()), oom_score(daemon.id()) + 500);
    let conf = daemon.path("knockd.conf");
    for words in [["portknockd", "--check", "-c"].as_slice(), &["portknock", "check"]] {
        let mut command = lab.server.command(user[0]);
        named(&Output::of(command.args(&user[1..]).arg(binary(words[0])).args(&words[1..]).arg(&conf)).stdout);
    }
    // Root may do all of this, unless the packaged unit runs the daemon.
    let by_root =
        || lab.server.run(&format!("{} --check -c {}", binary("portknockd").display(), conf.display())).stdout;
    if !by_root().contains("PK070") {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
        let units = Path::new("/run/systemd/system");
        fs::create_dir_all(units.join("portknockd.service.d")).expect("the sandbox has a /run of its own");
        fs::copy(packaging.join("portknockd.service"), units.join("portknockd.service")).expect("the unit");
        named(&by_root());
        fs::copy(packaging.join("root.conf"), units.join("portknockd.service.d/root.conf")).expect("the drop-in");
        assert!(!by_root().contains("PK070"), "{}", by_root());
        fs::remove_dir_all(units).expect("a test directory");
    }
}
