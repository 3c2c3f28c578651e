use super::*;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use crate::sys::clock::boottime;

fn now() -> Timestamp {
    Timestamp::default().saturating_add(boottime())
}

fn request(host: u16, action: Action, command: &str) -> CommandRequest {
    let [high, low] = host.to_be_bytes();
    let ip = IpAddr::from([10, 0, high, low]);
    CommandRequest { door: "front".into(), ip, action, command: command.into(), net: ip.into(), key: None }
}

fn turn(executor: &mut Executor, now: Timestamp) {
    executor.reap(now).unwrap();
    executor.start_next(now);
}

/// Waits for the next report like a caller's loop. Panics after ten seconds without a report.
fn next(executor: &mut Executor) -> CommandResult {
    let until = Instant::now() + Duration::from_secs(10);
    let (waiter, mut tokens) = (Epoll::new().unwrap(), Vec::new());
    waiter.add(executor.as_fd(), 0).unwrap();
    loop {
        turn(executor, now());
        if let Some(result) = executor.poll_result() {
            return result;
        }
        assert!(Instant::now() < until, "nothing happened: {executor:?}");
        let span = executor.poll_timeout().map_or(Duration::from_secs(1), |due| due.saturating_since(now()));
        waiter.wait(&mut tokens, Some(span.min(Duration::from_secs(1)))).unwrap();
    }
}

fn finish(executor: &mut Executor) -> Vec<CommandResult> {
    let mut results = Vec::new();
    while executor.running() + executor.waiting() > 0 || results.is_empty() {
        results.push(next(executor));
    }
    results.extend(std::iter::from_fn(|| executor.poll_result()));
    results
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_command_gets_its_environment_and_an_empty_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let command = format!(
        "echo $PORTKNOCK_DOOR $PORTKNOCK_IP $PORTKNOCK_NET $PORTKNOCK_EVENT >{0}; cat >>{0}; grep SigBlk /proc/self/status >>{0}",
        out.display()
    );
    let mut executor = Executor::new().unwrap();
    executor.submit(request(1, Action::Close, &command));
    let results = finish(&mut executor);
    assert!(matches!(results[0].kind, CommandResultKind::Started));
    assert!(matches!(&results[1].kind, CommandResultKind::Finished(status) if status.success()));
    assert_eq!(read(&out), "front 10.0.0.1 10.0.0.1/32 close\nSigBlk:\t0000000000000000\n");
}

#[test]
fn a_shell_runs_or_explains_commands_that_cannot_start_directly() {
    let dir = tempfile::tempdir().unwrap();
    let (script, out) = (dir.path().join("script"), dir.path().join("out"));
    // A shell runs a script without a `#!` line. Other programs cannot start it.
    fs::write(&script, "echo $1 >>$2").unwrap();
    let command = format!("{} opened {}", script.display(), out.display());
    let mut codes = Vec::new();
    for mode in [0o600, 0o700] {
        fs::set_permissions(&script, fs::Permissions::from_mode(mode)).unwrap();
        let mut executor = Executor::new().unwrap();
        executor.submit(request(1, Action::Open, &command));
        executor.submit(request(2, Action::Open, "/no/such/program"));
        for result in finish(&mut executor) {
            if let CommandResultKind::Finished(status) = result.kind {
                codes.push((result.request.ip == IpAddr::from([10, 0, 0, 2]), status.code().unwrap()));
            }
        }
    }
    codes.sort_unstable();
    assert_eq!(codes, [(false, 0), (false, 126), (true, 127), (true, 127)], "the codes of a shell");
    assert_eq!(read(&out), "opened\n");
}

