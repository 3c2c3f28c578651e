//! A fuzz target: a daemon that receives arbitrary messages from its readers.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::exchange::Successor;
use super::*;
use crate::capture::Absence;
use crate::config::Door;
use crate::matcher::SavedAttempt;
use crate::reader::wire::{
    DoorEvent, DoorEventKind, FromReader, MAX_TEXT_CHARS, ReaderOptions, WireAbsence, WireNotice, WireNoticeKind,
};

const DOORS: &str = "[options]\nMaxAttempts = 20\n[a]\nsequence = 7,8\nallow = 10.0.0.0/8\nseq_cooldown = 1\n\
                     [b]\none_time_sequences = /x\n[a]\nsequence = 9,8\nallow = 192.0.2.0/24\n";
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
        match action % 8 {
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
}

impl Daemon {
    fn new() -> Option<Self> {
        let program = ReaderProgram { program: "/nonexistent".into(), args: vec!["reader".into()] };
        let config = config(DOORS);
        let start =
            Start::new(&config, vec!["lo".into()], 0, Clock::new(), ReaderOptions::default(), &LiveSecrets::default());
        let process = ReaderProcess::new(program, &config, &LiveSecrets::default(), start).ok()?;
        let (running, successor) = UnixStream::pair().ok()?;
        let mut daemon = Self { process, running, successor };
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
                ReaderReport::Window { .. } | ReaderReport::Packet { .. } | ReaderReport::UnknownPacket(_) => {
                    panic!("no door has keys")
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
