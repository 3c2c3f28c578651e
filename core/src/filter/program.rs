//! The filter as a program in classic BPF, which the kernel runs for each packet.

use super::assembler::{Assembler, Label};
use super::{PACKET_UDP_LENGTH, PortFilter, UDP_HEADER};
use crate::decode::{IPV6_EXTENSIONS, LinkType};
use crate::fwknop_keys::{FIRST_BYTES, PAYLOAD_LENGTHS};
use crate::packet::{SegmentSet, TcpFlags};
use crate::port_map::{self, Comparison, PortMap};
use crate::sys::bpf::{self, Instruction, code};

/// A capture filter in classic BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions, for `SO_ATTACH_FILTER` (socket(7)) on a packet socket.
    pub instructions: Vec<Instruction>,
    /// False if the program passes ports that do not matter, to stay within the limit.
    pub exact: bool,
}

/// Offset of the kernel's metadata of a packet (linux/filter.h: `SKF_AD_OFF`).
const ANCILLARY: u32 = libc::SKF_AD_OFF.cast_unsigned();
/// Offset of the ether type in the metadata.
const ETHER_TYPE: u32 = ANCILLARY + libc::SKF_AD_PROTOCOL.cast_unsigned();
/// Offset of the packet type in the metadata (packet(7): `sll_pkttype`).
const PACKET_TYPE: u32 = ANCILLARY + libc::SKF_AD_PKTTYPE.cast_unsigned();
/// The packet type of packets that this machine sends. A packet that it sends to itself arrives as
/// well, with another type.
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;

/// The ether type of IPv4.
const IPV4: u32 = 0x0800;
/// The ether type of IPv6.
const IPV6: u32 = 0x86dd;
/// The ether types of VLAN tags: 802.1Q, 802.1ad, and the outer tag before 802.1ad.
const VLAN: [u32; 3] = [0x8100, 0x88a8, 0x9100];
/// Maximum number of VLAN tags that the program skips. A packet with more tags passes. The kernel
/// removes the outermost tag before it runs the program.
const MAX_VLAN_TAGS: u32 = 2;

/// The IP protocol number of TCP.
const TCP: u32 = 6;
/// The IP protocol number of UDP.
const UDP: u32 = 17;
/// Offset of the flags in a TCP header, in bytes (RFC 9293, section 3.1).
const TCP_FLAGS: u32 = 13;
/// The order in which the program tests flags. The first tests drop the segments of established
/// connections.
const FLAG_ORDER: [TcpFlags; 6] =
    [TcpFlags::SYN, TcpFlags::ACK, TcpFlags::RST, TcpFlags::FIN, TcpFlags::PSH, TcpFlags::URG];

/// Maximum number of comparisons in a linear search. Halving them further would cost instructions
/// and save no time.
const MAX_LINEAR_SEARCH: usize = 8;

impl PortFilter {
    /// Returns the filter as a program for a socket with frames of this link type. The program has
    /// at most `limit` instructions, or as few as possible (below a hundred). If the exact program
    /// does not fit, the program passes other ports as well, in the smallest gaps between those
    /// that matter. It never drops a packet that matters.
    ///
    /// The program also drops packets that this machine sends, and later IPv4 fragments. All IPv6
    /// packets with extension headers pass.
    pub fn program(&self, link_type: LinkType, limit: usize) -> Program {
        let instructions = render(self, &self.tcp, &self.udp, link_type);
        if instructions.len() <= limit {
            return Program { instructions, exact: true };
        }
        let tcp_gaps = self.tcp.gaps().count();
        let mut gaps: Vec<(u16, usize)> = self.tcp.gaps().chain(self.udp.gaps()).zip(0..).collect();
        gaps.sort_unstable();
        let closing = |count: usize| {
            let mut close = vec![false; gaps.len()];
            for (_, index) in &gaps[..count] {
                close[*index] = true;
            }
            let (tcp, udp) = close.split_at(tcp_gaps);
            render(self, &self.tcp.coarser(tcp), &self.udp.coarser(udp), link_type)
        };
        // Finds the smallest number of gaps to close, the smallest gaps first.
        let mut too_few = 0;
        let mut enough = gaps.len();
        let mut instructions = closing(enough);
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            let shorter = closing(middle);
            if shorter.len() <= limit {
                (enough, instructions) = (middle, shorter);
            } else {
                too_few = middle;
            }
        }
        Program { instructions, exact: false }
    }
}

