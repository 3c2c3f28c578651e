//! Whatever happens to the daemon, no door stays open without a process that closes it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{
    CAPTURE_ONLY_USER, Daemon, Disk, Lab, Output, WAIT_TIMEOUT, binary, other_users, require, wait_until,
};
use tempfile::TempDir;

/// A door whose commands record what they did in `done`.
const NOTE: &str = "
[door]
    sequence      = 7000,8000
    seq_timeout   = 10
    tcpflags      = syn
    start_command = echo open %IP% >> %DIR%/done
    stop_command  = echo close %IP% >> %DIR%/done
    cmd_timeout   = 3
";

const KNOCK: &str = "knock 10.0.0.1 7000 8000";
const OPEN: &str = "open 10.0.0.2\n";
const OPEN_AND_CLOSE: &str = "open 10.0.0.2\nclose 10.0.0.2\n";

/// [`NOTE`] with another time until the door closes.
fn closing_after(seconds: u32) -> String {
    NOTE.replace("= 3", &format!("= {seconds}"))
}

fn becomes(daemon: &Daemon, done: &str) {
    let reached = wait_until(WAIT_TIMEOUT, || daemon.read("done") == done);
    assert!(reached, "the commands that ran are not\n{done}but\n{}{}", daemon.read("done"), daemon.log());
}

/// Knocks and waits until the start command has run.
fn open(lab: &Lab, daemon: &Daemon) {
    lab.client.ok(KNOCK);
    becomes(daemon, OPEN);
}

fn restart(lab: &Lab, daemon: &mut Daemon) {
    daemon.restart(&lab.server, &["-i", "eth0"]);
}

/// The openings that the state file contains and has not marked as closed.
fn saved(daemon: &Daemon) -> usize {
    let mut ids = BTreeSet::new();
    for line in daemon.read("openings").lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [_, "open", id, ..] => drop(ids.insert(id.to_string())),
            [_, "close", id] => drop(ids.remove(id)),
            _ => {}
        }
    }
    ids.len()
}

#[test]
fn a_door_left_open_by_a_crash_is_closed_on_time() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, NOTE);
    let start = Instant::now();
    open(&lab, &daemon);
    daemon.kill();
    restart(&lab, &mut daemon);
    daemon.wait_for("openings found from before the start: 1");
    assert_eq!(daemon.read("done"), OPEN);
    becomes(&daemon, OPEN_AND_CLOSE);
    let after = start.elapsed().as_secs_f32();
    assert!((3.0..4.0).contains(&after), "closed after {after} s");
    // The command has written that, but may not have ended.
    assert!(wait_until(WAIT_TIMEOUT, || saved(&daemon) == 0));
    daemon.kill();
    restart(&lab, &mut daemon);
    sleep(Duration::from_millis(300));
    assert_eq!((daemon.read("done").as_str(), daemon.count("openings found")), (OPEN_AND_CLOSE, 1));
}

#[test]
fn an_overdue_door_is_closed_immediately_even_if_it_left_the_configuration() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &closing_after(1));
    open(&lab, &daemon);
    daemon.kill();
    daemon.rewrite("[other]\nsequence = 1000,2000,1500\ncommand = true\n");
    sleep(Duration::from_millis(1200));
    restart(&lab, &mut daemon);
    let start = Instant::now();
    becomes(&daemon, OPEN_AND_CLOSE);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_crash_while_the_start_command_runs_leaves_nothing_open() {
    let lab = Lab::pair();
    let config = closing_after(1).replace("= echo open", "= echo begin >> %DIR%/done; sleep 3; echo open");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    lab.client.ok(KNOCK);
    becomes(&daemon, "begin\n");
    daemon.kill();
    // The command continues past the closing time.
    restart(&lab, &mut daemon);
    daemon.wait_for("10.0.0.2: door: command timeout");
    becomes(&daemon, &format!("begin\n{OPEN_AND_CLOSE}"));
    assert!(wait_until(WAIT_TIMEOUT, || saved(&daemon) == 0), "{}", daemon.read("openings"));
}

#[test]
fn a_crash_while_the_stop_command_runs_lets_it_run_again() {
    let lab = Lab::pair();
    let config = closing_after(1).replace("= echo close", "= echo end >> %DIR%/done; sleep 1; echo close");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    lab.client.ok(KNOCK);
    becomes(&daemon, &format!("{OPEN}end\n"));
    daemon.kill();
    restart(&lab, &mut daemon);
    becomes(&daemon, &format!("{OPEN}end\nclose 10.0.0.2\nend\nclose 10.0.0.2\n"));
    assert!(wait_until(WAIT_TIMEOUT, || saved(&daemon) == 0), "{}", daemon.read("openings"));
}

