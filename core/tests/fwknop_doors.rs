//! Doors with `packet = fwknop`: which packets open them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use data_encoding::BASE64_NOPAD;
use portknock_core::config::{Config, DEFAULT_PACKET_PORT, Door, OpenPort, PacketAddress, PacketFormat};
use portknock_core::fwknop::{FwknopKey, HmacDigest, seal_with};
use portknock_core::{Engine, Event, EventKind, LinkType, Protocol, RefusalReason, Timestamp};

/// The wall clock at the start of the tests.
const START: u64 = 1_800_000_000;

fn key(number: u8) -> FwknopKey {
    let user = (number == 9).then_some("bob");
    FwknopKey::new(&format!("client{number}"), user, &[number; 32], HmacDigest::Sha256, &[number; 64]).unwrap()
}

fn port(protocol: Protocol, number: u16) -> OpenPort {
    OpenPort { protocol, port: NonZeroU16::new(number).unwrap() }
}

fn door(name: &str, keys: &[u8], ports: &[u16]) -> Door {
    Door {
        packet: Some(PacketFormat::Fwknop),
        fwknop_keys: keys.iter().map(|number| key(*number)).collect(),
        open: ports.iter().map(|number| port(Protocol::Tcp, *number)).collect(),
        cmd_timeout: Duration::from_secs(30),
        start_command: Some("run %IP%".into()),
        ..Door::new(name, None)
    }
}

fn engine(doors: Vec<Door>) -> Engine {
    Engine::new(&Config { doors, ..Config::default() })
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(START.saturating_add_signed(seconds))
}

fn host(number: u8) -> IpAddr {
    [192, 0, 2, number].into()
}

/// A packet of this type, with this message and these fields after it.
fn packet(number: u8, seconds: i64, kind: &str, message: &str, behind: &str) -> Vec<u8> {
    let text = |text: &str| BASE64_NOPAD.encode(text.as_bytes());
    let time = START.saturating_add_signed(seconds);
    let salt = [number, seconds.to_be_bytes()[7], u8::try_from(message.len()).unwrap(), 0, 0, 0, 0, 0];
    let encoded = format!("1234567890123456:{}:{time}:3.0.0:{kind}:{}{behind}", text("alice"), text(message));
    seal_with(&key(number), &encoded, salt)
}

fn access(number: u8, seconds: i64, message: &str) -> Vec<u8> {
    packet(number, seconds, "1", message, "")
}

