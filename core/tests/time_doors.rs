//! Doors with `sequence = time`: which knocks open them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use portknock_core::config::{Config, Door, OpenPort, StepProtocols, TimeSequence};
use portknock_core::keys::{Key, NamedKey};
use portknock_core::{Engine, Event, EventKind, Knock, Protocol, TcpFlags, Timestamp};

/// The start of a window of 30 s.
const START: u64 = 1_800_000_000;

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

fn door(keys: u8) -> Door {
    let named = |number| NamedKey { name: format!("client{number}").into(), key: key(number) };
    let ssh = OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::new(22).unwrap() };
    Door {
        time_sequence: Some(TimeSequence::default()),
        keys: (0..keys).map(named).collect(),
        open: [ssh].into(),
        ..Door::new("ssh", None)
    }
}

fn config(doors: Vec<Door>) -> Config {
    Config { doors, ..Config::default() }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

fn host(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

/// The knocks of a client whose wall clock shows `shown` while the engine's clock shows `time`.
fn knocks(key: &Key, source: IpAddr, time: Timestamp, shown: Timestamp) -> Vec<Knock> {
    let sequence = TimeSequence::default();
    let sequence = sequence.sequence(key, sequence.window_at(shown));
    let knock = |(index, step): (u16, &portknock_core::Step)| Knock {
        time,
        source,
        destination: [192, 0, 2, 200].into(),
        port: step.port.get(),
        protocol: step.protocol,
        flags: TcpFlags::SYN,
        source_port: 40_000 + index,
        sequence_number: index.into(),
    };
    (0..).zip(sequence.steps()).map(knock).collect()
}

/// Feeds the knocks, and returns the addresses and keys for which doors opened.
fn feed(engine: &mut Engine, knocks: &[Knock]) -> Vec<(IpAddr, String)> {
    engine.handle_knocks(knocks);
    opened(engine)
}

fn opened(engine: &mut Engine) -> Vec<(IpAddr, String)> {
    events(engine)
        .iter()
        .filter(|event| matches!(event.kind, EventKind::Open { .. } | EventKind::Extend { .. }))
        .filter_map(|event| Some((event.ip, event.kind.key()?.to_string())))
        .collect()
}

fn events(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

#[test]
fn the_sequence_of_the_present_window_opens_and_the_event_has_the_name_of_the_key() {
    let mut engine = Engine::new(&config(vec![door(3)]));
    assert_eq!(feed(&mut engine, &knocks(&key(1), host(7), at(5), at(5))), [(host(7), "client1".to_owned())]);
    assert_eq!(engine.openings().count(), 1);
    assert_eq!(feed(&mut engine, &knocks(&key(9), host(8), at(5), at(5))), [], "an unknown key");
}

#[test]
fn a_sequence_opens_once() {
    let mut engine = Engine::new(&config(vec![door(2)]));
    let recorded = knocks(&key(1), host(7), at(5), at(5));
    assert_eq!(feed(&mut engine, &recorded).len(), 1);
    for second in 5..200 {
        for source in [7, 8] {
            let again: Vec<_> =
                recorded.iter().map(|knock| Knock { time: at(second), source: host(source), ..*knock }).collect();
            assert_eq!(feed(&mut engine, &again), [], "second {second}");
        }
    }
    assert_eq!(feed(&mut engine, &knocks(&key(1), host(7), at(200), at(200))).len(), 1, "a later window");
}

#[test]
fn of_two_addresses_that_send_one_sequence_exactly_one_opens() {
    for turn in 0..1_000_u64 {
        let mut engine = Engine::new(&config(vec![door(2)]));
        let time = at(turn);
        let [mut mine, mut theirs] = [7, 8].map(|number| knocks(&key(1), host(number), time, time));
        // A different interleaving each time.
        let (mut mixed, mut bits) = (Vec::new(), turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        while !mine.is_empty() || !theirs.is_empty() {
            let from = if theirs.is_empty() || (bits & 1 == 0 && !mine.is_empty()) { &mut mine } else { &mut theirs };
            mixed.push(from.remove(0));
            bits >>= 1;
        }
        assert_eq!(feed(&mut engine, &mixed).len(), 1, "{turn}");
    }
}

#[test]
fn two_keys_open_in_one_window() {
    let mut engine = Engine::new(&config(vec![door(2)]));
    for number in [0, 1] {
        let opened = feed(&mut engine, &knocks(&key(number), host(7), at(3), at(3)));
        assert_eq!(opened, [(host(7), format!("client{number}"))]);
    }
}

#[test]
fn every_second_of_two_windows_opens() {
    let mut engine = Engine::new(&config(vec![door(60)]));
    for second in 0..60 {
        let client = u8::try_from(second).unwrap();
        let opened = feed(&mut engine, &knocks(&key(client), host(client + 1), at(second), at(second)));
        assert_eq!(opened.len(), 1, "second {second}");
    }
}

#[test]
fn clocks_of_clients_may_differ_by_less_than_a_window_in_each_direction() {
    for second in 0..30_u64 {
        for offset in -100..=100_i64 {
            let mut engine = Engine::new(&config(vec![door(1)]));
            let time = at(300 + second);
            let shown = Timestamp::from_secs((START + 300 + second).saturating_add_signed(offset));
            let is_open = feed(&mut engine, &knocks(&key(0), host(7), time, shown)).len() == 1;
            if offset.abs() <= 29 {
                assert!(is_open, "{second} {offset}");
            } else if offset.abs() >= 60 {
                assert!(!is_open, "{second} {offset}");
            }
        }
    }
}

#[test]
fn an_attempt_survives_the_end_of_its_window_while_the_window_is_live() {
    let mut engine = Engine::new(&config(vec![door(5)]));
    let knocks = knocks(&key(1), host(7), at(29), at(29));
    for (index, knock) in (0..).zip(&knocks) {
        // One step every seven seconds: the window ends after the first step.
        engine.handle_knock(&Knock { time: at(29 + 6 * index), ..*knock });
    }
    assert_eq!(opened(&mut engine).len(), 1);
    let late = self::knocks(&key(2), host(7), at(100), at(100));
    for (index, knock) in (0..).zip(&late) {
        engine.handle_knock(&Knock { time: at(119 + 10 * index), ..*knock });
    }
    let events = events(&mut engine);
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::Timeout { .. })), "{events:?}");
    assert!(!events.iter().any(|event| matches!(event.kind, EventKind::Open { .. })));
}

#[test]
fn the_wall_clock_and_not_the_engines_clock_selects_the_windows() {
    let mut engine = Engine::new(&config(vec![door(2)]));
    let hour = Duration::from_secs(3600);
    engine.set_wall_clock(at(0).saturating_add(hour), at(0));
    assert_eq!(feed(&mut engine, &knocks(&key(0), host(7), at(1), at(1))), []);
    assert_eq!(feed(&mut engine, &knocks(&key(0), host(7), at(2), at(2).saturating_add(hour))).len(), 1);
}

#[test]
fn a_clock_that_is_set_back_makes_no_recorded_sequence_valid() {
    let mut engine = Engine::new(&config(vec![door(1)]));
    let mut recorded = Vec::new();
    // One knock in each window of two hours.
    for window in 0..240 {
        let knocks = knocks(&key(0), host(7), at(30 * window), at(30 * window));
        assert_eq!(feed(&mut engine, &knocks).len(), 1, "{window}");
        recorded.push(knocks);
    }
    let now = at(30 * 240);
    for back in [30, 60, 600, 3600, 7100] {
        engine.set_wall_clock(at(30 * 240 - back), now);
        for knocks in &recorded {
            let again: Vec<_> = knocks.iter().map(|knock| Knock { time: now, ..*knock }).collect();
            assert_eq!(feed(&mut engine, &again), [], "set back by {back} s");
        }
    }
}

#[test]
fn a_reload_makes_no_used_sequence_valid_and_ends_no_attempt_of_unchanged_doors() {
    let renamed = Door { name: "other".into(), ..door(2) };
    for new in [vec![door(2)], vec![Door::new("first", None), door(2)], vec![renamed], vec![door(3)]] {
        let mut engine = Engine::new(&config(vec![door(2)]));
        let recorded = knocks(&key(1), host(7), at(5), at(5));
        assert_eq!(feed(&mut engine, &recorded).len(), 1);
        let half = knocks(&key(0), host(8), at(6), at(6));
        engine.handle_knocks(&half[..3]);
        engine.reload(&config(new.clone()), at(7));
        let again: Vec<_> = recorded.iter().map(|knock| Knock { time: at(8), ..*knock }).collect();
        assert_eq!(feed(&mut engine, &again), []);
        let rest: Vec<_> = half[3..].iter().map(|knock| Knock { time: at(8), ..*knock }).collect();
        let is_same = new.contains(&door(2));
        assert_eq!(feed(&mut engine, &rest).len(), usize::from(is_same), "{}", new[0].name);
    }
}

#[test]
fn a_used_sequence_opens_nothing_after_the_settings_of_time_sequences_changed() {
    let lengths = [10, 30, 60, 120, 300, 600, 1800, 3600].map(Duration::from_secs);
    let default = TimeSequence::default();
    let variants = [
        default.clone(),
        TimeSequence { steps: 4, ..default.clone() },
        TimeSequence { steps: 6, ..default.clone() },
        TimeSequence { ports: default.ports.start().saturating_add(1)..=*default.ports.end(), ..default.clone() },
        TimeSequence { protocols: StepProtocols::Both, ..default.clone() },
    ];
    let settings: Vec<_> = lengths
        .iter()
        .flat_map(|&window| variants.iter().map(move |time| TimeSequence { window, ..time.clone() }))
        .collect();
    let with = |time: &TimeSequence| config(vec![Door { time_sequence: Some(time.clone()), ..door(1) }]);
    for before in &settings {
        for after in &settings {
            let mut engine = Engine::new(&with(before));
            let number = before.window_at(at(5));
            let recorded: Vec<_> = before
                .sequence(&key(0), number)
                .steps()
                .iter()
                .map(|step| Knock {
                    port: step.port.get(),
                    protocol: step.protocol,
                    ..knocks(&key(0), host(7), at(5), at(5))[0]
                })
                .collect();
            assert_eq!(feed(&mut engine, &recorded).len(), 1, "{before:?}");
            let opens = |engine: &mut Engine, time: Timestamp| {
                let again: Vec<_> = recorded.iter().map(|knock| Knock { time, ..*knock }).collect();
                !feed(engine, &again).is_empty()
            };
            engine.reload(&with(after), at(6));
            // Also while the windows near the present one are live, a day and a year later.
            for seconds in [6, 11, 31, 61, 3_601, 7_201, 86_400, 31_536_000] {
                assert!(!opens(&mut engine, at(seconds)), "{before:?} {after:?} after {seconds} s");
            }
            let same_number = after.window_start(number);
            let is_far = same_number > at(50 * 31_536_000);
            assert!(before.window == after.window || is_far || same_number < at(5), "{before:?} {after:?}");
            engine.reload(&with(before), at(31_536_001));
            assert!(!opens(&mut engine, at(31_536_001)), "{before:?} {after:?}");
        }
    }
}

#[test]
fn limits_of_the_door_hold() {
    let network: portknock_core::IpNet = "192.0.2.0/28".parse().unwrap();
    let cooling = Door { allow: vec![network], seq_cooldown: Some(Duration::from_secs(50)), ..door(4) };
    let mut engine = Engine::new(&config(vec![cooling]));
    assert_eq!(feed(&mut engine, &knocks(&key(0), host(77), at(0), at(0))), [], "not in allow");
    assert_eq!(feed(&mut engine, &knocks(&key(1), host(7), at(0), at(0))).len(), 1);
    let second = knocks(&key(2), host(7), at(10), at(10));
    assert_eq!(feed(&mut engine, &second), [], "the cooldown of the address");
    assert_eq!(feed(&mut engine, &knocks(&key(3), host(8), at(10), at(10))).len(), 1, "another address");
    assert_eq!(feed(&mut engine, &knocks(&key(1), host(7), at(60), at(60))).len(), 1, "after the cooldown");
    let again: Vec<_> = second.iter().map(|knock| Knock { time: at(61), source: host(9), ..*knock }).collect();
    assert_eq!(feed(&mut engine, &again), [], "a sequence that was ignored is used up all the same");
}

#[test]
fn an_ordinary_door_is_independent_of_time_doors() {
    let plain = portknock_core::config::parse(b"[plain]\nsequence = 7000,8000:udp\nopen = tcp/80\n").config.unwrap();
    let mut engine = Engine::new(&config(vec![door(200), plain.doors[0].clone()]));
    engine.handle_timeout(at(0));
    for (port, protocol) in [(7000, Protocol::Tcp), (8000, Protocol::Udp)] {
        let knock = Knock { port, protocol, ..knocks(&key(1), host(7), at(1), at(1))[0] };
        engine.handle_knock(&knock);
    }
    let opened: Vec<Arc<str>> = events(&mut engine)
        .into_iter()
        .filter(|event| matches!(event.kind, EventKind::Open { .. }))
        .map(|event| event.door)
        .collect();
    assert_eq!(opened, ["plain".into()]);
}
