//! Doors that open for the network of the address that knocked.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::IpAddr;
use std::time::Duration;

use portknock_core::config::parse;
use portknock_core::{Config, Engine, EventKind, IpNet, Knock, Protocol, TcpFlags, Timestamp, parse_network};

/// A one-step door for each network, which opens and closes by commands.
const DOOR: &str = "[ssh]\nsequence = 7000:udp\ncommand = open %NET% %IP%\nstop_command = close %NET% %IP%\n\
                    open_prefix = 24,56\ncmd_timeout = 100\n";

fn config(text: &str) -> Config {
    parse(text.as_bytes()).config.unwrap()
}

struct Bench {
    engine: Engine,
    now: Timestamp,
}

impl Bench {
    fn new(text: &str) -> Self {
        Self { engine: Engine::new(&config(text)), now: Timestamp::from_secs(1_000) }
    }

    /// The effects of a knock at this port: the lines of the log, and the commands.
    fn knock_at(&mut self, source: &str, port: u16) -> Vec<String> {
        self.engine.handle_knock(&Knock {
            time: self.now,
            source: source.parse().unwrap(),
            destination: [192, 0, 2, 1].into(),
            port,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 40_000,
            sequence_number: 0,
        });
        self.reported()
    }

    fn knock(&mut self, source: &str) -> Vec<String> {
        self.knock_at(source, 7000)
    }

    fn wait(&mut self, secs: u64) -> Vec<String> {
        self.now = self.now.saturating_add(Duration::from_secs(secs));
        self.engine.handle_timeout(self.now);
        self.reported()
    }

    fn reported(&mut self) -> Vec<String> {
        let mut reported = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            if !matches!(event.kind, EventKind::Stage { .. }) {
                reported.push(event.to_string());
            }
            reported.extend(event.command_requests().map(|request| {
                assert_eq!(Some(request.net), event.net());
                request.command
            }));
        }
        reported
    }

    fn open(&self) -> Vec<String> {
        let mut open: Vec<_> =
            self.engine.openings().map(|opening| format!("{} {}", opening.net, opening.ip)).collect();
        open.sort_unstable();
        open
    }
}

#[test]
fn two_addresses_of_a_network_are_one_opening_with_the_commands_of_the_first() {
    for (first, second, net, outside) in [
        ("203.0.113.7", "203.0.113.200", "203.0.113.0/24", "203.0.112.7"),
        ("2001:db8:0:1201::7", "2001:db8:0:12ff::9", "2001:db8:0:1200::/56", "2001:db8:0:1300::7"),
    ] {
        let mut bench = Bench::new(DOOR);
        let (start, stop) = (format!("open {net} {first}"), format!("close {net} {first}"));
        assert_eq!(bench.knock(first), [format!("{first}: ssh: OPEN SESAME"), start.clone()]);
        bench.wait(60);
        assert_eq!(bench.knock(second), [format!("{second}: ssh: OPEN SESAME"), stop.clone(), start.clone()]);
        assert_eq!(bench.open(), [format!("{net} {first}")]);
        bench.knock(outside);
        assert_eq!(bench.engine.stats().openings, 2, "another network");
        // The closing time counts from the second knock.
        assert_eq!(bench.wait(99), [""; 0]);
        assert_eq!(bench.wait(1)[..2], [format!("{first}: ssh: command timeout"), stop]);
        assert_eq!(bench.knock(second)[1], format!("open {net} {second}"), "it is open no more");
    }
}

#[test]
fn without_a_stop_command_the_latest_address_counts() {
    let mut bench =
        Bench::new("[ssh]\nsequence = 7000:udp\nopen = tcp/22\nopen_prefix = 24\ncommand = log %IP% %NET%\n");
    assert_eq!(bench.knock("203.0.113.7")[1], "log 203.0.113.7 203.0.113.0/24");
    assert_eq!(bench.knock("203.0.113.8")[1], "log 203.0.113.8 203.0.113.0/24");
    assert_eq!(bench.open(), ["203.0.113.0/24 203.0.113.8"]);
    bench.knock("2001:db8::7");
    bench.knock("2001:db8::8");
    assert_eq!(
        bench.open()[..2],
        ["2001:db8::7/128 2001:db8::7", "2001:db8::8/128 2001:db8::8"],
        "IPv4 alone has a prefix"
    );
}

