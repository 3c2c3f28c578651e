use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::{Door, FlagMask, PacketFormat, Sequence, Step};
use crate::decode::LinkType;
use crate::sys::bpf::{Instruction, attach_filter, code, detach_filter};

const SECRET: u32 = 0x5eed;
const LIMIT: usize = 4096;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A packet as a filter reads it.
#[derive(Clone, Debug)]
struct Packet {
    bytes: Vec<u8>,
    packet_type: u32,
    ether_type: u32,
    /// Offset of the transport header in `bytes`.
    transport: usize,
}

/// Runs a program as bpf_prog_run does in the kernel. Returns true if it keeps the packet.
fn run(program: &[Instruction], packet: &Packet) -> bool {
    let load = |at: u32, length: usize| -> Option<u32> {
        let at = usize::try_from(at).unwrap();
        let bytes = packet.bytes.get(at..at + length)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    let [mut a, mut x, mut pc] = [0_u32, 0, 0];
    let mut memory = None;
    loop {
        let Instruction { code, jt, jf, k } = program[usize::try_from(pc).unwrap()];
        pc += 1;
        let jump = |holds: bool| u32::from(if holds { jt } else { jf });
        let loaded = match code {
            code::LOAD_WORD if k == 0xffff_f000 => Some(packet.ether_type),
            code::LOAD_WORD if k == 0xffff_f004 => Some(packet.packet_type),
            code::LOAD_HALF => load(k, 2),
            code::LOAD_HALF_X => load(x + k, 2),
            code::LOAD_BYTE_X => load(x + k, 1),
            _ => Some(a),
        };
        match loaded {
            Some(value) => a = value,
            None => return false,
        }
        match code {
            code::LOAD_WORD | code::LOAD_HALF | code::LOAD_HALF_X | code::LOAD_BYTE_X => {}
            code::LOAD_MEMORY => a = memory.unwrap(),
            code::STORE_MEMORY => memory = Some(a),
            code::SET_X => x = k,
            code::A_TO_X => x = a,
            code::X_TO_A => a = x,
            code::ADD => a = a.wrapping_add(k),
            code::ADD_X => a = a.wrapping_add(x),
            code::MULTIPLY => a = a.wrapping_mul(k),
            code::AND => a &= k,
            code::SHIFT_LEFT => a <<= k,
            code::SHIFT_RIGHT => a >>= k,
            code::JUMP => pc += k,
            code::IF_EQUAL => pc += jump(a == k),
            code::IF_AT_LEAST => pc += jump(a >= k),
            code::IF_ANY_BIT => pc += jump(a & k != 0),
            code::RETURN => return k != 0,
            other => panic!("unknown code {other:#x}"),
        }
    }
}

/// Returns the ether type and a packet of this protocol.
type Network = fn(u8) -> (u32, Vec<u8>);

fn ipv4(protocol: u8) -> (u32, Vec<u8>) {
    let mut packet = vec![0x46, 0, 0, 44, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 1, 1, 1, 1];
    packet.extend([0; 20]);
    (0x0800, packet)
}

fn ipv6(next_header: u8) -> (u32, Vec<u8>) {
    let mut packet = vec![0x60, 0, 0, 0, 0, 20, next_header, 64];
    packet.extend([0xfd; 32]);
    packet.extend([0; 20]);
    (0x86dd, packet)
}

/// Returns the packet as the filter of a socket of this link type reads it, with this many VLAN
/// tags in it.
fn framed(link_type: LinkType, tags: usize, (ether_type, packet): (u32, Vec<u8>)) -> Packet {
    let mut types = [0x88a8, 0x8100, 0x9100][..tags].to_vec();
    types.push(ether_type);
    let mut bytes = Vec::new();
    if link_type == LinkType::Ethernet {
        bytes.extend([2; 12]);
        bytes.extend(u16::try_from(types[0]).unwrap().to_be_bytes());
    }
    for tagged_type in &types[1..] {
        bytes.extend([0, 5]);
        bytes.extend(u16::try_from(*tagged_type).unwrap().to_be_bytes());
    }
    bytes.extend(&packet);
    let transport = bytes.len() - 20;
    // The program for Ethernet does not load it from the metadata.
    let ether_type = if link_type == LinkType::Ethernet { 0 } else { types[0] };
    Packet { bytes, packet_type: 0, ether_type, transport }
}

impl Packet {
    fn aimed_at(&mut self, port: u16, flags: TcpFlags) -> &Self {
        self.bytes[self.transport + 2..][..2].copy_from_slice(&port.to_be_bytes());
        self.bytes[self.transport + 13] = flags.bits();
        self
    }
}

fn step(port: u16, protocol: Protocol) -> Step {
    Step { port: NonZeroU16::new(port).unwrap(), protocol }
}

fn door(steps: &[Step], tcpflags: FlagMask) -> Door {
    Door { tcpflags, ..Door::new("door", Some(Sequence::new(steps).unwrap())) }
}

fn config(doors: Vec<Door>, scan_guard: u8) -> Config {
    let mut config = Config { doors, ..Config::default() };
    config.options.scan_guard = scan_guard;
    config
}

const SYN: FlagMask = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::NONE };
const FIN_WITHOUT_RST: FlagMask = FlagMask { set: TcpFlags::FIN, clear: TcpFlags::RST };
const ANY: FlagMask = FlagMask { set: TcpFlags::NONE, clear: TcpFlags::NONE };

