//! Doors with the code of an authenticator app: which knocks open them, and the limits of wrong codes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portknock_core::config::{Config, Door, parse};
use portknock_core::totp::{TotpKey, TotpSecret};
use portknock_core::{Engine, Event, EventKind, FailReason, Knock, Protocol, TcpFlags, Timestamp};

/// The start of a window of 30 s.
const START: u64 = 1_800_000_000;
const FIXED: [u16; 2] = [7391, 48_213];

fn secret() -> TotpSecret {
    "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".parse().unwrap()
}

fn door() -> Door {
    let text = "[phone]\nsequence = 7391,48213,21???,22???\ntotp_secret = /phone.totp\nopen = tcp/22\n";
    let mut door = parse(text.as_bytes()).config.unwrap().doors.remove(0);
    door.totp = Some(Arc::new(TotpKey { name: "phone".into(), secret: secret(), digits: None }));
    door
}

fn config(doors: Vec<Door>) -> Config {
    Config { doors, ..Config::default() }
}

fn engine() -> Engine {
    Engine::new(&config(vec![door()]))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(START + seconds)
}

fn host(number: u32) -> IpAddr {
    (0x0a00_0000 + number).to_be_bytes().into()
}

/// The ports of the code that the app shows at a time.
fn code(shown: Timestamp) -> [u16; 2] {
    ports(secret().code(shown.as_nanos() / 30_000_000_000, 6))
}

fn ports(code: u32) -> [u16; 2] {
    [21_000 + u16::try_from(code / 1000).unwrap(), 22_000 + u16::try_from(code % 1000).unwrap()]
}

/// Ports of the code's ranges that no code uses within ten windows.
fn wrong(time: Timestamp) -> [u16; 2] {
    let window = time.as_nanos() / 30_000_000_000;
    let live: Vec<[u16; 2]> = (window - 10..window + 10).map(|window| ports(secret().code(window, 6))).collect();
    let free = |i: usize, low: u16| (low..low + 1000).find(|port| live.iter().all(|ports| ports[i] != *port)).unwrap();
    [free(0, 21_000), free(1, 22_000)]
}

fn knock(source: IpAddr, time: Timestamp, port: u16) -> Knock {
    let (protocol, flags) = (Protocol::Tcp, TcpFlags::SYN);
    let sequence_number = u32::from(port) ^ 0x5555;
    let destination = [192, 0, 2, 200].into();
    Knock { time, source, destination, port, protocol, flags, source_port: 40_000, sequence_number }
}

fn send(engine: &mut Engine, source: IpAddr, time: Timestamp, ports: &[u16]) -> Vec<Event> {
    ports.iter().for_each(|&port| engine.handle_knock(&knock(source, time, port)));
    std::iter::from_fn(|| engine.poll_event()).collect()
}

fn opens(events: &[Event]) -> usize {
    let is_open = |event: &&Event| matches!(event.kind, EventKind::Open { .. } | EventKind::Extend { .. });
    events.iter().filter(is_open).inspect(|event| assert_eq!(event.kind.key().map(|key| &**key), Some("phone"))).count()
}

