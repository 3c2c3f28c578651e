//! Tests of a service on the loopback interface of a network namespace that the test creates.

use super::*;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::{Door, Sequence, Step};
use crate::event::{Event, EventKind};
use crate::exec::{CommandResultKind, SLOW_AFTER};
use crate::packet::Protocol;

/// Returns true in the namespace. Outside of it, runs the named test in a new namespace and asserts
/// that it succeeds.
fn in_namespace(test: &str) -> bool {
    in_namespace_of("service::tests", test)
}

/// The same for a test of another module.
pub(crate) fn in_namespace_of(module: &str, test: &str) -> bool {
    if std::env::var_os("PORTKNOCK_TEST_NET").is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\" --exact \"$1::$2\"")
        .arg(std::env::current_exe().unwrap())
        .args([module, test])
        .env("PORTKNOCK_TEST_NET", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{output:?}");
    false
}

fn steps(ports: &[u16]) -> Sequence {
    let step = |&port: &u16| Step { port: port.try_into().unwrap(), protocol: Protocol::Udp };
    Sequence::new(ports.iter().map(step).collect::<Vec<_>>()).unwrap()
}

/// A door that the sequence 7000, 8000 opens, whose commands write to `out`, and that closes after
/// 300 ms.
fn door(out: &Path) -> Door {
    let mut door = Door::new("front", Some(steps(&[7000, 8000])));
    let echo = |what: &str| Some(format!("echo {what} %IP% >>{}", out.display()));
    (door.start_command, door.stop_command) = (echo("open"), echo("close"));
    door.cmd_timeout = Duration::from_millis(300);
    door
}

pub(super) struct Setup {
    dir: tempfile::TempDir,
    pub(super) config: Config,
}

pub(super) fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { doors: vec![door(&dir.path().join("out"))], ..Config::default() };
    config.options.interfaces = vec!["lo".into()];
    config.options.state_file = dir.path().join("state/openings");
    Setup { dir, config }
}

impl Setup {
    fn start(&self) -> Service {
        Service::start(self.config.clone(), ServiceOptions::default()).unwrap()
    }

    fn out(&self) -> String {
        fs::read_to_string(self.dir.path().join("out")).unwrap_or_default()
    }

    /// Number of open records in the state file that no close record ends.
    fn saved(&self) -> usize {
        let text = fs::read_to_string(&self.config.options.state_file).unwrap();
        text.matches(" open ").count() - text.matches(" close ").count()
    }

    fn one_time(&mut self, text: &str) -> PathBuf {
        let path = self.dir.path().join("sequences");
        fs::write(&path, text).unwrap();
        self.config.doors[0].one_time_sequences = Some(path.clone());
        path
    }
}

pub(super) fn knock(ports: &[u16]) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for &port in ports {
        socket.send_to(b"", ("127.0.0.1", port)).unwrap();
    }
}

/// Collects log lines until one contains `end`, at most ten seconds.
fn lines_until(service: &mut Service, end: &str) -> Vec<String> {
    let (start, mut lines) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(10) {
        let notice = service.next(Some(Duration::from_millis(100))).unwrap();
        lines.extend(notice.and_then(|notice| notice.log_line()));
        if lines.last().is_some_and(|line| line.contains(end)) {
            return lines;
        }
    }
    panic!("no {end:?} in {lines:#?}");
}

/// Runs until `is_true`, at most ten seconds.
fn wait_until(service: &mut Service, is_true: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) && !is_true() {
        service.next(Some(Duration::from_millis(20))).unwrap();
    }
    is_true()
}

/// Runs until the service has nothing to do and no command is under way.
fn settle(service: &mut Service) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match service.next(Some(Duration::from_millis(50))).unwrap() {
            Some(notice) => lines.extend(notice.log_line()),
            None if service.executor.running() + service.executor.waiting() == 0 => return lines,
            None => {}
        }
    }
}

fn finish(mut service: Service) -> Vec<String> {
    service.stop();
    let mut lines = Vec::new();
    while !service.is_stopped() {
        lines.extend(service.next(None).unwrap().and_then(|notice| notice.log_line()));
    }
    lines
}

