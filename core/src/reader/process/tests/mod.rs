//! Tests of the daemon's side with readers that send arbitrary messages.

mod exchange;

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::deadlines::ANSWER_TIMEOUT;
use super::*;
use crate::capture::Absence;
use crate::config::Door;
use crate::log_limit::{Counted, EventCounts, MAX_REPORTED_DOORS};
use crate::matcher::SavedAttempt;
use crate::reader::channel::Channel;
use crate::reader::wire::{
    ALIVE_INTERVAL, DoorEvent, DoorEventKind, Doors, FromReader, MAX_DAEMON_MESSAGE, MAX_READER_MESSAGE,
    MAX_TEXT_CHARS, ReaderOptions, ToReader, WireAbsence, WireNotice, WireNoticeKind,
};

const DOORS: &str = "[a]\nsequence = 7000,8000\ncommand = true\nallow = 192.0.2.0/24\n\
                     [b]\none_time_sequences = /nowhere\ncommand = true\n";

/// The daemon's side, and the test's end of the connection to its reader.
struct Fake {
    process: ReaderProcess,
    other_end: UnixStream,
    clock: Clock,
}

/// Returns a reader without a process, and its end of the connection.
fn child(epoll: &Epoll) -> (ReaderChild, UnixStream) {
    let (ours, other_end) = UnixStream::pair().unwrap();
    (ReaderChild::new(None, ours, vec!["lo".into()], epoll).unwrap(), other_end)
}

/// Returns a message with its length.
fn message(message: &FromReader) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(message).unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    bytes.splice(0..0, length.to_le_bytes());
    bytes
}

/// Returns the reader's end of the connection, which receives the daemon's messages.
fn daemon_messages(other_end: &UnixStream) -> Channel {
    Channel::new(other_end.try_clone().unwrap(), MAX_DAEMON_MESSAGE).unwrap()
}

fn notice(kind: WireNoticeKind) -> FromReader {
    FromReader::Capture(WireNotice { interface: 0, kind })
}

impl Fake {
    fn new() -> Self {
        Self::of(DOORS)
    }

    fn of(doors: &str) -> Self {
        let clock = Clock::new();
        let program = ReaderProgram { program: "/nonexistent".into(), args: vec!["reader".into()] };
        let config = crate::config::parse(doors.as_bytes()).config.unwrap();
        let options = ReaderOptions { ipv4_only: true, report_knocks: false };
        let start = Start::new(&config, vec!["lo".into()], 0, clock, options, &LiveSecrets::default());
        let mut process = ReaderProcess::new(program, &config, &LiveSecrets::default(), start).unwrap();
        let other_end = Self::start_successor(&mut process);
        process.promote(Timestamp::default());
        Self { process, other_end, clock }
    }

    /// Starts a successor, and returns its end of the connection.
    fn start_successor(process: &mut ReaderProcess) -> UnixStream {
        let (reader, other_end) = child(&process.epoll);
        process.successor = Some(Successor::new(reader));
        other_end
    }

    /// Starts a successor that is ready, so that the daemon requests the hand-over.
    fn ready_successor(&mut self) -> UnixStream {
        let mut other_end = Self::start_successor(&mut self.process);
        other_end.write_all(&message(&FromReader::Ready { kept: Vec::new() })).unwrap();
        assert!(self.reports().is_empty());
        assert!(self.process.successor.as_ref().is_some_and(Successor::is_receiving));
        other_end
    }

    fn sends(&mut self, message: &FromReader) {
        self.other_end.write_all(&self::message(message)).unwrap();
    }

    /// Returns true if the descriptor reports that a turn is due.
    fn wakes(&self) -> bool {
        let mut tokens = Vec::new();
        self.process.epoll.wait(&mut tokens, Some(ANSWER_TIMEOUT)).unwrap();
        !tokens.is_empty()
    }

    fn event(&self, door: u16, ip: [u8; 4], kind: DoorEventKind) -> DoorEvent {
        DoorEvent { time: self.clock.now().as_nanos(), door, ip: ip.into(), kind }
    }

    /// Makes a turn and returns the daemon's reports.
    fn reports(&mut self) -> Vec<ReaderReport> {
        self.process.turn().unwrap();
        std::iter::from_fn(|| self.process.poll_report()).collect()
    }