fn reasons(events: &[Event]) -> Vec<FailReason> {
    let reason = |event: &Event| match event.kind {
        EventKind::Fail { reason, .. } => Some(reason),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

fn whole(code: [u16; 2]) -> Vec<u16> {
    [FIXED, code].concat()
}

#[test]
fn the_codes_of_the_live_windows_open_once() {
    for (shown, is_live) in
        [(0, true), (29, true), (30, true), (59, true), (60, true), (89, true), (90, false), (120, false)]
    {
        let mut engine = engine();
        let events = send(&mut engine, host(1), at(45), &whole(code(at(shown))));
        assert_eq!(opens(&events), usize::from(is_live), "{shown}");
        let stages = events.iter().filter(|event| matches!(event.kind, EventKind::Stage { steps: 4, .. })).count();
        assert!(!is_live || stages == 4, "one line for each step: {events:?}");
        for second in if is_live { 45..200 } else { 45..60 } {
            let again = send(&mut engine, host(u32::try_from(second).unwrap()), at(second), &whole(code(at(shown))));
            assert_eq!(opens(&again), 0, "{shown}, {second}");
        }
    }
}

#[test]
fn each_window_has_a_code_that_opens() {
    let mut engine = engine();
    for window in 0..200 {
        let time = at(window * 30 + 15);
        assert_eq!(opens(&send(&mut engine, host(1), time, &whole(code(time)))), 1, "{window}");
    }
}

#[test]
fn an_attempt_survives_a_turn_as_long_as_its_window_lives() {
    let mut long = door();
    long.seq_timeout = Duration::from_secs(200);
    for (end, is_live) in [(29, true), (31, true), (59, true), (60, false), (95, false)] {
        let mut engine = Engine::new(&config(vec![long.clone()]));
        let [first, second] = code(at(5));
        send(&mut engine, host(1), at(5), &[FIXED[0], FIXED[1], first]);
        let events = send(&mut engine, host(1), at(end), &[second]);
        assert_eq!(opens(&events), usize::from(is_live), "{end}");
        let timeouts = events.iter().filter(|event| matches!(event.kind, EventKind::Timeout { stage: 3 })).count();
        assert_eq!(timeouts, usize::from(!is_live), "{end}: {events:?}");
    }
}

#[test]
fn repeated_packets_do_not_count() {
    let mut engine = engine();
    let [first, second] = code(at(5));
    let ports = [FIXED[0], FIXED[0], FIXED[1], FIXED[1], FIXED[1], first, first, first, second];
    assert_eq!(opens(&send(&mut engine, host(1), at(5), &ports)), 1);
    // A browser's second connection has another port and another sequence number.
    let time = at(65);
    let [first, second] = code(time);
    let mut knocks: Vec<_> = [FIXED[0], FIXED[1], first].map(|port| knock(host(1), time, port)).to_vec();
    let third = knocks[2];
    knocks.extend((1..5).map(|i| Knock { source_port: 40_000 + i, sequence_number: i.into(), ..third }));
    knocks.push(knock(host(1), time, second));
    engine.handle_knocks(&knocks);
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert_eq!((opens(&events), reasons(&events)), (1, vec![]));
    // Packets after the door has opened.
    assert_eq!(send(&mut engine, host(1), time, &[second, first, second]), []);
}

#[test]
fn a_wrong_digit_ends_the_attempt() {
    let [first, second] = code(at(5));
    let [wrong_first, wrong_second] = wrong(at(5));
    for ports in [
        &[wrong_first, first, second][..],
        &[first, wrong_second, second],
        &[first, wrong_first, second],
        &[second, first, second],
        &[wrong_second, first, second],
    ] {
        let mut engine = engine();
        let events = send(&mut engine, host(1), at(5), &[&FIXED[..], ports].concat());
        assert_eq!((opens(&events), reasons(&events)), (0, vec![FailReason::WrongPort]), "{ports:?}");
        assert_eq!(
            opens(&send(&mut engine, host(1), at(5), &whole([first, second]))),
            1,
            "the next attempt: {ports:?}"
        );
    }
}

#[test]
fn the_two_parts_must_be_of_one_code() {
    let mut engine = engine();
    let ([first, _], [_, second]) = (code(at(5)), code(at(35)));
    let events = send(&mut engine, host(1), at(5), &whole([first, second]));
    assert_eq!((opens(&events), reasons(&events)), (0, vec![FailReason::WrongPort]));
}

#[test]
fn packets_without_the_fixed_steps_are_no_codes() {
    let mut engine = engine();
    for _ in 0..50 {
        send(&mut engine, host(1), at(5), &wrong(at(5)));
        // After the first fixed step they end the attempt, and are no codes.
        let events = send(&mut engine, host(2), at(5), &[FIXED[0], wrong(at(5))[0], FIXED[1], wrong(at(5))[0]]);
        assert_eq!(reasons(&events), [FailReason::WrongPort]);
    }
    for source in [1, 2, 3] {
        let ports = if source == 1 { whole(code(at(5))) } else { whole(code(at(35))) };
        assert_eq!(opens(&send(&mut engine, host(source), at(5), &ports)), usize::from(source < 3));
    }
}

#[test]
fn other_protocols_and_flags_are_no_codes() {
    let mut engine = engine();
    let [first, second] = code(at(5));
    let [wrong, _] = wrong(at(5));
    let mut tcp = door();
    tcp.tcpflags.set = TcpFlags::SYN;
    engine.reload(&config(vec![tcp]), at(1));
    send(&mut engine, host(1), at(5), &FIXED);
    let udp = Knock { protocol: Protocol::Udp, flags: TcpFlags::NONE, ..knock(host(1), at(5), wrong) };
    engine.handle_knock(&udp);
    engine.handle_knock(&Knock { flags: TcpFlags::ACK, ..knock(host(1), at(5), wrong) });
    assert_eq!(opens(&send(&mut engine, host(1), at(5), &[first, second])), 1);
}

#[test]
fn three_wrong_codes_silence_the_source_until_the_window_ends() {
    let mut engine = engine();
    let [wrong, _] = wrong(at(5));
    for expected in [FailReason::WrongPort, FailReason::WrongPort, FailReason::Silenced] {
        assert_eq!(reasons(&send(&mut engine, host(1), at(5), &[FIXED[0], FIXED[1], wrong])), [expected]);
    }
    assert_eq!(send(&mut engine, host(1), at(29), &whole(code(at(5)))), []);
    assert_eq!(opens(&send(&mut engine, host(2), at(29), &whole(code(at(5))))), 1, "another source");
    assert_eq!(opens(&send(&mut engine, host(1), at(30), &whole(code(at(30))))), 1, "the next window");
}

#[test]
fn ten_wrong_codes_silence_the_door_until_the_window_ends() {
    let mut engine = engine();
    let [wrong, _] = wrong(at(5));
    // An attempt that began before goes on afterwards.
    send(&mut engine, host(100), at(20), &FIXED);
    for source in 0..10 {
        let events = send(&mut engine, host(source), at(20), &[FIXED[0], FIXED[1], wrong]);
        let expected = if source == 9 { FailReason::DoorSilenced } else { FailReason::WrongPort };
        assert_eq!(reasons(&events), [expected]);
    }
    assert_eq!(send(&mut engine, host(200), at(29), &whole(code(at(5)))), []);
    assert_eq!(send(&mut engine, host(100), at(29), &code(at(5))), []);
    assert_eq!(opens(&send(&mut engine, host(100), at(30), &code(at(5)))), 1);
    assert_eq!(opens(&send(&mut engine, host(200), at(30), &whole(code(at(30))))), 1);
}

/// Section "Codes" of `docs/security.md`.
#[test]
fn of_a_million_packets_of_an_attacker_ten_codes_count_in_a_window() {
    const PACKETS: u64 = 1_000_000;
    for sources in [1, 2, 7, 1000] {
        let mut engine = engine();
        let (mut random, mut codes, mut lines) = (7_u64, BTreeMap::<u64, u32>::new(), BTreeMap::<u64, u32>::new());
        let mut silenced = BTreeMap::<u64, u32>::new();
        for i in 0..PACKETS / 4 {
            // Ten windows.
            let time = Timestamp::from_nanos(at(0).as_nanos() + i * 300_000_000_000 / (PACKETS / 4));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let guess = ports(u32::try_from((random >> 32) % 1_000_000).unwrap());
            let source = host(u32::try_from((random >> 20) % sources).unwrap());
            for event in send(&mut engine, source, time, &whole(guess)) {
                let window = (event.time.as_nanos() - at(0).as_nanos()) / 30_000_000_000;
                match event.kind {
                    EventKind::Fail { reason, .. } => {
                        *codes.entry(window).or_default() += 1;
                        *lines.entry(window).or_default() += u32::from(reason == FailReason::DoorSilenced);
                        *silenced.entry(window).or_default() += u32::from(reason == FailReason::Silenced);
                    }
                    EventKind::Open { .. } => panic!("the attacker guessed {guess:?}"),
                    _ => {}
                }
            }
        }
        let limit = (3 * u32::try_from(sources).unwrap()).min(10);
        assert!(codes.len() == 10 && codes.values().all(|codes| *codes == limit), "{sources}: {codes:?}");
        assert!(lines.values().all(|lines| *lines == u32::from(limit == 10)), "{sources}: {lines:?}");
        assert!(
            silenced.values().all(|lines| *lines <= 3) && (sources > 1 || silenced.values().all(|lines| *lines == 1))
        );
        // The attack of a window does not keep the client out of the next one.
        assert_eq!(opens(&send(&mut engine, host(1 << 20), at(330), &whole(code(at(330))))), 1);
    }
}

/// Each value of the first digits has its own window, so that no limit matters.
#[test]
fn exactly_the_first_digits_of_live_codes_match() {
    let mut engine = engine();
    let mut found = 0;
    for first in 0..1000 {
        let time = at(30 + 90 * u64::from(first));
        let port = 21_000 + first;
        let events = send(&mut engine, host(first.into()), time, &[FIXED[0], FIXED[1], port]);
        let live = [first_second(time) - 30, first_second(time), first_second(time) + 30];
        let is_live = live.iter().any(|second| code(Timestamp::from_secs(*second))[0] == port);
        assert_eq!(reasons(&events).is_empty(), is_live, "{port}");
        found += u32::from(is_live);
    }
    assert!(found < 20, "{found} of about 3");
}

fn first_second(time: Timestamp) -> u64 {
    time.as_nanos() / 30_000_000_000 * 30
}

#[test]
fn a_reload_keeps_attempts_and_counts() {
    let mut engine = engine();
    let [wrong_first, _] = wrong(at(5));
    let [first, second] = code(at(5));
    for _ in 0..3 {
        send(&mut engine, host(1), at(5), &[FIXED[0], FIXED[1], wrong_first]);
    }
    send(&mut engine, host(2), at(5), &[FIXED[0], FIXED[1], first]);
    let other = Door { name: "other".into(), ..Door::new("other", None) };
    engine.reload(&config(vec![other, door()]), at(6));
    assert_eq!(send(&mut engine, host(1), at(6), &whole([first, second])), []);
    assert_eq!(opens(&send(&mut engine, host(2), at(7), &[second])), 1);
    // Another secret is another door.
    let mut changed = door();
    let secret = TotpSecret::generate().unwrap();
    changed.totp = Some(Arc::new(TotpKey { name: "phone".into(), secret: secret.clone(), digits: None }));
    send(&mut engine, host(3), at(8), &FIXED);
    engine.reload(&config(vec![changed]), at(8));
    let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert_eq!(reasons(&events), [FailReason::Reload]);
    let window = at(8).as_nanos() / 30_000_000_000;
    assert_eq!(opens(&send(&mut engine, host(1), at(9), &whole(ports(secret.code(window, 6))))), 1);
}

#[test]
fn without_a_secret_no_knock_is_one() {
    let mut engine = Engine::new(&config(vec![Door { totp: None, ..door() }]));
    assert_eq!(send(&mut engine, host(1), at(5), &whole(code(at(5)))), []);
}

#[test]
fn a_cooldown_applies_to_the_next_code() {
    let mut cooling = door();
    cooling.seq_cooldown = Some(Duration::from_secs(60));
    let mut engine = Engine::new(&config(vec![cooling]));
    assert_eq!(opens(&send(&mut engine, host(1), at(5), &whole(code(at(5))))), 1);
    assert_eq!(opens(&send(&mut engine, host(1), at(35), &whole(code(at(35))))), 0);
    assert_eq!(opens(&send(&mut engine, host(1), at(66), &whole(code(at(66))))), 1);
}

#[test]
fn other_doors_are_not_affected() {
    let text = "[plain]\nsequence = 9911,9222,9333\n";
    let plain = parse(text.as_bytes()).config.unwrap().doors.remove(0);
    let mut engine = Engine::new(&config(vec![plain, door()]));
    let [wrong, _] = wrong(at(5));
    for source in 0..20 {
        send(&mut engine, host(source), at(5), &[FIXED[0], FIXED[1], wrong]);
    }
    let events = send(&mut engine, host(1), at(6), &[9911, 9222, 9333]);
    assert!(events.iter().any(|event| matches!(event.kind, EventKind::Open { .. })), "{events:?}");
    // A port of the code is a wrong port for the other door.
    assert_eq!(reasons(&send(&mut engine, host(1), at(40), &[9911, wrong])), [FailReason::WrongPort]);
}
