//! The rules of matching and opening (`docs/semantics.md`) one by one. Each test is named after its
//! rule.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use portknock_core::config::parse_sequence;
use portknock_core::{
    Config, Door, DoorId, Engine, FlagMask, Knock, LocalAddresses, OpenPort, Protocol, Sequence, TcpFlags, Timestamp,
};

const SERVER: [u8; 4] = [192, 0, 2, 1];

fn sequence(text: &str) -> Sequence {
    parse_sequence(text).unwrap()
}

fn door(name: &str, steps: &str) -> Door {
    let mut door = Door::new(name, Some(sequence(steps)));
    door.tcpflags = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::NONE };
    door.start_command = Some("open %IP%".into());
    door
}

/// An engine with a clock, which describes events in short lines.
struct Bench {
    engine: Engine,
    now: Timestamp,
    segment: u32,
}

impl Bench {
    fn new(doors: Vec<Door>) -> Self {
        Self::with(Config { doors, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let mut engine = Engine::new(&config);
        engine.set_local_addresses(LocalAddresses::Only(HashSet::from([SERVER.into()])));
        Self { engine, now: Timestamp::from_secs(1000), segment: 0 }
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.engine.poll_event()).map(|event| event.to_string()).collect()
    }

    fn wait(&mut self, span: Duration) -> Vec<String> {
        self.now = self.now.saturating_add(span);
        self.engine.handle_timeout(self.now);
        self.events()
    }

    fn knock(&mut self, source: &str, port: u16) -> Vec<String> {
        self.segment += 1;
        self.send(&self.packet(source, port, Protocol::Tcp, TcpFlags::SYN))
    }

    fn packet(&self, source: &str, port: u16, protocol: Protocol, flags: TcpFlags) -> Knock {
        Knock {
            time: self.now,
            source: source.parse().unwrap(),
            destination: SERVER.into(),
            port,
            protocol,
            flags,
            source_port: 40_000,
            sequence_number: self.segment,
        }
    }

    fn send(&mut self, knock: &Knock) -> Vec<String> {
        self.engine.handle_knock(knock);
        self.events()
    }
}

#[test]
fn a_knock_at_exactly_seq_timeout_is_too_late() {
    let mut timed = door("ssh", "7000,8000");
    timed.seq_timeout = Duration::from_secs(5);
    let mut bench = Bench::new(vec![timed]);
    bench.knock("10.0.0.9", 7000);
    bench.now = bench.now.saturating_add(Duration::from_nanos(4_999_999_999));
    assert_eq!(bench.knock("10.0.0.9", 8000), ["10.0.0.9: ssh: Stage 2", "10.0.0.9: ssh: OPEN SESAME"]);

    bench.knock("10.0.0.9", 7000);
    bench.now = bench.now.saturating_add(Duration::from_secs(5));
    assert_eq!(bench.knock("10.0.0.9", 8000), ["10.0.0.9: ssh: sequence timeout (stage 1)"]);
}

#[test]
fn a_timeout_is_due_on_a_quiet_link_to_the_nanosecond() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000")]);
    assert_eq!(bench.engine.poll_timeout(), None);
    bench.knock("10.0.0.9", 7000);
    let due = bench.now.saturating_add(Duration::from_secs(25));
    assert_eq!(bench.engine.poll_timeout(), Some(due));
    assert!(bench.wait(Duration::from_nanos(24_999_999_999)).is_empty());
    assert_eq!(bench.wait(Duration::from_nanos(1)), ["10.0.0.9: ssh: sequence timeout (stage 1)"]);
}

#[test]
fn one_source_never_touches_the_attempt_of_another() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000,9000")]);
    bench.knock("10.0.0.1", 7000);
    bench.wait(Duration::from_secs(20));
    bench.knock("10.0.0.2", 7000);
    bench.knock("10.0.0.2", 9000);
    bench.knock("10.0.0.3", 7000);
    assert_eq!(bench.wait(Duration::from_secs(6)), ["10.0.0.1: ssh: sequence timeout (stage 1)"]);
    bench.knock("10.0.0.3", 8000);
    assert_eq!(bench.knock("10.0.0.3", 9000).len(), 2);
}