impl PortFilter {
    /// Returns the filter of the capture of long packets, as [`PortFilter::program`]: it passes the
    /// datagrams that may be packets of fwknop's format ([`PortFilter::passes_long`]).
    pub fn long_program(&self, link_type: LinkType) -> Program {
        let instructions = assemble(self, link_type, |renderer| (renderer.drop, renderer.long()));
        Program { instructions, exact: true }
    }
}

/// Returns the layout of packets in a socket with frames of this link type: the offset of the
/// network header, and the instruction that loads the ether type. Offsets count from the start of
/// the frame and not from the network header (`SKF_NET_OFF`): before Linux 6.16 the latter cannot
/// reach bytes that a driver left outside the linear buffer.
///
/// `None` for link types that no packet socket has.
fn layout(link_type: LinkType) -> Option<(u32, (u16, u32))> {
    match link_type {
        LinkType::Ethernet => Some((14, (code::LOAD_HALF, 12))),
        // Cooked sockets receive frames without a link header; libpcap adds a header after the
        // filter.
        LinkType::LinuxSll | LinkType::LinuxSll2 | LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => {
            Some((0, (code::LOAD_WORD, ETHER_TYPE)))
        }
        LinkType::Null | LinkType::Loop => None,
    }
}

/// Returns the program that passes these ports, and the flags and the sample of the filter.
fn render(filter: &PortFilter, tcp: &PortMap, udp: &PortMap, link_type: LinkType) -> Vec<Instruction> {
    assemble(filter, link_type, |renderer| {
        let udp = renderer.udp(udp);
        (renderer.tcp(tcp), udp)
    })
}

/// Returns the program with these parts for TCP and UDP. In them, X contains the length of the VLAN
/// tags and the IP header.
fn assemble(
    filter: &PortFilter,
    link_type: LinkType,
    transports: impl FnOnce(&mut Renderer<'_>) -> (Label, Label),
) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    let accept = assembler.ending(bpf::KEEP);
    let Some((network, ether_type)) = layout(link_type) else {
        return assembler.finish();
    };
    let drop = assembler.ending(bpf::DROP);
    let mut renderer = Renderer { assembler, filter, network, accept, drop };

    let (tcp, udp) = transports(&mut renderer);
    let transport = renderer.assembler.branch(code::IF_EQUAL, TCP, tcp, udp);
    let transport = renderer.assembler.block(&[(code::LOAD_MEMORY, 0)], transport);
    // Up to here, X contains the length of the VLAN tags.
    let ipv6 = renderer.ipv6(transport);
    let ipv4 = renderer.ipv4(transport);
    renderer.link(ether_type, ipv4, ipv6);
    renderer.assembler.finish()
}

/// Renders the parts of a program, each of which starts at the label that is returned.
struct Renderer<'a> {
    assembler: Assembler,
    filter: &'a PortFilter,
    /// The offset of the network header without VLAN tags.
    network: u32,
    accept: Label,
    drop: Label,
}

