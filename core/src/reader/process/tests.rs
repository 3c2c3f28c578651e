//! What the daemon believes of a reader that says whatever it likes.

use super::*;
use crate::log_limit::EventCounts;
use crate::reader::wire::What;
use crate::service::ServiceOptions;
use std::io::Write;

const DOORS: &str = "[a]\nsequence = 7000,8000\ncommand = true\nallow = 192.0.2.0/24\n\
                     [b]\none_time_sequences = /nowhere\ncommand = true\n";

/// The daemon's side, with the other end of its connection in our hands.
struct Fake {
    process: ReaderProcess,
    other_end: UnixStream,
    clock: Clock,
}

/// A process at the end of a connection, and that end.
fn running() -> (Running, UnixStream) {
    let (ours, other_end) = UnixStream::pair().unwrap();
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    (Running { child, channel: Channel::new(ours).unwrap() }, other_end)
}

/// A message as it is sent.
fn message(message: &FromReader) -> Vec<u8> {
    let mut bytes = postcard::to_allocvec(message).unwrap();
    let length = u32::try_from(bytes.len()).unwrap();
    bytes.splice(0..0, length.to_le_bytes());
    bytes
}

impl Fake {
    fn new() -> Self {
        Self::of(DOORS)
    }

    fn of(doors: &str) -> Self {
        let clock = Clock::new();
        let program = ReaderProgram { program: "/nonexistent".into(), args: vec!["reader".into()] };
        let config = crate::config::parse(doors.as_bytes()).config.unwrap();
        let start = Start::new(
            &config,
            vec!["lo".into()],
            0,
            clock,
            &ServiceOptions { ipv4_only: true, ..ServiceOptions::default() },
        );
        let mut process = ReaderProcess::new(program, &config, start).unwrap();
        let (running, other_end) = running();
        process.begin(running, Timestamp::default()).unwrap();
        Self { process, other_end, clock }
    }

    fn says(&mut self, message: &FromReader) {
        self.other_end.write_all(&self::message(message)).unwrap();
    }

    /// Whether its descriptor tells that a turn is due.
    fn wakes(&self) -> bool {
        let mut tokens = Vec::new();
        self.process.epoll.wait(&mut tokens, Some(PATIENCE)).unwrap();
        !tokens.is_empty()
    }

    fn found(&self, door: u16, ip: [u8; 4], what: What) -> Found {
        Found { time: self.clock.now().as_nanos(), door, ip: ip.into(), what }
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
        crate::sys::poll::wait([(descriptor, crate::sys::poll::Interest::Read)], PATIENCE).unwrap();
        let seen = self.seen();
        let Some(Seen::Notice(ReaderNotice::Ended(why))) = seen.first() else { panic!("{seen:?}") };
        assert!(why.contains(reason), "{why}");
        // The program does not exist, which is told too.
        assert!(matches!(seen[1..], [Seen::Notice(ReaderNotice::NotStarted(_))]), "{seen:?}");
        assert!(self.process.running.is_none());
    }
}

#[test]
fn what_can_be_is_believed() {
    let mut fake = Fake::new();
    let stage = fake.found(0, [192, 0, 2, 9], What::Stage { stage: 1, steps: 2 });
    fake.says(&FromReader::Found(stage));
    let complete = fake.found(0, [192, 0, 2, 9], What::Complete);
    fake.says(&FromReader::Found(complete));
    let seen = fake.seen();
    assert!(
        matches!(
            seen[..],
            [
                Seen::Found { kind: EventKind::Stage { stage: 1, steps: 2 }, .. },
                Seen::Found { door_id: DoorId(0), kind: EventKind::Open { command: None, opening: None, .. }, .. }
            ]
        ),
        "{seen:?}"
    );
}

