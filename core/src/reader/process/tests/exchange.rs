//! Tests of starts, hand-overs, reloads and counters, with readers that misbehave.

use super::*;

/// Reloads these doors as a service does. Returns the reports about the old doors.
fn reload(process: &mut ReaderProcess, config: &Config) -> Vec<ReaderReport> {
    process.begin_reload(config, LiveSecrets::default(), vec!["lo".into()]);
    let mut before = Vec::new();
    while process.is_reloading() {
        process.wait(ANSWER_TIMEOUT).unwrap();
        before.extend(std::iter::from_fn(|| process.poll_report()));
    }
    process.end_reload();
    before
}

fn other_doors() -> Config {
    let text = "[c]\nsequence = 7000,8000\ncommand = true\n[d]\nsequence = 9000,8000\ncommand = true\n";
    crate::config::parse(text.as_bytes()).config.unwrap()
}

#[test]
fn a_sequence_is_never_set_at_another_door_with_the_same_index() {
    let mut fake = Fake::new();
    let old = fake.process.validator.config().doors[1].clone();
    let (new, mut reader) = (other_doors(), daemon_messages(&fake.other_end));
    fake.process.begin_reload(&new, LiveSecrets::default(), vec!["lo".into()]);
    assert!(matches!(reader.wait().unwrap(), ToReader::Sequence { door: 1, sequence: None }));
    assert!(matches!(reader.wait().unwrap(), ToReader::Begin { .. }));
    assert!(matches!(reader.wait().unwrap(), ToReader::Reload(_)));
    fake.sends(&FromReader::Reloaded);
    assert!(fake.reports().is_empty() && fake.process.validator.config() == &new);
    fake.process.set_sequence(DoorId(1), &old);
    assert_eq!(fake.process.validator.config(), &new);
    reader.receive().unwrap();
    assert!(reader.next::<ToReader>().unwrap().is_none());
}

#[test]
fn a_reload_separates_reports_about_old_and_new_doors() {
    let mut fake = Fake::new();
    fake.process.begin_reload(&other_doors(), LiveSecrets::default(), vec!["lo".into()]);
    let mut bytes = message(&FromReader::DoorEvent(fake.event(0, [192, 0, 2, 9], DoorEventKind::Complete)));
    bytes.extend(message(&FromReader::Reloaded));
    // The old doors do not allow this address.
    bytes.extend(message(&FromReader::DoorEvent(fake.event(1, [198, 51, 100, 9], DoorEventKind::Complete))));
    fake.other_end.write_all(&bytes).unwrap();
    fake.process.turn().unwrap();
    assert!(!fake.process.is_reloading());
    assert!(matches!(fake.process.poll_report(), Some(ReaderReport::DoorEvent { door_id: DoorId(0), .. })));
    assert!(fake.process.poll_report().is_none());
    fake.process.end_reload();
    assert!(fake.wakes());
    assert!(matches!(fake.reports()[..], [ReaderReport::DoorEvent { door_id: DoorId(1), .. }]));
}

#[test]
fn an_unanswered_reload_ends_the_reader_after_a_second() {
    let mut fake = Fake::new();
    let start = Instant::now();
    let before = reload(&mut fake.process, &other_doors());
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(fake.process.validator.config(), &other_doors());
    assert!(
        matches!(&before[..], [ReaderReport::Notice(ReaderNotice::Ended(why))] if why == "it does not answer"),
        "{before:?}"
    );
}

#[test]
fn a_status_request_waits_briefly_and_a_late_answer_serves_the_next() {
    let mut fake = Fake::new();
    let start = Instant::now();
    assert_eq!(fake.process.counts(), Counts::default());
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    // The request is sent once.
    let start = Instant::now();
    fake.process.counts();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    let counts = Counts { packets: u64::MAX, attempts: u64::MAX, ..Counts::default() };
    fake.sends(&FromReader::Counts(counts));
    assert!(fake.reports().is_empty());
    fake.process.earlier.packets = 7;
    let max_attempts = fake.process.validator.config().options.max_attempts.into();
    assert_eq!(fake.process.counts(), Counts { attempts: max_attempts, ..counts });
}

#[test]
fn a_status_request_stores_a_limited_number_of_reports_meanwhile() {
    let mut fake = Fake::new();
    let mut other_end = fake.other_end.try_clone().unwrap();
    let report = message(&notice(WireNoticeKind::Dropped { packets: 1 })).repeat(100);
    let flood = std::thread::spawn(move || while other_end.write_all(&report).is_ok() {});
    let start = Instant::now();
    fake.process.counts();
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    assert!(fake.process.reports.len() <= MAX_REPORTS);
    let reports = fake.reports();
    assert!(
        matches!(&reports[..], [ReaderReport::Notice(ReaderNotice::Ended(why))] if why.contains("too many notices")),
        "{reports:?}"
    );
    flood.join().unwrap();
}

