//! Prints the TCP and UDP packets that an interface sends or receives, one on each line:
//! `sniff INTERFACE [FILTER]`.
//!
//! The fields of a line are separated by single spaces. They are: time in microseconds, VLAN ids
//! joined by commas or `-`, source, source port, destination, destination port, `tcp` or `udp`, TCP
//! flags or `-`, TCP sequence number, payload length. (tcpdump requires a change of its user, which
//! an unprivileged user namespace forbids.)

use std::io::Write;

use etherparse::{LinkExtHeader, NetHeaders, PacketHeaders, TcpHeader, TransportHeader};
use pcap::{Capture, Packet};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let interface = args.next().ok_or("usage: sniff INTERFACE [FILTER]")?;
    // In immediate mode each packet occupies the snap length in the buffer: it is large enough for
    // a burst on a busy machine.
    let capture = Capture::from_device(interface.as_str())?.immediate_mode(true);
    let mut capture = capture.snaplen(2_048).buffer_size(16 << 20).open()?;
    if let Some(filter) = args.next() {
        capture.filter(&filter, true)?;
    }
    println!("listening on {interface}");
    let mut out = std::io::stdout();
    loop {
        let packet = match capture.next_packet() {
            Ok(packet) => packet,
            Err(pcap::Error::TimeoutExpired) => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(line) = describe(&packet) {
            writeln!(out, "{line}")?;
        }
    }
}

fn describe(packet: &Packet<'_>) -> Option<String> {
    let headers = PacketHeaders::from_ethernet_slice(packet.data).ok()?;
    let vlans: Vec<String> = headers
        .link_exts
        .iter()
        .filter_map(|header| match header {
            LinkExtHeader::Vlan(vlan) => Some(vlan.vlan_id.value().to_string()),
            LinkExtHeader::Macsec(_) => None,
        })
        .collect();
    let vlans = if vlans.is_empty() { "-".into() } else { vlans.join(",") };
    let (source, destination) = match headers.net? {
        NetHeaders::Ipv4(ip, _) => {
            (ip.source.map(|byte| byte.to_string()).join("."), ip.destination.map(|byte| byte.to_string()).join("."))
        }
        NetHeaders::Ipv6(ip, _) => (ip.source_addr().to_string(), ip.destination_addr().to_string()),
        NetHeaders::Arp(_) => return None,
    };
    let (from, to, rest) = match headers.transport? {
        TransportHeader::Tcp(tcp) => {
            (tcp.source_port, tcp.destination_port, format!("tcp {} {}", flags(&tcp), tcp.sequence_number))
        }
        TransportHeader::Udp(udp) => (udp.source_port, udp.destination_port, "udp - 0".into()),
        _ => return None,
    };
    let time = i128::from(packet.header.ts.tv_sec) * 1_000_000 + i128::from(packet.header.ts.tv_usec);
    let length = headers.payload.slice().len();
    Some(format!("{time} {vlans} {source} {from} {destination} {to} {rest} {length}"))
}

fn flags(tcp: &TcpHeader) -> String {
    let letters = [(tcp.fin, 'F'), (tcp.syn, 'S'), (tcp.rst, 'R'), (tcp.psh, 'P'), (tcp.ack, 'A'), (tcp.urg, 'U')];
    let set: String = letters.into_iter().filter_map(|(set, letter)| set.then_some(letter)).collect();
    if set.is_empty() { "-".into() } else { set }
}