    /// Asserts that the daemon has ended the reader for this reason, and has accepted no report.
    fn assert_ended(&mut self, reason: &str) {
        // Another test's child process may have a copy of the other end for a moment.
        let descriptor = self.process.as_fd();
        crate::sys::poll::wait([(descriptor, crate::sys::poll::Interest::Read)], ANSWER_TIMEOUT).unwrap();
        let reports = self.reports();
        let Some(ReaderReport::Notice(ReaderNotice::Ended(why))) = reports.first() else { panic!("{reports:?}") };
        assert!(why.contains(reason), "{why}");
        // The program of the next reader does not exist, which the daemon may report already.
        let is_failure = |report: &ReaderReport| matches!(report, ReaderReport::Notice(ReaderNotice::NotStarted(_)));
        assert!(reports[1..].iter().all(is_failure), "{reports:?}");
        assert!(self.process.running.is_none());
    }
}

#[test]
fn valid_events_are_accepted() {
    let mut fake = Fake::new();
    let stage = fake.event(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 1, steps: 2 });
    fake.sends(&FromReader::DoorEvent(stage));
    let complete = fake.event(0, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.sends(&FromReader::DoorEvent(complete));
    let reports = fake.reports();
    assert!(
        matches!(
            reports[..],
            [
                ReaderReport::DoorEvent { kind: EventKind::Stage { stage: 1, steps: 2 }, .. },
                ReaderReport::DoorEvent {
                    door_id: DoorId(0),
                    kind: EventKind::Open { command: None, opening: None, .. },
                    ..
                }
            ]
        ),
        "{reports:?}"
    );
}

#[test]
fn invalid_events_end_the_reader() {
    type MakeEvent = fn(&Fake) -> DoorEvent;
    let cases: [(&str, MakeEvent); 10] = [
        ("a door that does not exist", |fake| fake.event(2, [192, 0, 2, 9], DoorEventKind::Complete)),
        ("an address that may not knock", |fake| fake.event(0, [192, 0, 3, 9], DoorEventKind::Complete)),
        ("an address that may not knock", |fake| DoorEvent {
            ip: "2001:db8::1".parse().unwrap(),
            ..fake.event(1, [0; 4], DoorEventKind::Stage { stage: 1, steps: 2 })
        }),
        ("an address that may not knock", |fake| DoorEvent {
            ip: "::ffff:192.0.2.9".parse().unwrap(),
            ..fake.event(0, [0; 4], DoorEventKind::Complete)
        }),
        ("a door that accepts no knocks", |fake| fake.event(1, [192, 0, 2, 9], DoorEventKind::Complete)),
        ("a stage that no attempt has", |fake| fake.event(0, [192, 0, 2, 9], DoorEventKind::Timeout { stage: 0 })),
        ("a stage that no attempt has", |fake| fake.event(0, [192, 0, 2, 9], DoorEventKind::Full { stage: 33 })),
        ("a stage that no attempt has", |fake| {
            fake.event(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 3, steps: 2 })
        }),
        ("a stage that no attempt has", |fake| {
            fake.event(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 3, steps: 99 })
        }),
        ("the future", |fake| {
            let event = fake.event(0, [192, 0, 2, 9], DoorEventKind::Complete);
            DoorEvent { time: event.time + 3_600_000_000_000, ..event }
        }),
    ];
    for (reason, event) in cases {
        let mut fake = Fake::new();
        let event = event(&fake);
        fake.sends(&FromReader::DoorEvent(event));
        fake.assert_ended(reason);
    }
}

#[test]
fn an_event_at_doors_of_the_same_name_may_have_an_address_that_one_of_them_allows() {
    let door = |port: u16, net: &str| format!("[a]\nsequence = {port},8000\ncommand = true\nallow = {net}\n");
    let mut fake = Fake::of(&(door(7000, "192.0.2.0/24") + &door(9000, "198.51.100.0/24")));
    let ip = [198, 51, 100, 9];
    for event in
        [fake.event(0, ip, DoorEventKind::Stage { stage: 1, steps: 2 }), fake.event(1, ip, DoorEventKind::Complete)]
    {
        fake.sends(&FromReader::DoorEvent(event));
        assert!(matches!(fake.reports()[..], [ReaderReport::DoorEvent { .. }]));
    }
    let other_door = fake.event(0, ip, DoorEventKind::Complete);
    fake.sends(&FromReader::DoorEvent(other_door));
    fake.assert_ended("an address that may not knock");
}