#[test]
fn failures_are_reported_with_door_address_and_status() {
    let mut executor = Executor::new().unwrap();
    executor.submit(request(1, Action::Open, "exit 3"));
    turn(&mut executor, now());
    executor.submit(request(1, Action::Close, "kill -9 $$"));
    executor.submit(request(1, Action::Close, "printf '\\033[31m' >/dev/null\n:"));
    let lines: Vec<_> = finish(&mut executor).iter().map(CommandResult::to_string).collect();
    assert_eq!(
        lines,
        [
            "front: running command: exit 3",
            "front: command returned non-zero status code (3) (open for 10.0.0.1)",
            "front: running command: kill -9 $$",
            "front: command was killed by signal 9 (close for 10.0.0.1)",
            "front: running command: printf '\\033[31m' >/dev/null\\x0a:",
            "",
        ]
    );
}

#[test]
fn commands_of_one_key_run_in_order_and_others_do_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut executor = Executor::new().unwrap();
    for i in 0..20 {
        // The earlier, the slower: only waiting keeps the order.
        let command = format!("sleep 0.0{}; echo {i} >>{}", (20 - i) / 3, out.display());
        executor.submit(request(1, Action::Close, &command));
    }
    executor.submit(request(2, Action::Open, "exit 9"));
    let results = finish(&mut executor);
    let passed = results
        .iter()
        .position(|o| matches!(&o.kind, CommandResultKind::Finished(status) if status.code() == Some(9)))
        .unwrap();
    assert!(passed < results.len() / 2, "host 2 waited for host 1");
    let expected: String = (0..20).map(|i| format!("{i}\n")).collect();
    assert_eq!(read(&out), expected);
}

#[test]
fn five_hundred_simultaneous_commands_all_run_within_the_slots() {
    let dir = tempfile::tempdir().unwrap();
    let mut executor = Executor::new().unwrap();
    for host in 0..500 {
        executor.submit(request(host, Action::Open, &format!("sleep 0.3; : >{}/$PORTKNOCK_IP", dir.path().display())));
    }
    let (mut finished, mut most) = (0, 0);
    while finished < 500 {
        finished += usize::from(next(&mut executor).kind.is_final());
        most = most.max(executor.running());
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 500);
    assert_eq!((most, executor.running(), executor.waiting()), (SLOTS, 0, 0));
}

#[test]
fn stop_commands_go_first_and_have_their_own_slots() {
    let mut executor = Executor::new().unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    // All slots for start commands are used by commands that hang until the test closes its end of
    // the pipe.
    let hang = format!("read x </proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&reader));
    for host in 0..u16::try_from(SLOTS).unwrap() + 5 {
        executor.submit(request(host, Action::Open, &hang));
    }
    executor.submit(request(999, Action::Close, "exit 7"));
    let first = next(&mut executor);
    assert_eq!(first.request.action, Action::Close);
    let closed = loop {
        let result = next(&mut executor);
        if result.request.action == Action::Close {
            break result;
        }
    };
    assert!(matches!(closed.kind, CommandResultKind::Finished(status) if status.into_raw() == 7 << 8));
    while executor.running() < SLOTS {
        turn(&mut executor, now());
    }
    turn(&mut executor, now());
    assert_eq!((executor.running(), executor.waiting()), (SLOTS, 5));
    drop(writer);
    finish(&mut executor);
    assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
}

#[test]
fn a_command_that_hangs_is_reported_once_and_delays_no_other() {
    let mut executor = Executor::new().unwrap();
    executor.submit(request(1, Action::Open, "exec sleep 1000"));
    turn(&mut executor, now());
    executor.submit(request(1, Action::Close, "exit 5"));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Started));
    let hanging = executor.running.values().next().unwrap().child.id();
    assert_eq!((executor.running(), executor.waiting()), (1, 1));
    let due = executor.poll_timeout().unwrap();
    turn(&mut executor, due);
    let slow = executor.poll_result().unwrap();
    assert_eq!(slow.to_string(), "front: command is still running after 60 s (open for 10.0.0.1)");
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Started));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Finished(status) if status.code() == Some(5)));
    turn(&mut executor, due.saturating_add(Duration::from_secs(100)));
    assert!(executor.poll_result().is_none(), "reported once");
    assert_eq!(executor.running(), 1);
    Command::new("kill").arg(hanging.to_string()).status().unwrap();
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Finished(status) if status.signal() == Some(15)));
    assert!(executor.queue.take(Action::Open, 100).is_none() && executor.poll_timeout().is_none());
}