impl Renderer<'_> {
    /// The packet type, VLAN tags and ether type.
    fn link(&mut self, ether_type: (u16, u32), ipv4: Label, ipv6: Label) {
        let mut tagged = self.accept;
        for depth in (0..=MAX_VLAN_TAGS).rev() {
            let tags = depth * 4;
            let load = if depth == 0 { ether_type } else { (code::LOAD_HALF, self.network + tags - 2) };
            let mut next = self.drop;
            for tag in VLAN {
                next = self.assembler.branch(code::IF_EQUAL, tag, tagged, next);
            }
            next = self.assembler.branch(code::IF_EQUAL, IPV6, ipv6, next);
            next = self.assembler.branch(code::IF_EQUAL, IPV4, ipv4, next);
            tagged = self.assembler.block(&[(code::SET_X, tags), load], next);
        }
        let arriving = self.assembler.branch(code::IF_EQUAL, OUTGOING, self.drop, tagged);
        self.assembler.block(&[(code::LOAD_WORD, PACKET_TYPE)], arriving);
    }

    /// The IPv4 header (RFC 791, section 3.1).
    fn ipv4(&mut self, transport: Label) -> Label {
        let network = self.network;
        let length = [
            (code::LOAD_BYTE_X, network),
            (code::AND, 0x0f),
            (code::SHIFT_LEFT, 2),
            (code::ADD_X, 0),
            (code::A_TO_X, 0),
        ];
        let skip_header = self.assembler.block(&length, transport);
        let udp = self.assembler.branch(code::IF_EQUAL, UDP, skip_header, self.drop);
        let tcp = self.assembler.branch(code::IF_EQUAL, TCP, skip_header, udp);
        let protocol = self.assembler.block(&[(code::LOAD_BYTE_X, network + 9), (code::STORE_MEMORY, 0)], tcp);
        let first_fragment = self.assembler.branch(code::IF_ANY_BIT, 0x1fff, self.drop, protocol);
        self.assembler.block(&[(code::LOAD_HALF_X, network + 6)], first_fragment)
    }

    /// The IPv6 header (RFC 8200, section 3).
    fn ipv6(&mut self, transport: Label) -> Label {
        let length = [(code::X_TO_A, 0), (code::ADD, 40), (code::A_TO_X, 0)];
        let skip_header = self.assembler.block(&length, transport);
        let mut next = self.drop;
        for extension in IPV6_EXTENSIONS {
            next = self.assembler.branch(code::IF_EQUAL, extension.0.into(), self.accept, next);
        }
        next = self.assembler.branch(code::IF_EQUAL, UDP, skip_header, next);
        next = self.assembler.branch(code::IF_EQUAL, TCP, skip_header, next);
        self.assembler.block(&[(code::LOAD_BYTE_X, self.network + 6), (code::STORE_MEMORY, 0)], next)
    }

    /// The length and the ports of authenticated packets, then the ports of knocks.
    fn udp(&mut self, map: &PortMap) -> Label {
        let ports = self.ports(map);
        let packets = &self.filter.packets;
        if packets.is_empty() {
            return ports;
        }
        let search = Search { accept: self.accept, other: ports };
        let search = search.search(&mut self.assembler, &packets.comparisons(), false);
        let search = self.assembler.block(&[(code::LOAD_HALF_X, self.network + 2)], search);
        let length = self.assembler.branch(code::IF_EQUAL, PACKET_UDP_LENGTH, search, ports);
        self.assembler.block(&[(code::LOAD_HALF_X, self.network + 4)], length)
    }

    /// The ports, the length and the first byte of packets of fwknop's format.
    fn long(&mut self) -> Label {
        let mut first = self.drop;
        for byte in FIRST_BYTES {
            first = self.assembler.branch(code::IF_EQUAL, byte.into(), self.accept, first);
        }
        let first = self.assembler.block(&[(code::LOAD_BYTE_X, self.network + udp_length(0))], first);
        let [shortest, longest] = [PAYLOAD_LENGTHS.start(), PAYLOAD_LENGTHS.end()].map(|length| udp_length(*length));
        let length = self.assembler.branch(code::IF_AT_LEAST, longest + 1, self.drop, first);
        let length = self.assembler.branch(code::IF_AT_LEAST, shortest, length, self.drop);
        let length = self.assembler.block(&[(code::LOAD_HALF_X, self.network + 4)], length);
        let search = Search { accept: length, other: self.drop };
        let search = search.search(&mut self.assembler, &self.filter.long.comparisons(), false);
        self.assembler.block(&[(code::LOAD_HALF_X, self.network + 2)], search)
    }

    /// The TCP flags, then the ports: most segments of a busy host belong to its connections.
    fn tcp(&mut self, map: &PortMap) -> Label {
        let ports = self.ports(map);
        let tests = self.flags(self.filter.segments, &FLAG_ORDER, ports);
        if tests == ports || tests == self.drop {
            return tests;
        }
        self.assembler.block(&[(code::LOAD_BYTE_X, self.network + TCP_FLAGS)], tests)
    }

    /// Continues at `belongs` with the segments of a set in which only these flags matter, and
    /// drops the rest.
    fn flags(&mut self, set: SegmentSet, flags: &[TcpFlags], belongs: Label) -> Label {
        let [flag, rest @ ..] = flags else { return if set.is_empty() { self.drop } else { belongs } };
        let (with, without) = (set.given(*flag, true), set.given(*flag, false));
        if with == without {
            return self.flags(set, rest, belongs);
        }
        let without = self.flags(without, rest, belongs);
        let with = self.flags(with, rest, belongs);
        self.assembler.branch(code::IF_ANY_BIT, flag.bits().into(), with, without)
    }

    /// Continues at `sampled` with the ports of the sample, and drops the rest.
    fn sample(&mut self, sampled: Label) -> Label {
        let sample = self.filter.sample;
        let compare = self.assembler.branch(code::IF_EQUAL, sample.pick, sampled, self.drop);
        self.assembler.block(&[(code::MULTIPLY, sample.multiplier), (code::SHIFT_RIGHT, port_map::SHIFT)], compare)
    }

    /// Accepts the destination ports that pass, and drops the rest.
    fn ports(&mut self, map: &PortMap) -> Label {
        if map.is_empty() {
            return self.drop;
        }
        let other = if map.is_guarded() { self.sample(self.accept) } else { self.drop };
        let search = Search { accept: self.accept, other }.search(&mut self.assembler, &map.comparisons(), false);
        self.assembler.block(&[(code::LOAD_HALF_X, self.network + 2)], search)
    }
}

