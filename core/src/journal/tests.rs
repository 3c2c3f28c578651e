use super::*;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

const BOOT: &str = "boot-1";

/// The clocks `secs` seconds after a start at which the machine had been running for 1,000 s.
fn at(secs: u64) -> Clocks {
    Clocks {
        now: Timestamp::from_secs(5_000 + secs),
        wall: Timestamp::from_secs(5_000 + secs),
        boot: Duration::from_secs(1_000 + secs),
    }
}

fn opening(host: u8, closes: u64) -> Opening {
    let ip = IpAddr::from([10, 0, 0, host]);
    Opening {
        door: "front door".into(),
        ip,
        closes_at: at(closes).now,
        stop_command: Some(format!("iptables -D INPUT -s {ip} -m comment --comment '100% \n x'")),
        open: [].into(),
        net: ip.into(),
    }
}

fn close(state: &mut StateFile, opening: &Opening) {
    let Opening { door, ip, stop_command, net, .. } = opening.clone();
    let request = CommandRequest { door, ip, action: Action::Close, command: stop_command.unwrap(), net, key: None };
    let id = state.closing(&request).unwrap();
    state.closed(id);
}

fn open(path: &Path) -> (StateFile, Restored) {
    StateFile::open(path, BOOT, at(0)).unwrap()
}

fn open_quietly(path: &Path) -> (StateFile, Vec<Opening>) {
    let (mut state, restored) = open(path);
    let reported = notices(&mut state);
    assert!(reported.is_empty() && restored.unfinished.is_empty(), "{reported:?} {restored:?}");
    (state, restored.openings)
}

fn notices(state: &mut StateFile) -> Vec<String> {
    std::iter::from_fn(|| state.poll_notice()).map(|notice| notice.to_string()).collect()
}

/// Runs the named test again in a separate process, with a file system of `size` bytes. Returns `None`
/// after that. In the separate process, returns the directory of the file system.
fn on_small_disk(test: &str, size: &str) -> Option<std::path::PathBuf> {
    if let Some(dir) = std::env::var_os("PORTKNOCK_TEST_DISK") {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=$1 portknock-test \"$PORTKNOCK_TEST_DISK\" && exec \"$0\" --exact \"$2\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([size, test])
        .env("PORTKNOCK_TEST_DISK", dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    None
}

#[test]
fn openings_come_back_until_their_stop_command_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/openings");
    let (mut state, nothing) = open_quietly(&path);
    assert_eq!(nothing, []);
    for host in 1..=3 {
        state.opened(&opening(host, 30), at(0));
    }
    state.opened(&opening(2, 50), at(20));
    state.commit(at(20).now);
    close(&mut state, &opening(3, 30));
    let (ip, action) = (IpAddr::from([10, 0, 0, 1]), Action::Close);
    let request = CommandRequest { action, door: "other".into(), ip, command: "x".into(), net: ip.into(), key: None };
    assert_eq!(state.closing(&request), None);
    state.commit(at(20).now);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    drop(state);
    let (_, openings) = open_quietly(&path);
    assert_eq!(openings, [opening(1, 30), opening(2, 50)]);
}

#[test]
fn an_opening_stays_in_the_file_until_its_stop_command_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (mut state, _) = open(&path);
    state.opened(&opening(1, 5), at(0));
    let Opening { door, ip, stop_command, net, .. } = opening(1, 5);
    let request = CommandRequest { door, ip, action: Action::Close, command: stop_command.unwrap(), net, key: None };
    let first = state.closing(&request).unwrap();
    // A knock while the stop command is running causes a second opening, which stays after the first
    // has ended.
    state.opened(&opening(1, 40), at(9));
    state.commit(at(9).now);
    drop(state);
    let (mut state, restored) = open(&path);
    assert_eq!(restored.unfinished, [(first, request.clone())]);
    assert_eq!(restored.openings, [opening(1, 40)]);
    state.closed(first);
    state.commit(at(9).now);
    drop(state);
    assert_eq!(open_quietly(&path).1, [opening(1, 40)]);
}

#[test]
fn a_crash_at_any_byte_loses_no_opening_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (mut state, _) = open(&path);
    let mut whole = vec![(fs::metadata(&path).unwrap().len(), 0)];
    for host in 1..=4 {
        state.opened(&opening(host, 30), at(0));
        state.commit(at(0).now);
        whole.push((fs::metadata(&path).unwrap().len(), usize::from(host)));
    }
    drop(state);
    let bytes = fs::read(&path).unwrap();
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let expected = whole.iter().rev().find(|(len, _)| *len <= cut as u64).map_or(0, |(_, count)| *count);
        let (mut state, restored) = open(&path);
        assert_eq!(restored.openings.len(), expected, "cut at {cut}");
        let torn = bytes[..cut].last().is_some_and(|byte| *byte != b'\n');
        assert_eq!(notices(&mut state).len(), usize::from(torn), "cut at {cut}");
        state.opened(&opening(9, 30), at(0));
        state.commit(at(0).now);
        drop(state);
        assert_eq!(open_quietly(&path).1.len(), expected + 1, "lines after a torn line are read, cut at {cut}");
    }
}