#[test]
fn a_door_opens_for_no_more_than_what_may_knock() {
    let mut bench = Bench::new(&format!("{DOOR}allow = 203.0.113.0/28,198.51.0.0/16,2001:db8::/64\n"));
    for source in ["203.0.113.7", "203.0.113.17", "198.51.100.7", "2001:db8::7"] {
        bench.knock(source);
    }
    let open = ["198.51.100.0/24 198.51.100.7", "2001:db8::/64 2001:db8::7", "203.0.113.0/28 203.0.113.7"];
    assert_eq!(bench.open(), open);
}

#[test]
fn networks_are_counted_and_not_addresses() {
    let mut bench = Bench::new(&format!("[options]\nMaxOpenings = 2\n{DOOR}"));
    for source in ["10.0.1.1", "10.0.2.1", "10.0.1.2", "10.0.2.2"] {
        assert!(bench.knock(source).iter().all(|line| !line.contains("closed early")), "{source}");
    }
    assert_eq!(bench.knock("10.0.3.1")[..2], ["10.0.1.1: ssh: closed early: full", "close 10.0.1.0/24 10.0.1.1"]);
}

#[test]
fn an_opening_is_closed_by_any_address_of_its_network_and_by_the_network() {
    let mut bench = Bench::new(DOOR);
    let net = |text: &str| parse_network(text).unwrap();
    for (named, count) in [
        ("203.0.113.99", 1),
        ("203.0.113.0/24", 1),
        ("203.0.113.128/25", 1),
        ("203.0.112.0/23", 0),
        ("203.0.112.7", 0),
        ("2001:db8::7", 0),
    ] {
        bench.knock("203.0.113.7");
        let now = bench.now;
        assert_eq!(bench.engine.close("ssh", net(named), now), count, "{named}");
        assert_eq!(bench.engine.close("other", net(named), now), 0);
        let reported = bench.reported();
        assert_eq!(reported.first().map(String::as_str), (count > 0).then_some("203.0.113.7: ssh: command timeout"));
        assert_eq!(bench.engine.stats().openings, 1 - count);
    }
    let ip = IpAddr::from([203, 0, 113, 1]);
    assert_eq!(bench.engine.close("ssh", ip, bench.now), 1, "an address as it is");
}

#[test]
fn a_cooldown_is_for_the_network() {
    let text = DOOR.replace("7000:udp", "7000:udp,8000:udp") + "seq_cooldown = 30\n";
    let mut bench = Bench::new(&text);
    let half = |bench: &mut Bench, source| assert_eq!(bench.knock_at(source, 7000), [""; 0]);
    for source in ["10.0.1.7", "10.0.1.8", "10.0.1.0", "10.0.2.7"] {
        half(&mut bench, source);
    }
    let reported = bench.knock_at("10.0.1.7", 8000);
    // The cooldown is kept under the first address.
    assert_eq!(reported[2..], ["10.0.1.0: ssh: attempt failed: reload (stage 1)"]);
    assert_eq!(bench.engine.stats().attempts, 3, "two attempts and the cooldown");
    for source in ["10.0.1.7", "10.0.1.8", "10.0.1.0", "10.0.1.99"] {
        half(&mut bench, source);
        assert_eq!(bench.knock_at(source, 8000), [""; 0], "{source}");
    }
    assert_eq!(bench.knock_at("10.0.2.7", 8000)[1], "open 10.0.2.0/24 10.0.2.7", "another network");
    // The attempt that was under way ends in its time.
    assert_eq!(bench.wait(29), ["10.0.1.8: ssh: sequence timeout (stage 1)"]);
    half(&mut bench, "10.0.1.99");
    assert_eq!(bench.knock_at("10.0.1.99", 8000), [""; 0]);
    bench.wait(1);
    half(&mut bench, "10.0.1.99");
    assert_eq!(bench.knock_at("10.0.1.99", 8000)[0], "10.0.1.99: ssh: OPEN SESAME");
}

#[test]
fn a_reload_that_changes_the_prefix_leaves_what_is_open_alone() {
    let mut bench = Bench::new(DOOR);
    bench.knock("203.0.113.7");
    let now = bench.now;
    bench.engine.reload(&config(&DOOR.replace("24,56", "28")), now);
    assert_eq!(bench.knock("203.0.113.7"), ["203.0.113.7: ssh: OPEN SESAME", "open 203.0.113.0/28 203.0.113.7"]);
    let nets: Vec<IpNet> = bench.engine.openings().map(|opening| opening.net).collect();
    assert_eq!(nets.len(), 2, "{nets:?}");
    assert_eq!(bench.engine.close("ssh", parse_network("203.0.113.1").unwrap(), now), 2);
}
