//! What the daemon does with a reader that sends whatever it likes.

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

/// The daemon's side, with the other end of its connection in our hands.
struct Fake {
    process: ReaderProcess,
    other_end: UnixStream,
    clock: Clock,
}

/// A reader without a process, and its end of the connection.
fn child(epoll: &Epoll) -> (ReaderChild, UnixStream) {
    let (ours, other_end) = UnixStream::pair().unwrap();
    (ReaderChild::new(None, ours, vec!["lo".into()], epoll).unwrap(), other_end)
}

/// A message as it is sent.
fn message(message: &FromReader) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(message).unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    bytes.splice(0..0, length.to_le_bytes());
    bytes
}

/// What the daemon sends, as the reader receives it.
fn heard(other_end: &UnixStream) -> Channel {
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
        let start = Start::new(&config, vec!["lo".into()], 0, clock, options);
        let mut process = ReaderProcess::new(program, &config, start).unwrap();
        let other_end = Self::successor(&mut process);
        process.promote(Timestamp::default());
        Self { process, other_end, clock }
    }

    /// Has the process start a successor, which is at the end that this returns.
    fn successor(process: &mut ReaderProcess) -> UnixStream {
        let (reader, other_end) = child(&process.epoll);
        process.successor = Some(Successor::new(reader));
        other_end
    }

    /// A successor that is ready, so that the running reader is asked to hand over.
    fn ready_successor(&mut self) -> UnixStream {
        let mut other_end = Self::successor(&mut self.process);
        other_end.write_all(&message(&FromReader::Ready { kept: Vec::new() })).unwrap();
        assert!(self.seen().is_empty());
        assert!(self.process.successor.as_ref().is_some_and(Successor::is_receiving));
        other_end
    }

    fn says(&mut self, message: &FromReader) {
        self.other_end.write_all(&self::message(message)).unwrap();
    }

    /// Whether its descriptor reports that a turn is due.
    fn wakes(&self) -> bool {
        let mut tokens = Vec::new();
        self.process.epoll.wait(&mut tokens, Some(ANSWER_TIMEOUT)).unwrap();
        !tokens.is_empty()
    }

    fn found(&self, door: u16, ip: [u8; 4], kind: DoorEventKind) -> DoorEvent {
        DoorEvent { time: self.clock.now().as_nanos(), door, ip: ip.into(), kind }
    }

    /// What the daemon takes from it.
    fn seen(&mut self) -> Vec<Seen> {
        self.process.turn().unwrap();
        std::iter::from_fn(|| self.process.poll_seen()).collect()
    }

    /// Asserts that it was ended for this reason, and that nothing was believed.
    fn is_ended(&mut self, reason: &str) {
        // Another test's child may hold the other end for a moment.
        let descriptor = self.process.as_fd();
        crate::sys::poll::wait([(descriptor, crate::sys::poll::Interest::Read)], ANSWER_TIMEOUT).unwrap();
        let seen = self.seen();
        let Some(Seen::Notice(ReaderNotice::Ended(why))) = seen.first() else { panic!("{seen:?}") };
        assert!(why.contains(reason), "{why}");
        // The program does not exist, which is reported when its time has come.
        let is_failure = |seen: &Seen| matches!(seen, Seen::Notice(ReaderNotice::NotStarted(_)));
        assert!(seen[1..].iter().all(is_failure), "{seen:?}");
        assert!(self.process.running.is_none());
    }
}

#[test]
fn what_can_be_is_believed() {
    let mut fake = Fake::new();
    let stage = fake.found(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 1, steps: 2 });
    fake.says(&FromReader::DoorEvent(stage));
    let complete = fake.found(0, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.says(&FromReader::DoorEvent(complete));
    let seen = fake.seen();
    assert!(
        matches!(
            seen[..],
            [
                Seen::DoorEvent { kind: EventKind::Stage { stage: 1, steps: 2 }, .. },
                Seen::DoorEvent { door_id: DoorId(0), kind: EventKind::Open { command: None, opening: None, .. }, .. }
            ]
        ),
        "{seen:?}"
    );
}