#[test]
fn a_retransmitted_segment_counts_once_even_if_ports_repeat() {
    let mut bench = Bench::new(vec![door("ssh", "7000,7000")]);
    let first = bench.packet("10.0.0.9", 7000, Protocol::Tcp, TcpFlags::SYN);
    assert_eq!(bench.send(&first), ["10.0.0.9: ssh: Stage 1"]);
    assert!(bench.send(&first).is_empty());
    assert_eq!(bench.knock("10.0.0.9", 7000).len(), 2);
}

#[test]
fn a_packet_without_the_required_flags_is_ignored() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000")]);
    bench.knock("10.0.0.9", 7000);
    let other = bench.packet("10.0.0.9", 7000, Protocol::Tcp, TcpFlags::ACK);
    assert!(bench.send(&other).is_empty());
    assert_eq!(bench.knock("10.0.0.9", 8000).len(), 2);
}

#[test]
fn a_packet_that_no_door_accepts_at_its_port_neither_advances_nor_ends_an_attempt() {
    let ack = TcpFlags::ACK;
    for (protocol, steps) in [(Protocol::Udp, "7001:udp,9002:udp,8003:udp"), (Protocol::Tcp, "7001,9002,8003")] {
        let mut admin = door("admin", steps);
        admin.tcpflags = FlagMask::default();
        let mut fin = door("fin", "22");
        fin.tcpflags = FlagMask { set: TcpFlags::FIN, clear: TcpFlags::NONE };
        let mut elsewhere = door("elsewhere", "23");
        elsewhere.target = Some([192, 0, 2, 9].into());
        let mut others = door("others", "24");
        others.allow = vec!["198.51.100.0/24".parse().unwrap()];
        let mut bench = Bench::new(vec![admin, fin, elsewhere, others]);
        let mut send = |port, protocol, flags| {
            bench.segment += 1;
            bench.send(&bench.packet("10.0.0.9", port, protocol, flags))
        };
        let mut reported = Vec::new();
        for port in [7001, 9002, 8003] {
            reported.extend(send(port, protocol, ack));
            // A session that uses ports of doors with other flags, another destination, or another
            // source.
            for other in [22, 23, 24] {
                reported.extend(send(other, Protocol::Tcp, ack));
                reported.extend(send(other, Protocol::Tcp, ack | TcpFlags::PSH));
            }
        }
        let stages = [1, 2, 3].map(|stage| format!("10.0.0.9: admin: Stage {stage}"));
        assert_eq!(reported[..3], stages);
        assert_eq!(reported[3..], ["10.0.0.9: admin: OPEN SESAME"]);
        // The end of a session has the flags of this door, so it is seen.
        send(7001, protocol, ack);
        let reported = send(22, Protocol::Tcp, TcpFlags::FIN | ack);
        assert_eq!(reported[0], "10.0.0.9: admin: attempt failed: wrong-port (stage 1)");
        assert_eq!(reported[1..], ["10.0.0.9: fin: Stage 1", "10.0.0.9: fin: OPEN SESAME"]);
    }
}

