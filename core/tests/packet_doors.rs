//! Doors with `packet = portknock`: which packets open them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use portknock_core::config::{Config, DEFAULT_PACKET_PORT, Door, OpenPort, PacketFormat};
use portknock_core::keys::{Key, NamedKey};
use portknock_core::spa::{self, PACKET_LENGTH, PacketContent};
use portknock_core::{Engine, Event, EventKind, LinkType, Protocol, RefusalReason, Timestamp};

/// The wall clock at the start of the tests.
const START: u64 = 1_800_000_000;

fn key(number: u8) -> Key {
    Key::from_bytes([number; 32])
}

fn door(name: &str, keys: std::ops::Range<u8>) -> Door {
    let named = |number| NamedKey { name: format!("client{number}").into(), key: key(number) };
    let ssh = OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::new(22).unwrap() };
    Door {
        packet: Some(PacketFormat::Portknock),
        keys: keys.map(named).collect(),
        open: [ssh].into(),
        cmd_timeout: Duration::from_secs(30),
        ..Door::new(name, None)
    }
}

fn engine(doors: Vec<Door>) -> Engine {
    Engine::new(&Config { doors, ..Config::default() })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START.saturating_add_signed(seconds))
}

fn content(time: Timestamp) -> PacketContent {
    PacketContent { time, address: None, seconds: 0, door: "ssh".into() }
}

fn host(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

/// An IP packet with a UDP datagram.
fn frame(source: IpAddr, destination: IpAddr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut udp = [4_000_u16.to_be_bytes(), port.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    udp.extend(payload);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
            packet[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            packet.extend(source.octets().into_iter().chain(destination.octets()));
            [packet, udp].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet.extend(source.octets().into_iter().chain(destination.octets()));
            [packet, udp].concat()
        }
        _ => unreachable!("both addresses have one IP version"),
    }
}

/// Feeds a packet from host 7, and returns the events.
fn feed(engine: &mut Engine, time: Timestamp, packet: &[u8]) -> Vec<Event> {
    feed_from(engine, time, host(7), packet)
}

fn feed_from(engine: &mut Engine, time: Timestamp, source: IpAddr, packet: &[u8]) -> Vec<Event> {
    engine.feed(LinkType::Raw, time, &frame(source, host(200), DEFAULT_PACKET_PORT.get(), packet));
    std::iter::from_fn(|| engine.poll_event()).collect()
}

fn is_open(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event.kind, EventKind::Open { .. } | EventKind::Extend { .. }))
}

fn refusal(events: &[Event]) -> Option<RefusalReason> {
    match events {
        [Event { kind: EventKind::Refused { reason, .. }, .. }] => Some(*reason),
        _ => None,
    }
}