/// Number of threads of a daemon, without the first one.
fn threads(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/task", daemon.id())).expect("it runs").count() - 1
}

#[test]
fn a_crash_at_any_relevant_system_call_leaves_nothing_open_and_opens_nothing_twice() {
    require("strace");
    let config = closing_after(1)
        .replace("= echo open", "= touch %DIR%/door; echo open")
        .replace("= echo close", "= rm -f %DIR%/door; echo close");
    let lab = Lab::pair();
    let mut crashes = Vec::new();
    // The first started process is the reader; then the threads of the log follow.
    let before = 1 + threads(&Daemon::portknockd(&lab.server, &config));
    // The writes and syncs of the state file, and the starts of commands.
    for calls in ["pwrite64", "fdatasync", "clone,clone3,vfork"] {
        for nth in 1.. {
            let when = if calls.starts_with("clone") { nth + before } else { nth };
            // With an error, so that the call has no effect.
            let inject = format!("--inject={calls}:error=EIO:signal=KILL:when={when}");
            let strace = ["strace", "-D", "-q", "-o", "%DIR%/trace", "-e", "signal=none", &inject];
            let mut daemon = Daemon::portknockd_under(&lab.server, &strace, &config);
            lab.client.ok(KNOCK);
            let struck_off = || daemon.read("done").contains("close") && saved(&daemon) == 0;
            if wait_until(Duration::from_millis(2500), struck_off) {
                break;
            }
            assert!(daemon.exit_within(WAIT_TIMEOUT).is_some(), "it still runs after {calls} {nth}:\n{}", daemon.log());
            let opened = daemon.read("done").contains("open");
            assert!(!opened || saved(&daemon) == 1, "open, but not on disk: {}", daemon.read("openings"));
            crashes.push(format!("{calls} {nth}: {}", if opened { "open" } else { "not yet" }));
            restart(&lab, &mut daemon);
            assert!(wait_until(WAIT_TIMEOUT, || saved(&daemon) == 0), "{}", daemon.log());
            let done = daemon.read("done");
            assert!(!daemon.path("door").exists(), "{calls} {nth}: {done}");
            assert!(done.matches("open").count() <= 1, "{calls} {nth}: {done}");
            assert!(!opened || done.ends_with("close 10.0.0.2\n"), "{calls} {nth}: {done}");
        }
    }
    let expected = [
        "pwrite64 1: not yet",
        "pwrite64 2: open",
        "fdatasync 1: not yet",
        "clone,clone3,vfork 1: not yet",
        "clone,clone3,vfork 2: open",
    ];
    assert_eq!(crashes, expected);
}

#[test]
fn a_door_opens_again_only_when_the_end_of_its_stop_command_is_on_disk() {
    require("strace");
    let config = closing_after(2).replace("= echo close", "= sleep 1; echo close");
    let lab = Lab::pair();
    // The first write is that of the first opening, the second that of the next one, the third that
    // of the first one's end.
    let strace = ["strace", "-D", "-q", "-o", "%DIR%/trace", "-e", "signal=none"];
    let inject = "--inject=pwrite64:error=EIO:signal=KILL:when=3";
    let mut daemon = Daemon::portknockd_under(&lab.server, &[&strace[..], &[inject]].concat(), &config);
    open(&lab, &daemon);
    daemon.wait_for("10.0.0.2: door: command timeout");
    lab.client.ok(KNOCK);
    daemon.wait_for_count("OPEN SESAME", 2, WAIT_TIMEOUT);
    assert!(daemon.exit_within(WAIT_TIMEOUT).is_some(), "it still runs:\n{}", daemon.log());
    // Otherwise the next start would run the stop command again, on a door that has just been
    // opened.
    assert_eq!((daemon.read("done").as_str(), saved(&daemon)), (OPEN_AND_CLOSE, 2));
    restart(&lab, &mut daemon);
    assert!(wait_until(WAIT_TIMEOUT, || saved(&daemon) == 0), "{}", daemon.log());
}

#[test]
fn the_end_of_the_daemon_closes_every_door_before_it() {
    let lab = Lab::pair();
    let config = closing_after(1000).replace("= echo close", "= sleep 0.3; echo close");
    let mut daemon = Daemon::portknockd(&lab.server, &config);
    pktgen(&lab, "--sources 20");
    daemon.wait_for_count("running command", 20, WAIT_TIMEOUT);
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(daemon.read("done").matches("close").count(), 20, "{}", daemon.log());
    assert_eq!(saved(&daemon), 0);
    assert!(!daemon.log().contains("left behind"), "{}", daemon.log());
}