#[test]
fn a_knock_opens_and_time_closes_in_the_words_of_knockd() {
    if !in_namespace("a_knock_opens_and_time_closes_in_the_words_of_knockd") {
        return;
    }
    let setup = setup();
    let mut service = setup.start();
    knock(&[7000, 8000]);
    let out = setup.dir.path().join("out");
    let mut lines = lines_until(&mut service, "running command");
    assert_eq!(setup.saved(), 1, "saved before the command runs");
    lines.extend(lines_until(&mut service, "command timeout"));
    lines.extend(settle(&mut service));
    assert_eq!(
        lines,
        [
            "starting up, listening on lo".to_owned(),
            "127.0.0.1: front: Stage 1".to_owned(),
            "127.0.0.1: front: Stage 2".to_owned(),
            "127.0.0.1: front: OPEN SESAME".to_owned(),
            format!("front: running command: echo open 127.0.0.1 >>{}", out.display()),
            "127.0.0.1: front: command timeout".to_owned(),
            format!("front: running command: echo close 127.0.0.1 >>{}", out.display()),
        ]
    );
    assert_eq!(setup.out(), "open 127.0.0.1\nclose 127.0.0.1\n");
    assert_eq!(setup.saved(), 0);
    assert_eq!(finish(service), ["shutting down"]);
}

#[test]
fn a_start_command_that_ends_after_its_door_was_closed_leaves_nothing_open() {
    if !in_namespace("a_start_command_that_ends_after_its_door_was_closed_leaves_nothing_open") {
        return;
    }
    let mut setup = setup();
    let (out, go) = (setup.dir.path().join("out"), setup.dir.path().join("go"));
    let command = format!("until test -e {}; do sleep 0.01; done; echo open >>{}", go.display(), out.display());
    setup.config.doors[0].start_command = Some(command);
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command: until");
    service.executor.reap(service.clock.now().saturating_add(SLOW_AFTER)).unwrap();
    lines_until(&mut service, "running command: echo close");
    assert!(wait_until(&mut service, || setup.out() == "close 127.0.0.1\n"), "{}", setup.out());
    fs::write(&go, "").unwrap();
    lines_until(&mut service, "running command: echo close");
    settle(&mut service);
    assert_eq!(setup.out(), "close 127.0.0.1\nopen\nclose 127.0.0.1\n");
    assert_eq!(setup.saved(), 0);
}

#[test]
fn a_timeout_is_reported_without_further_packets() {
    if !in_namespace("a_timeout_is_reported_without_further_packets") {
        return;
    }
    let mut setup = setup();
    setup.config.doors[0].seq_timeout = Duration::from_millis(200);
    let mut service = setup.start();
    knock(&[7000]);
    lines_until(&mut service, "Stage 1");
    let start = Instant::now();
    lines_until(&mut service, "127.0.0.1: front: sequence timeout (stage 1)");
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_a_crash_leaves_open_is_closed_by_the_next_start() {
    if !in_namespace("what_a_crash_leaves_open_is_closed_by_the_next_start") {
        return;
    }
    let mut setup = setup();
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command");
    drop(service);
    std::thread::sleep(Duration::from_millis(350));
    // The configuration may no longer have the door by then.
    setup.config.doors.clear();
    let mut service = setup.start();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(setup.out(), "open 127.0.0.1\n", "nothing runs before the first turn");
    let lines = settle(&mut service);
    assert_eq!(
        lines[..3],
        [
            "starting up, listening on lo",
            "openings found from before the start: 1",
            "127.0.0.1: front: command timeout"
        ]
    );
    assert_eq!(setup.out(), "open 127.0.0.1\nclose 127.0.0.1\n");
    drop(service);
    assert!(settle(&mut setup.start()).len() == 1, "it runs once");
}

#[test]
fn a_stop_command_that_a_crash_cut_off_runs_again() {
    if !in_namespace("a_stop_command_that_a_crash_cut_off_runs_again") {
        return;
    }
    let mut setup = setup();
    let out = setup.dir.path().join("out");
    setup.config.doors[0].stop_command = Some(format!("echo close >>{}; exec sleep 0.7", out.display()));
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "echo close");
    std::thread::sleep(Duration::from_millis(100));
    // Opened again while the stop command hangs: both openings must end.
    knock(&[7000, 8000]);
    lines_until(&mut service, "OPEN SESAME");
    drop(service);
    let mut service = setup.start();
    let lines = lines_until(&mut service, "openings found");
    assert!(lines.iter().any(|line| line.ends_with("before the start: 2")), "{lines:?}");
    lines_until(&mut service, "command timeout");
    settle(&mut service);
    assert_eq!(setup.out().matches("close").count(), 3);
    assert_eq!(setup.saved(), 0);
}

#[test]
fn stopping_closes_what_is_open_or_keeps_it() {
    if !in_namespace("stopping_closes_what_is_open_or_keeps_it") {
        return;
    }
    let mut setup = setup();
    setup.config.doors[0].cmd_timeout = Duration::from_secs(1000);
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command");
    let lines = finish(service);
    assert_eq!(lines[..2], ["shutting down", "127.0.0.1: front: command timeout"]);
    assert_eq!(setup.out(), "open 127.0.0.1\nclose 127.0.0.1\n");

    setup.config.options.on_stop = OnStop::Keep;
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command");
    assert_eq!(finish(service), ["shutting down"]);
    assert_eq!(setup.saved(), 1);
    let mut service = setup.start();
    assert_eq!(service.status().engine.openings, 1);
    drop(service);

    setup.config.options.state_file = "/proc/portknock-test/openings".into();
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command");
    assert!(!service.status().saving);
    assert_eq!(finish(service)[1], "open doors are closed, because the state file does not contain them");
    assert!(setup.out().ends_with("open 127.0.0.1\nclose 127.0.0.1\n"));
}