fn tcp_door(ports: &[u16], tcpflags: FlagMask) -> Door {
    door(&ports.iter().map(|port| step(*port, Protocol::Tcp)).collect::<Vec<_>>(), tcpflags)
}

/// Returns doors of three ports each, spread over all ports.
fn many_doors(count: u32) -> Config {
    let port = |index: u32| u16::try_from(index.wrapping_mul(0x9e37_79b1) >> 16).unwrap().max(1);
    let ports = |door: u32| [port(door * 3), port(door * 3 + 1), port(door * 3 + 2)];
    config((0..count).map(|door| tcp_door(&ports(door), SYN)).collect(), 8)
}

/// Makes the checks that the kernel makes before it accepts a program (bpf_check_classic).
fn assert_acceptable(program: &[Instruction]) {
    assert!((1..=LIMIT).contains(&program.len()), "{} instructions", program.len());
    for (index, instruction) in program.iter().enumerate() {
        let furthest = match instruction.code {
            code::JUMP => usize::try_from(instruction.k).unwrap(),
            _ => usize::from(instruction.jt.max(instruction.jf)),
        };
        assert!(index + furthest < program.len());
        assert!(index + 1 < program.len() || instruction.code == code::RETURN);
    }
}

/// Compares the program with the predicate for every port, protocol and some flags, and for some
/// ports with all flags.
fn assert_agrees(filter: &PortFilter, program: &Program, packets: &[Network]) {
    let some = [TcpFlags::SYN, TcpFlags::SYN | TcpFlags::ACK, TcpFlags::ACK, TcpFlags::FIN | TcpFlags::PSH];
    let all: Vec<TcpFlags> = (0..64).map(TcpFlags::from_bits).collect();
    for (protocol, number) in [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)] {
        for packet in packets {
            let mut packet = framed(LinkType::Ethernet, 0, packet(number));
            for port in 0..=u16::MAX {
                let flags = match protocol {
                    Protocol::Udp => &[TcpFlags::NONE][..],
                    Protocol::Tcp if port % 1021 == 7 => &all,
                    Protocol::Tcp => &some,
                };
                for flags in flags {
                    let passes = filter.passes(protocol, port, *flags);
                    let kept = run(&program.instructions, packet.aimed_at(port, *flags));
                    assert!(kept == passes || (!program.exact && kept), "{protocol} {port} {flags:?}: {kept}");
                }
            }
        }
    }
}

#[test]
fn packets_pass_with_the_flags_that_are_knocks_for_some_door() {
    let fin_not_urg = FlagMask { set: TcpFlags::FIN, clear: TcpFlags::URG };
    let doors = |third| vec![tcp_door(&[7000, 8000], SYN), tcp_door(&[9000], fin_not_urg), third];
    let udp_door = door(&[step(53, Protocol::Udp)], ANY);
    let filter = PortFilter::new(&config(doors(udp_door), 0), SECRET);
    for port in [7000, 8000, 9000] {
        for flags in (0..64).map(TcpFlags::from_bits) {
            let passes = SYN.matches(flags) || fin_not_urg.matches(flags);
            assert_eq!(filter.passes(Protocol::Tcp, port, flags), passes, "{port} {flags:?}");
        }
        assert!(!filter.passes(Protocol::Udp, port, TcpFlags::NONE));
    }
    assert!(filter.passes(Protocol::Udp, 53, TcpFlags::NONE));
    assert!(!filter.passes(Protocol::Tcp, 53, TcpFlags::SYN));
    assert!(!filter.passes(Protocol::Tcp, 7001, TcpFlags::SYN));

    let filter = PortFilter::new(&config(doors(tcp_door(&[8000], ANY)), 0), SECRET);
    for flags in (0..64).map(TcpFlags::from_bits) {
        assert_eq!(filter.passes(Protocol::Tcp, 7000, flags), ANY.matches(flags), "{flags:?}");
    }
}