#[test]
fn a_successor_accepts_no_sequence_that_was_consumed_during_the_hand_over() {
    let mut fake = Fake::new();
    give_sequence(&mut fake);
    let end_of_next = fake.ready_successor();
    let complete = fake.event(1, [192, 0, 2, 9], DoorEventKind::Complete);
    fake.sends(&FromReader::DoorEvent(complete));
    fake.sends(&FromReader::HandedOver { last: 7, counts: Counts::default() });
    assert!(fake.reports().iter().any(|report| matches!(report, ReaderReport::DoorEvent { door_id: DoorId(1), .. })));
    let mut next = daemon_messages(&end_of_next);
    assert!(matches!(next.wait().unwrap(), ToReader::Sequence { door: 1, sequence: None }));
    assert!(matches!(next.wait().unwrap(), ToReader::Begin { after: 7 }));
}

#[test]
fn only_possible_attempts_are_handed_over() {
    let mut fake = Fake::of(&(DOORS.to_owned() + "[c]\nsequence = 1,2\nseq_cooldown = 9\ncommand = true\n"));
    let validator = &mut fake.process.validator;
    let now = validator.now();
    let later = now.saturating_add(Duration::from_secs(3600)).as_nanos();
    let valid = validator.attempts(vec![SavedAttempt { started: later, ..attempt() }], 0).unwrap();
    assert!(Timestamp::from_nanos(valid[0].started) <= validator.now(), "no start in the future");
    let cooldown = SavedAttempt { door: 2, stage: 0, ..attempt() };
    assert_eq!(validator.attempts(vec![cooldown], 0).unwrap().len(), 1);
    // No host has these addresses, or the door no longer has this step.
    let impossible = [
        SavedAttempt { door: 2, ip: [0, 0, 0, 1].into(), ..attempt() },
        SavedAttempt { door: 2, ip: [224, 0, 0, 1].into(), ..attempt() },
        SavedAttempt { door: 2, ip: [255; 4].into(), ..attempt() },
        SavedAttempt { door: 1, ..attempt() },
    ];
    assert_eq!(validator.attempts(impossible.into(), 0).unwrap(), []);
    for (reason, attempt) in [
        ("a door that does not exist", SavedAttempt { door: 3, ..attempt() }),
        ("an address that may not knock", SavedAttempt { ip: [192, 0, 3, 9].into(), ..attempt() }),
        ("an address that may not knock", SavedAttempt { door: 1, ip: "2001:db8::1".parse().unwrap(), ..attempt() }),
        ("a stage that the door does not have", SavedAttempt { stage: 0, ..attempt() }),
        ("a stage that the door does not have", SavedAttempt { stage: 2, ..attempt() }),
        ("the scan guard", SavedAttempt { scan_hits: vec![0; 9], ..attempt() }),
        ("the scan guard", SavedAttempt { scan_hits: vec![1 << 17], ..attempt() }),
    ] {
        let error = validator.attempts(vec![attempt], 0).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let far = validator.last_timestamp(u64::MAX);
    assert_eq!(far, Timestamp::default(), "packets from now on are not skipped");
}

#[test]
fn attempts_are_not_handed_over_without_end() {
    let mut fake = Fake::of(&("[options]\nMaxAttempts = 2\n".to_owned() + DOORS));
    for attempts in [Vec::new(), vec![attempt(), attempt(), attempt()]] {
        let _end_of_next = fake.ready_successor();
        fake.sends(&FromReader::Attempts(attempts));
        let reports = fake.reports();
        let [ReaderReport::Notice(ReaderNotice::Ended(why))] = &reports[..] else { panic!("{reports:?}") };
        assert!(why.contains("more attempts than there can be"), "{why}");
        assert!(fake.process.running.is_some(), "the successor works without them");
        fake = Fake::of(&("[options]\nMaxAttempts = 2\n".to_owned() + DOORS));
    }
}

#[test]
fn a_hand_over_has_one_deadline_however_many_messages_it_has() {
    let mut fake = Fake::new();
    let _end_of_next = fake.ready_successor();
    for _ in 0..3 {
        fake.sends(&FromReader::Attempts(vec![attempt()]));
        assert!(fake.reports().is_empty());
    }
    fake.process.successor.as_mut().unwrap().deadline = Instant::now();
    let reports = fake.reports();
    let [ReaderReport::Notice(ReaderNotice::Ended(why))] = &reports[..] else { panic!("{reports:?}") };
    assert!(why.contains("it does not answer"), "{why}");
    assert!(fake.process.running.is_some() && fake.process.successor.is_none());
}

#[test]
fn a_successor_that_reads_nothing_blocks_the_hand_over_and_not_the_daemon() {
    let mut fake = Fake::new();
    let end_of_next = fake.ready_successor();
    fake.other_end.set_nonblocking(true).unwrap();
    let attempts = message(&FromReader::Attempts(vec![attempt(); 64]));
    let mut turns = 0;
    // Until both sockets and the buffers between them are full.
    while fake.other_end.write(&attempts).is_ok_and(|count| count == attempts.len()) || turns < 100 {
        assert!(fake.reports().is_empty());
        turns += 1;
        assert!(turns < 10_000);
    }
    drop(end_of_next);
}

#[test]
fn a_successor_that_is_never_ready_or_sends_too_early_is_ended() {
    let mut fake = Fake::new();
    let _end = Fake::start_successor(&mut fake.process);
    fake.process.successor.as_mut().unwrap().deadline = Instant::now();
    let reports = fake.reports();
    assert!(
        matches!(&reports[..], [ReaderReport::Notice(ReaderNotice::NotStarted(why))] if why == "it does not answer"),
        "{reports:?}"
    );
    let mut end = fake.ready_successor();
    end.set_nonblocking(true).unwrap();
    let report = message(&notice(WireNoticeKind::Listening)).repeat(1000);
    let is_ended = (0..100).any(|_| {
        let _ = end.write(&report);
        fake.process.turn().unwrap();
        fake.process.successor.is_none()
    });
    assert!(is_ended);
}

#[test]
fn a_reader_requests_the_network_once_at_a_time_and_not_too_often() {
    let mut fake = Fake::new();
    let mut answers = 0;
    let mut reader = daemon_messages(&fake.other_end);
    for _ in 0..1000 {
        if fake.process.running.as_ref().is_some_and(|running| !running.asks_network) {
            fake.sends(&FromReader::AskNetwork);
        }
        assert!(fake.reports().is_empty());
        reader.receive().unwrap();
        while let Some(message) = reader.next().unwrap() {
            answers += usize::from(matches!(message, ToReader::Network(Some(_))));
        }
    }
    assert!((100..300).contains(&answers), "{answers}");
    fake.sends(&FromReader::AskNetwork);
    fake.sends(&FromReader::AskNetwork);
    fake.assert_ended("out of turn");
}

#[test]
fn the_daemon_does_not_wait_for_a_reader_that_reads_nothing() {
    let mut fake = Fake::new();
    // More than the socket and the buffers hold.
    let config = crate::config::parse(DOORS.repeat(20_000).as_bytes()).config.unwrap();
    let message = ToReader::Reload(Doors::of(&config, &LiveSecrets::default()));
    let start = Instant::now();
    fake.process.send(&message);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(fake.process.running.as_ref().is_some_and(|running| running.channel.unsent() > 0));
    // The rest follows when the reader reads.
    let mut reader = daemon_messages(&fake.other_end);
    let reads = std::thread::spawn(move || while !matches!(reader.wait().unwrap(), ToReader::Reload(_)) {});
    while fake.process.running.as_ref().is_some_and(|running| running.channel.unsent() > 0) {
        assert!(fake.wakes());
        assert!(fake.reports().is_empty());
    }
    reads.join().unwrap();
    for _ in 0..40 {
        fake.process.send(&message);
    }
    fake.assert_ended("it does not read its messages");
}

#[test]
fn repeated_notices_about_interfaces_are_reported_once() {
    let mut fake = Fake::new();
    let missing = || notice(WireNoticeKind::Waiting(WireAbsence::Missing { near: None }));
    let listening = || notice(WireNoticeKind::Listening);
    let coarse = || notice(WireNoticeKind::CoarseFilter { instructions: Some(9) });
    let dropped = || notice(WireNoticeKind::Dropped { packets: 1 });
    let all = [missing(), missing(), listening(), coarse(), listening(), coarse(), dropped(), dropped(), missing()];
    for notice in all {
        fake.sends(&notice);
    }
    let reported: Vec<_> = fake
        .reports()
        .into_iter()
        .map(|report| if let ReaderReport::Capture(notice) = report { notice } else { panic!("{report:?}") })
        .collect();
    let name = || "lo".to_owned();
    let missing = || CaptureNotice::Waiting { interface: name(), reason: Absence::Missing { near: None } };
    let dropped = || CaptureNotice::Dropped { interface: name(), packets: 1 };
    let listening = CaptureNotice::Listening { interface: name() };
    let coarse = CaptureNotice::CoarseFilter { interface: name(), instructions: Some(9) };
    assert_eq!(reported, [missing(), listening, coarse, dropped(), dropped(), missing()]);
}