#[test]
fn the_daemon_waits_for_no_answer_without_a_reader() {
    let mut fake = Fake::new();
    fake.process.running = None;
    assert!(!fake.process.catch_up(ANSWER_TIMEOUT) && !fake.process.catch_up(ANSWER_TIMEOUT));
    assert_eq!(fake.process.waits_since(), None);
}

#[test]
fn a_one_time_door_opens_once_until_its_next_sequence_is_set() {
    let mut fake = Fake::new();
    give_sequence(&mut fake);
    let complete = fake.event(1, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.sends(&FromReader::DoorEvent(complete));
    assert!(matches!(fake.reports()[..], [ReaderReport::DoorEvent { door_id: DoorId(1), .. }]));
    fake.sends(&FromReader::DoorEvent(complete));
    fake.assert_ended("a door that accepts no knocks");
}

#[test]
fn messages_out_of_turn_and_malformed_messages_end_the_reader() {
    let attempt = attempt();
    for message in [
        FromReader::Ready { kept: Vec::new() },
        FromReader::Reloaded,
        FromReader::Counts(Counts::default()),
        FromReader::CaughtUp { time: 1 },
        FromReader::Attempts(vec![attempt]),
        FromReader::HandedOver { last: 1, counts: Counts::default() },
        FromReader::Knock((&knock()).into()),
    ] {
        let mut fake = Fake::new();
        fake.sends(&message);
        fake.assert_ended("out of turn");
    }
    let long = u32::try_from(MAX_READER_MESSAGE + 1).unwrap().to_le_bytes();
    for bytes in [&long[..], b"\xff\xff\xff\xff", b"\x01\0\0\0\x7f", b"\x02\0\0\0\x02\x05", b"\0\0\0\0"] {
        let mut fake = Fake::new();
        fake.other_end.write_all(bytes).unwrap();
        fake.assert_ended("it sent a message");
    }
    let mut fake = Fake::new();
    let mut padded = message(&FromReader::AskNetwork);
    padded[0] += 1;
    padded.push(0);
    fake.other_end.write_all(&padded).unwrap();
    fake.assert_ended("more bytes than it needs");
}

fn knock() -> Knock {
    use crate::packet::{Protocol, TcpFlags};
    let [source, destination] = [[192, 0, 2, 9], [192, 0, 2, 1]].map(Into::into);
    let (time, flags) = (Timestamp::default(), TcpFlags::NONE);
    Knock { time, source, destination, port: 7, protocol: Protocol::Udp, flags, source_port: 9, sequence_number: 0 }
}

fn attempt() -> SavedAttempt {
    SavedAttempt {
        window: 0,
        ip: [192, 0, 2, 9].into(),
        door: 0,
        stage: 1,
        source_port: 1,
        sequence_number: 2,
        started: 3,
        scan_hits: vec![1, 2],
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_cause_an_invalid_report(
        messages in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 1..20)
    ) {
        let mut fake = Fake::new();
        for message in messages {
            let length = u32::try_from(message.len()).unwrap();
            // The daemon may have ended the reader.
            let _ = fake.other_end.write_all(&[&length.to_le_bytes(), &message[..]].concat());
            for report in fake.reports() {
                if let ReaderReport::DoorEvent { time, door_id, .. } = report {
                    assert!(door_id.0 < 2 && time <= fake.clock.now());
                }
            }
        }
    }
}

#[test]
fn reports_at_a_rate_that_packets_cannot_cause_end_the_reader_and_are_discarded() {
    for (kind, burst) in [(DoorEventKind::Complete, 120_000), (DoorEventKind::Stage { stage: 1, steps: 2 }, 3_000)] {
        let mut fake = Fake::new();
        let event = fake.event(0, [192, 0, 2, 9], kind);
        for _ in 0..burst {
            fake.process.handle(FromReader::DoorEvent(event)).unwrap();
        }
        let mut more = (0..10_000_000).map(|_| fake.process.handle(FromReader::DoorEvent(event)));
        let error = more.find_map(Result::err).expect("a limit");
        drop(more);
        assert!(error.to_string().contains("more than packets can cause"), "{error}");
        fake.process.lose(&error);
        fake.assert_ended("more than packets can cause");
    }
}

#[test]
fn a_door_opens_for_at_most_its_burst_whatever_a_reader_reports() {
    let mut fake = Fake::new();
    let event = fake.event(0, [192, 0, 2, 9], DoorEventKind::Complete);
    for _ in 0..20_000 {
        fake.process.handle(FromReader::DoorEvent(event)).unwrap();
    }
    assert_eq!(fake.process.reports.len(), 7_500);
}

#[test]
fn a_text_is_short_and_names_an_interface_that_the_reader_has() {
    let lost = |length| notice(WireNoticeKind::Lost(WireAbsence::Failed("\u{fc}".repeat(length))));
    let mut fake = Fake::new();
    fake.sends(&lost(MAX_TEXT_CHARS));
    let reports = fake.reports();
    let [ReaderReport::Capture(CaptureNotice::Lost { reason: Absence::Failed(_), .. })] = &reports[..] else {
        panic!("{reports:?}")
    };
    fake.sends(&lost(MAX_TEXT_CHARS + 1));
    fake.assert_ended("a text that is too long");
    let mut fake = Fake::new();
    fake.sends(&FromReader::Failed("x".repeat(MAX_TEXT_CHARS + 1)));
    fake.assert_ended("a text that is too long");
    let mut fake = Fake::new();
    fake.sends(&FromReader::Capture(WireNotice { interface: 1, kind: WireNoticeKind::Listening }));
    fake.assert_ended("an interface that it was not started with");
}

#[test]
fn no_text_of_a_reader_breaks_a_line_of_the_log() {
    let reason = Absence::Failed("a\n[2026-01-01] 10.0.0.1: door: OPEN SESAME\x1b".into());
    let interface = || "lo\n".to_owned();
    let notices = [
        CaptureNotice::Lost { interface: interface(), reason: reason.clone() },
        CaptureNotice::Waiting { interface: interface(), reason },
        CaptureNotice::Listening { interface: interface() },
        CaptureNotice::Dropped { interface: interface(), packets: 1 },
        CaptureNotice::CoarseFilter { interface: interface(), instructions: None },
    ];
    let readers = ["Ended", "NotStarted"].map(|text| text.to_owned() + "\n\x1b");
    let [ended, not_started] = readers;
    let readers = [
        ReaderNotice::Ended(ended),
        ReaderNotice::NotStarted(not_started),
        ReaderNotice::KeptPrivileges(vec!["\n".into()]),
    ];
    let lines = notices.iter().map(ToString::to_string).chain(readers.iter().map(ToString::to_string));
    for line in lines {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

fn give_sequence(fake: &mut Fake) {
    let sequence = crate::config::parse_sequence("7000,9000").unwrap();
    let door = Door { sequence: Some(sequence), ..fake.process.validator.config().doors[1].clone() };
    fake.process.set_sequence(DoorId(1), &door);
}

#[test]
fn a_one_time_door_opens_at_most_once_a_second() {
    let mut fake = Fake::new();
    let mut used = 0;
    let mut refused = 0;
    for _ in 0..50 {
        give_sequence(&mut fake);
        let complete = fake.event(1, [192, 0, 2, 9], DoorEventKind::Complete);
        fake.sends(&FromReader::DoorEvent(complete));
        for report in fake.reports() {
            match report {
                ReaderReport::DoorEvent { door_id: DoorId(1), .. } => used += 1,
                ReaderReport::Notice(ReaderNotice::UsedTooSoon { .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((used, refused), (1, 1), "one line for all refusals");
    // The daemon has sent the sequence again, because the reader accepts no knock after a complete
    // one.
    let mut reader = daemon_messages(&fake.other_end);
    reader.receive().unwrap();
    let last = std::iter::from_fn(|| reader.next().unwrap()).last();
    assert!(matches!(last, Some(ToReader::Sequence { door: 1, sequence: Some(_) })), "{last:?}");
    std::thread::sleep(Duration::from_millis(1010));
    let complete = fake.event(1, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.sends(&FromReader::DoorEvent(complete));
    assert!(matches!(fake.reports()[..], [ReaderReport::DoorEvent { door_id: DoorId(1), .. }]));
}

#[test]
fn a_silent_reader_is_replaced() {
    let mut fake = Fake::new();
    let silent = ALIVE_INTERVAL + ANSWER_TIMEOUT;
    let now = fake.process.running.as_ref().unwrap().last_message;
    assert_eq!(fake.process.answer_due(), Some(now + silent));
    fake.process.counts();
    let asked = fake.process.running.as_ref().unwrap().count_asked.unwrap();
    assert_eq!(fake.process.answer_due(), Some(asked + ANSWER_TIMEOUT), "from the request on");
    fake.sends(&FromReader::Alive { captures: 0 });
    assert!(fake.reports().is_empty());
    let running = fake.process.running.as_mut().unwrap();
    assert!(running.last_message > asked);
    running.last_message -= silent;
    running.count_asked = None;
    fake.assert_ended("it does not answer");
}

#[test]
fn a_reader_whose_captures_have_failed_is_replaced() {
    let mut fake = Fake::new();
    fake.sends(&notice(WireNoticeKind::Listening));
    fake.sends(&FromReader::Alive { captures: 1 });
    assert!(matches!(fake.reports()[..], [ReaderReport::Capture(_)]));
    fake.sends(&notice(WireNoticeKind::Lost(WireAbsence::Down)));
    fake.sends(&FromReader::Alive { captures: 0 });
    assert!(matches!(fake.reports()[..], [ReaderReport::Capture(_)]));
    fake.sends(&notice(WireNoticeKind::Listening));
    fake.sends(&FromReader::Alive { captures: 0 });
    let reports = fake.reports();
    assert!(
        matches!(&reports[1..], [ReaderReport::Notice(ReaderNotice::Ended(why)), ..] if why == "its captures do not work"),
        "{reports:?}"
    );
}

#[test]
fn a_time_that_was_not_requested_does_not_repeat_the_request() {
    let mut fake = Fake::new();
    assert!(fake.process.catch_up(Duration::from_secs(9)));
    let earlier = fake.process.validator.now().as_nanos() - 1_000_000_000;
    fake.sends(&FromReader::CaughtUp { time: earlier });
    fake.assert_ended("a time that was not requested");
    let mut fake = Fake::new();
    assert!(fake.process.catch_up(Duration::from_secs(9)));
    let later = fake.clock.now().saturating_add(Duration::from_secs(9));
    fake.sends(&FromReader::CaughtUp { time: later.as_nanos() });
    fake.assert_ended("a time that was not requested");
}

#[test]
fn the_daemon_waits_for_the_rest_of_a_message_and_detects_the_end() {
    let mut fake = Fake::new();
    fake.other_end.write_all(b"\x10\0\0\0\x02").unwrap();
    assert!(fake.reports().is_empty() && fake.process.running.is_some());
    fake.other_end = UnixStream::pair().unwrap().0;
    fake.assert_ended("");
}

#[test]
fn a_failed_send_makes_the_descriptor_readable() {
    let mut fake = Fake::new();
    fake.other_end.shutdown(std::net::Shutdown::Both).unwrap();
    let door = fake.process.validator.config().doors[1].clone();
    fake.process.set_sequence(DoorId(1), &door);
    assert!(fake.process.running.is_none());
    assert!(fake.wakes());
    fake.assert_ended("");
}

#[test]
fn numbers_of_events_get_the_names_of_their_doors() {
    let mut fake = Fake::new();
    let counts = EventCounts { first_stages: 3, ..EventCounts::default() };
    let time = fake.clock.now().as_nanos();
    let message = |doors| FromReader::Suppressed { time, counted: Counted { doors, others: counts } };
    fake.sends(&message(vec![(0, counts)]));
    let [ReaderReport::Suppressed(Suppressed { doors, others, .. })] = &fake.reports()[..] else { panic!() };
    assert_eq!((&doors[..], *others), (&[("a".into(), counts)][..], counts));
    fake.sends(&message(vec![(u16::MAX, counts)]));
    fake.assert_ended("a door that does not exist");
    let mut fake = Fake::new();
    fake.sends(&message(vec![(0, counts); MAX_REPORTED_DOORS + 1]));
    fake.assert_ended("impossible numbers of events");
}