#[test]
fn a_packet_opens_its_door_for_the_source_and_names_the_key() {
    let mut engine = engine(vec![door("other", 0..5), door("ssh", 0..5)]);
    let packet = spa::seal(&key(3), &content(at(0))).unwrap();
    let events = feed(&mut engine, at(1), &packet);
    let [Event { door, ip, kind: EventKind::Open { key: Some(key), opening: Some(opening), .. }, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((&**door, *ip, &**key), ("ssh", host(7), "client3"));
    assert_eq!(opening.closes_at, at(31));
}

#[test]
fn a_packet_opens_once_from_any_address() {
    let mut engine = engine(vec![door("ssh", 0..1), door("ssh", 0..1)]);
    let packet = spa::seal(&key(0), &content(at(0))).unwrap();
    assert!(is_open(&feed(&mut engine, at(0), &packet)));
    for time in 0..200 {
        for source in [7, 8] {
            let events = feed_from(&mut engine, at(time), host(source), &packet);
            assert!(!is_open(&events), "{time}: {events:?}");
        }
    }
    let config = Config { doors: vec![door("ssh", 0..2)], ..Config::default() };
    engine.reload(&config, at(200));
    engine.set_wall_clock(at(0), at(200));
    assert_eq!(refusal(&feed(&mut engine, at(200), &packet)), Some(RefusalReason::Replay), "the clock was set back");
}

#[test]
fn the_content_selects_address_door_and_time() {
    let mut engine = engine(vec![
        Door { allow: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()], ..door("ssh", 0..2) },
        door("web", 1..2),
    ]);
    let send = |engine: &mut Engine, number, content: PacketContent| {
        feed(engine, at(5), &spa::seal(&key(number), &content).unwrap())
    };
    let valid = || content(at(5));
    let address = |address: &str| Some(address.parse().unwrap());
    let events = send(&mut engine, 0, PacketContent { address: address("192.0.2.99"), seconds: 5, ..valid() });
    assert_eq!((events[0].ip, events[0].closes_at()), (host(99), Some(at(10))));
    let events = send(&mut engine, 0, PacketContent { address: address("2001:db8::1"), seconds: 9_999, ..valid() });
    assert_eq!(events[0].closes_at(), Some(at(35)), "not longer than cmd_timeout");
    for (number, wrong, reason) in [
        (0, PacketContent { address: address("198.51.100.1"), ..valid() }, RefusalReason::Address),
        (0, PacketContent { address: address("224.0.0.1"), ..valid() }, RefusalReason::Address),
        (0, PacketContent { door: "web".into(), ..valid() }, RefusalReason::UnknownDoor),
        (0, PacketContent { door: "none".into(), ..valid() }, RefusalReason::UnknownDoor),
    ] {
        assert_eq!(refusal(&send(&mut engine, number, wrong.clone())), Some(reason), "{wrong:?}");
    }
    assert!(is_open(&send(&mut engine, 1, PacketContent { door: "web".into(), ..valid() })));
}

#[test]
fn the_clock_of_the_client_may_differ_by_the_skew() {
    for offset in -200..=200_i64 {
        let mut engine = engine(vec![door("ssh", 0..1)]);
        let packet = spa::seal(&key(0), &content(at(offset))).unwrap();
        let events = feed(&mut engine, at(0), &packet);
        assert_eq!(is_open(&events), offset.abs() <= 60, "{offset}");
        if (61..=100).contains(&offset.abs()) {
            assert_eq!(refusal(&events), Some(RefusalReason::Clock(offset)), "{offset}");
        }
    }
}

#[test]
fn a_refused_packet_opens_nothing_later() {
    let allow = vec!["192.0.2.8/32".parse().unwrap()];
    let mut engine = engine(vec![Door { allow, ..door("ssh", 0..1) }]);
    let elsewhere = spa::seal(&key(0), &content(at(0))).unwrap();
    assert_eq!(refusal(&feed_from(&mut engine, at(0), host(7), &elsewhere)), Some(RefusalReason::Address));
    assert_eq!(refusal(&feed_from(&mut engine, at(1), host(8), &elsewhere)), Some(RefusalReason::Replay));
    let early = spa::seal(&key(0), &content(at(100))).unwrap();
    assert_eq!(refusal(&feed_from(&mut engine, at(2), host(8), &early)), Some(RefusalReason::Clock(98)));
    assert_eq!(refusal(&feed_from(&mut engine, at(100), host(8), &early)), Some(RefusalReason::Replay));
    assert!(is_open(&feed_from(&mut engine, at(101), host(8), &spa::seal(&key(0), &content(at(101))).unwrap())));
}

#[test]
fn a_shorter_time_is_one_of_a_few() {
    let mut engine = engine(vec![Door { cmd_timeout: Duration::from_secs(86_400), ..door("ssh", 0..1) }]);
    for (seconds, span) in [(1, 1_350), (1_350, 1_350), (1_351, 2_700), (86_399, 86_400), (u32::MAX, 86_400)] {
        let packet = spa::seal(&key(0), &PacketContent { seconds, ..content(at(0)) }).unwrap();
        assert_eq!(feed(&mut engine, at(0), &packet)[0].closes_at(), Some(at(span)), "{seconds}");
    }
}

#[test]
fn altered_packets_and_packets_of_other_keys_open_nothing() {
    let mut engine = engine(vec![door("ssh", 0..1)]);
    let packet = spa::seal(&key(0), &content(at(0))).unwrap();
    for at_byte in 0..PACKET_LENGTH {
        let mut altered = packet;
        altered[at_byte] ^= 1;
        assert_eq!(feed(&mut engine, at(0), &altered), [], "byte {at_byte}");
    }
    assert_eq!(feed(&mut engine, at(0), &spa::seal(&key(1), &content(at(0))).unwrap()), []);
    assert_eq!(engine.stats().bogus, PACKET_LENGTH as u64 + 1);
    let longer = [&packet[..], &[0]].concat();
    for other in [&packet[..95], &longer] {
        assert_eq!(feed(&mut engine, at(0), other), []);
    }
    assert!(is_open(&feed(&mut engine, at(0), &packet)));
}

#[test]
fn only_the_packet_port_receives_packets_over_both_ip_versions() {
    let port = |port| NonZeroU16::new(port).unwrap();
    let mut config = Config { doors: vec![door("ssh", 0..1)], ..Config::default() };
    config.options.packet_ports = vec![port(53)..=port(53), port(10_000)..=port(20_000)];
    let mut engine = Engine::new(&config);
    let (source, destination) = ("2001:db8::7".parse().unwrap(), "2001:db8::1".parse().unwrap());
    for (port, is_expected) in
        [(53, true), (54, false), (9_999, false), (10_000, true), (20_000, true), (20_001, false)]
    {
        for is_ipv6 in [false, true] {
            let packet = spa::seal(&key(0), &content(at(0))).unwrap();
            let (source, destination) = if is_ipv6 { (source, destination) } else { (host(7), host(200)) };
            engine.feed_all(LinkType::Raw, [(at(0), &frame(source, destination, port, &packet)[..])]);
            let events: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
            assert_eq!(is_open(&events), is_expected, "{port} {is_ipv6}");
        }
    }
}

#[test]
fn a_cooldown_and_the_key_memory_are_shared_with_time_sequences_of_the_door() {
    let mut engine = engine(vec![Door { seq_cooldown: Some(Duration::from_secs(20)), ..door("ssh", 0..2) }]);
    let send = |engine: &mut Engine, number, time| {
        feed(engine, at(time), &spa::seal(&key(number), &content(at(time))).unwrap())
    };
    assert!(is_open(&send(&mut engine, 0, 0)));
    assert_eq!(refusal(&send(&mut engine, 1, 10)), Some(RefusalReason::Cooldown));
    assert!(is_open(&send(&mut engine, 1, 20)));
}

#[test]
fn a_memory_of_bounded_size_refuses_what_it_has_forgotten() {
    let mut engine = engine(vec![door("ssh", 0..1)]);
    let packets: Vec<_> = (0..200).map(|second| spa::seal(&key(0), &content(at(second))).unwrap()).collect();
    for (second, packet) in (0..).zip(&packets) {
        assert!(is_open(&feed(&mut engine, at(second), packet)), "{second}");
    }
    for packet in &packets {
        assert!(!is_open(&feed(&mut engine, at(200), packet)));
    }
}