#[test]
fn what_cannot_be_ends_the_reader() {
    type Report = fn(&Fake) -> DoorEvent;
    let cases: [(&str, Report); 10] = [
        ("a door that does not exist", |fake| fake.found(2, [192, 0, 2, 9], DoorEventKind::Complete)),
        ("an address that may not knock", |fake| fake.found(0, [192, 0, 3, 9], DoorEventKind::Complete)),
        ("an address that may not knock", |fake| DoorEvent {
            ip: "2001:db8::1".parse().unwrap(),
            ..fake.found(1, [0; 4], DoorEventKind::Stage { stage: 1, steps: 2 })
        }),
        ("an address that may not knock", |fake| DoorEvent {
            ip: "::ffff:192.0.2.9".parse().unwrap(),
            ..fake.found(0, [0; 4], DoorEventKind::Complete)
        }),
        ("a door that takes no knocks", |fake| fake.found(1, [192, 0, 2, 9], DoorEventKind::Complete)),
        ("a stage that no attempt has", |fake| fake.found(0, [192, 0, 2, 9], DoorEventKind::Timeout { stage: 0 })),
        ("a stage that no attempt has", |fake| fake.found(0, [192, 0, 2, 9], DoorEventKind::Full { stage: 33 })),
        ("a stage that no attempt has", |fake| {
            fake.found(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 3, steps: 2 })
        }),
        ("a stage that no attempt has", |fake| {
            fake.found(0, [192, 0, 2, 9], DoorEventKind::Stage { stage: 3, steps: 99 })
        }),
        ("the future", |fake| {
            let found = fake.found(0, [192, 0, 2, 9], DoorEventKind::Complete);
            DoorEvent { time: found.time + 3_600_000_000_000, ..found }
        }),
    ];
    for (reason, found) in cases {
        let mut fake = Fake::new();
        let found = found(&fake);
        fake.says(&FromReader::DoorEvent(found));
        fake.is_ended(reason);
    }
}

#[test]
fn a_report_that_stands_for_all_doors_of_a_name_may_be_of_whom_one_of_them_allows() {
    let door = |port: u16, net: &str| format!("[a]\nsequence = {port},8000\ncommand = true\nallow = {net}\n");
    let mut fake = Fake::of(&(door(7000, "192.0.2.0/24") + &door(9000, "198.51.100.0/24")));
    let ip = [198, 51, 100, 9];
    for found in
        [fake.found(0, ip, DoorEventKind::Stage { stage: 1, steps: 2 }), fake.found(1, ip, DoorEventKind::Complete)]
    {
        fake.says(&FromReader::DoorEvent(found));
        assert!(matches!(fake.seen()[..], [Seen::DoorEvent { .. }]));
    }
    let other_door = fake.found(0, ip, DoorEventKind::Complete);
    fake.says(&FromReader::DoorEvent(other_door));
    fake.is_ended("an address that may not knock");
}

#[test]
fn nobody_is_waited_for_where_there_is_no_reader() {
    let mut fake = Fake::new();
    fake.process.running = None;
    assert!(!fake.process.catch_up(ANSWER_TIMEOUT) && !fake.process.catch_up(ANSWER_TIMEOUT));
    assert_eq!(fake.process.waits_since(), None);
}

#[test]
fn a_door_with_one_time_sequences_opens_once_until_it_has_its_next() {
    let mut fake = Fake::new();
    give_sequence(&mut fake);
    let complete = fake.found(1, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.says(&FromReader::DoorEvent(complete));
    assert!(matches!(fake.seen()[..], [Seen::DoorEvent { door_id: DoorId(1), .. }]));
    fake.says(&FromReader::DoorEvent(complete));
    fake.is_ended("a door that takes no knocks");
}

#[test]
fn messages_out_of_turn_and_what_is_no_message_end_the_reader() {
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
        fake.says(&message);
        fake.is_ended("out of turn");
    }
    let long = u32::try_from(MAX_READER_MESSAGE + 1).unwrap().to_le_bytes();
    for bytes in [&long[..], b"\xff\xff\xff\xff", b"\x01\0\0\0\x7f", b"\x02\0\0\0\x02\x05", b"\0\0\0\0"] {
        let mut fake = Fake::new();
        fake.other_end.write_all(bytes).unwrap();
        fake.is_ended("it sent a message");
    }
    let mut fake = Fake::new();
    let mut padded = message(&FromReader::AskNetwork);
    padded[0] += 1;
    padded.push(0);
    fake.other_end.write_all(&padded).unwrap();
    fake.is_ended("more bytes than it needs");
}

