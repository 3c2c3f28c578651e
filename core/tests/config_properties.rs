//! Properties of every configuration and of every text.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "config_support/any_text.rs"]
mod any_text;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use portknock_core::Protocol;
use portknock_core::TcpFlags;
use portknock_core::config::{
    CodeSequence, CodeStep, Config, Door, FlagMask, Gate, GateSets, OnStop, OpenPort, OpenPrefix, Options,
    PacketAddress, PacketFormat, Refusal, Sequence, Step, StepProtocols, TableFamily, TimeSequence, parse,
    parse_sequence,
};
use portknock_core::spa::MAX_DOOR_LENGTH;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// A command or a path: any text on one line without white space at its ends.
fn line_text() -> impl Strategy<Value = String> {
    "[ -~äß—“\u{1}\u{7f}\u{202e}\t]{1,60}".prop_map(|text| text.trim().to_owned())
}

fn command() -> impl Strategy<Value = Option<String>> {
    // A value that begins with the key and `=` is refused, so it is not a command.
    prop::option::of(line_text().prop_filter("a doubled key", |text| !text.to_ascii_lowercase().contains("command")))
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z0-9._#äß /-]{0,30}[a-z]".prop_filter("a comment", |text| !text.contains(" #")).prop_map(PathBuf::from)
}

fn seconds() -> impl Strategy<Value = Duration> {
    (1..=315_360_000_u64).prop_map(Duration::from_secs)
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let step = (1..=u16::MAX, any::<bool>()).prop_map(|(port, udp)| Step {
        port: NonZeroU16::new(port).unwrap(),
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
    });
    prop::collection::vec(step, 1..=32).prop_map(|steps| Sequence::new(steps).unwrap())
}

fn flags() -> impl Strategy<Value = FlagMask> {
    (0..64_u8, 0..64_u8)
        .prop_map(|(set, clear)| FlagMask { set: TcpFlags::from_bits(set), clear: TcpFlags::from_bits(clear & !set) })
}

fn name() -> impl Strategy<Value = String> {
    "[ -~ß]{1,40}".prop_filter("names that no header can contain", |name| {
        let comment = name.split_once(']').is_some_and(|(_, tail)| tail.trim_start().starts_with('#'));
        !comment && !name.trim().eq_ignore_ascii_case("options")
    })
}

prop_compose! {
    fn door()(
        name in name(),
        source in source(),
        seq_timeout in seconds(),
        tcpflags in flags(),
        target in prop::option::of(any::<IpAddr>()),
        commands in (command(), command(), prop::option::of(prop_oneof![Just(String::new()), Just("x".to_owned())]), command()),
        cmd_timeout in seconds(),
        allow in prop::collection::vec((any::<IpAddr>(), 0..=32_u8), 0..4),
        seq_cooldown in prop::option::of(seconds()),
        open in prop::collection::btree_set(open_port(), 0..4),
        open_prefix in prop::option::of((8..=32_u8, 16..=128_u8)),
    ) -> Door {
        let form = match source {
            Source::Sequence(sequence) => Door::new(&name, Some(sequence)),
            Source::OneTime(path) => Door { one_time_sequences: Some(path), ..Door::new(&name, None) },
            Source::Time(number, time) => {
                // A file of keys and `time_*` values open one door.
                let key_file = Some(PathBuf::from(format!("/keys/{number}")));
                Door { time_sequence: Some(time), key_file, ..Door::new(&name, None) }
            }
            Source::Code(code, totp_file) => {
                Door { code: Some(code), totp_file: Some(totp_file), ..Door::new(&name, None) }
            }
            Source::Fwknop(number, packet_address) => {
                // An earlier door with the same file could accept all packets.
                let key_file = Some(PathBuf::from(format!("/keys/{number}")));
                Door { packet: Some(PacketFormat::Fwknop), packet_address, key_file, ..Door::new(&name, None) }
            }
            Source::Packet(key_file) => {
                let name = if name.len() > MAX_DOOR_LENGTH { "short".to_owned() } else { name.clone() };
                Door { packet: Some(PacketFormat::Portknock), key_file: Some(key_file), ..Door::new(&name, None) }
            }
        };
        let allow = allow.into_iter().map(|(ip, length)| ipnet::IpNet::new(ip, length).unwrap().trunc()).collect();
        let (start_command, stop_command, start_command_6, stop_command_6) = commands;
        Door {
            seq_timeout, tcpflags, target, start_command, stop_command, start_command_6,
            stop_command_6, cmd_timeout, allow, seq_cooldown, open: open.into_iter().collect(),
            open_prefix: open_prefix.map(|(ipv4, ipv6)| OpenPrefix { ipv4, ipv6 }),
            ..form
        }
    }
}

