//! Frames that no honest host sends: malformed, cut, nested, fragmented, spoofed.

use std::fmt::Write;
use std::io::Write as _;
use std::process::Stdio;

use crate::{Host, binary};

/// A frame, and its peculiarity.
pub type Hostile = (&'static str, Vec<u8>);

const SERVER: [u8; 4] = [10, 0, 0, 1];
const SERVER_6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const SYN: u8 = 2;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Sends frames from the host's `eth0`, one after another.
///
/// # Panics
/// If a frame cannot be sent.
pub fn inject(host: &Host, frames: &[Hostile]) {
    let mut list = String::new();
    for (_, frame) in frames {
        for byte in frame {
            write!(list, "{byte:02x}").expect("a string grows");
        }
        list.push('\n');
    }
    let mut command = host.command(binary("inject"));
    let mut child = command.arg("eth0").stdin(Stdio::piped()).spawn().expect("inject starts");
    child.stdin.take().expect("a pipe").write_all(list.as_bytes()).expect("inject reads");
    assert!(child.wait().expect("inject ends").success(), "inject failed");
}

/// Frames that are not knocks at the TCP port `tcp` or the UDP port `udp` of the server, although
/// each has these numbers at a place that a careless reader examines. A TCP knock has SYN alone.
pub fn no_knocks(tcp: u16, udp: u16) -> Vec<Hostile> {
    let syn = segment(tcp, SYN);
    let with_flags = |flags| v4(6, &segment(tcp, flags));
    let changed = |at: usize, byte: u8| {
        let mut packet = packet_4(6, &syn);
        packet[at] = byte;
        ethernet(IPV4, &packet)
    };
    let syn_6 = packet_6(6, &syn);
    let mut frames = vec![
        ("no packet", ethernet(IPV4, &[])),
        ("half of an IPv4 header", ethernet(IPV4, &packet_4(6, &syn)[..10])),
        ("an IPv4 header without its segment", ethernet(IPV4, &packet_4(6, &[]))),
        ("a header length below 20", changed(0, 0x44)),
        ("a header longer than the packet", changed(0, 0x4f)),
        ("version 5", changed(0, 0x55)),
        ("version 6 as IPv4", changed(0, 0x65)),
        ("a total length below the header", changed(3, 10)),
        ("a total length that ends before the ports", changed(3, 23)),
        ("a later fragment", changed(7, 1)),
        ("a last fragment at the very end", changed(6, 0x1f)),
        ("three bytes of a segment", v4(6, &syn[..3])),
        ("five bytes of a datagram", v4(17, &datagram(udp)[..3])),
        (
            "a TCP data offset of nothing",
            v4(6, &{
                let mut odd = syn.clone();
                odd[12] = 0;
                odd[13] = 0;
                odd
            }),
        ),
        ("no flags", with_flags(0)),
        ("all flags", with_flags(0xff)),
        ("FIN, PSH and URG", with_flags(0x29)),
        ("SYN and FIN", with_flags(3)),
        ("SYN and ACK", with_flags(0x12)),
        ("SYN and RST", with_flags(6)),
        ("ACK", with_flags(0x10)),
        ("RST", with_flags(4)),
        ("an echo request with ports", v4(1, &[&[8, 0, 0, 0][..], &syn].concat())),
        ("an ICMP error about a segment", v4(1, &[&[3, 3, 0, 0, 0, 0, 0, 0][..], &packet_4(6, &syn)].concat())),
        ("IP in IP", v4(4, &packet_4(6, &syn))),
        ("IPv6 in IPv4", v4(41, &syn_6)),
        ("GRE", v4(47, &[&[0, 0, 8, 0][..], &packet_4(6, &syn)].concat())),
        ("SCTP", v4(132, &syn)),
        ("UDP-Lite", v4(136, &datagram(udp))),
        ("protocol 255", v4(255, &syn)),
        ("TCP at the UDP port", v4(6, &segment(udp, SYN))),
        ("UDP at the TCP port", v4(17, &datagram(tcp))),
        ("another destination", to_4([10, 0, 0, 77], 6, &syn)),
        ("the network's broadcast address", to_4([10, 0, 0, 255], 17, &datagram(udp))),
        ("the limited broadcast address", to_4([255; 4], 17, &datagram(udp))),
        ("a multicast group", to_4([224, 0, 0, 1], 17, &datagram(udp))),
        ("a cut VLAN tag", ethernet(0x8100, &[0])),
        ("a VLAN tag and nothing", ethernet(0x8100, &[0, 5, 8, 0])),
        ("ARP", ethernet(0x0806, &packet_4(6, &syn))),
        ("PPPoE", ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 42, 0, 0x21][..], &packet_4(6, &syn)].concat())),
        ("MPLS", ethernet(0x8847, &[&[0, 1, 1, 64][..], &packet_4(6, &syn)].concat())),
        ("IEEE 802.3 with SNAP", ethernet(48, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet_4(6, &syn)].concat())),
        ("an unknown ether type", ethernet(0x88b6, &packet_4(6, &syn))),
        ("IPv4 as IPv6", ethernet(IPV6, &packet_4(6, &syn))),
        ("half of an IPv6 header", ethernet(IPV6, &syn_6[..20])),
        ("an IPv6 header without its segment", ethernet(IPV6, &packet_6(6, &[]))),
    ];
    frames.extend(no_knocks_6(&syn));
    frames
}

