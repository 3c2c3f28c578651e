//! State files: damaged lines are reported and skipped, everything else is restored, and written
//! files can be read.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portknock_core::internals::{Clocks, StateFile};
use portknock_core::{Action, CommandRequest, Opening, Timestamp};
use portknock_core::{StateError, StateNotice};

use crate::scratch::with_file;

const BOOT: &str = "boot-1";
const HEADER: &[u8] = b"portknock openings 1";

/// The file of these bytes, in which a `?` at the start of a line stands for the correct checksum
/// and a space.
pub fn check(text: &[u8]) {
    let bytes = with_checksums(text);
    let intact = without_damage(&bytes);
    let mut expected = None;
    with_file(&intact, |path| expected = restore(path).map(|restored| restored.openings));
    with_file(&bytes, |path| {
        let restored = restore(path);
        assert_eq!(restored.as_ref().map(|restored| &restored.openings), expected.as_ref());
        let Some(restored) = restored else { return };
        assert!(restored.reported_damage || bytes == intact, "the damage is not reported");
        check_life(path, restored);
    });
}

/// Files with openings of this boot and of another, closed and open again, torn and damaged.
pub fn seeds() -> Vec<Vec<u8>> {
    let open = "?open 0 1030000000000 6030000000000 30000000000 boot-1 front%20door 10.0.0.1 close%2010.0.0.1";
    let other = "?open 1 1 6030000000000 30000000000 boot-0 b 2001:db8::1 x";
    [
        format!("portknock openings 1\n{open}\n{other}\n?close 0\n"),
        format!("portknock openings 1\n{open}\n{other}\n{}\n", open.replace("open 0", "open 7")),
        format!("portknock openings 1\n{open}\n{other}\n?clo"),
        format!("portknock openings 3\n{open}\n"),
        format!("damaged\n{other}\nmore damage\n{open}\n"),
    ]
    .map(String::into_bytes)
    .into()
}

fn with_checksums(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"?") {
            let sum = crc32fast::hash(rest.strip_suffix(b"\n").unwrap_or(rest));
            bytes.extend(format!("{sum:08x} ").bytes());
            bytes.extend(rest);
        } else {
            bytes.extend(line);
        }
    }
    bytes
}

/// The file without the lines after the first that lack a correct checksum, and with the correct
/// first line.
fn without_damage(bytes: &[u8]) -> Vec<u8> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let version = first.strip_prefix(&HEADER[..HEADER.len() - 1]).and_then(|version| version.strip_suffix(b"\n"));
    // A file of an unknown version is not read at all.
    let first = match version {
        Some(version) if !version.is_empty() && version.iter().all(u8::is_ascii_digit) => first.to_vec(),
        _ if bytes.contains(&b'\n') => [HEADER, b"\n"].concat(),
        _ => Vec::new(),
    };
    [&first, &*lines.filter(|line| has_checksum(line)).collect::<Vec<_>>().concat()].concat()
}

fn has_checksum(line: &[u8]) -> bool {
    let Some((sum, rest)) = line.split_at_checked(9) else { return false };
    let Some(rest) = rest.strip_suffix(b"\n") else { return false };
    let sum = std::str::from_utf8(sum).ok().and_then(|sum| sum.strip_suffix(' '));
    sum.is_some_and(|sum| u32::from_str_radix(sum, 16) == Ok(crc32fast::hash(rest)))
}

struct Restored {
    state: StateFile,
    openings: Vec<Opening>,
    /// The file was damaged.
    reported_damage: bool,
}

/// The state that a start restores; `None` if the file is refused because of its version.
fn restore(path: &Path) -> Option<Restored> {
    let (mut state, restored) = match StateFile::open(path, BOOT, clocks()) {
        Ok(opened) => opened,
        Err(StateError::Version(..)) => return None,
        Err(error) => panic!("{error}"),
    };
    let notices: Vec<_> = std::iter::from_fn(|| state.poll_notice()).collect();
    let damage = |notice: &StateNotice| matches!(notice, StateNotice::Damaged { .. } | StateNotice::Torn(_));
    assert!(notices.iter().all(damage), "{notices:?}");
    let mut openings = restored.openings;
    // Unfinished openings close immediately.
    openings.extend(restored.unfinished.into_iter().map(|(_, request)| Opening {
        door: request.door,
        ip: request.ip,
        closes_at: Timestamp::default(),
        stop_command: Some(request.command),
        open: [].into(),
        net: request.net,
    }));
    assert!(openings.iter().all(|it| it.closes_at == Timestamp::default() || it.closes_at >= clocks().now));
    openings.sort_by_key(|opening| format!("{opening:?}"));
    Some(Restored { state, openings, reported_damage: !notices.is_empty() })
}

/// Keeps one more opening in addition to the restored ones, until its stop command has ended.
fn check_life(path: &Path, Restored { mut state, openings, .. }: Restored) {
    let opening = Opening {
        door: "new door".into(),
        ip: [10, 0, 0, 1].into(),
        net: "10.0.0.0/24".parse().expect("a network"),
        closes_at: clocks().now.saturating_add(Duration::from_secs(7)),
        stop_command: Some("close %\n".into()),
        open: [].into(),
    };
    state.opened(&opening, clocks());
    state.commit(clocks().now);
    drop(state);
    let mut more = [&openings[..], std::slice::from_ref(&opening)].concat();
    more.sort_by_key(|opening| format!("{opening:?}"));
    let mut state = again(path, &more);
    let Opening { door, ip, stop_command: command, net, .. } = opening;
    let command = command.expect("it has one");
    let id = state.closing(&CommandRequest { door, ip, action: Action::Close, command, net, key: None });
    state.closed(id.expect("the opening has an id"));
    state.commit(clocks().now);
    drop(state);
    again(path, &openings);
}

/// The next start, which restores these openings and reports no damage.
fn again(path: &Path, openings: &[Opening]) -> StateFile {
    let restored = restore(path).expect("a file of this version");
    assert!(!restored.reported_damage, "{}", fs::read_to_string(path).unwrap_or_default());
    assert_eq!(restored.openings, openings);
    restored.state
}

fn clocks() -> Clocks {
    Clocks { now: Timestamp::from_secs(5_000), wall: Timestamp::from_secs(6_000), boot: Duration::from_secs(1_000) }
}