#[test]
fn the_scan_guard_gets_a_sample_of_the_other_ports_with_the_flags_of_knocks() {
    let passing = |tcpflags, flags| {
        let filter = PortFilter::new(&config(vec![tcp_door(&[7000, 8000, 9000], tcpflags)], 8), SECRET);
        assert!(!(0..=u16::MAX).any(|port| filter.passes(Protocol::Udp, port, TcpFlags::NONE)), "no step uses UDP");
        (0..=u16::MAX).filter(|port| filter.passes(Protocol::Tcp, *port, flags)).count()
    };
    let syn_not_ack = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK };
    for tcpflags in [SYN, syn_not_ack, FIN_WITHOUT_RST, ANY] {
        for flags in (0..64).map(TcpFlags::from_bits) {
            let range = if tcpflags.matches(flags) { 3_500..4_700 } else { 0..1 };
            assert!(range.contains(&passing(tcpflags, flags)), "{tcpflags:?} {flags:?}");
        }
    }
}

#[test]
fn segments_of_established_connections_are_dropped_after_few_instructions() {
    let filter = PortFilter::new(&many_doors(1_000), SECRET);
    let program = filter.program(LinkType::Ethernet, LIMIT);
    let flags_at = program.instructions.iter().position(|instruction| instruction.k == 14 + 13).unwrap();
    let syn = program.instructions[flags_at + 1];
    assert_eq!((syn.code, syn.k), (code::IF_ANY_BIT, u32::from(TcpFlags::SYN.bits())));
    let mut packet = framed(LinkType::Ethernet, 0, ipv4(TCP));
    for flags in [TcpFlags::ACK, TcpFlags::ACK | TcpFlags::PSH, TcpFlags::FIN | TcpFlags::ACK, TcpFlags::RST] {
        assert!((0..=u16::MAX).all(|port| !run(&program.instructions, packet.aimed_at(port, flags))), "{flags:?}");
    }
}

#[test]
fn an_ascending_scan_through_close_steps_hits_more_ports_than_the_guard_permits() {
    for (steps, guard) in [([7000, 7010, 7020], 8), ([100, 400, 570], 8), ([1000, 1300, 1600], 8), ([20, 30, 900], 20)]
    {
        for secret in 0..50 {
            let filter = PortFilter::new(&config(vec![tcp_door(&steps, SYN)], guard), secret);
            let met = (steps[0]..steps[2])
                .filter(|port| !steps.contains(port) && filter.passes(Protocol::Tcp, *port, TcpFlags::SYN))
                .count();
            assert!(met > usize::from(guard), "{steps:?}: {met}");
        }
    }
}

#[test]
fn without_a_live_sequence_nothing_matters() {
    for doors in [vec![], vec![Door::new("consumed", None)]] {
        let filter = PortFilter::new(&config(doors, 8), SECRET);
        let program = filter.program(LinkType::Ethernet, LIMIT);
        assert_acceptable(&program.instructions);
        assert!(program.exact);
        assert_agrees(&filter, &program, &[ipv4]);
        assert!(!filter.passes(Protocol::Tcp, 7000, TcpFlags::SYN));
    }
}

#[test]
fn the_program_is_the_predicate_for_every_port() {
    let mixed = config(
        vec![
            tcp_door(&[7000, 7010, 7020], SYN),
            door(&[step(1, Protocol::Udp), step(u16::MAX, Protocol::Tcp), step(7001, Protocol::Udp)], SYN),
            door(&[step(2222, Protocol::Udp), step(2230, Protocol::Udp)], SYN),
        ],
        8,
    );
    let unusual = config(vec![tcp_door(&[22, 25, 60_000], FIN_WITHOUT_RST), tcp_door(&[23, 24], FIN_WITHOUT_RST)], 8);
    for config in [mixed, unusual, many_doors(300)] {
        let filter = PortFilter::new(&config, SECRET);
        let program = filter.program(LinkType::Ethernet, LIMIT);
        assert_acceptable(&program.instructions);
        assert!(program.exact);
        assert_agrees(&filter, &program, &[ipv4, ipv6]);
    }
}