#[test]
fn damaged_lines_are_skipped_reported_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (mut state, _) = open(&path);
    for host in 1..=3 {
        state.opened(&opening(host, 30), at(0));
    }
    state.commit(at(0).now);
    drop(state);
    let damaged = fs::read_to_string(&path).unwrap().replace("10.0.0.2", "10.0.0.7");
    fs::write(&path, &damaged).unwrap();
    let (mut state, restored) = open(&path);
    assert_eq!(restored.openings, [opening(1, 30), opening(3, 30)]);
    let reported = notices(&mut state);
    assert!(reported.len() == 1 && reported[0].starts_with("1 damaged lines in "), "{reported:?}");
    drop(state);
    assert_eq!(fs::read_to_string(dir.path().join("openings.corrupt")).unwrap(), damaged);
    assert_eq!(open_quietly(&path).1.len(), 2);
}

#[test]
fn openings_with_huge_numbers_get_new_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let line = |id: u64| {
        let text = format!("open {id} 1 1 1 {BOOT} door 10.0.0.1 close-{id}");
        format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()))
    };
    fs::write(&path, format!("portknock openings 1\n{}{}", line(0), line(u64::MAX))).unwrap();
    let (mut state, openings) = open_quietly(&path);
    assert_eq!(openings.len(), 2);
    close(&mut state, &openings[1]);
    state.opened(&opening(1, 30), at(0));
    state.commit(at(0).now);
    drop(state);
    assert_eq!(open_quietly(&path).1, [openings[0].clone(), opening(1, 30)]);
}

#[test]
fn setting_the_clock_changes_nothing_and_after_a_reboot_all_openings_are_overdue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let remaining = |boot: &str, clocks: Clocks| {
        let (_, restored) = StateFile::open(&path, boot, clocks).unwrap();
        restored.openings[0].closes_at.saturating_since(clocks.now).as_secs()
    };
    let (mut state, _) = open(&path);
    state.opened(&opening(1, 30), at(0));
    state.commit(at(0).now);
    drop(state);
    for wall in [0, 4_000, 5_010, 9_000_000] {
        assert_eq!(remaining(BOOT, Clocks { wall: Timestamp::from_secs(wall), ..at(10) }), 20);
    }
    assert_eq!(remaining(BOOT, at(31)), 0);
    let rebooted = |wall| Clocks { wall: Timestamp::from_secs(wall), boot: Duration::from_secs(5), ..at(0) };
    assert_eq!(remaining("boot-2", rebooted(5_010)), 0);
    // The system does not identify its boots.
    assert_eq!(remaining("", rebooted(5_010)), 20);
    assert_eq!(remaining("", rebooted(6_000)), 0);
    assert_eq!(remaining("", rebooted(1_000)), 30, "never longer than when it was written");
}

#[test]
fn closed_openings_do_not_make_the_file_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (mut state, _) = open(&path);
    state.opened(&opening(1, 30), at(0));
    for _ in 0..100 {
        for _ in 0..20 {
            state.opened(&opening(2, 30), at(0));
            close(&mut state, &opening(2, 30));
        }
        state.commit(at(0).now);
    }
    assert!(fs::read_to_string(&path).unwrap().lines().count() <= GARBAGE + 50);
    assert!(!path.with_extension("new").exists());
    drop(state);
    assert_eq!(open_quietly(&path).1, [opening(1, 30)]);
}

#[test]
fn only_one_process_at_a_time_uses_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (state, _) = open(&path);
    let error = StateFile::open(&path, BOOT, at(0)).unwrap_err();
    assert!(error.to_string().contains("in use by another portknockd"), "{error}");
    drop(state);
    open_quietly(&path);
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let refused = || StateFile::open(&path, BOOT, at(0)).unwrap_err().to_string();
    drop(open(&path));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(refused().contains("is not trusted: its group or others can write to it"), "{}", refused());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(&path, Some(1), None).is_ok() && effective_user_is_root() {
        assert!(refused().contains("it belongs to another user"), "{}", refused());
    }
    fs::rename(&path, dir.path().join("real")).unwrap();
    symlink(dir.path().join("real"), &path).unwrap();
    assert!(refused().contains("it is a symbolic link"), "{}", refused());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(refused().contains("it is not a regular file"), "{}", refused());
}

fn effective_user_is_root() -> bool {
    crate::sys::process::effective_user() == 0
}

#[test]
fn a_format_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    fs::write(&path, "portknock openings 3\nanything\n").unwrap();
    let error = StateFile::open(&path, BOOT, at(0)).unwrap_err();
    assert!(error.to_string().contains("unknown format \"3\""), "{error}");
}