fn knock() -> Knock {
    use crate::packet::{Protocol, TcpFlags};
    let [source, destination] = [[192, 0, 2, 9], [192, 0, 2, 1]].map(Into::into);
    let (time, flags) = (Timestamp::default(), TcpFlags::NONE);
    Knock { time, source, destination, port: 7, protocol: Protocol::Udp, flags, source_port: 9, sequence_number: 0 }
}

fn attempt() -> SavedAttempt {
    SavedAttempt {
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
    fn whatever_bytes_come_nothing_is_believed_that_cannot_be(
        messages in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 1..20)
    ) {
        let mut fake = Fake::new();
        for message in messages {
            let length = u32::try_from(message.len()).unwrap();
            // The daemon may have ended it by now.
            let _ = fake.other_end.write_all(&[&length.to_le_bytes(), &message[..]].concat());
            for seen in fake.seen() {
                if let Seen::DoorEvent { time, door_id, .. } = seen {
                    assert!(door_id.0 < 2 && time <= fake.clock.now());
                }
            }
        }
    }
}

/// Has the process reload these doors, as a service does. Returns what it saw of the old ones.
#[test]
fn reports_at_a_rate_that_packets_cannot_cause_end_the_reader_and_are_discarded() {
    for (kind, burst) in [(DoorEventKind::Complete, 120_000), (DoorEventKind::Stage { stage: 1, steps: 2 }, 3_000)] {
        let mut fake = Fake::new();
        let found = fake.found(0, [192, 0, 2, 9], kind);
        for _ in 0..burst {
            fake.process.take(FromReader::DoorEvent(found)).unwrap();
        }
        let mut more = (0..10_000_000).map(|_| fake.process.take(FromReader::DoorEvent(found)));
        let error = more.find_map(Result::err).expect("a limit");
        drop(more);
        assert!(error.to_string().contains("more than packets can cause"), "{error}");
        fake.process.lose(&error);
        fake.is_ended("more than packets can cause");
    }
}

#[test]
fn a_door_opens_for_no_more_than_its_burst_whatever_a_reader_reports() {
    let mut fake = Fake::new();
    let found = fake.found(0, [192, 0, 2, 9], DoorEventKind::Complete);
    for _ in 0..20_000 {
        fake.process.take(FromReader::DoorEvent(found)).unwrap();
    }
    assert_eq!(fake.process.seen.len(), 7_500);
}