/// The form of the knocks that open a door.
#[derive(Clone, Debug)]
enum Source {
    Sequence(Sequence),
    OneTime(PathBuf),
    /// With the number of its file of keys.
    Time(u64, TimeSequence),
    Packet(PathBuf),
    Code(CodeSequence, PathBuf),
    /// With the number of its file of keys.
    Fwknop(u64, PacketAddress),
}

fn source() -> impl Strategy<Value = Source> {
    use StepProtocols::{Both, Tcp, Udp};
    let windows = prop::sample::select(vec![10, 30, 60, 120, 300, 600, 1800, 3600]);
    let time = (1..=8_u8, port_range(8), prop::sample::select(vec![Tcp, Udp, Both]), windows).prop_map(
        |(steps, ports, protocols, window)| TimeSequence {
            steps,
            ports,
            protocols,
            window: Duration::from_secs(window),
        },
    );
    let time = prop_oneof![Just(TimeSequence::default()), time];
    prop_oneof![
        sequence().prop_map(Source::Sequence),
        path().prop_map(Source::OneTime),
        (any::<u64>(), time).prop_map(|(number, time)| Source::Time(number, time)),
        path().prop_map(Source::Packet),
        (code_sequence(), path()).prop_map(|(code, path)| Source::Code(code, path)),
        (any::<u64>(), packet_address()).prop_map(|(number, address)| Source::Fwknop(number, address)),
    ]
}

/// Fixed steps, and two to eight steps with six or eight digits of a code, all in different ranges.
fn code_sequence() -> impl Strategy<Value = CodeSequence> {
    let protocol = || prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let digits = prop::sample::select(vec![&[3_u8, 3][..], &[4, 2], &[2, 2, 2], &[1; 6], &[4, 4], &[3, 3, 2], &[1; 8]]);
    let fixed = prop::collection::vec((60_000..=u16::MAX, protocol()), 1..=8);
    (fixed, digits, protocol(), 0..=5_u16).prop_map(|(fixed, digits, protocol, offset)| {
        let step = |(port, protocol)| Step { port: NonZeroU16::new(port).unwrap(), protocol };
        let fixed: Vec<Step> = fixed.into_iter().map(step).collect();
        // The ranges of up to three steps begin 10,000 ports apart, those of more steps 10.
        let distance = if digits.len() > 3 { 10 } else { 10_000 };
        let prefix = |i: u16, digits: u8| (i + offset % 3) * distance / 10_u16.pow(digits.into());
        let code = (1..).zip(digits).map(|(i, &digits)| CodeStep::new(prefix(i, digits), digits, protocol).unwrap());
        CodeSequence::new(fixed, code.collect::<Vec<_>>()).unwrap()
    })
}

fn packet_address() -> impl Strategy<Value = PacketAddress> {
    prop::sample::select(vec![PacketAddress::Any, PacketAddress::Required, PacketAddress::Source])
}