/// An IP packet with a UDP datagram.
fn frame(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let port = DEFAULT_PACKET_PORT.get();
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
fn feed(engine: &mut Engine, time: Timestamp, payload: &[u8]) -> Vec<Event> {
    engine.feed(LinkType::Raw, time, &frame(host(7), host(200), payload));
    std::iter::from_fn(|| engine.poll_event()).collect()
}

/// The door, the address and the key of a packet that opens a door.
fn opening(events: &[Event]) -> Option<(&str, IpAddr, &str)> {
    match events {
        [
            Event {
                door,
                ip,
                kind: EventKind::Open { key: Some(key), .. } | EventKind::Extend { key: Some(key), .. },
                ..
            },
        ] => Some((door, *ip, key)),
        _ => None,
    }
}

fn refusal(events: &[Event]) -> Option<RefusalReason> {
    match events {
        [Event { kind: EventKind::Refused { reason, .. }, .. }] => Some(*reason),
        _ => None,
    }
}

#[test]
fn a_packet_opens_the_door_of_its_ports_once() {
    let mut engine = engine(vec![door("web", &[1, 2], &[80, 443]), door("ssh", &[2, 3], &[22])]);
    for (number, message, expected) in [
        (1, "192.0.2.9,tcp/80", Ok(("web", host(9), "client1"))),
        (2, "0.0.0.0,tcp/443,tcp/80", Ok(("web", host(7), "client2"))),
        (2, "192.0.2.9,tcp/22", Ok(("ssh", host(9), "client2"))),
        (1, "192.0.2.9,tcp/22", Err(RefusalReason::Ports)),
        (2, "192.0.2.9,tcp/22,tcp/80", Err(RefusalReason::Ports)),
        (3, "192.0.2.9,udp/22", Err(RefusalReason::Ports)),
        (3, "224.0.0.1,tcp/22", Err(RefusalReason::Address)),
    ] {
        let payload = access(number, 0, message);
        let events = feed(&mut engine, at(1), &payload);
        match expected {
            Ok(expected) => assert_eq!(opening(&events), Some(expected), "{message}"),
            Err(reason) => assert_eq!(refusal(&events), Some(reason), "{message}"),
        }
        let again = feed(&mut engine, at(2), &payload);
        assert_eq!(opening(&again), None);
        assert_eq!(refusal(&again), Some(expected.err().unwrap_or(RefusalReason::Replay)), "{message}");
    }
    assert_eq!((engine.stats().knocks, engine.stats().bogus), (14, 0));
}

#[test]
fn a_packet_without_the_hmac_of_a_key_is_counted() {
    let mut engine = engine(vec![door("ssh", &[1], &[22])]);
    let payload = access(1, 0, "192.0.2.9,tcp/22");
    for at_byte in 0..payload.len() {
        let mut altered = payload.clone();
        altered[at_byte] ^= 1;
        assert_eq!(feed(&mut engine, at(1), &altered), []);
    }
    assert_eq!(feed(&mut engine, at(1), &access(2, 0, "192.0.2.9,tcp/22")), [], "another key");
    assert_eq!(feed(&mut engine, at(1), &payload[1..]), []);
    assert!(opening(&feed(&mut engine, at(1), &payload)).is_some());
    // Those with another first byte are no packets, and those that are cut are.
    let bogus = engine.stats().bogus;
    assert!((204..=206).contains(&bogus), "{bogus}");
}

#[test]
fn a_time_within_the_skew_is_accepted_and_the_packet_is_consumed_in_any_case() {
    for (seconds, is_accepted) in [(-61, false), (-60, true), (0, true), (60, true), (61, false)] {
        let mut engine = engine(vec![door("ssh", &[1], &[22])]);
        let payload = access(1, seconds, "192.0.2.9,tcp/22");
        let events = feed(&mut engine, at(0), &payload);
        assert_eq!(opening(&events).is_some(), is_accepted, "{seconds}");
        if !is_accepted {
            assert_eq!(refusal(&events), Some(RefusalReason::Clock(seconds)));
        }
        // At the time of the packet it would be acceptable.
        assert_eq!(opening(&feed(&mut engine, at(seconds.max(0)), &payload)), None, "{seconds}");
    }
}

#[test]
fn types_and_users_that_are_not_accepted_have_their_reasons() {
    let mut engine = engine(vec![door("ssh", &[1, 9], &[22])]);
    let message = "192.0.2.9,tcp/22";
    for (payload, expected) in [
        (packet(1, 1, "3", message, ":60"), None),
        (packet(1, 2, "0", "192.0.2.9,id", ""), Some(RefusalReason::Command)),
        (packet(1, 3, "2", message, ":MTkyLjAuMi43LDIy"), Some(RefusalReason::Nat)),
        (packet(1, 4, "7", message, ""), Some(RefusalReason::Malformed)),
        (packet(9, 5, "1", message, ""), Some(RefusalReason::User)),
    ] {
        let events = feed(&mut engine, at(0), &payload);
        assert_eq!((refusal(&events), opening(&events).is_some()), (expected, expected.is_none()), "{events:?}");
    }
}

#[test]
fn the_address_follows_the_rule_of_the_door_and_its_allow_list() {
    use PacketAddress::{Any, Required, Source};
    let six: IpAddr = "2001:db8::7".parse().unwrap();
    for (rule, message, source, expected) in [
        (Any, "0.0.0.0", host(7), Some(host(7))),
        (Any, "0.0.0.0", six, Some(six)),
        (Any, "192.0.2.9", six, Some(host(9))),
        (Any, "198.51.100.1", host(7), None),
        (Required, "0.0.0.0", host(7), None),
        (Required, "0.0.0.0", six, None),
        (Required, "192.0.2.9", host(7), Some(host(9))),
        (Source, "192.0.2.9", host(7), None),
        (Source, "192.0.2.7", host(7), Some(host(7))),
        (Source, "0.0.0.0", host(7), None),
        (Source, "192.0.2.7", six, None),
    ] {
        let allow = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
        let mut engine = engine(vec![Door { packet_address: rule, allow, ..door("ssh", &[1], &[22]) }]);
        let payload = access(1, 0, &format!("{message},tcp/22"));
        let destination = if source.is_ipv6() { "2001:db8::200".parse().unwrap() } else { host(200) };
        engine.feed(LinkType::Raw, at(0), &frame(source, destination, &payload));
        let events: Vec<Event> = std::iter::from_fn(|| engine.poll_event()).collect();
        assert_eq!(opening(&events).map(|(_, ip, _)| ip), expected, "{rule:?} {message} {source}");
        if expected.is_none() {
            assert_eq!(refusal(&events), Some(RefusalReason::Address));
        }
    }
}

#[test]
fn a_reload_keeps_the_record_of_accepted_packets() {
    let mut engine = engine(vec![door("ssh", &[1], &[22])]);
    let payload = access(1, 0, "192.0.2.9,tcp/22");
    assert!(opening(&feed(&mut engine, at(0), &payload)).is_some());
    engine.reload(&Config { doors: vec![door("other", &[2, 1], &[22, 80])], ..Config::default() }, at(1));
    assert_eq!(refusal(&feed(&mut engine, at(1), &payload)), Some(RefusalReason::Replay));
    assert!(opening(&feed(&mut engine, at(1), &access(1, 1, "192.0.2.9,tcp/22"))).is_some());
    engine.reload(&Config { doors: vec![door("other", &[2], &[22, 80])], ..Config::default() }, at(2));
    assert_eq!(feed(&mut engine, at(2), &access(1, 2, "192.0.2.9,tcp/22")), [], "the key is revoked");
}