#[test]
fn a_text_is_short_and_names_an_interface_that_the_reader_has() {
    let lost = |length| notice(WireNoticeKind::Lost(WireAbsence::Failed("\u{fc}".repeat(length))));
    let mut fake = Fake::new();
    fake.says(&lost(MAX_TEXT_CHARS));
    let seen = fake.seen();
    let [Seen::Capture(CaptureNotice::Lost { reason: Absence::Failed(_), .. })] = &seen[..] else { panic!("{seen:?}") };
    fake.says(&lost(MAX_TEXT_CHARS + 1));
    fake.is_ended("a text that is too long");
    let mut fake = Fake::new();
    fake.says(&FromReader::Failed("x".repeat(MAX_TEXT_CHARS + 1)));
    fake.is_ended("a text that is too long");
    let mut fake = Fake::new();
    fake.says(&FromReader::Capture(WireNotice { interface: 1, kind: WireNoticeKind::Listening }));
    fake.is_ended("an interface that it was not started with");
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
    let readers =
        [ReaderNotice::Ended(ended), ReaderNotice::NotStarted(not_started), ReaderNotice::Keeps(vec!["\n".into()])];
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
fn a_one_time_door_is_used_once_a_second_at_most() {
    let mut fake = Fake::new();
    let mut used = 0;
    let mut refused = 0;
    for _ in 0..50 {
        give_sequence(&mut fake);
        let complete = fake.found(1, [192, 0, 2, 9], DoorEventKind::Complete);
        fake.says(&FromReader::DoorEvent(complete));
        for seen in fake.seen() {
            match seen {
                Seen::DoorEvent { door_id: DoorId(1), .. } => used += 1,
                Seen::Notice(ReaderNotice::UsedTooSoon { .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((used, refused), (1, 1), "one line for all refusals");
    // The reader, which takes no knock after a complete one, was sent the sequence again.
    let mut reader = heard(&fake.other_end);
    reader.receive().unwrap();
    let last = std::iter::from_fn(|| reader.next().unwrap()).last();
    assert!(matches!(last, Some(ToReader::Sequence { door: 1, sequence: Some(_) })), "{last:?}");
    std::thread::sleep(Duration::from_millis(1010));
    let complete = fake.found(1, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.says(&FromReader::DoorEvent(complete));
    assert!(matches!(fake.seen()[..], [Seen::DoorEvent { door_id: DoorId(1), .. }]));
}

#[test]
fn a_reader_that_says_nothing_is_replaced() {
    let mut fake = Fake::new();
    let silent = ALIVE_INTERVAL + ANSWER_TIMEOUT;
    let now = fake.process.running.as_ref().unwrap().heard;
    assert_eq!(fake.process.answer_due(), Some(now + silent));
    fake.process.counts();
    let asked = fake.process.running.as_ref().unwrap().count_asked.unwrap();
    assert_eq!(fake.process.answer_due(), Some(asked + ANSWER_TIMEOUT), "it was asked");
    fake.says(&FromReader::Alive { captures: 0 });
    assert!(fake.seen().is_empty());
    let running = fake.process.running.as_mut().unwrap();
    assert!(running.heard > asked);
    running.heard -= silent;
    running.count_asked = None;
    fake.is_ended("it does not answer");
}

#[test]
fn a_reader_whose_captures_are_dead_is_replaced() {
    let mut fake = Fake::new();
    fake.says(&notice(WireNoticeKind::Listening));
    fake.says(&FromReader::Alive { captures: 1 });
    assert!(matches!(fake.seen()[..], [Seen::Capture(_)]));
    fake.says(&notice(WireNoticeKind::Lost(WireAbsence::Down)));
    fake.says(&FromReader::Alive { captures: 0 });
    assert!(matches!(fake.seen()[..], [Seen::Capture(_)]));
    fake.says(&notice(WireNoticeKind::Listening));
    fake.says(&FromReader::Alive { captures: 0 });
    let seen = fake.seen();
    assert!(
        matches!(&seen[1..], [Seen::Notice(ReaderNotice::Ended(why)), ..] if why == "its captures do not work"),
        "{seen:?}"
    );
}

#[test]
fn a_time_that_was_not_asked_for_does_not_have_the_question_asked_again() {
    let mut fake = Fake::new();
    assert!(fake.process.catch_up(Duration::from_secs(9)));
    let earlier = fake.process.validator.now().as_nanos() - 1_000_000_000;
    fake.says(&FromReader::CaughtUp { time: earlier });
    fake.is_ended("a time that was not asked for");
    let mut fake = Fake::new();
    assert!(fake.process.catch_up(Duration::from_secs(9)));
    let later = fake.clock.now().saturating_add(Duration::from_secs(9));
    fake.says(&FromReader::CaughtUp { time: later.as_nanos() });
    fake.is_ended("a time that was not asked for");
}

#[test]
fn half_a_message_is_waited_for_and_the_end_is_noticed() {
    let mut fake = Fake::new();
    fake.other_end.write_all(b"\x10\0\0\0\x02").unwrap();
    assert!(fake.seen().is_empty() && fake.process.running.is_some());
    fake.other_end = UnixStream::pair().unwrap().0;
    fake.is_ended("");
}

#[test]
fn an_end_that_is_noticed_by_telling_it_something_wakes() {
    let mut fake = Fake::new();
    fake.other_end.shutdown(std::net::Shutdown::Both).unwrap();
    let door = fake.process.validator.config().doors[1].clone();
    fake.process.set_sequence(DoorId(1), &door);
    assert!(fake.process.running.is_none());
    assert!(fake.wakes());
    fake.is_ended("");
}

#[test]
fn numbers_of_events_get_the_names_of_their_doors() {
    let mut fake = Fake::new();
    let counts = EventCounts { first_stages: 3, ..EventCounts::default() };
    let time = fake.clock.now().as_nanos();
    let message = |doors| FromReader::Suppressed { time, counted: Counted { doors, others: counts } };
    fake.says(&message(vec![(0, counts)]));
    let [Seen::Suppressed(Suppressed { doors, others, .. })] = &fake.seen()[..] else { panic!() };
    assert_eq!((&doors[..], *others), (&[("a".into(), counts)][..], counts));
    fake.says(&message(vec![(u16::MAX, counts)]));
    fake.is_ended("a door that does not exist");
    let mut fake = Fake::new();
    fake.says(&message(vec![(0, counts); MAX_REPORTED_DOORS + 1]));
    fake.is_ended("numbers of events that cannot be");
}
