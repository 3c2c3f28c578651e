//! Commands: none is lost, none holds up the others, and their environment is as documented.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{CAPTURE_ONLY_USER, Daemon, Lab, Output, WAIT_TIMEOUT, binary, other_users, wait_until};

const KNOCK: &str = "knock 10.0.0.1 7000 8000";

/// A door at 7000,8000 with these further lines, and the bell at 1000,500, which records its
/// ringing in `bell`.
fn door(lines: &str) -> String {
    format!(
        "[door]\nsequence = 7000,8000\ntcpflags = syn\n{lines}\n\
         [bell]\nsequence = 1000,500\ntcpflags = syn\ncommand = echo rang >> %DIR%/bell\n"
    )
}

fn becomes(daemon: &Daemon, name: &str, text: &str) {
    let reached = wait_until(WAIT_TIMEOUT, || daemon.read(name) == text);
    assert!(reached, "`{name}` is not\n{text}but\n{}\n{}", daemon.read(name), daemon.log());
}

/// Asserts that another door's command runs now.
fn ring(lab: &Lab, daemon: &Daemon) {
    let before = daemon.read("bell");
    lab.client.ok("knock 10.0.0.1 1000 500");
    becomes(daemon, "bell", &(before + "rang\n"));
}

/// Knocks at both ports from this number of addresses, beginning with this one.
fn crowd(lab: &Lab, from: &str, sources: u32) {
    let mut command = lab.client.command(binary("pktgen"));
    command.args(["--interface", "eth0", "--ports", "7000,8000", "--rate", "2000", "--from", from]);
    let output = Output::of(command.args(["--sources", &sources.to_string()]));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

/// The numbers of its open descriptors.
fn descriptors(daemon: &Daemon) -> HashSet<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.id())).expect("it runs");
    entries.map(|entry| entry.expect("it runs").file_name().into_string().expect("a number")).collect()
}

#[test]
fn a_command_that_hangs_holds_up_neither_other_addresses_nor_other_doors() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &door("command = echo %IP% >> %DIR%/done; sleep 1000"));
    lab.client.ok(KNOCK);
    becomes(&daemon, "done", "10.0.0.2\n");
    crowd(&lab, "10.0.0.3", 1);
    becomes(&daemon, "done", "10.0.0.2\n10.0.0.3\n");
    ring(&lab, &daemon);
    // The daemon waits for it at the end, unless it gets a second signal.
    daemon.signal("TERM");
    assert!(daemon.exit_within(Duration::from_millis(500)).is_none(), "{}", daemon.log());
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_for("stopped immediately by a second signal; commands may still be running");
}

#[test]
fn failures_are_logged_with_door_address_and_status() {
    let lab = Lab::pair();
    let failing = [
        ("exit 3", "returned non-zero status code (3)"),
        ("kill -SEGV $$", "was killed by signal 11"),
        ("/nonexistent/program", "returned non-zero status code (127)"),
        ("/etc/passwd", "returned non-zero status code (126)"),
        ("syntax (error", "returned non-zero status code (2)"),
    ];
    let doors = failing.iter().zip(1..).map(|((command, _), i)| {
        format!("[door{i}]\nsequence = {i}000,500\ntcpflags = syn\nstart_command = {command}\n")
    });
    let daemon = Daemon::portknockd(&lab.server, &doors.collect::<String>());
    for ((command, reason), i) in failing.iter().zip(1..) {
        lab.client.ok(&format!("knock 10.0.0.1 {i}000 500"));
        daemon.wait_for(&format!("door{i}: running command: {command}"));
        daemon.wait_for(&format!("door{i}: command {reason} (open for 10.0.0.2)"));
    }
    daemon.wait_for("door3: /nonexistent/program: not found");
    daemon.wait_for("door4: /etc/passwd: cannot be executed");
}

#[test]
fn a_flood_of_output_harms_nothing() {
    let lab = Lab::pair();
    let flood = "command = yes long-line-of-output-that-nobody-wants | head -c 20M; echo end >> %DIR%/done";
    let daemon = Daemon::portknockd(&lab.server, &door(flood));
    lab.client.ok(KNOCK);
    daemon.wait_for("running command");
    ring(&lab, &daemon);
    becomes(&daemon, "done", "end\n");
    ring(&lab, &daemon);
    assert!(!daemon.log().contains("\nlong-line"));
}

