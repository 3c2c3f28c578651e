//! What opening and closing a door does: the original knockd and portknockd on the same packets.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use portknock_tests::{Both, Daemon, Lab, Output, PATIENCE, wait_until};

/// What a command wrote to a file in the daemon's folder; empty where it has written nothing.
fn written(daemon: &Daemon, name: &str) -> String {
    fs::read_to_string(daemon.path(name)).unwrap_or_default()
}

/// Waits until the file says this.
fn writes(daemon: &Daemon, name: &str, text: &str) {
    let done = wait_until(PATIENCE, || written(daemon, name) == text);
    assert!(done, "{name} is {:?}\n{}", written(daemon, name), daemon.log());
}

/// Notes in a file when it opens and closes.
const TIMED: &str = "
[door]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = echo open %IP% >> %DIR%/said
    stop_command  = echo close %IP% >> %DIR%/said
    cmd_timeout   = 2
";

const DONE: &str = "open 10.0.0.2\nclose 10.0.0.2\n";

#[test]
fn agree_on_the_address_in_commands() {
    let both = Both::with(
        "[door]\nsequence = 7000,8000\n\
         command = echo '%IP%' x%IP%x %IP%%IP% %ip% %IP %%IP%% \"$PATH\" > %DIR%/said; echo and %IP% >> %DIR%/said\n",
    );
    both.knock("10.0.0.1 7000 8000");
    for daemon in both.daemons() {
        let path = std::env::var("PATH").unwrap_or_default();
        let ip = "10.0.0.2";
        writes(daemon, "said", &format!("{ip} x{ip}x {ip}{ip} %ip% %IP %{ip}% {path}\nand {ip}\n"));
    }
}

#[test]
fn agree_on_opening_and_closing() {
    let both = Both::with(TIMED);
    both.knock("10.0.0.1 7000 8000");
    for daemon in both.daemons() {
        writes(daemon, "said", DONE);
    }
}

#[test]
fn agree_on_the_commands_for_ipv6() {
    let both = Both::with(
        "[own]\nsequence = 1000,2000\nstart_command = echo open4 %IP% >> %DIR%/own\n\
         stop_command = echo close4 %IP% >> %DIR%/own\nstart_command_6 = echo open6 %IP% >> %DIR%/own\n\
         stop_command_6 = echo close6 %IP% >> %DIR%/own\ncmd_timeout = 1\n\
         [plain]\nsequence = 1001,2001\nstart_command = echo open %IP% >> %DIR%/plain\n\
         stop_command = echo close %IP% >> %DIR%/plain\ncmd_timeout = 1\n\
         [half]\nsequence = 1002,2002\nstart_command_6 = echo open6 %IP% >> %DIR%/half\n\
         stop_command = echo close %IP% >> %DIR%/half\ncmd_timeout = 1\n\
         [none]\nsequence = 1003,2003\nstart_command = echo open4 %IP% >> %DIR%/none\nstart_command_6 =\n",
    );
    both.knock("fd00::1 1000 2000 1001 2001 1002 2002 1003 2003");
    for daemon in both.daemons() {
        writes(daemon, "own", "open6 fd00::2\nclose6 fd00::2\n");
        writes(daemon, "plain", "open fd00::2\nclose fd00::2\n");
        writes(daemon, "half", "open6 fd00::2\nclose fd00::2\n");
        assert_eq!(written(daemon, "none"), "");
        assert_eq!(daemon.count("fd00::2: none: OPEN SESAME"), 1);
    }
    both.knock("10.0.0.1 1000 2000");
    for daemon in both.daemons() {
        writes(daemon, "own", "open6 fd00::2\nclose6 fd00::2\nopen4 10.0.0.2\nclose4 10.0.0.2\n");
    }
}

#[test]
fn agree_that_what_runs_nothing_to_open_has_nothing_to_close() {
    let both = Both::with(
        "[alone]\nsequence = 1000,2000\nstop_command = echo close >> %DIR%/said\ncmd_timeout = 1\n\
         [empty]\nsequence = 1001,2001\nstart_command =\nstop_command = echo close >> %DIR%/said\ncmd_timeout = 1\n",
    );
    both.knock("10.0.0.1 1000 2000 1001 2001");
    both.agree(&["10.0.0.2: alone", "10.0.0.2: empty"]);
    sleep(Duration::from_millis(2500));
    for daemon in both.daemons() {
        assert_eq!((written(daemon, "said").as_str(), daemon.count("running command")), ("", 0), "{}", daemon.log());
    }
}