#[test]
fn the_scan_guard_counts_packets_that_would_be_knocks_for_the_attempts_door_at_another_port() {
    // At a port that no door uses, and at a port of a door that does not accept the segment.
    let counted = |tcpflags: FlagMask, steps: &str, protocol, flags, first: u16| {
        let mut guarded = door("guarded", steps);
        guarded.tcpflags = tcpflags;
        let other = door("other", "100,101,102,103,104,105,106,107,108,109");
        let mut bench = Bench::new(vec![guarded, other]);
        let step: Vec<&str> = steps.split([',', ':']).collect();
        let protocol_of_step = if step[1] == "udp" { Protocol::Udp } else { Protocol::Tcp };
        bench.send(&bench.packet("10.0.0.9", step[0].parse().unwrap(), protocol_of_step, tcpflags.set));
        let reported: Vec<_> =
            (first..first + 9).flat_map(|port| bench.send(&bench.packet("10.0.0.9", port, protocol, flags))).collect();
        reported.iter().any(|reported| reported.contains("guarded: attempt failed: scan"))
    };
    let mask = |set, clear| FlagMask { set, clear };
    let (syn, ack, fin, none) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::NONE);
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    for (first, is_others) in [(40_000, false), (100, true)] {
        assert!(counted(mask(fin, none), "7000,8000", tcp, fin | ack, first));
        assert!(counted(mask(ack, none), "7000,8000", tcp, syn | ack, first));
        assert!(counted(mask(TcpFlags::RST, none), "7000,8000", tcp, TcpFlags::RST, first));
        assert!(counted(mask(none, none), "7000,8000", tcp, ack, first));
        assert!(counted(mask(none, none), "7000,8000", tcp, none, first));
        assert!(counted(mask(none, none), "7000:udp,8000", tcp, ack, first));
        assert!(counted(mask(none, none), "7000:udp,8000:udp", udp, none, first));
        assert_eq!(counted(mask(syn, ack), "7000,8000", tcp, syn, first), !is_others, "a wrong port fails immediately");
        assert!(!counted(mask(none, none), "7000,8000", tcp, syn | ack, first), "an answer");
        assert!(!counted(mask(none, none), "7000,8000", tcp, TcpFlags::RST | ack, first), "an answer");
        assert!(!counted(mask(syn, none), "7000,8000", tcp, syn | ack, first), "an answer");
        assert!(!counted(mask(none, none), "7000:udp,8000:udp", tcp, ack, first), "no step uses TCP");
        assert!(!counted(mask(none, none), "7000,8000", udp, none, first), "no step uses UDP");
    }
}

#[test]
fn a_rising_scan_opens_no_door_but_the_sequence_alone_does() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000,9000"), door("narrow", "100,110,120")]);
    let reported: Vec<_> = (1..=10_000).flat_map(|port| bench.knock("10.0.0.9", port)).collect();
    assert_eq!(
        reported,
        [
            "10.0.0.9: narrow: Stage 1",
            "10.0.0.9: narrow: attempt failed: scan (stage 1)",
            "10.0.0.9: ssh: Stage 1",
            "10.0.0.9: ssh: attempt failed: scan (stage 1)",
        ]
    );
    for port in [7000, 8000] {
        bench.knock("10.0.0.9", port);
    }
    assert_eq!(bench.knock("10.0.0.9", 9000)[1], "10.0.0.9: ssh: OPEN SESAME");
}

#[test]
fn answers_to_the_hosts_own_traffic_are_no_scan() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000")]);
    bench.knock("10.0.0.9", 7000);
    for port in 40_000..40_100 {
        bench.segment += 1;
        let answer = bench.packet("10.0.0.9", port, Protocol::Tcp, TcpFlags::SYN | TcpFlags::ACK);
        assert!(bench.send(&answer).is_empty());
    }
    assert_eq!(bench.knock("10.0.0.9", 8000).len(), 2);
}

#[test]
fn a_flood_of_first_knocks_evicts_no_attempt_at_a_later_stage() {
    let mut config = Config { doors: vec![door("ssh", "7000,8000,9000")], ..Config::default() };
    config.options.max_attempts = 100;
    let mut bench = Bench::with(config);
    bench.knock("10.0.0.9", 7000);
    bench.knock("10.0.0.9", 8000);
    for host in 0..=u16::MAX {
        bench.knock(&IpAddr::from([172, 16, host.to_be_bytes()[0], host.to_be_bytes()[1]]).to_string(), 7000);
    }
    let stats = bench.engine.stats();
    assert_eq!((stats.attempts, stats.evicted), (100, 65_536 - 99));
    assert_eq!(bench.knock("10.0.0.9", 9000)[1], "10.0.0.9: ssh: OPEN SESAME");
}