#[test]
fn what_cannot_be_ends_the_reader() {
    type Lie = fn(&Fake) -> Found;
    let cases: [(&str, Lie); 7] = [
        ("a door that does not exist", |fake| fake.found(2, [192, 0, 2, 9], What::Complete)),
        ("an address that may not knock", |fake| fake.found(0, [192, 0, 3, 9], What::Complete)),
        ("an address that may not knock", |fake| Found {
            ip: "2001:db8::1".parse().unwrap(),
            ..fake.found(1, [0; 4], What::Stage { stage: 1, steps: 2 })
        }),
        ("an address that may not knock", |fake| Found {
            ip: "::ffff:192.0.2.9".parse().unwrap(),
            ..fake.found(0, [0; 4], What::Complete)
        }),
        ("a door that takes no knocks", |fake| fake.found(1, [192, 0, 2, 9], What::Complete)),
        ("no stage", |fake| fake.found(0, [192, 0, 2, 9], What::Timeout { stage: 0 })),
        ("the future", |fake| {
            let found = fake.found(0, [192, 0, 2, 9], What::Complete);
            Found { time: found.time + 3_600_000_000_000, ..found }
        }),
    ];
    for (reason, found) in cases {
        let mut fake = Fake::new();
        let found = found(&fake);
        fake.says(&FromReader::Found(found));
        fake.is_ended(reason);
    }
}

#[test]
fn a_report_that_stands_for_all_doors_of_a_name_may_be_of_whom_one_of_them_allows() {
    let door = |port: u16, net: &str| format!("[a]\nsequence = {port},8000\ncommand = true\nallow = {net}\n");
    let mut fake = Fake::of(&(door(7000, "192.0.2.0/24") + &door(9000, "198.51.100.0/24")));
    let ip = [198, 51, 100, 9];
    for found in [fake.found(0, ip, What::Stage { stage: 1, steps: 2 }), fake.found(1, ip, What::Complete)] {
        fake.says(&FromReader::Found(found));
        assert!(matches!(fake.seen()[..], [Seen::Found { .. }]));
    }
    let other_door = fake.found(0, ip, What::Complete);
    fake.says(&FromReader::Found(other_door));
    fake.is_ended("an address that may not knock");
}

#[test]
fn numbers_of_events_get_the_names_of_their_doors() {
    let mut fake = Fake::new();
    let counts = EventCounts { first_stages: 3, ..EventCounts::default() };
    let time = fake.clock.now().as_nanos();
    let message = |doors| FromReader::Suppressed { time, counted: Counted { doors, others: counts } };
    fake.says(&message(vec![(0, counts)]));
    let name = fake.process.config.doors[0].name.clone();
    let [Seen::Suppressed(Suppressed { doors, others, .. })] = &fake.seen()[..] else { panic!() };
    assert_eq!((&doors[..], *others), (&[(name, counts)][..], counts));
    fake.says(&message(vec![(u16::MAX, counts)]));
    fake.is_ended("a door that does not exist");
    let mut fake = Fake::new();
    fake.says(&message(vec![(0, counts); MAX_REPORTED_DOORS + 1]));
    fake.is_ended("numbers of events that cannot be");
}

#[test]
fn other_readers_for_what_none_could_listen_on_come_ever_later() {
    let mut fake = Fake::new();
    let wait = |process: &mut ReaderProcess, failed| {
        for _ in 0..20 {
            process.take(FromReader::AskRenewal { failed }).unwrap();
        }
        process.renew_at.take().unwrap().saturating_duration_since(Instant::now())
    };
    let process = &mut fake.process;
    assert_eq!(wait(process, true), Duration::ZERO);
    let mut before = Duration::ZERO;
    for _ in 0..20 {
        let now = wait(process, true);
        assert!(before < now || now > LONGEST_PAUSE - BETWEEN_STARTS, "{before:?}, then {now:?}");
        before = now;
    }
    assert!(before <= LONGEST_PAUSE);
    assert!(wait(process, true) > BETWEEN_STARTS);
    assert_eq!(wait(process, false), Duration::ZERO);
    wait(process, true);
    assert!(wait(process, true) > Duration::ZERO);
    process.take(FromReader::Capture(CaptureNotice::Listening { interface: "lo".into() })).unwrap();
    assert_eq!(wait(process, true), Duration::ZERO);
}

