use std::net::IpAddr;

use etherparse::{IpFragOffset, PacketBuilder, VlanId};
use proptest::prelude::*;

use super::*;
use crate::packet::{Protocol, TcpFlags};

const LINK_TYPES: [LinkType; 8] = [
    LinkType::Null,
    LinkType::Ethernet,
    LinkType::Raw,
    LinkType::Loop,
    LinkType::LinuxSll,
    LinkType::Ipv4,
    LinkType::Ipv6,
    LinkType::LinuxSll2,
];

const TIME: Timestamp = Timestamp::from_secs(1_690_000_000);
const SOURCE_V4: [u8; 4] = [10, 0, 0, 2];
const DESTINATION_V4: [u8; 4] = [10, 0, 0, 1];
const SOURCE_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const DESTINATION_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The start of a TCP header: 40000 to 7000, sequence number 0x01020304, SYN; 20 bytes.
const SYN: [u8; 20] = [0x9c, 0x40, 0x1b, 0x58, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
/// A UDP header: 40000 to 7000, no payload.
const UDP: [u8; 8] = [0x9c, 0x40, 0x1b, 0x58, 0, 8, 0, 0];

const TCP: u8 = 6;
const UDP_NUMBER: u8 = 17;

fn ipv4(protocol: u8, options: &[u8], segment: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
    packet.extend(u16::try_from(header + segment.len()).unwrap().to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(SOURCE_V4);
    packet.extend(DESTINATION_V4);
    packet.extend(options);
    packet.extend(segment);
    packet
}

/// `extensions` contains whole headers; the first of them is of the kind `next_header`.
fn ipv6(next_header: u8, extensions: &[u8], segment: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(extensions.len() + segment.len()).unwrap().to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(SOURCE_V6);
    packet.extend(DESTINATION_V6);
    packet.extend(extensions);
    packet.extend(segment);
    packet
}

fn ethernet(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The content of a VLAN tag and the packet after it.
fn tagged(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 5];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

fn sll(packet_type: u8, ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, packet_type, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(packet);
    frame
}

fn sll2(packet_type: u8, ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = ether_type.to_be_bytes().to_vec();
    frame.extend([0, 0, 0, 0, 0, 3, 0, 1, packet_type, 6, 2, 0, 0, 0, 0, 2, 0, 0]);
    frame.extend(packet);
    frame
}

fn with_family(family: [u8; 4], packet: &[u8]) -> Vec<u8> {
    [&family, packet].concat()
}

fn syn_from(source: impl Into<IpAddr>, destination: impl Into<IpAddr>) -> Knock {
    Knock {
        time: TIME,
        source: source.into(),
        destination: destination.into(),
        port: 7000,
        protocol: Protocol::Tcp,
        flags: TcpFlags::SYN,
        source_port: 40000,
        sequence_number: 0x0102_0304,
    }
}

fn syn_v4() -> Knock {
    syn_from(SOURCE_V4, DESTINATION_V4)
}

fn syn_v6() -> Knock {
    syn_from(SOURCE_V6, DESTINATION_V6)
}

fn udp(syn: Knock) -> Knock {
    Knock { protocol: Protocol::Udp, flags: TcpFlags::NONE, sequence_number: 0, ..syn }
}

/// A frame of every kind that contains a knock, with that knock.
fn frames() -> Vec<(LinkType, Vec<u8>, Knock)> {
    let v4 = ipv4(TCP, &[], &SYN);
    let v6 = ipv6(TCP, &[], &SYN);
    let mut frames = vec![
        (LinkType::Ethernet, ethernet(0x0800, &v4), syn_v4()),
        (LinkType::Ethernet, ethernet(0x86dd, &v6), syn_v6()),
        (LinkType::Ethernet, ethernet(0x0800, &ipv4(UDP_NUMBER, &[], &UDP)), udp(syn_v4())),
        (LinkType::Ethernet, ethernet(0x86dd, &ipv6(UDP_NUMBER, &[], &UDP)), udp(syn_v6())),
        (LinkType::Ethernet, ethernet(0x0800, &ipv4(TCP, &[1; 40], &SYN)), syn_v4()),
        (LinkType::Ethernet, ethernet(0x8100, &tagged(0x0800, &v4)), syn_v4()),
        (LinkType::Ethernet, ethernet(0x88a8, &tagged(0x8100, &tagged(0x86dd, &v6))), syn_v6()),
        (LinkType::Ethernet, ethernet(0x9100, &tagged(0x9100, &tagged(0x8100, &tagged(0x0800, &v4)))), syn_v4()),
        (LinkType::LinuxSll, sll(0, 0x0800, &v4), syn_v4()),
        (LinkType::LinuxSll, sll(0, 0x86dd, &v6), syn_v6()),
        (LinkType::LinuxSll, sll(0, 0x8100, &tagged(0x0800, &v4)), syn_v4()),
        (LinkType::LinuxSll2, sll2(0, 0x0800, &v4), syn_v4()),
        (LinkType::LinuxSll2, sll2(0, 0x86dd, &v6), syn_v6()),
        (LinkType::LinuxSll2, sll2(0, 0x8100, &tagged(0x86dd, &v6)), syn_v6()),
        (LinkType::Raw, v4.clone(), syn_v4()),
        (LinkType::Raw, v6.clone(), syn_v6()),
        (LinkType::Ipv4, v4.clone(), syn_v4()),
        (LinkType::Ipv6, v6.clone(), syn_v6()),
        (LinkType::Null, with_family([2, 0, 0, 0], &v4), syn_v4()),
        (LinkType::Null, with_family([0, 0, 0, 2], &v4), syn_v4()),
        (LinkType::Loop, with_family([0, 0, 0, 2], &v4), syn_v4()),
    ];
    for family in [10, 24, 28, 30] {
        frames.push((LinkType::Null, with_family([family, 0, 0, 0], &v6), syn_v6()));
        frames.push((LinkType::Loop, with_family([0, 0, 0, family], &v6), syn_v6()));
    }
    frames
}

#[test]
fn knocks_are_found_in_frames_of_every_link_type() {
    for (link_type, frame, knock) in frames() {
        assert_eq!(decode(link_type, TIME, &frame), Some(knock), "{link_type:?} {frame:02x?}");
    }
}

#[test]
fn frames_of_another_builder_decode_too() {
    let vlan = |id| VlanId::try_new(id).unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .double_vlan(vlan(7), vlan(8))
        .ipv6(SOURCE_V6, DESTINATION_V6, 64)
        .tcp(40000, 7000, 0x0102_0304, 1024)
        .syn()
        .write(&mut frame, &[])
        .unwrap();
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame), Some(syn_v6()));

    frame.clear();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .single_vlan(vlan(7))
        .ipv4(SOURCE_V4, DESTINATION_V4, 64)
        .udp(40000, 7000)
        .write(&mut frame, b"knock")
        .unwrap();
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame), Some(udp(syn_v4())));
}