#[test]
fn thousands_of_doors_fit_and_lose_no_port() {
    for (count, exact) in [(1_000, true), (3_000, false)] {
        let filter = PortFilter::new(&many_doors(count), SECRET);
        let program = filter.program(LinkType::Ethernet, LIMIT);
        assert_acceptable(&program.instructions);
        assert_eq!(program.exact, exact);
        assert_agrees(&filter, &program, &[ipv4]);
    }
}

#[test]
fn a_coarse_program_stays_selective() {
    let filter = PortFilter::new(&many_doors(1_000), SECRET);
    let kept = |limit: usize| {
        let program = filter.program(LinkType::Ethernet, limit);
        assert!(program.instructions.len() <= limit);
        let mut packet = framed(LinkType::Ethernet, 0, ipv4(TCP));
        (0..=u16::MAX).filter(|port| run(&program.instructions, packet.aimed_at(*port, TcpFlags::SYN))).count()
    };
    let [all, half, least] = [4096, 2048, 100].map(kept);
    assert!(all < 7_500, "{all}");
    assert!(half < 40_000, "{half}");
    assert!(least > half);
}

#[test]
fn the_shortest_program_is_short_whatever_the_limit() {
    let filter = PortFilter::new(&many_doors(3_000), SECRET);
    let program = filter.program(LinkType::LinuxSll, 0);
    assert!(program.instructions.len() < 100, "{}", program.instructions.len());
    assert!(!program.exact);
    assert_acceptable(&program.instructions);
}

#[test]
fn programs_are_made_in_milliseconds() {
    let doors = (0..10_000).map(|door| tcp_door(&[1 + door * 6, 3 + door * 6, 4 + door * 6], SYN)).collect();
    let config = config(doors, 0);
    let start = Instant::now();
    let program = PortFilter::new(&config, SECRET).program(LinkType::Ethernet, LIMIT);
    // An optimised build needs much less. An algorithm that is quadratic in the ports would take
    // minutes.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(program.instructions.len() > LIMIT / 2);
}

#[test]
fn one_predicate_serves_every_framing_and_vlan_depth() {
    let config = config(vec![tcp_door(&[7000, 8000], SYN), door(&[step(53, Protocol::Udp)], SYN)], 0);
    let filter = PortFilter::new(&config, SECRET);
    for link_type in [LinkType::Ethernet, LinkType::LinuxSll, LinkType::LinuxSll2, LinkType::Raw, LinkType::Ipv4] {
        let Program { instructions, .. } = filter.program(link_type, LIMIT);
        assert_acceptable(&instructions);
        for network in [ipv4, ipv6] {
            for tags in 0..=2 {
                let mut packet = framed(link_type, tags, network(TCP));
                assert!(run(&instructions, packet.aimed_at(7000, TcpFlags::SYN)), "{packet:?}");
                assert!(!run(&instructions, packet.aimed_at(7000, TcpFlags::ACK)));
                assert!(!run(&instructions, packet.aimed_at(53, TcpFlags::SYN)));
                let mut packet = framed(link_type, tags, network(UDP));
                assert!(run(&instructions, packet.aimed_at(53, TcpFlags::NONE)));
                assert!(!run(&instructions, packet.aimed_at(7000, TcpFlags::NONE)));
                assert!(!run(&instructions, &framed(link_type, tags, network(1))));
            }
            assert!(run(&instructions, &framed(link_type, 3, network(TCP))), "user space checks it");
        }
        assert!(!run(&instructions, &framed(link_type, 0, (0x0806, vec![0; 60]))));
    }
}

#[test]
fn outgoing_packets_and_later_fragments_are_dropped() {
    let filter = PortFilter::new(&config(vec![tcp_door(&[7000], ANY)], 0), SECRET);
    let Program { instructions, .. } = filter.program(LinkType::Ethernet, LIMIT);
    let knock = framed(LinkType::Ethernet, 0, ipv4(TCP)).aimed_at(7000, TcpFlags::SYN).clone();
    for packet_type in 0..6 {
        assert_eq!(run(&instructions, &Packet { packet_type, ..knock.clone() }), packet_type != 4);
    }
    for (fragment, kept) in [(0x2000_u16, true), (0x2001, false), (0x1000, false)] {
        let mut knock = knock.clone();
        knock.bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        assert_eq!(run(&instructions, &knock), kept);
    }
}