#[test]
fn open_wait_and_close_in_one_command_works_even_when_the_daemon_stops() {
    let lab = Lab::pair();
    let config = door("command = echo open >> %DIR%/done; sleep 2; echo close >> %DIR%/done");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    lab.client.ok(KNOCK);
    becomes(&daemon, "done", "open\n");
    becomes(&daemon, "done", "open\nclose\n");
    lab.client.ok(KNOCK);
    becomes(&daemon, "done", "open\nclose\nopen\n");
    for signal in ["HUP", "USR1", "TERM"] {
        daemon.signal(signal);
    }
    assert_eq!(daemon.exit_within(WAIT_TIMEOUT).and_then(|status| status.code()), Some(0), "{}", daemon.log());
    assert_eq!(daemon.read("done"), "open\nclose\nopen\nclose\n");
}

#[test]
fn a_stop_command_waits_for_a_start_command_that_is_slow() {
    let lab = Lab::pair();
    let lines = "start_command = sleep 2; echo open >> %DIR%/done\nstop_command = echo close >> %DIR%/done";
    let daemon = Daemon::portknockd(&lab.server, &door(&format!("{lines}\ncmd_timeout = 1")));
    lab.client.ok(KNOCK);
    daemon.wait_for("command timeout");
    assert_eq!(daemon.read("done"), "");
    becomes(&daemon, "done", "open\nclose\n");
}

#[test]
fn five_hundred_simultaneous_openings_all_run_a_bounded_number_at_a_time() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door("command = sleep 0.3; echo %IP% >> %DIR%/done"));
    let before = descriptors(&daemon).len();
    crowd(&lab, "10.0.1.0", 500);
    let mut most = 0;
    let all_run = wait_until(Duration::from_secs(30), || {
        most = most.max(daemon.commands().len());
        daemon.read("done").lines().count() == 500
    });
    assert!(all_run, "{} of 500 have run", daemon.read("done").lines().count());
    let done = daemon.read("done");
    let addresses: HashSet<_> = done.lines().collect();
    assert_eq!(addresses.len(), 500);
    assert!((32..=64).contains(&most), "{most} at the same time");
    assert!(wait_until(WAIT_TIMEOUT, || descriptors(&daemon).len() == before), "{:?}", descriptors(&daemon));
}

#[test]
fn three_hundred_open_doors_need_no_process() {
    let lab = Lab::pair();
    let lines = "start_command = echo %IP% >> %DIR%/done\nstop_command = true\ncmd_timeout = 60";
    let daemon = Daemon::portknockd(&lab.server, &door(lines));
    crowd(&lab, "10.0.1.0", 300);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").lines().count() == 300), "{}", daemon.log());
    assert!(wait_until(WAIT_TIMEOUT, || daemon.commands().is_empty()), "{:?}", daemon.commands());
    daemon.signal("USR1");
    daemon.wait_for("openings 300");
}

#[test]
fn stop_commands_pass_the_start_commands_that_wait() {
    let lab = Lab::pair();
    let slow = "[slow]\nsequence = 7100,8100\ntcpflags = syn\ncommand = sleep 1; echo %IP% >> %DIR%/slow\n";
    let lines = "start_command = echo open >> %DIR%/done\nstop_command = echo close >> %DIR%/done\ncmd_timeout = 1";
    let daemon = Daemon::portknockd(&lab.server, &(door(lines) + slow));
    lab.client.ok(KNOCK);
    becomes(&daemon, "done", "open\n");
    let mut pktgen = lab.client.command(binary("pktgen"));
    pktgen.args(["--interface", "eth0", "--ports", "7100,8100", "--rate", "5000", "--from", "10.0.1.0"]);
    assert_eq!(Output::of(pktgen.args(["--sources", "300"])).code, Some(0));
    becomes(&daemon, "done", "open\nclose\n");
    let run = daemon.read("slow").lines().count();
    assert!(run < 200, "only after {run} of 300");
    assert!(wait_until(Duration::from_secs(20), || daemon.read("slow").lines().count() == 300));
}