fn no_knocks_6(syn: &[u8]) -> Vec<Hostile> {
    let fragment = |offset: u16, more: bool| {
        let field = (offset << 3 | u16::from(more)).to_be_bytes();
        [&[6, 0, field[0], field[1], 0, 0, 0, 9][..], syn].concat()
    };
    vec![
        ("a later fragment of IPv6", v6(44, &fragment(1, false))),
        ("a later fragment of IPv6 with more", v6(44, &fragment(100, true))),
        ("a cut fragment header", v6(44, &[6, 0, 0])),
        ("no next header, and a segment", v6(59, syn)),
        ("ESP", v6(50, syn)),
        ("an ICMPv6 error about a segment", v6(58, &[&[1, 4, 0, 0, 0, 0, 0, 0][..], &packet_6(6, syn)].concat())),
        ("hop-by-hop options longer than the packet", v6(0, &[&[6, 200, 0, 0, 0, 0, 0, 0][..], syn].concat())),
        ("cut hop-by-hop options", v6(0, &[6, 0, 1])),
        ("a chain of options that ends in itself", v6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(20))),
        ("another IPv6 destination", {
            let mut packet = packet_6(6, syn);
            packet[39] = 0x77;
            ethernet(IPV6, &packet)
        }),
        ("all nodes of the link", {
            let mut packet = packet_6(6, syn);
            packet[24..40].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            ethernet(IPV6, &packet)
        }),
    ]
}

/// Unusual frames, each of which may count as one knock at the TCP port `tcp` or the UDP port
/// `udp`.
pub fn odd_knocks(tcp: u16, udp: u16) -> Vec<Hostile> {
    let syn = segment(tcp, SYN);
    let tagged = |tags: &[[u8; 4]]| {
        let tagged = [&tags.concat()[2..], &IPV4.to_be_bytes()[..], &packet_4(6, &syn)].concat();
        ethernet(u16::from_be_bytes([tags[0][0], tags[0][1]]), &tagged)
    };
    let from = |source: [u8; 4]| {
        let mut packet = packet_4(6, &syn);
        packet[12..16].copy_from_slice(&source);
        sum(&mut packet);
        ethernet(IPV4, &packet)
    };
    let from_6 = |source: [u8; 16]| {
        let mut packet = packet_6(6, &syn);
        packet[8..24].copy_from_slice(&source);
        ethernet(IPV6, &packet)
    };
    let length = |value: u16, payload: usize| {
        let mut datagram = [&datagram(udp)[..8], &vec![0x41; payload]].concat();
        datagram[4..6].copy_from_slice(&value.to_be_bytes());
        v4(17, &datagram)
    };
    let first_fragment = [&[6, 0, 0, 1, 0, 0, 0, 9][..], &syn].concat();
    let chain = [&[60, 0, 1, 4, 0, 0, 0, 0].repeat(7)[..], &[6, 0, 1, 4, 0, 0, 0, 0], &syn].concat();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 66];
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    vec![
        ("an incorrect checksum of TCP", v4(6, &[&syn[..16], &[0xde, 0xad, 0, 0]].concat())),
        ("an incorrect checksum of IPv4", {
            let mut packet = packet_4(6, &syn);
            packet[10] ^= 0xff;
            ethernet(IPV4, &packet)
        }),
        ("a first fragment", {
            let mut packet = packet_4(6, &syn);
            packet[6] = 0x20;
            sum(&mut packet);
            ethernet(IPV4, &packet)
        }),
        ("forty bytes of IPv4 options", {
            let mut packet = [&packet_4(6, &[])[..20], &[1; 40], &syn].concat();
            (packet[0], packet[3]) = (0x4f, 80);
            ethernet(IPV4, &packet)
        }),
        ("a TCP data offset beyond the packet", v4(6, &[&syn[..12], &[0xf0, SYN, 0, 0, 0, 0, 0, 0]].concat())),
        ("a total length of nothing", {
            let mut packet = packet_4(6, &syn);
            packet[2..4].copy_from_slice(&[0, 0]);
            ethernet(IPV4, &packet)
        }),
        ("a total length beyond the frame", {
            let mut packet = packet_4(6, &syn);
            packet[2..4].copy_from_slice(&[0xff, 0xff]);
            ethernet(IPV4, &packet)
        }),
        ("a datagram of length 0", length(0, 4)),
        ("a datagram without data", length(8, 0)),
        ("a datagram longer than its packet", length(0xffff, 1)),
        ("a jumbo frame", length(8_008, 8_000)),
        ("time to live 0", {
            let mut packet = packet_4(6, &syn);
            packet[8] = 0;
            ethernet(IPV4, &packet)
        }),
        ("source port 0", v4(6, &[&[0, 0], &syn[2..]].concat())),
        ("a priority tag", tagged(&[[0x81, 0, 0, 0]])),
        ("two VLAN tags", tagged(&[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 6]])),
        ("ninety VLAN tags", tagged(&[[0x81, 0, 0, 7]; 90])),
        ("a frame for another host", {
            let mut frame = v4(6, &syn);
            frame[5] = 0x99;
            frame
        }),
        ("from 127.0.0.1", from([127, 0, 0, 1])),
        ("from 0.0.0.0", from([0; 4])),
        ("from a multicast group", from([224, 0, 0, 1])),
        ("from the limited broadcast address", from([255; 4])),
        ("from the server itself", from(SERVER)),
        ("a first fragment of IPv6", v6(44, &first_fragment)),
        ("eight headers of options", v6(60, &chain)),
        ("a routing header with segments left", v6(43, &[&[6, 0, 0, 9, 0, 0, 0, 0][..], &syn].concat())),
        ("an authentication header", v6(51, &[&[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &syn].concat())),
        ("a jumbogram", {
            let mut packet = packet_6(0, &[&[6, 0, 0xc2, 4, 0, 1, 0, 0][..], &syn].concat());
            packet[4..6].copy_from_slice(&[0, 0]);
            ethernet(IPV6, &packet)
        }),
        ("a payload length beyond the frame", {
            let mut packet = packet_6(6, &syn);
            packet[4..6].copy_from_slice(&[0xff, 0xff]);
            ethernet(IPV6, &packet)
        }),
        ("from ::", from_6([0; 16])),
        ("from ::1", from_6(loopback)),
        ("from a multicast group of IPv6", from_6(group)),
        ("from an IPv4-mapped address", from_6(mapped)),
    ]
}