#[test]
fn ipv6_packets_with_extension_headers_are_left_to_user_space() {
    let filter = PortFilter::new(&config(vec![tcp_door(&[7000], SYN)], 0), SECRET);
    let Program { instructions, .. } = filter.program(LinkType::Ethernet, LIMIT);
    for number in 0..=u8::MAX {
        let kept = [0, 43, 44, 51, 60, 135].contains(&number);
        assert_eq!(run(&instructions, &framed(LinkType::Ethernet, 0, ipv6(number))), kept, "{number}");
    }
}

#[test]
fn frames_cut_anywhere_are_dropped_or_kept_but_never_misread() {
    let filter = PortFilter::new(&config(vec![tcp_door(&[7000], SYN)], 8), SECRET);
    let Program { instructions, .. } = filter.program(LinkType::Ethernet, LIMIT);
    for network in [ipv4, ipv6] {
        let knock = framed(LinkType::Ethernet, 1, network(TCP)).aimed_at(7000, TcpFlags::SYN).clone();
        for end in 0..knock.bytes.len() {
            let cut = Packet { bytes: knock.bytes[..end].to_vec(), ..knock.clone() };
            assert_eq!(run(&instructions, &cut), end > knock.transport + 13);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn no_port_that_matters_is_lost_at_any_limit(
        doors in prop::collection::vec(
            (prop::collection::vec((1..=u16::MAX, any::<bool>()), 1..6), 0..3_usize, 1..500_u16),
            1..40,
        ),
        guard in prop::sample::select(vec![0, 1, 8, 255]),
        secret: u32,
        limit in 60..400_usize,
        six: bool,
    ) {
        let doors = doors.iter().map(|(ports, flags, narrow)| {
            let steps: Vec<Step> = ports
                .iter()
                .map(|(port, udp)| {
                    // Half of the doors have their ports close together.
                    let port = if narrow % 2 == 0 { *port } else { 20_000 + port % narrow };
                    step(port, if *udp { Protocol::Udp } else { Protocol::Tcp })
                })
                .collect();
            door(&steps, [SYN, FIN_WITHOUT_RST, ANY][*flags])
        });
        let filter = PortFilter::new(&config(doors.collect(), guard), secret);
        let program = filter.program(LinkType::Ethernet, limit);
        assert_acceptable(&program.instructions);
        let network: Network = if six { ipv6 } else { ipv4 };
        assert_agrees(&filter, &program, &[network]);
        let exact = filter.program(LinkType::Ethernet, LIMIT);
        prop_assert!(exact.exact);
        assert_agrees(&filter, &exact, &[network]);
    }
}

/// Attaches programs of the maximum length to a UDP socket: the kernel's check does not depend on
/// the kind of socket.
#[test]
fn the_kernel_accepts_the_programs_of_thousands_of_doors() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = |index: u16| NonZeroU16::new(index.wrapping_mul(40_503).max(1)).unwrap();
    for count in [1, 1_000, 3_000_u16] {
        let door = |door: u16| {
            let steps = [0, 1, 2].map(|step| Step { port: port(door * 3 + step), protocol: Protocol::Tcp });
            Door::new("door", Some(Sequence::new(steps).unwrap()))
        };
        let config = Config { doors: (0..count).map(door).collect(), ..Config::default() };
        for link_type in [LinkType::Ethernet, LinkType::LinuxSll] {
            let program = PortFilter::new(&config, 1).program(link_type, 4096);
            assert_eq!(program.instructions.len() > 3_000, count > 1);
            let result = attach_filter(socket.as_fd(), &program.instructions);
            // Before Linux 6.7 sockets may by default not have filters this long.
            let too_long = |error: &io::Error| error.kind() == io::ErrorKind::OutOfMemory;
            assert!(result.is_ok() || result.as_ref().is_err_and(too_long), "{result:?}");
        }
    }
    detach_filter(socket.as_fd()).unwrap();
    detach_filter(socket.as_fd()).unwrap();
}

/// The program of the capture of long packets keeps exactly the datagrams of the predicate, for every
/// port, for every length, and for every first byte.
#[test]
fn the_program_for_long_packets_is_the_predicate() {
    let port = |number| NonZeroU16::new(number).unwrap();
    let doors = vec![
        Door { packet: Some(PacketFormat::Fwknop), ..Door::new("a", None) },
        tcp_door(&[7000], SYN),
        door(&[step(53, Protocol::Udp)], SYN),
    ];
    let mut config = config(doors, 8);
    config.options.packet_ports = vec![port(62_201)..=port(62_201), port(10_000)..=port(40_000)];
    let filter = PortFilter::new(&config, SECRET);
    assert_eq!(filter.snap_lengths(), SnapLengths { knocks: 128, long: Some(1600) });
    for (link_type, tags) in [(LinkType::Ethernet, 0), (LinkType::Ethernet, 2), (LinkType::LinuxSll2, 1)] {
        let Program { instructions, exact } = filter.long_program(link_type);
        assert_acceptable(&instructions);
        assert!(exact);
        for network in [ipv4, ipv6] {
            let mut packet = framed(link_type, tags, network(UDP));
            let mut agrees = |port: u16, length: u16, first: u8| {
                packet.aimed_at(port, TcpFlags::NONE);
                packet.bytes[packet.transport + 4..][..2].copy_from_slice(&length.to_be_bytes());
                packet.bytes[packet.transport + 8] = first;
                let passes = filter.passes_long(port, length, first);
                assert_eq!(run(&instructions, &packet), passes, "{port} {length} {first}");
                passes
            };
            let ports = (0..=u16::MAX).filter(|port| agrees(*port, 8 + 204, b'8')).count();
            assert_eq!(ports, 30_002);
            let lengths = (0..=u16::MAX).filter(|length| agrees(62_201, *length, b'+')).count();
            assert_eq!(lengths, 1500 - 36 + 1);
            let firsts: Vec<u8> = (0..=u8::MAX).filter(|first| agrees(62_201, 8 + 1500, *first)).collect();
            assert_eq!(firsts, b"+/89");
            let cut = Packet { bytes: packet.bytes[..packet.transport + 8].to_vec(), ..packet.clone() };
            assert!(!run(&instructions, &cut), "without the first byte");
            let tcp = framed(link_type, tags, network(TCP)).aimed_at(62_201, SYN.set).clone();
            assert!(!run(&instructions, &tcp));
        }
    }
    let (_, mut extended) = ipv6(0);
    extended.extend([0; 8]);
    let packet = framed(LinkType::Ethernet, 0, (0x86dd, extended));
    assert!(run(&filter.long_program(LinkType::Ethernet).instructions, &packet), "user space reads extension headers");
}

#[test]
fn without_doors_for_long_packets_nothing_changes() {
    let own = Door { packet: Some(PacketFormat::Portknock), ..Door::new("a", None) };
    for (doors, knocks) in [(vec![tcp_door(&[7000], SYN)], 128), (vec![own, tcp_door(&[7000], SYN)], 192)] {
        let filter = PortFilter::new(&config(doors.clone(), 8), SECRET);
        assert_eq!(filter.snap_lengths(), SnapLengths { knocks, long: None });
        assert!(!filter.passes_long(62_201, 212, b'8'));
        // A door for long packets does not change the program of the other capture.
        let fwknop = Door { packet: Some(PacketFormat::Fwknop), ..Door::new("f", None) };
        let with = PortFilter::new(&config([doors, vec![fwknop]].concat(), 8), SECRET);
        let program = |filter: &PortFilter| filter.program(LinkType::Ethernet, LIMIT);
        assert_eq!(program(&with), program(&filter));
    }
}

#[test]
fn every_port_that_a_code_can_be_passes() {
    let text = "[options]\nScanGuard = 0\n[a]\nsequence = 7391,48213:udp,21???,22??:udp,3?\ntotp_secret = /s\ntcpflags = syn,!ack\n";
    let config = crate::config::parse(text.as_bytes()).config.unwrap();
    let filter = PortFilter::new(&config, 7);
    for port in 0..=u16::MAX {
        let tcp = port == 7391 || (21_000..22_000).contains(&port) || (30..40).contains(&port);
        let udp = port == 48_213 || (2200..2300).contains(&port);
        assert_eq!(filter.passes(Protocol::Tcp, port, TcpFlags::SYN), tcp, "{port}");
        assert_eq!(filter.passes(Protocol::Udp, port, TcpFlags::NONE), udp, "{port}");
        assert!(!filter.passes(Protocol::Tcp, port, TcpFlags::ACK));
    }
    // The ranges are intervals in the program, not single ports.
    assert!(filter.program(LinkType::Ethernet, 4096).instructions.len() < 120);
}