#[test]
fn one_time_sequences_open_once_each() {
    if !in_namespace("one_time_sequences_open_once_each") {
        return;
    }
    let mut setup = setup();
    let path = setup.one_time(" 7000:udp,8000:udp\n 9001:udp,9002:udp\n");
    setup.config.doors[0].stop_command = None;
    let mut service = setup.start();
    knock(&[7000, 8000]);
    lines_until(&mut service, "running command");
    assert_eq!(fs::read_to_string(&path).unwrap(), "#7000:udp,8000:udp\n 9001:udp,9002:udp\n");
    knock(&[7000, 8000]);
    assert_eq!(settle(&mut service), [""; 0], "the same knock has no effect");
    knock(&[9001, 9002]);
    let lines = lines_until(&mut service, "running command");
    assert_eq!(fs::read_to_string(&path).unwrap(), "#7000:udp,8000:udp\n#9001:udp,9002:udp\n");
    assert!(lines.iter().any(|line| line.contains("no more sequences in /")), "{lines:?}");
    settle(&mut service);
    assert_eq!(setup.out(), "open 127.0.0.1\nopen 127.0.0.1\n");
}

#[test]
fn an_opening_that_cannot_be_marked_does_not_happen() {
    if !in_namespace("an_opening_that_cannot_be_marked_does_not_happen") {
        return;
    }
    let mut setup = setup();
    let path = setup.one_time(" 7000:udp,8000:udp\n 9001:udp,9002:udp\n");
    let mut service = setup.start();
    for options in ["bind", "remount,ro,bind"] {
        assert!(Command::new("mount").args(["-o", options]).args([&path, &path]).status().unwrap().success());
    }
    knock(&[7000, 8000]);
    let lines = lines_until(&mut service, "cannot mark line 1");
    assert!(!lines.iter().any(|line| line.contains("OPEN SESAME")), "{lines:?}");
    knock(&[7000, 8000]);
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(settle(&mut service), [""; 0], "nothing opened, nothing to close, and the door is closed");
    assert_eq!((setup.out().as_str(), setup.saved()), ("", 0));
}

#[test]
fn an_edited_one_time_file_counts_from_then_on() {
    if !in_namespace("an_edited_one_time_file_counts_from_then_on") {
        return;
    }
    let mut setup = setup();
    let path = setup.one_time(" 7000:udp,8000:udp\n");
    setup.config.doors[0].cmd_timeout = Duration::from_secs(2);
    let mut service = setup.start();
    fs::write(&path, " 9001:udp,9002:udp\n").unwrap();
    knock(&[7000, 8000]);
    lines_until(&mut service, "127.0.0.1: front: line 1 of /");
    // The engine has an opening that is not real, so this knock opens the door.
    knock(&[9001, 9002]);
    lines_until(&mut service, "OPEN SESAME");
    lines_until(&mut service, "running command");
    lines_until(&mut service, "command timeout");
    settle(&mut service);
    assert_eq!(setup.out(), "open 127.0.0.1\nclose 127.0.0.1\n");
}

#[test]
fn a_reload_keeps_attempts_and_openings_and_moves_the_state_file() {
    if !in_namespace("a_reload_keeps_attempts_and_openings_and_moves_the_state_file") {
        return;
    }
    let mut setup = setup();
    setup.config.doors[0].cmd_timeout = Duration::from_millis(600);
    let mut second = Door::new("second", Some(steps(&[7100, 7200])));
    second.start_command = Some(":".into());
    setup.config.doors.push(second);
    let mut service = setup.start();
    knock(&[7000, 8000, 7100]);
    lines_until(&mut service, "second: Stage 1");
    let old = setup.config.options.state_file.clone();
    setup.config.doors.remove(0);
    setup.config.options.state_file = setup.dir.path().join("elsewhere/openings");
    service.reload(setup.config.clone()).unwrap();
    assert_eq!(setup.saved(), 1);
    knock(&[7200]);
    let mut lines = lines_until(&mut service, "second: OPEN SESAME");
    lines.extend(lines_until(&mut service, "front: command timeout"));
    settle(&mut service);
    assert_eq!((setup.out().as_str(), setup.saved()), ("open 127.0.0.1\nclose 127.0.0.1\n", 0));
    setup.config.options.state_file = old;
    assert_eq!(setup.saved(), 0);

    setup.config.doors[0].one_time_sequences = Some("/nonexistent".into());
    let error = service.reload(setup.config.clone()).unwrap_err();
    assert!(error.to_string().starts_with("second: cannot read the one-time sequences in /nonexistent"), "{error}");
    knock(&[7100, 7200]);
    lines_until(&mut service, "second: OPEN SESAME");
}