#[test]
fn every_prefix_of_every_frame_gives_no_more_than_the_whole() {
    for (link_type, frame, knock) in frames() {
        for end in 0..frame.len() {
            if let Some(cut) = decode(link_type, TIME, &frame[..end]) {
                let same = Knock { flags: cut.flags, sequence_number: cut.sequence_number, ..knock };
                assert_eq!(cut, same);
                assert!(knock.flags.contains(cut.flags));
                assert!([0, knock.sequence_number].contains(&cut.sequence_number));
            }
        }
    }
}

#[test]
fn a_frame_cut_after_the_ports_is_a_knock() {
    let frame = ethernet(0x0800, &ipv4(TCP, &[], &SYN));
    let ports_end = 14 + 20 + 4;
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame[..ports_end - 1]), None);
    let bare = Knock { flags: TcpFlags::NONE, sequence_number: 0, ..syn_v4() };
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame[..ports_end]), Some(bare));
    let numbered = Knock { flags: TcpFlags::NONE, ..syn_v4() };
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame[..ports_end + 4]), Some(numbered));
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame[..ports_end + 10]), Some(syn_v4()));
}

#[test]
fn padding_is_not_read_as_ports_or_flags() {
    let padded = |packet: &[u8]| {
        let mut frame = ethernet(0x0800, packet);
        frame.resize(60, 0x3f);
        decode(LinkType::Ethernet, TIME, &frame)
    };
    assert_eq!(padded(&ipv4(TCP, &[], &[])), None);
    assert_eq!(padded(&ipv4(UDP_NUMBER, &[], &UDP[..3])), None);
    let bare = Knock { flags: TcpFlags::NONE, sequence_number: 0, ..syn_v4() };
    assert_eq!(padded(&ipv4(TCP, &[], &SYN[..4])), Some(bare));
    let mut frame = ethernet(0x86dd, &ipv6(TCP, &[], &SYN[..4]));
    frame.resize(80, 0x3f);
    let bare = Knock { flags: TcpFlags::NONE, sequence_number: 0, ..syn_v6() };
    assert_eq!(decode(LinkType::Ethernet, TIME, &frame), Some(bare));
}

#[test]
fn a_length_of_zero_means_to_the_end_of_the_frame() {
    let mut v4 = ipv4(TCP, &[], &SYN);
    v4[2..4].fill(0);
    assert_eq!(decode(LinkType::Raw, TIME, &v4), Some(syn_v4()));
    let mut v6 = ipv6(TCP, &[], &SYN);
    v6[4..6].fill(0);
    assert_eq!(decode(LinkType::Raw, TIME, &v6), Some(syn_v6()));
}

#[test]
fn a_length_shorter_than_the_header_is_no_knock() {
    let mut packet = ipv4(TCP, &[], &SYN);
    packet[3] = 19;
    assert_eq!(decode(LinkType::Raw, TIME, &packet), None);
}