#[test]
fn a_table_full_of_attempts_at_later_stages_refuses_newcomers() {
    let mut config = Config { doors: vec![door("ssh", "7000,8000,9000")], ..Config::default() };
    config.options.max_attempts = 2;
    let mut bench = Bench::with(config);
    for source in ["10.0.0.1", "10.0.0.2"] {
        bench.knock(source, 7000);
        bench.knock(source, 8000);
    }
    assert!(bench.knock("10.0.0.3", 7000).is_empty());
    assert_eq!(bench.engine.stats().refused, 1);
    assert_eq!(bench.knock("10.0.0.1", 9000).len(), 2);
    assert_eq!(bench.knock("10.0.0.3", 7000), ["10.0.0.3: ssh: Stage 1"]);
}

#[test]
fn a_flood_of_attempts_at_later_stages_of_one_door_keeps_no_host_out_of_another() {
    let mut config =
        Config { doors: vec![door("ssh", "7000,8000,9000"), door("web", "7001,8001,9001")], ..Config::default() };
    config.options.max_attempts = 100;
    let mut bench = Bench::with(config);
    let other = |host: u16| IpAddr::from([172, 16, host.to_be_bytes()[0], host.to_be_bytes()[1]]).to_string();
    let flood = |bench: &mut Bench, hosts: std::ops::Range<u16>| {
        hosts.for_each(|host| {
            bench.knock(&other(host), 7000);
            bench.knock(&other(host), 8000);
        });
    };
    // A client that knows the sequence of one door fills the table with attempts at two steps.
    flood(&mut bench, 0..200);
    assert_eq!((bench.engine.stats().attempts, bench.engine.stats().refused), (100, 100));
    for round in 1..=5_u16 {
        assert_eq!(
            bench.knock("10.0.0.9", 7001),
            [format!("{}: ssh: attempt failed: full (stage 2)", other(round - 1)), "10.0.0.9: web: Stage 1".to_owned()]
        );
        flood(&mut bench, round * 1_000..round * 1_000 + 200);
        bench.knock("10.0.0.9", 8001);
        flood(&mut bench, round * 1_000..round * 1_000 + 200);
        assert_eq!(bench.knock("10.0.0.9", 9001)[1], "10.0.0.9: web: OPEN SESAME", "{round}");
        flood(&mut bench, round * 1_000 + 500..round * 1_000 + 501);
    }
}

#[test]
fn two_floods_share_the_table_and_first_knocks_evict_no_attempt_at_a_later_stage() {
    let mut config =
        Config { doors: vec![door("ssh", "7000,8000,9000"), door("web", "7001,8001,9001")], ..Config::default() };
    config.options.max_attempts = 100;
    let mut bench = Bench::with(config);
    let other = |host: u16| IpAddr::from([172, 16, host.to_be_bytes()[0], host.to_be_bytes()[1]]).to_string();
    for port in [7000, 8000] {
        (0..10).for_each(|host| drop(bench.knock(&other(host), port)));
    }
    for host in 10..1_000 {
        bench.knock(&other(host), 7001);
    }
    for host in 1_000..2_000 {
        bench.knock(&other(host), 7000);
    }
    for host in 0..10 {
        assert_eq!(bench.knock(&other(host), 9000)[1], format!("{}: ssh: OPEN SESAME", other(host)));
    }
    let is_here = |reported: Vec<String>| reported.iter().any(|reported| reported.contains("web: Stage 2"));
    let at_web = (10..1_000).filter(|&host| is_here(bench.knock(&other(host), 8001))).count();
    assert_eq!(at_web, 50, "attempts at the other door, its fair share");
}