#[test]
fn without_available_processes_commands_wait_and_none_is_lost() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let lines = "start_command = echo open %IP% >> %DIR%/done\nstop_command = echo close %IP% >> %DIR%/done";
    // For the daemon, its threads for standard output, standard error and the log file, and its
    // reader.
    let starter = [&["prlimit", "--nproc=5:100"], CAPTURE_ONLY_USER].concat();
    let daemon = Daemon::portknockd_under(&lab.server, &starter, &door(&format!("{lines}\ncmd_timeout = 6")));
    crowd(&lab, "10.0.1.1", 3);
    let line = "door: could not start the command, trying again every second: Resource temporarily unavailable";
    daemon.wait_for(line);
    assert_eq!(daemon.read("done"), "");
    let more = format!("{} prlimit --nproc=100:100 --pid {}", CAPTURE_ONLY_USER.join(" "), daemon.id());
    lab.server.ok(&more);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").lines().count() == 6), "{}", daemon.log());
    let done = daemon.read("done");
    for i in 1..=3 {
        let position = |word: &str| done.find(&format!("{word} 10.0.1.{i}\n"));
        assert!(position("open").is_some() && position("open") < position("close"), "{done}");
    }
    assert!(daemon.count(line) <= 3, "each command logs it once:\n{}", daemon.log());
}

#[test]
fn without_descriptors_commands_wait_and_none_is_lost() {
    let lab = Lab::pair();
    let lines = "start_command = echo open %IP% >> %DIR%/done\nstop_command = echo close %IP% >> %DIR%/done";
    let daemon = Daemon::portknockd(&lab.server, &door(&format!("{lines}\ncmd_timeout = 6")));
    let limit = |count: usize| {
        let count = format!("--nofile={count}:");
        let output = Output::of(Command::new("prlimit").args([&count, "--pid", &daemon.id().to_string()]));
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    };
    let open = descriptors(&daemon);
    let free = (0..).find(|number: &usize| !open.contains(&number.to_string())).expect("one is free");
    limit(free);
    crowd(&lab, "10.0.1.1", 3);
    daemon.wait_for("door: could not start the command, trying again every second: Too many open files");
    assert_eq!(daemon.read("done"), "");
    // Room for one descriptor: the commands run, but there is none to watch them.
    limit(free + 1);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").lines().count() == 6), "{}", daemon.log());
    assert!(wait_until(WAIT_TIMEOUT, || daemon.commands().is_empty()), "{:?}", daemon.commands());
    limit(1024);
    ring(&lab, &daemon);
}

#[test]
fn a_start_without_descriptors_fails_with_a_clear_message() {
    let lab = Lab::pair();
    let program = binary("portknockd");
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let config = directory.path().join("knockd.conf");
    let state = directory.path().join("openings");
    fs::write(&config, format!("[options]\nStateFile = {}\n{}", state.display(), door(""))).expect("a test directory");
    // From too few descriptors to read the configuration to nearly enough.
    for limit in 3..40 {
        let limited =
            format!("ulimit -n {limit}; exec timeout 1 {} -i eth0 -c {}", program.display(), config.display());
        let output = lab.server.run(&limited);
        if output.stdout.contains("starting up") {
            assert!((10..40).contains(&limit), "{limit} descriptors are enough");
            return;
        }
        let is_reported =
            output.stderr.contains("Too many open files") || output.stderr.contains("error while loading");
        assert!(is_reported, "with {limit} descriptors: {output:?}");
        assert_ne!(output.code, Some(0));
    }
    panic!("40 descriptors are not enough");
}

#[test]
fn quotes_and_metacharacters_are_the_shells_and_every_ip_is_replaced() {
    let lab = Lab::pair();
    let command = r#"printf '%s\n' "a  b" 'c"d' %IP% "<%IP%>" '%IP%%IP%' \* "$(echo $PORTKNOCK_IP)" `echo e` "100% #f" | tr e E > %DIR%/new && mv %DIR%/new %DIR%/done; false || true & wait"#;
    let daemon = Daemon::portknockd(&lab.server, &door(&format!("command = {command}")));
    lab.client.ok(KNOCK);
    let ip = "10.0.0.2";
    becomes(&daemon, "done", &format!("a  b\nc\"d\n{ip}\n<{ip}>\n{ip}{ip}\n*\n{ip}\nE\n100% #f\n"));
}