#[test]
fn nobody_is_waited_for_where_there_is_no_reader() {
    let mut fake = Fake::new();
    fake.process.running = None;
    assert!(!fake.process.catch_up(PATIENCE) && !fake.process.catch_up(PATIENCE));
    assert_eq!(fake.process.waits_since(), None);
}

#[test]
fn a_door_with_one_time_sequences_opens_once_until_it_has_its_next() {
    let mut fake = Fake::new();
    let sequence = crate::config::parse_sequence("7000,9000").unwrap();
    let door = Door { sequence: Some(sequence), ..fake.process.config.doors[1].clone() };
    fake.process.set_sequence(DoorId(1), &door);
    let complete = fake.found(1, [192, 0, 2, 9], What::Complete);
    fake.says(&FromReader::Found(complete));
    assert!(matches!(fake.seen()[..], [Seen::Found { door_id: DoorId(1), .. }]));
    fake.says(&FromReader::Found(complete));
    fake.is_ended("a door that takes no knocks");
}

#[test]
fn messages_out_of_turn_and_what_is_no_message_end_the_reader() {
    let mut fake = Fake::new();
    fake.says(&FromReader::Ready { kept: Vec::new() });
    fake.is_ended("out of turn");
    let mut fake = Fake::new();
    let later = fake.clock.now().saturating_add(Duration::from_secs(9));
    fake.says(&FromReader::CaughtUp { time: later.as_nanos() });
    fake.is_ended("out of turn");
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x01\0\0\0\x7f", b"\x02\0\0\0\x02\x05", b"\0\0\0\0"] {
        let mut fake = Fake::new();
        fake.other_end.write_all(bytes).unwrap();
        fake.is_ended("");
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
                if let Seen::Found { time, door_id, .. } = seen {
                    assert!(door_id.0 < 2 && time <= fake.clock.now());
                }
            }
        }
    }
}

#[test]
fn a_sequence_never_goes_to_another_door_that_took_the_place() {
    let mut fake = Fake::new();
    let old = fake.process.config.doors[1].clone();
    fake.says(&FromReader::Reloaded);
    let text = "[c]\nsequence = 7000,8000\ncommand = true\n[d]\nsequence = 9000,8000\ncommand = true\n";
    let new = crate::config::parse(text.as_bytes()).config.unwrap();
    fake.process.reload(&new, vec!["lo".into()]);
    let mut heard = Channel::new(fake.other_end.try_clone().unwrap()).unwrap();
    assert!(matches!(heard.wait(None).unwrap(), ToReader::Begin { .. }));
    assert!(matches!(heard.wait(None).unwrap(), ToReader::Reload(_)));
    fake.process.set_sequence(DoorId(1), &old);
    assert_eq!(fake.process.config, new);
    heard.receive().unwrap();
    assert!(heard.next::<ToReader>().unwrap().is_none());
}

#[test]
fn the_next_reader_takes_no_sequence_that_the_one_before_saw_used_up() {
    let mut fake = Fake::new();
    let door = Door {
        sequence: Some(crate::config::parse_sequence("7000,9000").unwrap()),
        ..fake.process.config.doors[1].clone()
    };
    fake.process.set_sequence(DoorId(1), &door);
    let (next, end_of_next) = running();
    let complete = fake.found(1, [192, 0, 2, 9], What::Complete);
    fake.says(&FromReader::Found(complete));
    fake.says(&FromReader::HandedOver { last: 7, counts: Counts::default() });
    fake.process.take_the_place(next).unwrap();
    let mut heard = Channel::new(end_of_next).unwrap();
    assert!(matches!(heard.wait(None).unwrap(), ToReader::Sequence { door: 1, sequence: None }));
    assert!(matches!(heard.wait(None).unwrap(), ToReader::Begin { after: 7 }));
    assert!(fake.seen().iter().any(|seen| matches!(seen, Seen::Found { door_id: DoorId(1), .. })));
}