#[test]
fn an_open_door_is_opened_again_and_closed_once() {
    let mut timed = door("ssh", "7000,8000");
    timed.stop_command = Some("close %IP%".into());
    timed.cmd_timeout = Duration::from_secs(10);
    let mut bench = Bench::new(vec![timed]);
    bench.knock("10.0.0.9", 7000);
    bench.knock("10.0.0.9", 8000);
    bench.wait(Duration::from_secs(6));
    bench.knock("10.0.0.9", 7000);
    bench.segment += 1;
    bench.engine.handle_knock(&bench.packet("10.0.0.9", 8000, Protocol::Tcp, TcpFlags::SYN));
    let events: Vec<_> = std::iter::from_fn(|| bench.engine.poll_event()).collect();
    assert_eq!(events[1].to_string(), "10.0.0.9: ssh: OPEN SESAME");
    let commands: Vec<_> = events[1].command_requests().map(|request| request.command).collect();
    assert_eq!(commands, ["close 10.0.0.9", "open 10.0.0.9"]);
    assert!(bench.wait(Duration::from_nanos(9_999_999_999)).is_empty());
    assert_eq!(bench.wait(Duration::from_nanos(1)), ["10.0.0.9: ssh: command timeout"]);
    assert!(bench.wait(Duration::from_secs(100)).is_empty());
}

#[test]
fn ipv6_sources_get_their_own_commands_and_an_empty_one_means_nothing() {
    let mut both = door("ssh", "7000,8000");
    both.stop_command = Some("close %IP%".into());
    both.start_command_6 = Some("open6 %IP%".into());
    both.stop_command_6 = Some(String::new());
    let mut bench = Bench::new(vec![both]);
    bench.engine.set_local_addresses(LocalAddresses::Any);
    bench.knock("2001:db8::9", 7000);
    bench.segment += 1;
    bench.engine.handle_knock(&bench.packet("2001:db8::9", 8000, Protocol::Tcp, TcpFlags::SYN));
    let commands: Vec<_> = std::iter::from_fn(|| bench.engine.poll_event())
        .flat_map(|event| event.command_requests().collect::<Vec<_>>())
        .collect();
    assert_eq!(commands.len(), 1);
    assert_eq!(commands[0].command, "open6 2001:db8::9");
    assert_eq!(bench.engine.stats().openings, 0);
}

#[test]
fn a_door_that_runs_nothing_to_open_has_nothing_to_close() {
    let mut closing = door("ssh", "7000");
    closing.start_command = None;
    closing.stop_command = Some("close %IP%".into());
    let mut bench = Bench::new(vec![closing]);
    assert_eq!(bench.knock("10.0.0.9", 7000), ["10.0.0.9: ssh: Stage 1", "10.0.0.9: ssh: OPEN SESAME"]);
    assert_eq!(bench.engine.stats().openings, 0);
    assert!(bench.wait(Duration::from_secs(100)).is_empty());
}

#[test]
fn a_door_that_opens_ports_needs_no_command_to_open_to_extend_and_to_close() {
    let port = OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::new(22).unwrap() };
    let mut ports = door("ssh", "7000");
    ports.start_command = None;
    ports.open = [port].into();
    let mut bench = Bench::new(vec![ports.clone()]);
    let stage = "10.0.0.9: ssh: Stage 1";
    assert_eq!(bench.knock("10.0.0.9", 7000), [stage, "10.0.0.9: ssh: OPEN SESAME"]);
    assert_eq!(bench.engine.openings().map(|opening| opening.open.to_vec()).collect::<Vec<_>>(), [[port]]);
    bench.wait(Duration::from_secs(9));
    assert_eq!(bench.knock("10.0.0.9", 7000)[1], "10.0.0.9: ssh: still open, closing time extended");
    assert_eq!(bench.wait(Duration::from_secs(10)), ["10.0.0.9: ssh: command timeout"]);

    // If the door also has a stop command, that command is run, although no start command was.
    ports.stop_command = Some("close %IP%".into());
    bench.engine.reload(&Config { doors: vec![ports], ..Config::default() }, Timestamp::default());
    bench.knock("10.0.0.9", 7000);
    bench.engine.close_all(Timestamp::default());
    let events: Vec<_> = std::iter::from_fn(|| bench.engine.poll_event()).collect();
    let commands: Vec<_> = events.iter().flat_map(|event| event.command_requests()).collect();
    assert_eq!(commands[0].command, "close 10.0.0.9");
}

