//! The reader process: it has no privileges, and whatever happens to it, doors open and close.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, WAIT_TIMEOUT, cost, wait_until};

const ENDED: &str = "the reader process has ended";

fn door(seconds: u32) -> String {
    format!(
        "[door]\nsequence = 7000,5000\nseq_timeout = 30\nstart_command = echo open %IP% >> %DIR%/done\n\
         cmd_timeout = {seconds}\nstop_command = echo close %IP% >> %DIR%/done\n"
    )
}

fn opens(lab: &Lab, daemon: &Daemon) {
    let before = daemon.count("OPEN SESAME");
    lab.client.ok("knock 10.0.0.1 7000 5000");
    daemon.wait_for_count("OPEN SESAME", before + 1, WAIT_TIMEOUT);
}

/// Knocks until the door opens, which it does when the next reader listens.
fn opens_soon(lab: &Lab, daemon: &Daemon) {
    let before = daemon.count("OPEN SESAME");
    let opens = || {
        lab.client.ok("knock 10.0.0.1 7000 5000");
        wait_until(Duration::from_millis(500), || daemon.count("OPEN SESAME") > before)
    };
    assert!(wait_until(WAIT_TIMEOUT, opens), "{}", daemon.log());
}

fn closes(daemon: &Daemon, count: usize) {
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").matches("close").count() == count), "{}", daemon.log());
}

/// A value of the kernel about a process (proc_pid_status(5)).
fn status(pid: u32) -> HashMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn ends(pid: u32) {
    let gone = || !Path::new(&format!("/proc/{pid}")).exists();
    assert!(wait_until(WAIT_TIMEOUT, gone), "process {pid} is still there");
}

/// Asserts that the daemon waits and does not poll.
fn sleeps(daemon: &Daemon) {
    let before = cost::cpu(daemon.id());
    std::thread::sleep(Duration::from_millis(500));
    let spent = cost::cpu(daemon.id()) - before;
    assert!(spent < Duration::from_millis(100), "{spent:?} in half a second");
}

#[test]
fn the_reader_has_no_privileges_and_no_files() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(60));
    let reader = daemon.reader();
    let status = status(reader);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
    let root = status["Uid"].split_whitespace().any(|user| user == "0");
    // In a user namespace there may be no other user; the daemon reports that.
    assert_eq!(root, daemon.count("keeps privileges that it does not need: the user root") > 0, "{status:?}");
    assert_eq!(fs::read_to_string(format!("/proc/{reader}/environ")).expect("it runs"), "");
    let files = fs::read_dir(format!("/proc/{reader}/fd")).expect("it runs");
    for file in files {
        let target = fs::read_link(file.expect("an entry").path()).expect("an open descriptor");
        let target = target.to_string_lossy();
        let harmless =
            ["socket:", "anon_inode:[eventpoll]", "anon_inode:[timerfd]", "anon_inode:[eventfd]", "/dev/null"];
        assert!(harmless.iter().any(|kind| target.starts_with(kind)), "the reader has {target}");
    }
}

#[test]
fn a_reader_that_ends_is_restarted_and_doors_close_on_time() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(2));
    opens(&lab, &daemon);
    for round in 1..=2 {
        let reader = daemon.reader();
        lab.server.ok(&format!("kill -KILL {reader}"));
        daemon.wait_for_count(ENDED, round, WAIT_TIMEOUT);
        assert!(wait_until(WAIT_TIMEOUT, || cost::reader(daemon.id()).is_some_and(|next| next != reader)));
        // It listens as soon as it runs; a knock that counts again shows it.
        let heard = || {
            lab.client.ok("knock 10.0.0.1 7000");
            daemon.count("Stage 1") > round
        };
        assert!(wait_until(WAIT_TIMEOUT, heard), "{}", daemon.log());
    }
    closes(&daemon, 1);
    assert_eq!(daemon.read("done"), "open 10.0.0.2\nclose 10.0.0.2\n");
}

#[test]
fn a_reader_that_hangs_keeps_no_door_open() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(1));
    opens(&lab, &daemon);
    let reader = daemon.reader();
    lab.server.ok(&format!("kill -STOP {reader}"));
    closes(&daemon, 1);
    sleeps(&daemon);
    // The daemon asks it for its numbers, and it does not answer.
    daemon.signal("USR1");
    daemon.wait_for(ENDED);
    assert!(daemon.log().contains("it does not answer"), "{}", daemon.log());
    ends(reader);
    opens_soon(&lab, &daemon);
    closes(&daemon, 2);
}

#[test]
fn a_reader_that_hangs_is_restarted_although_nothing_happens() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(60));
    let reader = daemon.reader();
    lab.server.ok(&format!("kill -STOP {reader}"));
    daemon.wait_for_count("it does not answer", 1, Duration::from_secs(17));
    ends(reader);
    assert!(wait_until(WAIT_TIMEOUT, || cost::reader(daemon.id()).is_some()));
    opens_soon(&lab, &daemon);
}

