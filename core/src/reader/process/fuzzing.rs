//! A fuzz target: a daemon that receives arbitrary messages from its readers.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

use super::exchange::Successor;
use super::*;
use crate::capture::Absence;
use crate::config::{Door, PacketFormat};
use crate::engine::Engine;
use crate::event::RefusalReason;
use crate::fwknop::{FwknopKey, HmacDigest, seal_with};
use crate::keys::{KEY_LENGTH, Key, NamedKey};
use crate::matcher::SavedAttempt;
use crate::reader::wire::{
    DoorEvent, DoorEventKind, FromReader, MAX_TEXT_CHARS, ReaderOptions, WireAbsence, WireNotice, WireNoticeKind,
    WirePacket,
};
use crate::spa::{self, PACKET_LENGTH};

const DOORS: &str = "[options]\nMaxAttempts = 20\n[a]\nsequence = 7,8\nallow = 10.0.0.0/8\nseq_cooldown = 1\n\
                     [b]\none_time_sequences = /x\n[a]\nsequence = 9,8\nallow = 192.0.2.0/24\n\
                     [d]\nsequence = time\nkeys = /k\nopen = tcp/22\n\
                     [e]\npacket = portknock\nkeys = /k\nopen = tcp/22\n\
                     [f]\npacket = fwknop\nkeys = /f\nopen = tcp/22\n";
const OTHER_DOORS: &str = "[b]\none_time_sequences = /x\n[c]\nsequence = 1,2\n";

/// Actions that send the following bytes of the input to the daemon.
const RUNNING: u8 = 0;
const SUCCESSOR: u8 = 1;
/// Actions of the daemon between messages.
const START_SUCCESSOR: u8 = 2;
const CATCH_UP: u8 = 3;
const COUNT: u8 = 4;
const SEQUENCE: u8 = 5;
const RELOAD: u8 = 6;
const END_RELOAD: u8 = 7;
const TURN_WINDOWS: u8 = 8;
/// Number of attempts to find the clock of a client, for each packet without a hint.
const SEARCH_COUNT: u32 = 5;
/// Number of actions.
const ACTIONS: u8 = 9;

/// The wall clock at the start, so that the hints and windows are always the same.
const WALL: Timestamp = Timestamp::from_secs(1_800_000_000);
/// The identifier of the first live window: the number of doors.
const FIRST_WINDOW: u16 = 6;

/// Returns doors of every kind, the last ones with a key.
pub(in crate::reader) fn config_with_keys() -> Config {
    let mut config = config(DOORS);
    for door in config.doors.iter_mut().filter(|door| door.key_file.is_some()) {
        if door.packet == Some(PacketFormat::Fwknop) {
            door.fwknop_keys =
                FwknopKey::new("bob", None, &[7; 32], HmacDigest::Sha256, &[8; 64]).into_iter().collect();
        } else {
            door.keys = [NamedKey { name: "alice".into(), key: key() }].into();
        }
    }
    config
}

/// Returns the engine of a daemon with [`config_with_keys`].
pub(in crate::reader) fn engine_with_keys(now: Timestamp) -> Engine {
    let mut engine = Engine::new_for_detected(&config_with_keys());
    engine.set_wall_clock(WALL, now);
    engine
}

/// Returns a packet that has the hint of the key and that the key did not make.
pub(in crate::reader) fn invented_packet() -> [u8; PACKET_LENGTH] {
    let mut packet = [0x6b; PACKET_LENGTH];
    let hint = spa::hint(&key().prepare(), spa::minute_of(WALL));
    packet[..hint.len()].copy_from_slice(&hint);
    packet
}

/// Returns a packet with the HMAC of the key for fwknop's format, with which a reader can make HMACs,
/// and that the key did not encrypt.
pub(in crate::reader) fn invented_fwknop_packet() -> Vec<u8> {
    let other = FwknopKey::new("bob", None, &[9; 32], HmacDigest::Sha256, &[8; 64]);
    other.map(|other| seal_with(&other, "", [0; 8])).unwrap_or_default()
}

fn key() -> Key {
    Key::from_bytes([7; KEY_LENGTH])
}

/// Returns a message with its length.
pub(in crate::reader) fn framed(message: &impl serde::Serialize) -> Vec<u8> {
    let message = postcard::to_allocvec(message).unwrap_or_default();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &message].concat()
}