#[test]
fn doors_that_open_ports_share_the_kernels_set() {
    let port = |port| OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::new(port).unwrap() };
    let many = |first: u16| -> Vec<OpenPort> { (first..first + 16_384).map(port).collect() };
    let mut wide = door("wide", "7000");
    (wide.start_command, wide.open) = (None, many(1).into());
    let mut other = door("other", "8000");
    (other.start_command, other.open) = (None, many(20_000).into());
    let mut commands = door("commands", "9000");
    commands.stop_command = Some("close %IP%".into());
    let mut bench = Bench::new(vec![wide, other, commands]);
    // 131,072 elements for 32,768 ports.
    for host in 1..=6 {
        for port in [7000, 8000, 9000] {
            bench.knock(&format!("10.0.0.{host}"), port);
        }
    }
    let count = |door: &str| bench.engine.openings().filter(|opening| &*opening.door == door).count();
    assert_eq!((count("wide"), count("other"), count("commands")), (4, 4, 6));
}

#[test]
fn beyond_max_openings_the_oldest_of_the_same_door_closes() {
    let config = |max_openings| {
        let mut first = door("first", "7000");
        first.stop_command = Some("close %IP%".into());
        let second = Door { name: "second".into(), sequence: door("x", "8000").sequence, ..first.clone() };
        let mut config = Config { doors: vec![first, second], ..Config::default() };
        config.options.max_openings = max_openings;
        config
    };
    let mut bench = Bench::with(config(2));
    bench.knock("10.0.0.9", 8000);
    bench.knock("10.0.0.1", 7000);
    bench.knock("10.0.0.2", 7000);
    // A further knock makes the first attempt the younger of the two.
    bench.knock("10.0.0.1", 7000);
    assert_eq!(
        bench.knock("10.0.0.3", 7000),
        ["10.0.0.3: first: Stage 1", "10.0.0.2: first: closed early: full", "10.0.0.3: first: OPEN SESAME"]
    );
    assert_eq!(bench.engine.stats().openings, 3);
    bench.engine.reload(&config(1), Timestamp::default());
    assert_eq!(bench.engine.stats().openings, 3, "openings survive a reload");
    assert_eq!(bench.knock("10.0.0.4", 7000).len(), 4, "now both go");
}

#[test]
fn an_ipv4_mapped_source_in_an_ipv6_packet_does_not_count() {
    let mut bench = Bench::new(vec![door("ssh", "7000")]);
    assert!(bench.knock("::ffff:10.0.0.9", 7000).is_empty());
    assert_eq!(bench.knock("10.0.0.9", 7000).len(), 2);
}

#[test]
fn a_one_time_door_waits_for_its_next_sequence_and_drops_the_others() {
    let mut one_time = door("ssh", "7000,8000");
    one_time.one_time_sequences = Some("/etc/sequences".into());
    let mut bench = Bench::new(vec![door("other", "7000,9000"), one_time]);
    bench.knock("10.0.0.1", 7000);
    bench.knock("10.0.0.2", 7000);
    let reported = bench.knock("10.0.0.1", 8000);
    assert_eq!(reported[0], "10.0.0.1: other: attempt failed: wrong-port (stage 1)");
    assert_eq!(reported[1..3], ["10.0.0.1: ssh: Stage 2", "10.0.0.1: ssh: OPEN SESAME"]);
    assert_eq!(reported[3], "10.0.0.2: ssh: attempt failed: reload (stage 1)");
    assert_eq!(reported.len(), 4);
    assert_eq!(bench.knock("10.0.0.3", 7000), ["10.0.0.3: other: Stage 1"]);

    bench.engine.set_sequence(DoorId(1), Some(sequence("1234,5678")));
    bench.knock("10.0.0.3", 1234);
    assert_eq!(bench.knock("10.0.0.3", 5678)[1], "10.0.0.3: ssh: OPEN SESAME");
}