#[test]
fn an_unwritable_file_is_reported_once() {
    let (mut state, restored) = open(Path::new("/proc/portknock-test/openings"));
    assert_eq!(restored.openings, []);
    let reported = notices(&mut state);
    assert!(reported.len() == 1 && reported[0].starts_with("cannot save openings to /proc/portknock-test/openings: "));
    state.opened(&opening(1, 30), at(0));
    state.commit(at(0).now);
    assert_eq!(state.poll_timeout(), Some(at(5).now));
    assert!(!state.is_saving() && notices(&mut state).is_empty());
    close(&mut state, &opening(1, 30));
}

#[test]
fn a_full_disk_is_reported_once_and_saving_continues_when_there_is_room() {
    let test = "journal::tests::a_full_disk_is_reported_once_and_saving_continues_when_there_is_room";
    let Some(dir) = on_small_disk(test, "64k") else { return };
    let path = dir.join("openings");
    let (mut state, _) = open_quietly(&path);
    let ballast = dir.join("ballast");
    assert!(fs::write(&ballast, vec![1; 1 << 20]).is_err());
    let mut host = 0;
    while state.is_saving() {
        host += 1;
        state.opened(&opening(host, 30), at(0));
        state.commit(at(0).now);
    }
    for host in host + 1..=host + 20 {
        state.opened(&opening(host, 30), at(0));
        state.commit(at(0).now);
    }
    let reported = notices(&mut state);
    assert!(reported.len() == 1 && reported[0].contains("No space left on device"), "{reported:?}");
    // The file has the records that were written while there was room, and no partial line.
    let copy = dir.join("copy");
    fs::copy(&path, &copy).unwrap_err();
    assert!(fs::read(&path).unwrap().ends_with(b"\n"));

    fs::remove_file(&ballast).unwrap();
    state.commit(at(4).now);
    assert!(!state.is_saving(), "no attempt before its time");
    state.commit(state.poll_timeout().unwrap());
    let reported = notices(&mut state);
    assert!(reported.len() == 1 && reported[0].contains("saved to"), "{reported:?}");
    assert_eq!(state.poll_timeout(), None);
    drop(state);
    assert_eq!(open_quietly(&path).1.len(), usize::from(host) + 20);
}

#[test]
fn openings_are_read_from_a_disk_that_became_read_only() {
    let test = "journal::tests::openings_are_read_from_a_disk_that_became_read_only";
    let Some(dir) = on_small_disk(test, "64k") else { return };
    let path = dir.join("openings");
    let (mut state, _) = open_quietly(&path);
    state.opened(&opening(1, 30), at(0));
    state.commit(at(0).now);
    drop(state);
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how, "portknock-test"]).arg(&dir).status();
        assert!(status.unwrap().success());
    };
    remount("remount,ro");
    let (mut state, restored) = open(&path);
    assert_eq!(restored.openings, [opening(1, 30)]);
    let reported = notices(&mut state);
    assert!(reported.len() == 1 && reported[0].contains("Read-only file system"), "{reported:?}");
    close(&mut state, &opening(1, 30));
    state.opened(&opening(2, 60), at(30));
    state.commit(at(30).now);
    remount("remount,rw");
    state.commit(at(40).now);
    assert!(state.is_saving());
    drop(state);
    assert_eq!(open_quietly(&path).1, [opening(2, 60)]);
}

#[test]
fn a_file_at_another_path_gets_the_openings() {
    let dir = tempfile::tempdir().unwrap();
    let (old_path, new_path) = (dir.path().join("old"), dir.path().join("new"));
    let (mut old, _) = open(&old_path);
    let (mut new, _) = open(&new_path);
    new.opened(&opening(1, 20), at(0));
    for host in 1..=2 {
        old.opened(&opening(host, 30), at(0));
    }
    old.commit(at(0).now);
    assert_eq!(new.move_from(&mut old, at(0).now).len(), 2);
    close(&mut new, &opening(2, 30));
    new.commit(at(0).now);
    drop((old, new));
    assert_eq!(open_quietly(&old_path).1, []);
    assert_eq!(open_quietly(&new_path).1, [opening(1, 30)]);
}

#[test]
fn an_opening_by_another_address_replaces_a_closing_one_of_the_same_network() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let of_network = |host: u8, closes| {
        let (ip, net) = (IpAddr::from([10, 0, 0, host]), "10.0.0.0/24".parse().unwrap());
        Opening { ip, net, stop_command: Some(format!("close 10.0.0.0/24 {ip}")), ..opening(host, closes) }
    };
    let request = |Opening { door, ip, stop_command, net, .. }: Opening| CommandRequest {
        door,
        ip,
        action: Action::Close,
        command: stop_command.unwrap(),
        net,
        key: None,
    };
    let (mut state, _) = open(&path);
    state.opened(&of_network(1, 30), at(0));
    let first = state.closing(&request(of_network(1, 30))).unwrap();
    state.opened(&of_network(2, 40), at(9));
    state.commit(at(9).now);
    drop(state);
    let (_, restored) = open(&path);
    assert_eq!(restored.unfinished, [(first, request(of_network(1, 30)))], "the command of its own address");
    assert_eq!(restored.openings, [of_network(2, 40)]);
}