#[test]
fn a_reload_changes_the_interfaces_or_keeps_all_as_it_was() {
    if !in_namespace("a_reload_changes_the_interfaces_or_keeps_all_as_it_was") {
        return;
    }
    let mut setup = setup();
    let before = setup.config.clone();
    let mut service = setup.start();
    setup.config.options.interfaces = vec!["no/name".into()];
    setup.config.doors.clear();
    let error = service.reload(setup.config.clone()).unwrap_err();
    assert!(error.to_string().contains("cannot be an interface"), "{error}");
    knock(&[7000]);
    lines_until(&mut service, "Stage 1");
    setup.config = before;
    setup.config.options.interfaces = vec!["absent0".into(), "lo".into()];
    service.reload(setup.config.clone()).unwrap();
    lines_until(&mut service, "the configuration is reloaded");
    knock(&[8000]);
    lines_until(&mut service, "OPEN SESAME");
}

#[test]
fn a_dry_run_changes_nothing() {
    if !in_namespace("a_dry_run_changes_nothing") {
        return;
    }
    let mut setup = setup();
    let path = setup.one_time(" 7000:udp,8000:udp\n");
    let options = ServiceOptions { run_commands: false, report_knocks: true, ..ServiceOptions::default() };
    let mut service = Service::start(setup.config.clone(), options).unwrap();
    knock(&[7000, 8000]);
    let lines = lines_until(&mut service, "front: would run command: echo open");
    assert!(lines.iter().any(|line| line.starts_with("udp: 127.0.0.1:") && line.ends_with(" -> 127.0.0.1:7000")));
    lines_until(&mut service, "front: would run command: echo close");
    knock(&[7000, 8000]);
    lines_until(&mut service, "front: would run command: echo open");
    finish(service);
    assert_eq!(setup.out(), "");
    assert_eq!(fs::read_to_string(path).unwrap(), " 7000:udp,8000:udp\n");
    assert!(!setup.config.options.state_file.exists());
}

#[test]
fn another_thread_wakes_and_a_caller_can_wait_for_the_descriptor() {
    if !in_namespace("another_thread_wakes_and_a_caller_can_wait_for_the_descriptor") {
        return;
    }
    let setup = setup();
    let mut service = setup.start();
    settle(&mut service);
    let waker = service.waker();
    let thread = std::thread::spawn(move || waker.wake());
    assert!(service.next(None).unwrap().is_none());
    thread.join().unwrap();

    let (waiter, mut tokens) = (Epoll::new().unwrap(), Vec::new());
    waiter.add(service.as_fd(), 0).unwrap();
    waiter.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
    assert!(tokens.is_empty(), "nothing to do");
    knock(&[7000, 8000]);
    let mut events = Vec::new();
    while !events.iter().any(|notice| matches!(notice, Notice::Event(Event { kind: EventKind::Close { .. }, .. }))) {
        waiter.wait(&mut tokens, Some(Duration::from_secs(10))).unwrap();
        assert!(!tokens.is_empty());
        events.extend(std::iter::from_fn(|| service.next(Some(Duration::ZERO)).unwrap()));
    }
    assert!(events.iter().any(|notice| matches!(notice, Notice::Command(done) if done.kind.is_final())));
    assert!(
        events
            .iter()
            .any(|notice| matches!(notice, Notice::Command(done) if matches!(done.kind, CommandResultKind::Started)))
    );
}

#[test]
fn ipv6_packets_are_ignored_with_ipv4_only() {
    if !in_namespace("ipv6_packets_are_ignored_with_ipv4_only") {
        return;
    }
    let setup = setup();
    let knock6 = || {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        for port in [7000, 8000] {
            socket.send_to(b"", ("::1", port)).unwrap();
        }
    };
    let options = ServiceOptions { ipv4_only: true, ..ServiceOptions::default() };
    let mut service = Service::start(setup.config.clone(), options).unwrap();
    knock6();
    knock(&[7000, 8000]);
    let lines = lines_until(&mut service, "OPEN SESAME");
    assert!(!lines.iter().any(|line| line.contains("::1")), "{lines:?}");
    drop(service);
    let mut service = setup.start();
    knock6();
    lines_until(&mut service, "::1: front: OPEN SESAME");
}