#[test]
fn differ_on_closing_after_no_time() {
    let config = TIMED.replace("= 2", "= 0");
    let lab = Lab::pair();
    let theirs = Daemon::knockd(&lab.server, &config);
    lab.client.ok("knock 10.0.0.1 7000 8000");
    // Sooner than in a second it can only be at once.
    assert!(wait_until(Duration::from_millis(900), || written(&theirs, "said") == DONE), "{}", theirs.log());
    let ours = Daemon::run_portknockd(&lab.server, &config, &["--check"]);
    assert!(ours.code == Some(1) && ours.stdout.contains("error[PK038]"), "{ours:?}");
}

#[test]
fn agree_on_commands_that_fail() {
    let both = Both::with(
        "[three]\nsequence = 1000,2000\ncommand = exit 3\n[unknown]\nsequence = 1001,2001\ncommand = no-such-program\n",
    );
    both.knock("10.0.0.1 1000 2000 1001 2001");
    both.wait_for_count("three: command returned non-zero status code (3)", 1);
    both.wait_for_count("unknown: command returned non-zero status code (127)", 1);
}

#[test]
fn differ_on_a_command_that_a_signal_ends() {
    let both = Both::with("[door]\nsequence = 1000,2000\ncommand = kill -9 $$\n");
    both.knock("10.0.0.1 1000 2000");
    both.ours.wait_for("door: command was killed by signal 9 (open for 10.0.0.2)");
    both.theirs.wait_for("door: command returned non-zero status code (0)");
}

#[test]
fn differ_on_the_environment_of_commands() {
    let both = Both::with(
        "[door]\nsequence = 1000,2000\ncommand = echo \"$PORTKNOCK_EVENT $PORTKNOCK_DOOR $PORTKNOCK_IP\" > %DIR%/said\n",
    );
    both.knock("10.0.0.1 1000 2000");
    writes(&both.ours, "said", "open door 10.0.0.2\n");
    writes(&both.theirs, "said", "  \n");
}

#[test]
fn differ_on_a_door_that_is_open_already() {
    let both = Both::with(&TIMED.replace("= 2", "= 4"));
    both.knock("10.0.0.1 7000 8000");
    for daemon in both.daemons() {
        writes(daemon, "said", "open 10.0.0.2\n");
    }
    sleep(Duration::from_millis(1500));
    both.knock("10.0.0.1 7000 8000");
    both.differ(&["10.0.0.2: door"], &["10.0.0.2: door", "10.0.0.2: door"]);
    assert_eq!(both.ours.count("10.0.0.2: door: still open, closing time extended"), 1);
    writes(&both.theirs, "said", "open 10.0.0.2\nopen 10.0.0.2\nclose 10.0.0.2\nclose 10.0.0.2\n");
    writes(&both.ours, "said", DONE);
}

#[test]
fn differ_on_how_stop_commands_wait() {
    let both = Both::with(&TIMED.replace("= 2", "= 60"));
    both.blast("--from 10.0.0.10 --sources 20 --ports 7000,8000");
    both.wait_for_count("running command", 20);
    let children = |daemon: &Daemon| children(daemon).len();
    assert!(wait_until(PATIENCE, || children(&both.ours) == 0), "portknockd has children");
    // A process each, which sleeps.
    assert!(wait_until(PATIENCE, || children(&both.theirs) == 20), "knockd has {}", children(&both.theirs));
}

#[test]
fn differ_on_a_stop_while_a_door_is_open() {
    let mut both = Both::with(&TIMED.replace("= 2", "= 5"));
    both.knock("10.0.0.1 7000 8000");
    for daemon in both.daemons() {
        writes(daemon, "said", "open 10.0.0.2\n");
    }
    // knockd waits until the time of each open door is over; portknockd closes them at once.
    both.theirs.signal("TERM");
    assert_eq!(both.ours.stop().code(), Some(0));
    assert_eq!(written(&both.ours, "said"), DONE);
    assert!(both.theirs.exit_within(Duration::from_secs(2)).is_none());
    assert!(both.theirs.exit_within(PATIENCE).is_some(), "knockd ends when its children have");
    assert_eq!(written(&both.theirs, "said"), DONE);
}