/// A range of at least this number of ports.
fn port_range(size: u16) -> impl Strategy<Value = RangeInclusive<NonZeroU16>> {
    let start = 1..=u16::MAX - size + 1;
    start
        .prop_flat_map(move |low| (Just(low), low + size - 1..=u16::MAX))
        .prop_map(|(low, high)| NonZeroU16::new(low).unwrap()..=NonZeroU16::new(high).unwrap())
}

/// One or more ranges in ascending order, with ports between them.
fn packet_ports() -> impl Strategy<Value = Vec<RangeInclusive<NonZeroU16>>> {
    let is_apart = |pair: &[u16]| pair[1] > pair[0] + 1;
    prop::collection::btree_set(1..=u16::MAX, 1..5).prop_map(move |bounds| {
        let bounds: Vec<u16> = bounds.into_iter().collect();
        let ranges = if bounds.windows(2).all(is_apart) && bounds.len().is_multiple_of(2) {
            bounds.chunks(2).map(|pair| (pair[0], pair[1])).collect()
        } else {
            vec![(bounds[0], bounds[bounds.len() - 1])]
        };
        let port = |port| NonZeroU16::new(port).unwrap();
        ranges.into_iter().map(|(low, high)| port(low)..=port(high)).collect()
    })
}

fn open_port() -> impl Strategy<Value = OpenPort> {
    (any::<bool>(), any::<NonZeroU16>())
        .prop_map(|(tcp, port)| OpenPort { protocol: if tcp { Protocol::Tcp } else { Protocol::Udp }, port })
}

fn gate() -> impl Strategy<Value = Gate> {
    use TableFamily::{Bridge, Inet, Ip, Ip6, Netdev};
    let name = || "[a-zA-Z][a-zA-Z0-9/._-]{0,20}";
    let sets = (prop::sample::select(vec![Inet, Ip, Ip6, Bridge, Netdev]), name(), name(), name())
        .prop_filter("two sets", |(_, _, set4, set6)| set4 != set6)
        .prop_map(|(family, table, set4, set6)| Gate::Sets(GateSets { family, table, set4, set6 }));
    prop_oneof![Just(Gate::Own), sets]
}

prop_compose! {
    fn options()(
        use_syslog in any::<bool>(),
        log_file in prop::option::of(path()),
        pid_file in path(),
        interfaces in prop_oneof![
            Just(vec!["any".to_owned()]),
            prop::collection::btree_set("[a-z][a-z0-9.@_:-]{0,14}", 0..4)
                .prop_filter("any is the only name", |names| !names.contains("any"))
                .prop_map(|names| names.into_iter().collect()),
        ],
        scan_guard in any::<u8>(),
        max_attempts in 1..=16_777_216_u32,
        log_rate in 0..=1_000_000_u32,
        max_openings in 1..=1_048_576_u32,
        state_file in path(),
        control_socket in prop::option::of(path()),
        keep in any::<bool>(),
        gate in gate(),
        gate_refuse in prop::sample::select(vec![Refusal::Reject, Refusal::Drop]),
        packet_ports in packet_ports(),
        clock_skew in (1..=3600_u64).prop_map(Duration::from_secs),
    ) -> Options {
        let on_stop = if keep { OnStop::Keep } else { OnStop::Close };
        Options {
            use_syslog, log_file, pid_file, interfaces, scan_guard, max_attempts, log_rate, max_openings, state_file, control_socket, on_stop, gate, gate_refuse,
            packet_ports, clock_skew,
        }
    }
}

fn config() -> impl Strategy<Value = Config> {
    let options = prop_oneof![Just(Options::default()), options()];
    (options, prop::collection::vec(door(), 0..4)).prop_map(|(options, doors)| Config { options, doors })
}