#[test]
fn addresses_are_given_in_their_canonical_text() {
    let lab = Lab::pair();
    for address in ["2001:db8:0:0:1:0:0:1/64", "2001:DB8:0:0:0:0:0:A/64", "::ffff:1.2.3.4/96"] {
        lab.client.add_address("eth0", address);
    }
    let daemon = Daemon::portknockd(&lab.server, &door("command = echo %IP% $PORTKNOCK_IP >> %DIR%/done"));
    let mut done = String::new();
    for address in ["2001:db8::1:0:0:1", "2001:db8::a"] {
        let mut pktgen = lab.client.command(binary("pktgen"));
        pktgen.args(["--interface", "eth0", "--to", "fd00::1", "--from", address, "--ports", "7000,8000"]);
        assert_eq!(Output::of(&mut pktgen).code, Some(0));
        done += &format!("{address} {address}\n");
        becomes(&daemon, "done", &done);
    }
    lab.client.ok(KNOCK);
    becomes(&daemon, "done", &(done + "10.0.0.2 10.0.0.2\n"));
}

#[test]
fn an_empty_command_for_ipv6_does_nothing_so_there_is_nothing_to_close() {
    let lab = Lab::pair();
    let lines = "start_command = echo open %IP% >> %DIR%/done\nstart_command_6 =\n\
                 stop_command = echo $PORTKNOCK_EVENT $PORTKNOCK_DOOR %IP% >> %DIR%/done\ncmd_timeout = 1";
    let daemon = Daemon::portknockd(&lab.server, &door(lines));
    lab.client.ok("knock fd00::1 7000 8000");
    daemon.wait_for("fd00::2: door: OPEN SESAME");
    lab.client.ok(KNOCK);
    // The opening over IPv6 would have been closed before.
    becomes(&daemon, "done", "open 10.0.0.2\nclose door 10.0.0.2\n");
    // A command can be faster than the log.
    daemon.wait_for("command timeout");
    assert_eq!(daemon.count("command timeout"), 1, "{}", daemon.log());
}

#[test]
fn a_door_without_a_command_only_reports() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(""));
    lab.client.ok(KNOCK);
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    ring(&lab, &daemon);
    assert_eq!(daemon.count("door: running command"), 0);
}

#[test]
fn a_command_gets_a_clean_process() {
    let lab = Lab::pair();
    let look =
        "grep SigBlk /proc/self/status; readlink /proc/self/fd/0; ls /proc/self/fd; grep SigIgn /proc/self/status";
    let daemon = Daemon::portknockd(&lab.server, &door(&format!("command = echo $({look}) > %DIR%/done")));
    lab.client.ok(KNOCK);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").ends_with('\n')), "{}", daemon.log());
    // Compared with the daemon's own start, no further signals are blocked or ignored. Descriptors
    // are the standard three, and that of `ls` for the directory, whatever the surroundings left
    // open.
    let (done, without) = (daemon.read("done"), lab.server.ok(&format!("echo $({look})")));
    let parts = |text: &str| {
        let (before, ignored) = text.trim().rsplit_once(' ').expect("several words");
        (before.to_string(), u64::from_str_radix(ignored, 16).expect("a mask"))
    };
    let ((done, ignored), (_, ignored_without)) = (parts(&done), parts(&without));
    assert_eq!(ignored & !ignored_without, 0);
    assert_eq!(done, "SigBlk: 0000000000000000 /dev/null 0 1 2 3 SigIgn:");
}

#[test]
fn a_burst_of_knocks_while_commands_fail_slowly_is_processed() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door("command = sleep 0.2; echo x >> %DIR%/done; exit 1"));
    let start = Instant::now();
    crowd(&lab, "10.0.1.0", 128);
    ring(&lab, &daemon);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").lines().count() == 128), "{}", daemon.log());
    daemon.wait_for_count("returned non-zero status code (1)", 128, WAIT_TIMEOUT);
    assert!(start.elapsed() < Duration::from_secs(8), "128 commands of 0.2 s took {:?}", start.elapsed());
    sleep(Duration::from_millis(100));
    assert_eq!(daemon.commands(), [0; 0]);
}
