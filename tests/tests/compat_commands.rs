//! Open doors and processes, for behaviour that cannot be a row of the table in `compliance.rs`.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use portknock_tests::{Both, Daemon, Output, WAIT_TIMEOUT, wait_until};

/// Waits until the file has this text.
fn writes(daemon: &Daemon, name: &str, text: &str) {
    let done = wait_until(WAIT_TIMEOUT, || daemon.read(name) == text);
    assert!(done, "{name} is {:?}\n{}", daemon.read(name), daemon.log());
}

/// Records in a file that the door opens and closes.
const TIMED: &str = "
[door]
    sequence      = 7000,8000
    tcpflags      = syn
    start_command = echo open %IP% >> %DIR%/record
    stop_command  = echo close %IP% >> %DIR%/record
    cmd_timeout   = 2
";

const DONE: &str = "open 10.0.0.2\nclose 10.0.0.2\n";

#[test]
fn differ_on_how_stop_commands_wait() {
    let both = Both::with(&TIMED.replace("= 2", "= 60"));
    both.pktgen("--from 10.0.0.10 --sources 20 --ports 7000,8000");
    both.wait_for_count("running command", 20);
    let commands = |daemon: &Daemon| daemon.commands().len();
    assert!(wait_until(WAIT_TIMEOUT, || commands(&both.ours) == 0), "portknockd has {}", commands(&both.ours));
    // Each has a process, which sleeps.
    assert!(wait_until(WAIT_TIMEOUT, || commands(&both.theirs) == 20), "knockd has {}", commands(&both.theirs));
}

#[test]
fn differ_on_a_stop_while_a_door_is_open() {
    let mut both = Both::with(&TIMED.replace("= 2", "= 5"));
    both.knock("10.0.0.1 7000 8000");
    for daemon in both.daemons() {
        writes(daemon, "record", "open 10.0.0.2\n");
    }
    // knockd waits until the time of each open door is over; portknockd closes them immediately.
    both.theirs.signal("TERM");
    assert_eq!(both.ours.stop().code(), Some(0));
    assert_eq!(both.ours.read("record"), DONE);
    assert!(both.theirs.exit_within(Duration::from_secs(2)).is_none());
    assert!(both.theirs.exit_within(WAIT_TIMEOUT).is_some(), "knockd ends when its children have");
    assert_eq!(both.theirs.read("record"), DONE);
}

#[test]
fn differ_on_a_crash_while_a_door_is_open() {
    let Both { lab, mut ours, mut theirs, .. } = Both::with(TIMED);
    lab.client.ok("knock 10.0.0.1 7000 8000");
    for daemon in [&mut ours, &mut theirs] {
        writes(daemon, "record", "open 10.0.0.2\n");
        // Like a power cut, or a service manager that kills all processes of the service.
        let all = daemon.commands();
        daemon.kill();
        kill(&all);
    }
    sleep(Duration::from_millis(2500));
    ours.restart(&lab.server, &["-i", "eth0"]);
    theirs.restart(&lab.server, &["-i", "eth0"]);
    writes(&ours, "record", DONE);
    assert_eq!(theirs.read("record"), "open 10.0.0.2\n");
}

fn kill(processes: &[u32]) {
    for process in processes {
        let _ = Output::of(Command::new("kill").args(["-KILL", &process.to_string()]));
    }
}