#[test]
fn a_working_reader_stays_on_a_quiet_link_and_wakes_once_in_ten_seconds() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(60));
    let reader = daemon.reader();
    cost::settle(daemon.id());
    let before = cost::wake_ups(daemon.id());
    // Longer than a reader may be silent.
    std::thread::sleep(Duration::from_secs(20));
    let wake_ups = cost::wake_ups(daemon.id()) - before;
    assert_eq!((daemon.reader(), daemon.count(ENDED)), (reader, 0), "{}", daemon.log());
    assert!(wake_ups <= 8, "{wake_ups} of both in twenty seconds");
}

#[test]
fn a_reader_that_did_not_run_for_seconds_in_a_flood_is_not_considered_hostile() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(60));
    let reader = daemon.reader();
    lab.server.ok(&format!("kill -STOP {reader}"));
    // The kernel keeps these packets for it. Those of one second may be logged line by line, not
    // those of nine.
    lab.pktgen("--from 172.16.0.0 --sources 16000 --ports 7000 --rate 1800");
    lab.server.ok(&format!("kill -CONT {reader}"));
    opens(&lab, &daemon);
    daemon.wait_for("not logged in the last second: door: ");
    assert_eq!((daemon.count(ENDED), daemon.reader()), (0, reader), "{}", daemon.log());
    assert!(daemon.count("Stage 1") < 6_000, "{} lines", daemon.count("Stage 1"));
}

#[test]
fn the_reader_ends_with_the_daemon() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &door(60));
    let reader = daemon.reader();
    daemon.kill();
    ends(reader);
    daemon.restart(&lab.server, &["-i", "eth0"]);
    let reader = daemon.reader();
    let start = Instant::now();
    assert!(daemon.stop().success());
    ends(reader);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn knocks_while_the_daemon_stops_do_not_keep_it_running() {
    let lab = Lab::pair();
    let config = door(60).replace("echo close", "sleep 3; echo close");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    opens(&lab, &daemon);
    daemon.signal("TERM");
    daemon.wait_for("running command: sleep 3");
    lab.client.ok("knock 10.0.0.1 7000");
    sleeps(&daemon);
    assert!(daemon.exit_within(WAIT_TIMEOUT).is_some_and(|status| status.success()), "{}", daemon.log());
    assert_eq!(daemon.read("done"), "open 10.0.0.2\nclose 10.0.0.2\n");
}

#[test]
fn a_door_that_a_knock_extends_in_its_last_moment_stays_open() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &door(3));
    opens(&lab, &daemon);
    let opened = Instant::now();
    let reader = daemon.reader();
    std::thread::sleep(Duration::from_millis(2200));
    // The reader reads the packets after the door was due, by the time of which it was still open.
    lab.server.ok(&format!("kill -STOP {reader}"));
    lab.client.ok("knock 10.0.0.1 7000 5000");
    std::thread::sleep((opened + Duration::from_millis(990)).saturating_duration_since(Instant::now()));
    lab.server.ok(&format!("kill -CONT {reader}"));
    daemon.wait_for_count("10.0.0.2: door: OPEN SESAME", 2, WAIT_TIMEOUT);
    closes(&daemon, 2);
    // The knock opens it again, which causes one more closing, and its time closed no door before.
    assert_eq!(daemon.read("done"), "open 10.0.0.2\nclose 10.0.0.2\n".repeat(2));
    assert_eq!(daemon.count("command timeout"), 1);
}

#[test]
fn two_doors_of_one_name_may_be_for_different_addresses() {
    let ours = "[ssh]\nsequence = 7000,5000\nallow = 10.0.0.2\n";
    let theirs = "[ssh]\nsequence = 7100,5100\nallow = 192.0.2.0/24\n";
    // Most reports name the first of them, whichever the knock is for.
    for doors in [[ours, theirs], [theirs, ours]] {
        let lab = Lab::pair();
        let daemon = Daemon::portknockd(&lab.server, &doors.concat());
        let reader = daemon.reader();
        opens(&lab, &daemon);
        assert_eq!((daemon.reader(), daemon.count(ENDED)), (reader, 0), "{}", daemon.log());
    }
}

#[test]
fn a_reload_of_the_same_doors_in_a_flood_keeps_a_million_attempts() {
    let lab = Lab::pair();
    let config = door(60).replace("seq_timeout = 30", "seq_timeout = 300");
    let daemon = Daemon::portknockd(&lab.server, &config);
    let reader = daemon.reader();
    lab.client.ok("knock 10.0.0.1 7000");
    lab.pktgen("--from 172.16.0.0 --sources 1040000 --ports 7000 --rate 100000");
    let held = || daemon.status("attempts");
    assert!(wait_until(WAIT_TIMEOUT, || held() > 900_000), "{}", held());
    // Like the rotation of a log, which takes long after a flood.
    for count in 1..=3 {
        daemon.signal("HUP");
        daemon.wait_for_count("the configuration is reloaded", count, WAIT_TIMEOUT);
    }
    assert!(daemon.count(ENDED) == 0 && daemon.reader() == reader && held() > 900_000, "{}", daemon.log());
    lab.client.ok("knock 10.0.0.1 5000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
}
