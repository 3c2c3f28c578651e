//! Events of openings carry the ports and the closing time of the door, so that a receiver needs no configuration.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::IpAddr;

use portknock_core::config::parse;
use portknock_core::{Config, Engine, Knock, Protocol, TcpFlags, Timestamp};

const PORTS: &str = "[ssh]\nsequence = 7000:udp\nopen = tcp/22,udp/51820\ncmd_timeout = 10\n";

fn config(text: &str) -> Config {
    parse(text.as_bytes()).config.unwrap()
}

fn knock(engine: &mut Engine, second: u64, host: u8) {
    engine.handle_knock(&Knock {
        time: Timestamp::from_secs(second),
        source: [10, 0, 0, host].into(),
        destination: [10, 0, 0, 1].into(),
        port: 7000,
        protocol: Protocol::Udp,
        flags: TcpFlags::NONE,
        source_port: 40_000,
        sequence_number: 0,
    });
}

/// Every event except stages: its kind, ports and closing time in seconds.
fn events(engine: &mut Engine) -> Vec<(&'static str, String, Option<u64>)> {
    let events = std::iter::from_fn(|| engine.poll_event()).filter(|event| event.kind.as_str() != "stage");
    let seconds = |time: Timestamp| time.as_nanos() / 1_000_000_000;
    events
        .map(|event| {
            let ports: Vec<_> = event.ports().iter().map(ToString::to_string).collect();
            (event.kind.as_str(), ports.join(","), event.closes_at().map(seconds))
        })
        .collect()
}

fn shown(kind: &'static str, closes_at: u64) -> (&'static str, String, Option<u64>) {
    (kind, "tcp/22,udp/51820".to_owned(), Some(closes_at))
}

#[test]
fn each_event_of_an_opening_has_the_ports_and_the_closing_time() {
    let mut engine = Engine::new(&config(PORTS));
    knock(&mut engine, 1, 7);
    knock(&mut engine, 4, 7);
    assert_eq!(events(&mut engine), [shown("open", 11), shown("extend", 14)]);
    engine.handle_timeout(Timestamp::from_secs(20));
    assert_eq!(events(&mut engine), [shown("close", 14)]);
}

#[test]
fn a_door_that_closes_early_has_the_time_when_it_was_due() {
    let ip = IpAddr::from([10, 0, 0, 7]);
    let mut engine = Engine::new(&config(&format!("[options]\nMaxOpenings = 1\n{PORTS}")));
    knock(&mut engine, 1, 7);
    knock(&mut engine, 2, 8);
    assert_eq!(events(&mut engine), [shown("open", 11), shown("close", 11), shown("open", 12)]);
    engine.close("ssh", IpAddr::from([10, 0, 0, 8]), Timestamp::from_secs(3));
    assert_eq!(events(&mut engine), [shown("close", 12)]);
    knock(&mut engine, 4, 7);
    engine.close_all(Timestamp::from_secs(5));
    assert_eq!(events(&mut engine), [shown("open", 14), shown("close", 14)]);
    assert_eq!(engine.close("ssh", ip, Timestamp::from_secs(6)), 0);
}

#[test]
fn an_opening_keeps_its_ports_when_its_door_changes() {
    let mut engine = Engine::new(&config(PORTS));
    knock(&mut engine, 1, 7);
    engine.reload(&config(&PORTS.replace("tcp/22,udp/51820", "tcp/443")), Timestamp::from_secs(2));
    knock(&mut engine, 3, 8);
    engine.handle_timeout(Timestamp::from_secs(20));
    let other = |kind| (kind, "tcp/443".to_owned(), Some(13));
    assert_eq!(events(&mut engine), [shown("open", 11), other("open"), shown("close", 11), other("close")]);
}

#[test]
fn a_door_without_ports_has_none_and_one_that_stays_open_has_no_closing_time() {
    let mut engine = Engine::new(&config("[a]\nsequence = 7000:udp\nstart_command = x\n"));
    knock(&mut engine, 1, 7);
    assert_eq!(events(&mut engine), [("open", String::new(), None)]);
    let closes = "[a]\nsequence = 7000:udp\nstart_command = x\nstop_command = y\ncmd_timeout = 5\n";
    engine.reload(&config(closes), Timestamp::from_secs(1));
    knock(&mut engine, 2, 7);
    engine.handle_timeout(Timestamp::from_secs(9));
    assert_eq!(events(&mut engine), [("open", String::new(), Some(7)), ("close", String::new(), Some(7))]);
}
