//! What a supervisor hears by sd_notify(3).

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use portknock_tests::{Daemon, Lab, PATIENCE, Process, binary, wait_until};
use tempfile::TempDir;

const DOOR: &str = "
[ssh]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = echo \"open ${NOTIFY_SOCKET-unset}\" >> %DIR%/done
    stop_command  = true
    cmd_timeout   = 3600
";

/// A supervisor: a socket, and what came by it.
struct Supervisor {
    folder: TempDir,
    socket: UnixDatagram,
    heard: RefCell<Vec<String>>,
}

impl Supervisor {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a folder of ours");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a socket of ours");
        Self { folder, socket, heard: RefCell::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The variable that names it.
    fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path("notify").display())
    }

    /// All that was heard so far.
    fn heard(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut bytes) {
            self.heard.borrow_mut().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
        self.heard.borrow().clone()
    }

    fn count(&self, message: &str) -> usize {
        self.heard().iter().filter(|heard| *heard == message).count()
    }

    fn wait_for(&self, message: &str, count: usize) {
        let came = wait_until(PATIENCE, || self.count(message) >= count);
        assert!(came, "{message:?} did not come {count} times: {:?}", self.heard());
    }
}

#[test]
fn a_supervisor_hears_of_start_status_reload_and_stop() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let mut daemon = Daemon::portknockd_under(&lab.server, &["env", &supervisor.variable()], DOOR);
    supervisor.wait_for("STATUS=doors 1, openings 0\n", 1);
    assert_eq!(supervisor.heard()[0], "READY=1\n");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000");
    supervisor.wait_for("STATUS=doors 1, openings 1\n", 1);
    let ran = wait_until(PATIENCE, || !daemon.read("done").is_empty());
    assert!(ran && daemon.read("done") == "open unset\n", "commands are not the supervisor's: {}", daemon.read("done"));

    daemon.signal("HUP");
    supervisor.wait_for("READY=1\n", 2);
    let heard = supervisor.heard();
    let reloading =
        heard.iter().position(|heard| heard.starts_with("RELOADING=1\nMONOTONIC_USEC=")).expect("it is told");
    assert!(reloading < heard.iter().rposition(|heard| heard == "READY=1\n").expect("it is told"), "{heard:?}");
    daemon.rewrite("[broken");
    daemon.signal("HUP");
    supervisor.wait_for("READY=1\n", 3);
    daemon.wait_for("the old one stays in use");
    assert_eq!(supervisor.count("STOPPING=1\n"), 0);

    assert!(daemon.stop().success());
    supervisor.wait_for("STOPPING=1\n", 1);
    let heard = supervisor.heard();
    assert!(heard.iter().all(|heard| !heard.starts_with("WATCHDOG")), "nobody asked for it: {heard:?}");
}

#[test]
fn the_watchdog_is_fed_while_the_loop_turns_and_not_while_it_stands() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let starter = ["env", &supervisor.variable(), "WATCHDOG_USEC=200000"];
    let daemon = Daemon::portknockd_under(&lab.server, &starter, DOOR);
    supervisor.wait_for("WATCHDOG=1\n", 5);
    daemon.signal("STOP");
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).expect("the daemon is there");
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    assert!(wait_until(PATIENCE, is_stopped));
    let before = supervisor.count("WATCHDOG=1\n");
    assert!(!wait_until(Duration::from_secs(1), || supervisor.count("WATCHDOG=1\n") > before), "{before}");
    daemon.signal("CONT");
    supervisor.wait_for("WATCHDOG=1\n", before + 2);
}

#[test]
fn a_missing_interface_is_no_reason_not_to_be_ready() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let config = supervisor.path("knockd.conf");
    fs::write(&config, "[options]\nStateFile = openings\nControlSocket = control\n[ssh]\nsequence = 7000,8000\n")
        .unwrap();
    let mut command = lab.server.command("env");
    command.current_dir(supervisor.folder.path()).args([
        &supervisor.variable(),
        "WATCHDOG_PID=1",
        "WATCHDOG_USEC=1000",
    ]);
    let mut daemon = Process::spawn(command.arg(binary("portknockd")).args(["-i", "later", "-c"]).arg(config));
    supervisor.wait_for("READY=1\n", 1);
    assert!(daemon.stop().success());
    supervisor.wait_for("STOPPING=1\n", 1);
    assert_eq!(supervisor.count("WATCHDOG=1\n"), 0, "the watchdog of another process");
}

#[test]
fn under_a_supervisor_it_does_not_detach_and_says_so() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let dir = supervisor.folder.path().display().to_string();
    fs::write(supervisor.path("knockd.conf"), "[options]\nPidFile = pid\nLogFile = log\nStateFile = openings\nControlSocket = control\n[ssh]\nsequence = 7000,8000\n").unwrap();
    let start = format!(
        "cd {dir}; export {} WATCHDOG_USEC=200000 WATCHDOG_PID=$$; exec {} -d -i eth0 -c knockd.conf",
        supervisor.variable(),
        binary("portknockd").display()
    );
    // As the unit's user cannot write it.
    let start = start.replace("knockd.conf", "knockd.conf -p /proc/portknockd.pid");
    let mut daemon = Process::spawn(lab.server.command("sh").args(["-c", &start]));
    supervisor.wait_for("READY=1\n", 1);
    supervisor.wait_for("WATCHDOG=1\n", 2);
    assert_eq!(daemon.exit_within(Duration::ZERO), None, "{}", daemon.output());
    let log = fs::read_to_string(supervisor.path("log")).unwrap();
    assert!(log.contains("-d is ignored: a supervisor runs the daemon"), "{log}");
    assert!(daemon.stop().success());
    supervisor.wait_for("STOPPING=1\n", 1);
    assert!(!supervisor.path("pid").exists());
}

#[test]
fn a_supervisor_that_is_not_there_is_told_of_in_the_log() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_under(&lab.server, &["env", "NOTIFY_SOCKET=/no/such/socket"], DOOR);
    daemon.wait_for("cannot notify the supervisor through NOTIFY_SOCKET: No such file or directory");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000");
    daemon.wait_for("OPEN SESAME");
}

#[test]
fn nothing_wakes_a_daemon_when_nothing_happens() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let daemon = Daemon::portknockd_under(&lab.server, &["env", &supervisor.variable()], DOOR);
    supervisor.wait_for("STATUS=doors 1, openings 0\n", 1);
    let _follower = daemon.follow();
    let sleeps = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("the daemon is there");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned);
        line.expect("Linux counts them")
    };
    // What the start has left is done by and by.
    let quiet = wait_until(PATIENCE, || {
        let before = sleeps();
        std::thread::sleep(Duration::from_secs(1));
        before == sleeps()
    });
    assert!(quiet, "it wakes up at least once a second: {}", sleeps());
}