#[test]
fn a_permanent_error_ends_a_start_command_but_not_a_stop_command() {
    let mut executor = Executor::new().unwrap();
    let too_long = "x".repeat(1 << 20);
    let start = now();
    executor.submit(request(1, Action::Open, &too_long));
    turn(&mut executor, start);
    executor.submit(request(1, Action::Close, &too_long));
    executor.submit(request(2, Action::Open, ":"));
    let lines: Vec<_> = std::iter::from_fn(|| {
        turn(&mut executor, start);
        executor.poll_result()
    })
    .take(3)
    .map(|result| result.to_string())
    .collect();
    assert!(lines[0].ends_with("could not start the command: Argument list too long (os error 7) (open for 10.0.0.1)"));
    assert!(lines.iter().any(|line| line.contains("trying again every second: Argument list too long")), "{lines:?}");
    assert!(lines.iter().any(|line| line == "front: running command: :"), "{lines:?}");
    finish_running(&mut executor);
    assert_eq!(executor.waiting(), 1);
    let due = executor.poll_timeout().unwrap();
    turn(&mut executor, due);
    assert!(executor.poll_result().is_none(), "the same error is not reported again");
    assert_eq!(executor.waiting(), 1);
}

fn finish_running(executor: &mut Executor) {
    while executor.running() > 0 {
        next(executor);
    }
    while executor.poll_result().is_some() {}
}

#[test]
fn output_without_end_stops_nothing() {
    let mut executor = Executor::new().unwrap();
    executor.submit(request(1, Action::Open, "exec >/dev/null; head -c 50000000 /dev/zero; exit 4"));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Started));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Finished(status) if status.code() == Some(4)));
}

#[test]
fn children_without_a_descriptor_are_polled() {
    let mut executor = Executor::new().unwrap();
    let child = spawn(&request(1, Action::Open, "exit 6"), Path::new(STATE)).unwrap();
    executor.queue.push(Job { id: CommandId(0), request: request(1, Action::Open, "exit 6"), reported: None });
    let job = executor.queue.take(Action::Open, 100).unwrap();
    executor.started(job, child, now());
    // The state on a kernel without pidfd_open(2).
    executor.running.get_mut(&0).unwrap()._pidfd = None;
    executor.polled.push(0);
    assert!(executor.poll_timeout().is_some());
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Started));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Finished(status) if status.code() == Some(6)));
    assert!(executor.polled.is_empty());
}

#[test]
fn without_free_descriptors_commands_wait_and_then_run() {
    // Runs in a separate process, because the limit would affect the other tests.
    if std::env::var_os("PORTKNOCK_TEST_LIMITED").is_none() {
        let exe = std::env::current_exe().unwrap();
        let script =
            "ulimit -n 40 && exec \"$0\" --exact exec::tests::without_free_descriptors_commands_wait_and_then_run";
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(exe)
            .env("PORTKNOCK_TEST_LIMITED", "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let mut executor = Executor::new().unwrap();
    let mut hoard: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    executor.submit(request(1, Action::Open, "exit 2"));
    turn(&mut executor, now());
    let line = executor.poll_result().unwrap().to_string();
    assert!(line.contains("trying again every second: Too many open files"), "{line}");
    let again = executor.poll_timeout().unwrap();
    turn(&mut executor, again);
    assert!(executor.poll_result().is_none(), "reported once");
    hoard.clear();
    turn(&mut executor, again.saturating_add(RETRY_AFTER));
    assert!(matches!(executor.poll_result().unwrap().kind, CommandResultKind::Started));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Finished(status) if status.code() == Some(2)));
}

