//! Messages to a supervisor by sd_notify(3).

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use portknock_tests::{Daemon, Lab, Process, WAIT_TIMEOUT, binary, wait_until};
use tempfile::TempDir;

const DOOR: &str = "
[ssh]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = echo \"open ${NOTIFY_SOCKET-unset}\" >> %DIR%/done
    stop_command  = true
    cmd_timeout   = 3600
";

/// A supervisor: a socket, and the messages that arrived.
struct Supervisor {
    directory: TempDir,
    socket: UnixDatagram,
    received: RefCell<Vec<String>>,
}

impl Supervisor {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("a test directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_nonblocking(true).expect("a test socket");
        Self { directory, socket, received: RefCell::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The environment variable that names the socket.
    fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path("notify").display())
    }

    /// All messages so far.
    fn received(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut bytes) {
            self.received.borrow_mut().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
        self.received.borrow().clone()
    }

    fn count(&self, message: &str) -> usize {
        self.received().iter().filter(|received| *received == message).count()
    }

    fn wait_for(&self, message: &str, count: usize) {
        let came = wait_until(WAIT_TIMEOUT, || self.count(message) >= count);
        assert!(came, "{message:?} did not come {count} times: {:?}", self.received());
    }
}

#[test]
fn a_supervisor_is_notified_of_start_status_reload_and_stop() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let mut daemon = Daemon::portknockd_under(&lab.server, &["env", &supervisor.variable()], DOOR);
    supervisor.wait_for("STATUS=doors 1, openings 0\n", 1);
    assert_eq!(supervisor.received()[0], "READY=1\n");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000");
    supervisor.wait_for("STATUS=doors 1, openings 1\n", 1);
    let ran = wait_until(WAIT_TIMEOUT, || !daemon.read("done").is_empty());
    assert!(ran && daemon.read("done") == "open unset\n", "commands are not the supervisor's: {}", daemon.read("done"));

    daemon.signal("HUP");
    supervisor.wait_for("READY=1\n", 2);
    let received = supervisor.received();
    let reloading = received
        .iter()
        .position(|received| received.starts_with("RELOADING=1\nMONOTONIC_USEC="))
        .expect("it is notified");
    assert!(
        reloading < received.iter().rposition(|received| received == "READY=1\n").expect("it is notified"),
        "{received:?}"
    );
    daemon.rewrite("[broken");
    daemon.signal("HUP");
    supervisor.wait_for("READY=1\n", 3);
    daemon.wait_for("the old one stays in use");
    assert_eq!(supervisor.count("STOPPING=1\n"), 0);

    assert!(daemon.stop().success());
    supervisor.wait_for("STOPPING=1\n", 1);
    let received = supervisor.received();
    assert!(
        received.iter().all(|received| !received.starts_with("WATCHDOG")),
        "no watchdog was requested: {received:?}"
    );
}

#[test]
fn the_watchdog_is_notified_while_the_loop_runs_and_not_while_it_is_blocked() {
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
    assert!(wait_until(WAIT_TIMEOUT, is_stopped));
    let before = supervisor.count("WATCHDOG=1\n");
    assert!(!wait_until(Duration::from_secs(1), || supervisor.count("WATCHDOG=1\n") > before), "{before}");
    daemon.signal("CONT");
    supervisor.wait_for("WATCHDOG=1\n", before + 2);
}

#[test]
fn the_daemon_is_ready_despite_a_missing_interface() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let config = supervisor.path("knockd.conf");
    fs::write(&config, "[options]\nStateFile = openings\nControlSocket = control\n[ssh]\nsequence = 7000,8000\n")
        .unwrap();
    let mut command = lab.server.command("env");
    command.current_dir(supervisor.directory.path()).args([
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
fn under_a_supervisor_the_daemon_does_not_detach_and_logs_it() {
    let lab = Lab::pair();
    let supervisor = Supervisor::new();
    let dir = supervisor.directory.path().display().to_string();
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
fn a_missing_supervisor_is_logged() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_under(&lab.server, &["env", "NOTIFY_SOCKET=/no/such/socket"], DOOR);
    daemon.wait_for("cannot notify the supervisor through NOTIFY_SOCKET: No such file or directory");
    lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000");
    daemon.wait_for("OPEN SESAME");
}

#[test]
fn nothing_wakes_an_idle_daemon() {
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
    // Tasks that the start has left are done over time.
    let quiet = wait_until(WAIT_TIMEOUT, || {
        let before = sleeps();
        std::thread::sleep(Duration::from_secs(1));
        before == sleeps()
    });
    assert!(quiet, "it wakes up at least once a second: {}", sleeps());
}