const SKEW: Duration = Duration::from_secs(60);

/// Starts again with a directory of markers. Returns the memory if the start trusts it.
fn trusted(path: &Path, boot: &str, markers: Option<&Path>) -> Option<(StateFile, ReplayMemory)> {
    let (state, restored) = StateFile::open_marked(path, boot, markers, SKEW, at(100)).unwrap();
    (restored.replay.incomplete() != Some(Incomplete::new(at(100).wall, SKEW))).then_some((state, restored.replay))
}

fn knock(number: u32) -> KnockUse {
    let mut token = [0; 12];
    token[..4].copy_from_slice(&number.to_be_bytes());
    let key = crate::keys::Fingerprint([1; 16]);
    KnockUse { key, form: crate::replay_memory::Form::Packet, time: at((number / 8).into()).wall, token }
}

#[test]
fn a_start_trusts_the_knocks_after_a_stop_in_order_or_a_death_in_the_same_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (path, markers) = (dir.path().join("openings"), dir.path().join("markers"));
    let markers = Some(&*markers);
    let (state, restored) = StateFile::open_marked(&path, BOOT, markers, SKEW, at(0)).unwrap();
    assert_eq!(
        restored.replay.incomplete(),
        Some(Incomplete::new(at(0).wall, SKEW)),
        "a new file looks like a lost one"
    );
    drop(state);
    let (mut state, mut memory) = trusted(&path, BOOT, markers).unwrap();
    let number = 8 * 1_000;
    assert!(memory.accept(&knock(number), at(1_000).wall, SKEW).is_ok());
    state.used(&knock(number));
    state.commit(at(1_000).now);
    drop(state);
    // The process died.
    let (mut state, mut memory) = trusted(&path, BOOT, markers).unwrap();
    assert!(memory.accept(&knock(number), at(1_000).wall, SKEW).is_err());
    assert!(fs::read_to_string(&path).unwrap().starts_with("portknock openings 2\n"));
    state.finish(at(1_000).now);
    drop(state);
    assert!(fs::read_to_string(&path).unwrap().ends_with(" end\n"));
    let (mut state, mut memory) = trusted(&path, "boot-2", None).unwrap();
    assert!(memory.accept(&knock(number), at(1_000).wall, SKEW).is_err());
    assert!(!fs::read_to_string(&path).unwrap().contains(" end\n"), "removed before a knock is accepted");
    state.commit(at(1_000).now);
    drop(state);
    assert!(trusted(&path, "boot-3", None).is_none(), "not stopped in order");
}

#[test]
fn a_file_without_records_of_knocks_is_read_and_written_in_the_present_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    fs::write(&path, "portknock openings 1\n").unwrap();
    assert!(trusted(&path, BOOT, None).is_none());
    assert!(fs::read_to_string(&path).unwrap().starts_with("portknock openings 2\n"));
}

#[test]
fn accepted_knocks_do_not_make_the_file_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("openings");
    let (mut state, _) = open(&path);
    let (count, mut most) = (100_000, 0);
    for number in 0..count {
        state.used(&knock(number));
        if number % 50 == 0 {
            state.commit(at(0).now);
            most = most.max(fs::metadata(&path).unwrap().len());
        }
    }
    state.finish(at(0).now);
    assert!(most < 30_000, "{most} bytes");
    drop(state);
    let (_, mut memory) = trusted(&path, BOOT, None).unwrap();
    for number in 0..count {
        assert!(memory.accept(&knock(number), knock(number).time, Duration::from_secs(60)).is_err());
    }
}

#[test]
fn a_file_at_another_path_gets_the_knocks_and_the_old_file_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (old_path, new_path, markers) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("markers"));
    let start = |path| StateFile::open_marked(path, BOOT, Some(&*markers), SKEW, at(0)).unwrap();
    let (mut old, _) = start(&old_path);
    old.used(&knock(8_000));
    old.commit(at(0).now);
    let (mut new, _) = start(&new_path);
    new.move_from(&mut old, at(0).now);
    drop((old, new));
    let (_, mut memory) = trusted(&new_path, BOOT, Some(&markers)).unwrap();
    assert!(memory.accept(&knock(8_000), at(1_000).wall, Duration::from_secs(60)).is_err());
    assert!(trusted(&old_path, BOOT, Some(&markers)).is_none());
}