/// Text that resembles a configuration: lines of meaningful pieces.
fn nearly_a_configuration() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(vec![
        "[a]\nsequence = 5,1,9\n",
        "sequence = ",
        "seq_timeout = ",
        "command = ",
        "command = ",
        "stop_command = ",
        "tcpflags = ",
        "target = ",
        "allow = ",
        "open = ",
        "Gate = ",
        "GateRefuse = ",
        "one_time_sequences = ",
        "keys = ",
        "keys = /k\nsequence = time",
        "keys = /k\npacket = portknock\n",
        "packet = ",
        "time_ports = ",
        "time_protocols = ",
        "time_step = ",
        "PacketPort = ",
        "ClockSkew = ",
        "otp_",
        "[options]\n",
        "LogFile = ",
        "Interface = ",
        "ScanGuard = ",
        "UseSyslog",
        "[",
        "",
        "",
    ]);
    let piece = prop_oneof![
        12 => prop::sample::select(vec![
            "[", "]", "sequence", "seq_timeout", "command", "tcpflags", "timeout", "Interface", "UseSyslog", "sequnce",
            " = ", "=", ",", ",", ":", " ", " ", "\t", "#", ";", "\\", "\"", "'", "!", "syn", "ack", "5", "1", "9", "65536",
            "tcp", "udp", "10.0.0.1/8", "::1", "eth0", "time", "time:6", "both", "portknock", "1000-9000", "-", "—", "–", "“", "\u{a0}", "1m", "10s", "\r", "\u{feff}",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let line = (head, prop::collection::vec(piece, 0..6))
        .prop_map(|(head, pieces)| [head.as_bytes(), &pieces.concat(), b"\n"].concat());
    (any::<bool>(), prop::collection::vec(line, 0..8)).prop_map(|(door, lines)| {
        let start: &[u8] = if door { b"[a]\nsequence = 5,1,9\n" } else { b"" };
        [start, &lines.concat()].concat()
    })
}

/// Cases that fail are written to a file that is committed, and run first from then on.
fn cases(cases: u32) -> ProptestConfig {
    let failures = FileFailurePersistence::Direct("tests/proptest-regressions/config_properties.txt");
    ProptestConfig { failure_persistence: Some(Box::new(failures)), cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn printing_and_parsing_gives_the_same_configuration(config in config()) {
        let text = config.to_string();
        let parsed = parse(text.as_bytes());
        prop_assert_eq!(parsed.config, Some(config), "{}\n{}", &text, parsed.report.render("printed", text.as_bytes()));
    }

    #[test]
    fn printing_is_canonical(config in config()) {
        let text = config.to_string();
        prop_assert_eq!(parse(text.as_bytes()).config.unwrap().to_string(), text);
    }

    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..300)) {
        any_text::check(&text);
    }

    #[test]
    fn a_printed_sequence_is_read_back(sequence in sequence()) {
        prop_assert_eq!(parse_sequence(&sequence.to_string()).unwrap(), sequence);
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn nearly_valid_text_is_read_and_its_fixes_come_to_an_end(text in nearly_a_configuration()) {
        any_text::check(&text);
    }
}

#[test]
fn tens_of_thousands_of_doors_are_read_quickly_and_no_more_than_ids() {
    let doors = |count: usize| -> String {
        (0..count).map(|i| format!("[d{i}]\nsequence = {},1,{},2:udp\n", 9 + i % 60_000, 3 + i / 60_000)).collect()
    };
    let started = Instant::now();
    let most = parse(doors(65_536).as_bytes());
    assert_eq!(most.config.unwrap().doors.len(), 65_536);
    let one_more = parse(doors(65_537).as_bytes());
    assert_eq!(one_more.report.diagnostics.iter().map(|found| found.code).collect::<Vec<_>>(), ["PK006"]);
    // Comparing every door with every other would take minutes.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn the_report_of_a_file_full_of_errors_is_cut_short() {
    let text = "[a]\n".to_owned() + &"fault\n".repeat(100_000);
    let parsed = parse(text.as_bytes());
    assert_eq!(parsed.report.diagnostics.len(), 10_001);
    let last = parsed.report.diagnostics.last().unwrap();
    assert_eq!((last.code, &*last.message), ("PK005", "90001 more findings are not shown"));
    assert!(parsed.config.is_none());
}