#[test]
fn one_time_doors_that_one_knock_opens_drop_the_others_in_the_order_of_the_file() {
    let mut doors = vec![door("first", "7000,9000"), door("second", "7000,9000")];
    doors.iter_mut().for_each(|door| door.one_time_sequences = Some("/etc/sequences".into()));
    let mut bench = Bench::new(doors);
    bench.knock("10.0.0.1", 7000);
    bench.knock("10.0.0.2", 7000);
    let reported = bench.knock("10.0.0.1", 9000);
    let dropped = |door| format!("10.0.0.2: {door}: attempt failed: reload (stage 1)");
    assert_eq!(reported[4..], [dropped("first"), dropped("second")]);
}

#[test]
fn a_reload_keeps_attempts_at_unchanged_doors_even_if_they_moved() {
    let (stays, goes) = (door("stays", "7000,8000"), door("goes", "7000,9000"));
    let mut bench = Bench::new(vec![goes, stays.clone()]);
    bench.knock("10.0.0.9", 7000);
    let now = bench.now;
    bench.engine.reload(&Config { doors: vec![stays, door("new", "1,2")], ..Config::default() }, now);
    assert_eq!(bench.events(), ["10.0.0.9: goes: attempt failed: reload (stage 1)"]);
    assert_eq!(bench.knock("10.0.0.9", 8000)[1], "10.0.0.9: stays: OPEN SESAME");
}

#[test]
fn a_reload_that_leaves_no_room_reports_attempts_but_not_cooldowns() {
    let mut cooling = door("cooling", "7000");
    cooling.seq_cooldown = Some(Duration::from_secs(10));
    let mut config = Config { doors: vec![door("ssh", "7000,8000,9000"), cooling], ..Config::default() };
    let mut bench = Bench::with(config.clone());
    for source in ["10.0.0.1", "10.0.0.2"] {
        bench.knock(source, 7000);
        bench.knock(source, 8000);
    }
    assert_eq!(bench.engine.stats().attempts, 4);
    config.options.max_attempts = 1;
    bench.engine.reload(&config, bench.now);
    assert_eq!(bench.events(), ["10.0.0.2: ssh: attempt failed: full (stage 2)"]);
    assert_eq!(bench.engine.stats().attempts, 1);
}

#[test]
fn openings_survive_a_reload_without_their_door() {
    let mut timed = door("ssh", "7000");
    timed.stop_command = Some("close %IP%".into());
    let mut bench = Bench::new(vec![timed]);
    bench.knock("10.0.0.9", 7000);
    let now = bench.now;
    bench.engine.reload(&Config::default(), now);
    assert_eq!(bench.wait(Duration::from_secs(10)), ["10.0.0.9: ssh: command timeout"]);
}

#[test]
fn a_clock_that_steps_back_makes_packets_simultaneous() {
    let mut bench = Bench::new(vec![door("ssh", "7000,8000")]);
    bench.knock("10.0.0.9", 7000);
    let mut late = bench.packet("10.0.0.9", 8000, Protocol::Tcp, TcpFlags::SYN);
    late.time = Timestamp::from_secs(1);
    bench.engine.handle_knock(&late);
    let event = bench.engine.poll_event().unwrap();
    assert_eq!(event.time, bench.now);
}