/// Returns inputs that contain each message of a reader.
pub fn daemon_seeds() -> Vec<Vec<u8>> {
    let event = |door, kind| FromReader::DoorEvent(DoorEvent { time: 1, door, ip: [10, 0, 0, 1].into(), kind });
    let attempt = SavedAttempt {
        ip: [10, 0, 0, 1].into(),
        window: 0,
        door: 0,
        stage: 1,
        source_port: 1,
        sequence_number: 1,
        started: u64::MAX,
        scan_hits: vec![9],
    };
    let notice = |kind| FromReader::Capture(WireNotice { interface: 0, kind });
    let sent = |to: u8, message: &FromReader| {
        let message = framed(message);
        [&[to, u8::try_from(message.len()).unwrap_or(0)], &message[..]].concat()
    };
    let from_running = |message: FromReader| sent(RUNNING, &message);
    let ready = sent(SUCCESSOR, &FromReader::Ready { kept: vec!["x".into()] });
    let packet = |bytes: &[u8]| {
        let (source, destination) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        from_running(FromReader::Packet(WirePacket { time: 1, source, destination, bytes: bytes.to_vec() }))
    };
    let window = |number| from_running(event(FIRST_WINDOW, DoorEventKind::CompleteWindow { number }));
    let numbers = [0, 1, 2].map(|number| WALL.as_nanos() / 30_000_000_000 + number);
    let handed_over = FromReader::HandedOver { last: 1, counts: Counts::default() };
    vec![
        from_running(event(0, DoorEventKind::Stage { stage: 1, steps: 2 })),
        from_running(event(0, DoorEventKind::Complete)),
        [vec![SEQUENCE], from_running(event(1, DoorEventKind::Complete)), vec![SEQUENCE]].concat(),
        from_running(notice(WireNoticeKind::Lost(WireAbsence::Failed("a\nb".into())))),
        from_running(notice(WireNoticeKind::Listening)),
        from_running(notice(WireNoticeKind::CoarseFilter { instructions: Some(7) })),
        [vec![CATCH_UP], from_running(FromReader::CaughtUp { time: u64::MAX })].concat(),
        [vec![COUNT], from_running(FromReader::Counts(Counts::default()))].concat(),
        [vec![RELOAD], from_running(FromReader::Reloaded), vec![END_RELOAD]].concat(),
        [vec![START_SUCCESSOR], ready, from_running(FromReader::Attempts(vec![attempt])), from_running(handed_over)]
            .concat(),
        [packet(&invented_packet()), packet(&[1; 95]), packet(&[2; PACKET_LENGTH])].concat(),
        [packet(&invented_fwknop_packet()), packet(&[b'8'; 35]), packet(&[b'8'; 36])].concat(),
        numbers.map(window).concat(),
        [numbers.map(window).concat(), vec![TURN_WINDOWS], numbers.map(window).concat()].concat(),
        from_running(FromReader::AskNetwork),
        from_running(FromReader::Alive { captures: 1 }),
        from_running(FromReader::Failed("a\nb".into())),
    ]
}

/// Sends the bytes of the input to a daemon, as its reader and its successor, and asserts that the
/// daemon accepts only valid reports.
pub fn check_daemon(mut input: &[u8]) {
    let Some(mut daemon) = Daemon::new() else { return };
    while let Some((&action, rest)) = input.split_first() {
        input = rest;
        match action % ACTIONS {
            to @ (RUNNING | SUCCESSOR) => {
                let length = input.first().map_or(0, |length| usize::from(*length)).min(input.len().saturating_sub(1));
                let bytes = input.get(1..=length).unwrap_or_default();
                input = input.get(1 + length..).unwrap_or_default();
                let end = if to == RUNNING { &mut daemon.running } else { &mut daemon.successor };
                // The daemon may have ended the reader.
                let _ = end.write(bytes);
            }
            START_SUCCESSOR => daemon.start_successor(),
            CATCH_UP => drop(daemon.process.catch_up(Duration::from_secs(1))),
            COUNT => drop(daemon.process.request_counts()),
            SEQUENCE => daemon.give_sequence(),
            RELOAD if !daemon.process.is_reloading() && daemon.process.reports_after_reload.is_none() => {
                daemon.process.begin_reload(&config(OTHER_DOORS), LiveSecrets::default(), vec!["lo".into()]);
            }
            TURN_WINDOWS => daemon.turn_windows(),
            END_RELOAD if !daemon.process.is_reloading() => daemon.process.end_reload(),
            _ => {}
        }
        daemon.turn();
    }
}

struct Daemon {
    process: ReaderProcess,
    running: UnixStream,
    successor: UnixStream,
    /// Receives the reports about doors with keys.
    engine: Engine,
    /// The wall clock.
    wall: Timestamp,
    /// The live windows whose sequences were reported as complete, by identifier and number.
    windows: HashSet<(u16, u64)>,
}

impl Daemon {
    fn new() -> Option<Self> {
        let program = ReaderProgram { program: "/nonexistent".into(), args: vec!["reader".into()] };
        let (config, clock) = (config_with_keys(), Clock::new());
        let engine = engine_with_keys(clock.now());
        let secrets = engine.secrets();
        let start = Start::new(&config, vec!["lo".into()], 0, clock, ReaderOptions::default(), &secrets);
        let process = ReaderProcess::new(program, &config, &secrets, start).ok()?;
        let (running, successor) = UnixStream::pair().ok()?;
        let mut daemon = Self { process, running, successor, engine, wall: WALL, windows: HashSet::new() };
        daemon.start_successor();
        daemon.process.promote(Timestamp::default());
        std::mem::swap(&mut daemon.running, &mut daemon.successor);
        Some(daemon)
    }