#[test]
fn a_flooded_door_drops_its_oldest_start_commands_and_no_stop_command() {
    let mut executor = Executor::new().unwrap();
    executor.set_limit(2);
    for host in 1..=4 {
        executor.submit(request(host, Action::Open, "exit 0"));
    }
    for host in 1..=4 {
        executor.submit(request(host, Action::Close, "exit 0"));
    }
    // Start commands that wait for a stop command of their address stay.
    for host in 5..=6 {
        executor.submit(request(host, Action::Open, "exit 0"));
    }
    let dropped: Vec<_> = std::iter::from_fn(|| executor.poll_result()).map(|result| result.to_string()).collect();
    let line = |host| format!("front: command was not started, because too many others wait (open for 10.0.0.{host})");
    assert_eq!(dropped, [1, 2, 5, 6].map(line));
    let ran = finish(&mut executor);
    let closed = ran.iter().filter(|result| result.request.action == Action::Close && result.kind.is_final());
    assert_eq!((closed.count(), executor.waiting()), (4, 0));
}

#[test]
fn dropping_an_executor_does_not_end_commands() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (mut reader, writer) = io::pipe().unwrap();
    let mut executor = Executor::new().unwrap();
    let inherited = format!("exec >/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&writer));
    executor.submit(request(1, Action::Open, &format!("{inherited}; sleep 0.1; : >{}; echo", out.display())));
    assert!(matches!(next(&mut executor).kind, CommandResultKind::Started));
    // Wait for the shell's first write: from then on it has opened its end of the pipe.
    drop(executor);
    assert_eq!(io::Read::read(&mut reader, &mut [0; 8]).unwrap(), 1);
    drop(writer);
    assert!(out.exists());
}

const STATE: &str = "/of/this/test";

#[test]
fn commands_wait_for_those_that_an_earlier_executor_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let orphan = |host, command: &str| {
        let mut request = request(host, Action::Open, command);
        request.door = "orphaned".into();
        spawn(&request, Path::new(STATE)).unwrap()
    };
    let mut slow = orphan(1, &format!("sleep 0.3; echo open >>{}", out.display()));
    // A background process of a command is no orphan.
    let mut gone = orphan(2, "sleep 5 & exit");
    gone.wait().unwrap();
    // A command of another daemon, with the same door and address.
    let mut other = request(2, Action::Open, "sleep 5");
    other.door = "orphaned".into();
    let mut other = spawn(&other, Path::new("/another")).unwrap();
    let mut executor = Executor::new().unwrap();
    executor.set_state_file(Path::new(STATE));
    executor.wait_for_orphans([1, 2].map(|host| ("orphaned".into(), IpAddr::from([10, 0, 0, host]).into())), now());
    assert_eq!(executor.orphans.len(), 1);
    for host in [1, 2] {
        let mut request = request(host, Action::Close, &format!("echo close $PORTKNOCK_IP >>{}", out.display()));
        request.door = "orphaned".into();
        executor.submit(request);
    }
    finish(&mut executor);
    assert_eq!(read(&out), "close 10.0.0.2\nopen\nclose 10.0.0.1\n");
    slow.wait().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(executor.orphans.is_empty() && executor.poll_timeout().is_none_or(|due| due > now()));
}

#[test]
fn commands_wait_for_a_hanging_orphan_for_a_limited_time() {
    let mut hanging = request(3, Action::Open, "sleep 100");
    hanging.door = "orphaned".into();
    let mut child = spawn(&hanging, Path::new(STATE)).unwrap();
    let mut executor = Executor::new().unwrap();
    executor.set_state_file(Path::new(STATE));
    let start = now();
    executor.wait_for_orphans([(hanging.door.clone(), hanging.net)], start);
    executor.submit(CommandRequest { action: Action::Close, command: "true".into(), ..hanging });
    turn(&mut executor, start);
    assert_eq!((executor.running(), executor.waiting()), (0, 1));
    assert_eq!(executor.poll_timeout(), Some(start.saturating_add(SLOW_AFTER)));
    turn(&mut executor, start.saturating_add(SLOW_AFTER));
    assert_eq!((executor.running(), executor.waiting()), (1, 0));
    child.kill().unwrap();
    child.wait().unwrap();
}