/// Returns the length in the UDP header for a payload of this length.
#[allow(clippy::cast_possible_truncation, reason = "a datagram has less than 64 KiB")]
const fn udp_length(payload: usize) -> u32 {
    (payload + UDP_HEADER) as u32
}

/// The ends of a search for a port.
struct Search {
    /// For the ports that pass.
    accept: Label,
    /// For the other ports.
    other: Label,
}

impl Search {
    /// Searches by halves, and at the end with one comparison after another. `below` is true if the
    /// ports below the first comparison pass.
    fn search(&self, assembler: &mut Assembler, comparisons: &[Comparison], below: bool) -> Label {
        let passes_after = |comparisons: &[Comparison]| {
            let last = comparisons.iter().rev().find_map(|comparison| match comparison {
                Comparison::From(_, passes) => Some(*passes),
                Comparison::Is(_) => None,
            });
            last.unwrap_or(below)
        };
        let end = |passes: bool| if passes { self.accept } else { self.other };
        if comparisons.len() <= MAX_LINEAR_SEARCH {
            let mut label = end(passes_after(comparisons));
            for (index, comparison) in comparisons.iter().enumerate().rev() {
                label = match comparison {
                    Comparison::Is(port) => assembler.branch(code::IF_EQUAL, (*port).into(), self.accept, label),
                    Comparison::From(port, _) => {
                        let before = end(passes_after(&comparisons[..index]));
                        assembler.branch(code::IF_AT_LEAST, (*port).into(), label, before)
                    }
                };
            }
            return label;
        }
        // Splitting the ports at the start of an interval saves a comparison, if there is one near
        // enough to the middle.
        let middle = comparisons.len() / 2;
        let is_start = |index: &usize| matches!(comparisons[*index], Comparison::From(..));
        let pivot = (middle..middle + middle / 2).find(is_start).or_else(|| (middle / 2..middle).rfind(is_start));
        let (pivot, right) = pivot.map_or((middle, middle), |start| (start, start + 1));
        let (Comparison::Is(port) | Comparison::From(port, _)) = comparisons[pivot];
        let upper = self.search(assembler, &comparisons[right..], passes_after(&comparisons[..right]));
        let lower = self.search(assembler, &comparisons[..pivot], below);
        assembler.branch(code::IF_AT_LEAST, port.into(), upper, lower)
    }
}
