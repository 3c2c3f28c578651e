//! Packets: which of them open which door, for which address and how long, and why the others do not.

use std::thread::sleep;
use std::time::Duration;

use portknock_core::Timestamp;
use portknock_core::client_file::ClientFile;
use portknock_core::spa::{PacketContent, seal};
use portknock_tests::{Listener, PortState, Process, WAIT_TIMEOUT, wait_until};
use serde_json::Value;

use crate::{
    Datagram, Keyed, OPENED, events, now, opened, opens, packet, packet_client, send, to_server, wait_for_event,
};

/// A difference of 20 s between the clocks is too large.
const SKEW: &str = "[options]\n ClockSkew = 3\n";

#[test]
fn a_packet_opens_for_the_source_or_for_the_address_inside_and_no_longer_than_it_asks_for() {
    let names = ["v4", "v6", "inside", "short", "long"];
    let keyed = Keyed::new(&names.map(|name| packet_client(name, "ssh")));
    let _listener = Listener::start(&keyed.lab.server, 22);
    let daemon = keyed
        .start_again(&format!("{SKEW}[ssh]\n keys = %KEYS%\n packet = portknock\n open = tcp/22\n cmd_timeout = 30\n"));
    let follower = daemon.follow();
    let state = |host| keyed.lab.client.tcp_state(host, 22);
    for (name, args, ip, seconds) in [
        ("inside", "10.0.0.1 --address 10.0.0.9", "10.0.0.9", 30.0),
        ("v4", "10.0.0.1", "10.0.0.2", 30.0),
        ("v6", "fd00::1", "fd00::2", 30.0),
    ] {
        if name != "inside" {
            let host = args;
            assert_eq!(state(host), PortState::Closed, "{name}");
        }
        keyed.knocks(name, args);
        let key = format!(r#""key":"{name}""#);
        wait_for_event(&follower, &[r#""event":"open""#, &key]);
        let event = event(&follower, &key);
        assert_eq!((&event["door"], &event["ip"]), (&"ssh".into(), &ip.into()), "{event}");
        let span = event["closes_at"].as_f64().expect("a time") - event["time"].as_f64().expect("a time");
        assert!((span - seconds).abs() < 0.01, "{event}");
    }
    for host in ["10.0.0.1", "fd00::1"] {
        assert!(wait_until(WAIT_TIMEOUT, || state(host) == PortState::Open), "{host}");
    }
    // The time can only be shorter than that of the door.
    for (name, seconds, expected) in [("short", "2", 2.0), ("long", "100000", 30.0)] {
        let address = if name == "short" { "10.0.0.7" } else { "10.0.0.8" };
        keyed.knocks(name, &format!("10.0.0.1 --address {address} --seconds {seconds}"));
        let key = format!(r#""key":"{name}""#);
        wait_for_event(&follower, &[&key]);
        let event = event(&follower, &key);
        let span = event["closes_at"].as_f64().expect("a time") - event["time"].as_f64().expect("a time");
        assert!((span - expected).abs() < 0.01, "{event}");
    }
    wait_for_event(&follower, &[r#""event":"close""#, r#""ip":"10.0.0.7""#]);
}

/// The first event with this part.
fn event(follower: &Process, part: &str) -> Value {
    let output = follower.output();
    let line = output.lines().find(|line| line.contains(part)).expect("it was waited for");
    serde_json::from_str(line).expect("JSON")
}

#[test]
fn what_does_not_fit_the_door_is_refused_with_its_reason() {
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| packet_client(name, "door"));
    let keyed = Keyed::new(&[alice.clone(), bob.clone(), carol.clone()]);
    for address in ["10.0.0.3", "10.0.0.4"] {
        keyed.lab.client.add_address("eth0", &format!("{address}/24"));
    }
    keyed.lab.server.add_address("eth0", "10.0.0.77/24");
    keyed.lab.client.ok("ip neigh replace 10.0.0.77 lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
    let daemon = keyed.start_again(&format!(
        "{SKEW} PacketPort = 62201,40000-40010\n\
         [door]\n keys = %KEYS%\n packet = portknock\n allow = 10.0.0.2,10.0.0.3,fd00::/64\n {OPENED}\
         [second]\n keys = %KEYS%\n packet = portknock\n start_command = echo second %IP% >> %DIR%/opened\n\
         [other]\n keys = %KEYS%\n packet = portknock\n target = 10.0.0.77\n \
         start_command = echo other %IP% >> %DIR%/opened\n"
    ));
    let follower = daemon.follow();
    let client = &keyed.lab.client;
    let content = |door: &str, time: Timestamp, address: Option<[u8; 4]>| {
        let content = PacketContent { time, address: address.map(Into::into), seconds: 0, door: door.to_owned() };
        move |client: &ClientFile| seal(&client.shared_key(), &content).expect("a packet")
    };
    let mut refused = 0;
    let mut refuses = |bytes: [u8; 96], from: &str, reason: &str| {
        send(client, &[to_server(from, &bytes)], 1);
        refused += 1;
        let part = format!(r#""reason":"{reason}""#);
        let reached = wait_until(WAIT_TIMEOUT, || events(&follower, &[r#""event":"refused""#]) == refused);
        let output = follower.output();
        let last = output.lines().last().unwrap_or_default();
        assert!(reached && last.contains(&part) && last.contains(r#""key":"#), "{reason}:\n{output}");
    };
    let (past, future) = (Duration::from_secs(20), Duration::from_secs(20));
    let before = || Timestamp::from_nanos(now().as_nanos() - u64::try_from(past.as_nanos()).expect("20 s"));
    refuses(content("door2", now(), None)(&alice), "10.0.0.2", "unknown-door");
    refuses(content("Door", now(), None)(&alice), "10.0.0.2", "unknown-door");
    refuses(content("other", now(), None)(&alice), "10.0.0.2", "unknown-door");
    refuses(content("door", now(), None)(&alice), "10.0.0.4", "address");
    refuses(content("door", now(), Some([10, 0, 0, 4]))(&bob), "10.0.0.2", "address");
    refuses(content("door", now(), Some([127, 0, 0, 1]))(&bob), "10.0.0.2", "address");
    refuses(content("door", before(), None)(&carol), "10.0.0.2", "clock");
    refuses(content("door", now().saturating_add(future), None)(&carol), "10.0.0.2", "clock");
    let offsets: Vec<i64> = follower
        .output()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["offset"].as_i64())
        .collect();
    assert!(matches!(offsets[..], [-22..=-19, 18..=20]), "{offsets:?}");
    assert_eq!(opened(&daemon), [""; 0]);

    // Each door by its own name, at every port of the list, and at its own target.
    let mut count = 0;
    for (port, is_open) in [(62_201, true), (40_000, true), (40_010, true), (40_011, false), (62_200, false)] {
        let bytes = packet(&alice, now());
        send(client, &[Datagram { port, ..to_server("10.0.0.3", &bytes) }], 1);
        count += usize::from(is_open);
        if !is_open {
            sleep(Duration::from_millis(300));
        }
        opens(&daemon, count);
    }
    for (bytes, from, to, line) in [
        (content("second", now(), None)(&bob), "10.0.0.4", "10.0.0.1", "second 10.0.0.4"),
        (content("other", now(), None)(&bob), "10.0.0.2", "10.0.0.77", "other 10.0.0.2"),
        (content("door", now(), None)(&bob), "fd00::2", "fd00::1", "bob fd00::2"),
    ] {
        send(client, &[Datagram { to, ..to_server(from, &bytes) }], 1);
        count += 1;
        opens(&daemon, count);
        assert_eq!(opened(&daemon).last().map(String::as_str), Some(line));
    }
    let status = daemon.status_json();
    let counts = status["doors"].as_array().expect("doors").iter().map(|door| door["refused"].clone());
    let total: u64 = counts
        .map(|refused| refused.as_object().expect("counts").values().filter_map(Value::as_u64).sum::<u64>())
        .sum();
    assert_eq!(total, refused as u64, "{status}");
}