    fn start_successor(&mut self) {
        let Ok((ours, theirs)) = UnixStream::pair() else { return };
        let Ok(reader) = ReaderChild::new(None, ours, vec!["lo".into()], &self.process.epoll) else { return };
        let _ = theirs.set_nonblocking(true);
        self.process.successor = Some(Successor::new(reader));
        self.successor = theirs;
    }

    fn give_sequence(&mut self) {
        let id = self.process.validator.config().doors.iter().position(|door| &*door.name == "b");
        let Some(Ok(id)) = id.map(u16::try_from) else { return };
        let door = &self.process.validator.config().doors[usize::from(id)];
        let door = Door { sequence: crate::config::parse_sequence("3,4").ok(), ..door.clone() };
        self.process.set_sequence(DoorId(id), &door);
    }

    /// Advances the wall clock by the length of a window.
    fn turn_windows(&mut self) {
        self.wall = self.wall.saturating_add(Duration::from_secs(30));
        self.engine.set_wall_clock(self.wall, self.process.validator.now());
        self.process.set_windows(self.engine.windows());
        self.process.set_hints(self.engine.hints());
    }

    fn turn(&mut self) {
        let before = self.process.validator.config().clone();
        let had_successor = self.process.successor.is_some();
        self.process.turn().expect("the kernel has descriptors");
        if had_successor && self.process.successor.is_none() && self.process.running.is_some() {
            std::mem::swap(&mut self.running, &mut self.successor);
        }
        assert!(self.process.reports.len() <= MAX_REPORTS);
        let now = self.process.validator.now();
        for report in std::iter::from_fn(|| self.process.poll_report()) {
            match report {
                ReaderReport::DoorEvent { time, door_id, ip, .. } => {
                    assert!(time <= now, "{time:?}");
                    let door = &before.doors[usize::from(door_id.0)];
                    let mut allow =
                        before.doors.iter().filter(|other| other.name == door.name).flat_map(|door| &door.allow);
                    assert!(door.allow.is_empty() || allow.any(|net| net.contains(&ip)), "{ip}");
                }
                ReaderReport::Window { time, id, number, .. } => {
                    assert!(time <= now, "{time:?}");
                    let window = self.engine.windows().get(id).expect("a live window");
                    assert_eq!(window.number, number);
                    assert!(self.windows.insert((id.0, number)), "a sequence counts twice");
                }
                // No reader has the key.
                ReaderReport::Packet { knock, packet: ReportedPacket::Own(bytes) } => {
                    assert!(knock.time <= now, "{knock:?}");
                    self.engine.handle_packet(&knock, &bytes);
                    assert!(!self.engine.has_events(), "the engine accepts {bytes:?}");
                }
                ReaderReport::Packet { knock, packet: ReportedPacket::Fwknop(bytes) } => {
                    assert!(knock.time <= now, "{knock:?}");
                    self.engine.handle_fwknop_packet(&knock, &bytes);
                    while let Some(event) = self.engine.poll_event() {
                        let is_refused =
                            matches!(event.kind, EventKind::Refused { reason: RefusalReason::Malformed, .. });
                        assert!(is_refused, "the engine accepts {bytes:?}");
                    }
                }
                ReaderReport::UnauthenticPacket(packet) => {
                    assert!(packet.knock.time <= now, "{packet:?}");
                    self.engine.begin_weak_search(packet);
                    self.engine.search_weak(SEARCH_COUNT);
                    assert!(!self.engine.has_events(), "no key made a packet");
                }
                ReaderReport::UnknownPacket(packet) => {
                    assert!(packet.knock.time <= now, "{packet:?}");
                    self.engine.begin_search(packet);
                    self.engine.search_clock(SEARCH_COUNT);
                    assert!(!self.engine.has_events(), "no key made a packet");
                }
                ReaderReport::CaughtUp(time) => assert!(time <= now),
                ReaderReport::Capture(notice) => {
                    let line = notice.to_string();
                    assert!(!line.contains(char::is_control), "{line:?}");
                    if let CaptureNotice::Lost { reason: Absence::Failed(text), .. } = notice {
                        assert!(text.chars().count() <= MAX_TEXT_CHARS);
                    }
                }
                ReaderReport::Notice(notice) => {
                    let line = notice.to_string();
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
                ReaderReport::Suppressed(suppressed) => {
                    assert!(suppressed.time <= now && !suppressed.to_string().contains(char::is_control));
                }
                ReaderReport::Knock(_) => panic!("the reader reports no packets without --debug"),
            }
        }
    }
}

fn config(text: &str) -> Config {
    crate::config::parse(text.as_bytes()).config.expect("a configuration")
}