#[test]
fn attempts_are_not_handed_over_for_ever() {
    let mut fake = Fake::new();
    fake.process.config.options.max_attempts = 1;
    fake.says(&FromReader::Attempts(Vec::new()));
    let (next, _end_of_next) = running();
    fake.process.take_the_place(next).unwrap();
    let seen = fake.seen();
    let [Seen::Notice(ReaderNotice::Ended(why))] = &seen[..] else { panic!("{seen:?}") };
    assert!(why.contains("more attempts than there can be"), "{why}");
}

#[test]
fn half_a_message_is_waited_for_and_the_end_is_noticed() {
    let mut fake = Fake::new();
    fake.other_end.write_all(b"\x10\0\0\0\x02").unwrap();
    assert!(fake.seen().is_empty() && fake.process.running.is_some());
    fake.other_end = UnixStream::pair().unwrap().0;
    fake.is_ended("signal");
}

#[test]
fn an_end_that_is_noticed_by_telling_it_something_wakes() {
    let mut fake = Fake::new();
    fake.other_end.shutdown(std::net::Shutdown::Both).unwrap();
    let door = fake.process.config.doors[1].clone();
    fake.process.set_sequence(DoorId(1), &door);
    assert!(fake.process.running.is_none());
    assert!(fake.wakes());
    fake.is_ended("signal");
}

#[test]
fn what_is_received_while_something_is_told_wakes() {
    let mut fake = Fake::new();
    let message = message(&FromReader::Found(fake.found(0, [192, 0, 2, 9], What::Stage { stage: 1, steps: 2 })));
    fake.other_end.set_nonblocking(true).unwrap();
    while fake.other_end.write(&message).is_ok() {}
    fake.other_end.set_nonblocking(false).unwrap();
    let mut other_end = fake.other_end.try_clone().unwrap();
    let takes_all = std::thread::spawn(move || {
        // There is room again when the daemon has received something.
        other_end.write_all(&message).and_then(|()| io::copy(&mut &other_end, &mut io::sink()))
    });
    // More than fits in between.
    let doors = Doors::of(&crate::config::parse(DOORS.repeat(20_000).as_bytes()).config.unwrap());
    fake.process.tell(&ToReader::Reload(doors));
    assert!(fake.wakes());
    assert!(matches!(fake.seen()[..], [Seen::Found { .. }, ..]));
    drop(fake);
    takes_all.join().unwrap().unwrap();
}

#[test]
fn what_each_reader_tells_of_its_interfaces_is_told_once() {
    let mut fake = Fake::new();
    let name = || "lo".to_owned();
    let other = CaptureNotice::Dropped { interface: "eth7, which it does not listen on".into(), packets: 1 };
    let missing = || CaptureNotice::Waiting { interface: name(), reason: "there is no such interface".into() };
    let listening = || CaptureNotice::Listening { interface: name() };
    let coarse = || CaptureNotice::CoarseFilter { interface: name(), instructions: Some(9) };
    let dropped = || CaptureNotice::Dropped { interface: name(), packets: 1 };
    let all = [missing(), missing(), listening(), coarse(), listening(), coarse(), dropped(), dropped(), missing()];
    for notice in all.into_iter().chain([other]) {
        fake.says(&FromReader::Capture(notice));
    }
    let told: Vec<_> = fake
        .seen()
        .into_iter()
        .map(|seen| if let Seen::Capture(notice) = seen { notice } else { panic!("{seen:?}") })
        .collect();
    assert_eq!(told, [missing(), listening(), coarse(), dropped(), dropped(), missing()]);
}
