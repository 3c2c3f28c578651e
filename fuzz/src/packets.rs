//! Packets built by etherparse, which is independent of portknock.

use std::net::IpAddr;

use etherparse::{EtherType, PacketBuilder, PacketBuilderStep};
use portknock_core::{Knock, LinkType, Protocol, TcpFlags, Timestamp};

/// Every link type.
pub const LINK_TYPES: [LinkType; 8] = [
    LinkType::Ethernet,
    LinkType::Null,
    LinkType::Raw,
    LinkType::Loop,
    LinkType::LinuxSll,
    LinkType::Ipv4,
    LinkType::Ipv6,
    LinkType::LinuxSll2,
];

/// The IP packet that a knock was read from.
pub fn packet(knock: &Knock) -> Vec<u8> {
    match (knock.source, knock.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            segment(PacketBuilder::ipv4(source.octets(), destination.octets(), 64), knock)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            segment(PacketBuilder::ipv6(source.octets(), destination.octets(), 64), knock)
        }
        _ => panic!("{knock:?} has addresses of two families"),
    }
}

fn segment(ip: PacketBuilderStep<etherparse::IpHeaders>, knock: &Knock) -> Vec<u8> {
    let mut packet = Vec::new();
    let payload = [0x6b; 3];
    let written = match knock.protocol {
        Protocol::Udp => ip.udp(knock.source_port, knock.port).write(&mut packet, &payload),
        Protocol::Tcp => {
            let mut tcp = ip.tcp(knock.source_port, knock.port, knock.sequence_number, 1024);
            for (flag, set) in [
                (TcpFlags::FIN, (|tcp| tcp.fin()) as fn(PacketBuilderStep<_>) -> PacketBuilderStep<_>),
                (TcpFlags::SYN, |tcp| tcp.syn()),
                (TcpFlags::RST, |tcp| tcp.rst()),
                (TcpFlags::PSH, |tcp| tcp.psh()),
                (TcpFlags::ACK, |tcp| tcp.ack(1)),
                (TcpFlags::URG, |tcp| tcp.urg(0)),
            ] {
                if knock.flags.contains(flag) {
                    tcp = set(tcp);
                }
            }
            tcp.write(&mut packet, &payload)
        }
    };
    written.expect("memory accepts every byte");
    packet
}

/// The frame of this link type around an IP packet.
pub fn frame(link_type: LinkType, packet: &[u8]) -> Vec<u8> {
    let six = packet[0] >> 4 == 6;
    let EtherType(ether_type) = if six { EtherType::IPV6 } else { EtherType::IPV4 };
    let ether_type = ether_type.to_be_bytes();
    let family = if six { 10_u32 } else { 2 };
    let head = match link_type {
        LinkType::Ethernet => [&[2; 12][..], &ether_type].concat(),
        LinkType::LinuxSll => [&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0][..], &ether_type].concat(),
        LinkType::LinuxSll2 => [&ether_type[..], &[0; 6], &[0, 1, 0, 6], &[2; 8]].concat(),
        LinkType::Null => family.to_le_bytes().to_vec(),
        LinkType::Loop => family.to_be_bytes().to_vec(),
        LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => Vec::new(),
    };
    [&head, packet].concat()
}

/// A capture file (pcap, nanoseconds, little endian) with one frame a second.
pub fn capture(dlt: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    bytes.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    bytes.extend(dlt.to_le_bytes());
    for (second, frame) in (1_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).expect("a short frame");
        bytes.extend([second, 0, length, length].map(u32::to_le_bytes).concat());
        bytes.extend(frame);
    }
    bytes
}

/// A TCP SYN or a UDP packet to one of this machine's ports.
pub fn knock(six: bool, protocol: Protocol, port: u16) -> Knock {
    let [source, destination]: [IpAddr; 2] = if six {
        ["2001:db8:1::1", "2001:db8::1"].map(|ip| ip.parse().expect("an address"))
    } else {
        [[10, 0, 1, 1].into(), [10, 0, 0, 1].into()]
    };
    let flags = if protocol == Protocol::Tcp { TcpFlags::SYN } else { TcpFlags::NONE };
    let time = Timestamp::default();
    Knock { time, source, destination, port, protocol, flags, source_port: 40_000, sequence_number: 0 }
}

/// The same as pcapng, in microseconds.
pub fn capture_ng(dlt: u32, frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut bytes = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    bytes.extend(block(1, &words(&[dlt, 0x0004_0000])));
    for (second, frame) in (1_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).expect("a short frame");
        let padded = frame.len().next_multiple_of(4);
        let mut body = words(&[0, 0, second * 1_000_000, length, length]);
        body.extend(frame);
        body.resize(20 + padded, 0);
        bytes.extend(block(6, &body));
    }
    bytes
}

/// A block of a pcapng file, which has its length at both ends.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12).expect("a short block").to_le_bytes();
    [&kind.to_le_bytes(), &length, body, &length].concat()
}