#[test]
fn only_the_first_fragment_is_a_knock() {
    for (fragment, knocks) in [(0x2000_u16, true), (0x2001, false), (0x0001, false), (0x1fff, false), (0x4000, true)] {
        let mut packet = ipv4(TCP, &[], &SYN);
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        assert_eq!(decode(LinkType::Raw, TIME, &packet), knocks.then(syn_v4), "{fragment:04x}");
    }
    for (offset, knocks) in [(0, true), (1, false), (0x1fff, false)] {
        let offset = IpFragOffset::try_new(offset).unwrap();
        let fragment = etherparse::Ipv6FragmentHeader::new(TCP.into(), offset, true, 9).to_bytes();
        let packet = ipv6(44, &fragment, &SYN);
        assert_eq!(decode(LinkType::Raw, TIME, &packet), knocks.then(syn_v6), "{offset:?}");
    }
}

#[test]
fn ipv6_extension_headers_are_skipped() {
    let generic = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
    let long = |next: u8| [&[next, 2][..], &[0; 22]].concat();
    let authentication = |next: u8| [&[next, 4][..], &[0; 22]].concat();
    for first in [0, 43, 60, 135] {
        assert_eq!(decode(LinkType::Raw, TIME, &ipv6(first, &generic(TCP), &SYN)), Some(syn_v6()), "{first}");
        assert_eq!(decode(LinkType::Raw, TIME, &ipv6(first, &long(UDP_NUMBER), &UDP)), Some(udp(syn_v6())));
    }
    assert_eq!(decode(LinkType::Raw, TIME, &ipv6(51, &authentication(TCP), &SYN)), Some(syn_v6()));
    // In the order of RFC 8200: hop-by-hop, destination, routing, fragment, authentication,
    // destination, mobility.
    let chain = [
        generic(60),
        long(43),
        generic(44),
        vec![51, 0, 0, 1, 0, 0, 0, 9],
        authentication(60),
        generic(135),
        long(TCP),
    ];
    assert_eq!(decode(LinkType::Raw, TIME, &ipv6(0, &chain.concat(), &SYN)), Some(syn_v6()));
}

#[test]
fn endless_and_broken_extension_chains_are_no_knock() {
    let endless = [[60, 0, 1, 4, 0, 0, 0, 0]; 1000].concat();
    assert_eq!(decode(LinkType::Raw, TIME, &ipv6(60, &endless, &SYN)), None);
    let beyond_the_end = [TCP, 255, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(LinkType::Raw, TIME, &ipv6(0, &beyond_the_end, &SYN)), None);
    let authentication_without_length = [TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(LinkType::Raw, TIME, &ipv6(51, &authentication_without_length, &SYN)), None);
}

#[test]
fn packets_that_this_machine_sends_are_no_knocks() {
    let packet = ipv4(TCP, &[], &SYN);
    for packet_type in 0..=6 {
        let knock = (packet_type != 4).then(syn_v4);
        assert_eq!(decode(LinkType::LinuxSll, TIME, &sll(packet_type, 0x0800, &packet)), knock);
        assert_eq!(decode(LinkType::LinuxSll2, TIME, &sll2(packet_type, 0x0800, &packet)), knock);
    }
}

#[test]
fn everything_else_is_no_knock() {
    let v4 = ipv4(TCP, &[], &SYN);
    let v6 = ipv6(TCP, &[], &SYN);
    for frame in [
        ethernet(0x0806, &v4),
        ethernet(0x86dd, &v4),
        ethernet(0x0800, &v6),
        ethernet(0x0800, &ipv4(1, &[], &SYN)),
        ethernet(0x86dd, &ipv6(58, &[], &SYN)),
        ethernet(0x86dd, &ipv6(59, &[], &SYN)),
        ethernet(0x86dd, &ipv6(50, &[], &SYN)),
    ] {
        assert_eq!(decode(LinkType::Ethernet, TIME, &frame), None, "{frame:02x?}");
    }
    assert_eq!(decode(LinkType::Raw, TIME, &[0x50; 60]), None);
    assert_eq!(decode(LinkType::Ipv4, TIME, &v6), None);
    assert_eq!(decode(LinkType::Ipv6, TIME, &v4), None);
    assert_eq!(decode(LinkType::Null, TIME, &with_family([7, 0, 0, 0], &v4)), None);
    let mut short_header = v4;
    short_header[0] = 0x44;
    assert_eq!(decode(LinkType::Raw, TIME, &short_header), None);
}

#[test]
fn the_flag_byte_is_read_whole() {
    for bits in 0..=u8::MAX {
        let mut segment = SYN;
        segment[13] = bits;
        let knock = decode(LinkType::Raw, TIME, &ipv4(TCP, &[], &segment)).unwrap();
        assert_eq!(knock.flags, TcpFlags::from_bits(bits));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for link_type in LINK_TYPES {
            decode(link_type, TIME, &bytes);
        }
    }

    #[test]
    fn no_change_of_a_good_frame_panics(
        which in 0..frames().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (link_type, mut frame, _) = frames().swap_remove(which);
        for (index, byte) in changes {
            let at = index.index(frame.len());
            frame[at] = byte;
        }
        decode(link_type, TIME, &frame);
    }
}