#[test]
fn differ_on_a_crash_while_a_door_is_open() {
    let Both { lab, mut ours, mut theirs, .. } = Both::with(TIMED);
    lab.client.ok("knock 10.0.0.1 7000 8000");
    for daemon in [&mut ours, &mut theirs] {
        writes(daemon, "said", "open 10.0.0.2\n");
        // As a power cut, or a service manager that ends all that belongs to the service.
        let all = children(daemon);
        daemon.kill();
        kill(&all);
    }
    sleep(Duration::from_millis(2500));
    ours.restart(&lab.server, &["-i", "eth0"]);
    theirs.restart(&lab.server, &["-i", "eth0"]);
    writes(&ours, "said", DONE);
    assert_eq!(written(&theirs, "said"), "open 10.0.0.2\n");
}

/// The processes that a daemon has started and that have not ended.
fn children(daemon: &Daemon) -> Vec<u32> {
    let path = PathBuf::from(format!("/proc/{0}/task/{0}/children", daemon.id()));
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn kill(processes: &[u32]) {
    for process in processes {
        let _ = Output::of(Command::new("kill").args(["-KILL", &process.to_string()]));
    }
}

#[test]
fn agree_on_one_time_sequences() {
    let (both, files) = one_time("# mine\n 1000,2000,3000\n 1003:udp,2003:udp\n 1005,2005\n");
    both.knock("10.0.0.1 1003:udp 2003:udp");
    both.agree(&[]);
    both.knock("10.0.0.1 1000 2000 3000");
    both.agree(&["10.0.0.2: door"]);
    both.knock("10.0.0.1 1000 2000 3000");
    both.knock("10.0.0.1 1003:udp 2003:udp");
    both.agree(&["10.0.0.2: door", "10.0.0.2: door"]);
    let read = |i: usize| fs::read_to_string(files.path().join(i.to_string())).unwrap();
    assert_eq!(read(0), "# mine\n#1000,2000,3000\n#1003:udp,2003:udp\n 1005,2005\n");
    assert_eq!(read(1), read(0));
    for daemon in both.daemons() {
        assert!(wait_until(PATIENCE, || written(daemon, "said") == "open\nopen\n"), "{}", daemon.log());
    }
}

#[test]
fn differ_on_the_end_of_the_one_time_sequences() {
    let (mut both, _files) = one_time(" 1000,2000\n");
    both.lab.client.ok("knock 10.0.0.1 1000 2000");
    both.ours.wait_for("the door takes no more knocks");
    writes(&both.ours, "said", "open\n");
    assert!(both.ours.exit_within(Duration::from_millis(200)).is_none());
    assert!(both.theirs.exit_within(PATIENCE).is_some(), "{}", both.theirs.log());
}

#[test]
fn differ_on_a_bad_line_among_the_one_time_sequences() {
    let lab = Lab::pair();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sequences");
    fs::write(&file, " 1000,2000\n 12x,5\n").unwrap();
    let config = format!("[door]\none_time_sequences = {}\n", file.display());
    let ours = Daemon::run_portknockd(&lab.server, &config, &["-i", "eth0"]);
    assert_eq!(ours.code, Some(1));
    assert!(ours.stderr.contains("error[PK053]"), "{ours:?}");
    let theirs = Daemon::knockd(&lab.server, &config);
    assert_eq!(theirs.count("starting up"), 1);
}

/// Both with a door that has these one-time sequences, and the folder with the file of each: `0` and `1`.
fn one_time(sequences: &str) -> (Both, tempfile::TempDir) {
    let files = tempfile::tempdir().expect("a temporary folder");
    let configs = [0, 1].map(|i| {
        let path = files.path().join(i.to_string());
        fs::write(&path, sequences).expect("the folder can be written");
        format!("[door]\none_time_sequences = {}\ncommand = echo open >> %DIR%/said\n", path.display())
    });
    let both = Both::with_configs(Lab::pair(), [&configs[0], &configs[1]], &["-i", "eth0"]);
    (both, files)
}