/// A SYN with twenty bytes of data for `tcp` over IPv6 in two fragments, cut after `first` bytes of
/// the data after the fragment header, preceded by options of eight bytes if `options`.
pub fn syn_in_fragments(tcp: u16, first: usize, options: bool) -> [Hostile; 2] {
    let mut syn = [segment(tcp, SYN), vec![0x41; 20]].concat();
    let pseudo = [&client_6()[..], &SERVER_6, &[0, 0, 0, 40, 0, 0, 0, 6], &syn].concat();
    syn[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let kind = if options { 60 } else { 6 };
    let whole = if options { [&[6, 0, 1, 4, 0, 0, 0, 0][..], &syn].concat() } else { syn };
    let part = |from: usize, bytes: &[u8], more: u8| {
        let offset = u8::try_from(from).expect("a small packet");
        let [.., id] = tcp.to_be_bytes();
        let cut = u8::try_from(first).expect("a small packet");
        v6(44, &[&[kind, 0, 0, offset | more, 1, u8::from(options), cut, id][..], bytes].concat())
    };
    [("the first fragment", part(0, &whole[..first], 1)), ("the second fragment", part(first, &whole[first..], 0))]
}

fn client_6() -> [u8; 16] {
    let mut address = SERVER_6;
    address[15] = 2;
    address
}

fn segment(port: u16, flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[7] = 1;
    (bytes[12], bytes[13], bytes[14]) = (0x50, flags, 0xfa);
    bytes
}

fn datagram(port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[5] = 8;
    bytes
}

fn packet_4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 66];
    bytes.extend(SERVER);
    bytes.extend(payload);
    let length = u16::try_from(bytes.len()).expect("a packet of less than 64 KiB");
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    sum(&mut bytes);
    bytes
}

/// Corrects the checksum of an IPv4 header without options.
fn sum(packet: &mut [u8]) {
    packet[10..12].copy_from_slice(&[0, 0]);
    let value = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&value.to_be_bytes());
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
    let mut value: u32 = words.sum();
    while value > 0xffff {
        value = (value & 0xffff) + (value >> 16);
    }
    !u16::try_from(value).expect("it was folded")
}

fn packet_6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a packet of less than 64 KiB").to_be_bytes();
    [&[0x60, 0, 0, 0, length[0], length[1], next, 64][..], &client_6(), &SERVER_6, payload].concat()
}

fn to_4(destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = packet_4(protocol, payload);
    packet[16..20].copy_from_slice(&destination);
    sum(&mut packet);
    ethernet(IPV4, &packet)
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(IPV4, &packet_4(protocol, payload))
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(IPV6, &packet_6(next, payload))
}

fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), packet].concat()
}