#[test]
fn if_configured_so_doors_stay_open_over_a_restart() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &format!("[options]\nOnStop = keep\n{}", closing_after(2)));
    open(&lab, &daemon);
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!((daemon.read("done").as_str(), saved(&daemon)), (OPEN, 1));
    sleep(Duration::from_secs(2));
    restart(&lab, &mut daemon);
    becomes(&daemon, OPEN_AND_CLOSE);
}

#[test]
fn a_bad_reload_or_a_removed_door_leaves_nothing_open() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    let start = Instant::now();
    open(&lab, &daemon);
    daemon.rewrite("[door]\nsequence = 0\n");
    daemon.signal("HUP");
    daemon.wait_for("the configuration is not reloaded, the old one stays in use");
    daemon.rewrite("[other]\nsequence = 1000,2000,1500\ncommand = true\n");
    daemon.signal("HUP");
    daemon.wait_for("the configuration is reloaded");
    assert_eq!(daemon.read("done"), OPEN);
    becomes(&daemon, OPEN_AND_CLOSE);
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_door_knocked_at_again_opens_again_and_closes_at_the_later_time_with_and_without_a_crash() {
    for crash in [false, true] {
        let lab = Lab::pair();
        let mut daemon = Daemon::portknockd(&lab.server, NOTE);
        open(&lab, &daemon);
        sleep(Duration::from_secs(2));
        let again = Instant::now();
        lab.client.ok(KNOCK);
        becomes(&daemon, &format!("{OPEN_AND_CLOSE}{OPEN}"));
        if crash {
            daemon.kill();
            restart(&lab, &mut daemon);
        }
        becomes(&daemon, &OPEN_AND_CLOSE.repeat(2));
        let after = again.elapsed().as_secs_f32();
        assert!((3.0..4.0).contains(&after), "closed {after} s after the second knock");
        sleep(Duration::from_millis(500));
        assert_eq!((daemon.read("done"), saved(&daemon)), (OPEN_AND_CLOSE.repeat(2), 0));
    }
}

#[test]
fn a_second_daemon_with_the_same_state_file_is_refused() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    let output = daemon.refuses_to_start(&lab.server);
    let path = daemon.path("openings");
    let expected = format!("portknockd: the state file {} is in use by another portknockd; ", path.display());
    assert!(output.stderr.lines().any(|line| line.starts_with(&expected)), "{output:?}");
    // The same if a reload lets a running daemon use it.
    let other = Daemon::portknockd(&lab.server, "[other]\nsequence = 1000,2000,1500\ncommand = true\n");
    other.rewrite(&format!("[options]\nStateFile = {}\n{NOTE}", path.display()));
    other.signal("HUP");
    other.wait_for("the configuration is not reloaded, the old one stays in use: the state file");
    open(&lab, &daemon);
    assert_eq!(other.read("done"), "");
}

#[test]
fn damaged_lines_cost_no_other_opening() {
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, &closing_after(2));
    pktgen(&lab, "--sources 3");
    daemon.wait_for_count("running command", 3, WAIT_TIMEOUT);
    daemon.kill();
    let damaged = daemon.read("openings").replace("10.0.0.3", "10.0.0.9") + "12345678 open 9 half a li";
    fs::write(daemon.path("openings"), &damaged).expect("the state file can be written");
    restart(&lab, &mut daemon);
    daemon.wait_for("was cut off and is dropped");
    daemon.wait_for(&format!("1 damaged lines in {} are skipped", daemon.path("openings").display()));
    assert_eq!(daemon.read("openings.corrupt"), damaged);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").matches("close").count() == 2), "{}", daemon.read("done"));
    assert!(!daemon.read("done").contains("close 10.0.0.9"));
}

#[test]
fn a_state_file_of_another_user_is_refused_because_its_commands_would_run() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let mut daemon = Daemon::portknockd(&lab.server, NOTE);
    daemon.stop();
    let path = daemon.path("openings");
    let refused = |why: &str| {
        let output = daemon.refuses_to_start(&lab.server);
        let expected = format!("portknockd: the state file {} is not trusted: {why}; remove it", path.display());
        assert!(output.stderr.lines().any(|line| line.starts_with(&expected)), "{output:?}");
    };
    fs::set_permissions(&path, Permissions::from_mode(0o602)).expect("a test file");
    refused("its group or others can write to it");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a test file");
    chown(&path, Some(12345), None).expect("root may");
    refused("it belongs to another user");
    fs::remove_file(&path).expect("root may");
    symlink("/etc/passwd", &path).expect("the directory can be written");
    refused("it is a symbolic link");
}

#[test]
fn an_unreadable_state_file_is_renamed() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let directory = TempDir::new().expect("a temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("a test directory");
    let path = directory.path().join("openings");
    fs::write(&path, "").expect("a test directory");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a test file");
    let config = format!("[options]\nStateFile = {}\n{}", path.display(), closing_after(1));
    let daemon = Daemon::portknockd_under(&lab.server, CAPTURE_ONLY_USER, &config);
    daemon.wait_for(&format!("cannot read the state file {}: Permission denied", path.display()));
    assert!(directory.path().join("openings.corrupt").exists());
    open(&lab, &daemon);
    becomes(&daemon, OPEN_AND_CLOSE);
}

#[test]
fn the_state_file_and_a_directory_created_for_it_are_for_their_owner_only() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &format!("[options]\nStateFile = %DIR%/a/b/openings\n{NOTE}"));
    let mode = |name: &str| fs::metadata(daemon.path(name)).map(|meta| meta.mode() & 0o7777).ok();
    assert_eq!([mode("a"), mode("a/b"), mode("a/b/openings")], [Some(0o700), Some(0o700), Some(0o600)]);
    open(&lab, &daemon);
    assert_eq!(mode("a/b/openings"), Some(0o600));
}

/// A door with its state file on the disk, whose stop command is so long that each opening needs
/// space there.
fn on(disk: &Disk, seconds: u32) -> String {
    // A space takes three bytes in the state file.
    let long = format!(" : '{}'; echo close", " ".repeat(3000));
    let state = format!("[options]\nStateFile = {}\n", disk.path("openings").display());
    state + &closing_after(seconds).replace(" echo close", &long)
}

#[test]
fn a_full_disk_keeps_no_host_out_and_is_reported_once() {
    let (lab, disk) = (Lab::pair(), Disk::new());
    let mut daemon = Daemon::portknockd(&lab.server, &on(&disk, 7));
    for spell in 1..=2 {
        let source = |n: u32| format!("10.0.{spell}.{n}");
        disk.fill();
        pktgen(&lab, &format!("--from {} --sources 2", source(1)));
        let done = |word: &str| (1..=2).all(|n| daemon.read("done").contains(&format!("{word} {}\n", source(n))));
        assert!(wait_until(WAIT_TIMEOUT, || done("open")), "{}", daemon.log());
        pktgen(&lab, &format!("--from {} --sources 1", source(3)));
        daemon.wait_for(&format!("{}: door: OPEN SESAME", source(3)));
        let warning = format!("cannot save openings to {}: No space left on device", disk.path("openings").display());
        assert_eq!(daemon.count(&warning), spell, "{}", daemon.log());
        disk.free();
        daemon.wait_for_count("are saved to", spell, WAIT_TIMEOUT);
        if spell == 1 {
            assert!(wait_until(WAIT_TIMEOUT, || done("close")), "{}", daemon.log());
        }
    }
    daemon.kill();
    restart(&lab, &mut daemon);
    daemon.wait_for("openings found from before the start: 3");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").matches("close").count() == 6), "{}", daemon.read("done"));
}

#[test]
fn a_disk_that_is_full_at_the_start_is_used_when_it_has_room() {
    let (lab, disk) = (Lab::pair(), Disk::new());
    disk.fill();
    let mut daemon = Daemon::portknockd(&lab.server, &on(&disk, 9));
    daemon.wait_for("cannot save openings");
    open(&lab, &daemon);
    disk.free();
    daemon.wait_for("are saved to");
    daemon.kill();
    restart(&lab, &mut daemon);
    becomes(&daemon, OPEN_AND_CLOSE);
}

#[test]
fn a_read_only_disk_keeps_no_host_out_and_is_used_when_it_is_writable() {
    let (lab, disk) = (Lab::pair(), Disk::new());
    disk.protect();
    let mut daemon = Daemon::portknockd(&lab.server, &on(&disk, 9));
    daemon.wait_for(&format!("cannot save openings to {}: Read-only file system", disk.path("openings").display()));
    open(&lab, &daemon);
    pktgen(&lab, "--from 10.0.0.3 --sources 1");
    daemon.wait_for("10.0.0.3: door: OPEN SESAME");
    assert_eq!(daemon.count("cannot save openings"), 1, "{}", daemon.log());
    disk.release(&lab.server, &daemon);
    daemon.wait_for("are saved to");
    daemon.kill();
    restart(&lab, &mut daemon);
    daemon.wait_for("openings found from before the start: 2");
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done").matches("close").count() == 2), "{}", daemon.read("done"));
}

/// Knocks from hand-made addresses; each address knocks at both ports.
fn pktgen(lab: &Lab, args: &str) {
    let mut command: Command = lab.client.command(binary("pktgen"));
    command.args(["--interface", "eth0", "--ports", "7000,8000", "--rate", "500"]).args(args.split(' '));
    let output = Output::of(&mut command);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}
