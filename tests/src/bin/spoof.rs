//! Answers each SYN to certain ports in place of the host, with numbers that may be wrong, as an
//! attacker does who cannot read the SYNs.

use clap::Parser;
use etherparse::{
    Icmpv4Type, Icmpv6Type, NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader, icmpv4, icmpv6,
};
use pcap::Capture;

/// Answers each SYN to certain ports with a spoofed packet, until it is killed
#[derive(Parser)]
struct Spoof {
    /// The interface to answer on
    #[arg(long)]
    interface: String,
    /// How far each number in an answer is from that of the SYN
    #[arg(long)]
    off_by: u32,
    /// Ports whose SYNs get a SYN/ACK that acknowledges this number
    #[arg(long, value_delimiter = ',')]
    syn_ack: Vec<u16>,
    /// Ports whose SYNs get an RST that acknowledges this number
    #[arg(long, value_delimiter = ',')]
    reset: Vec<u16>,
    /// Ports whose SYNs get an ICMP error, port unreachable, about a segment with this number
    #[arg(long, value_delimiter = ',')]
    unreachable: Vec<u16>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spoof = Spoof::parse();
    let mut capture = Capture::from_device(spoof.interface.as_str())?.immediate_mode(true).open()?;
    capture.filter("tcp", true)?;
    println!("ready");
    loop {
        let spoofed = match capture.next_packet() {
            Ok(packet) => spoof.answer(packet.data)?,
            Err(pcap::Error::TimeoutExpired) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(frame) = spoofed {
            capture.sendpacket(frame.as_slice())?;
        }
    }
}

/// The packet that is sent instead of the true answer.
enum Reply {
    /// A TCP segment.
    Segment(TcpHeader),
    /// An ICMP error about this segment.
    Unreachable(TcpHeader),
}

impl Spoof {
    /// The packet to send for this SYN, if it is for one of the ports.
    fn forgery(&self, syn: &TcpHeader) -> Option<Reply> {
        let port = syn.destination_port;
        let number = syn.sequence_number.wrapping_add(self.off_by);
        let mut answer = TcpHeader::new(port, syn.source_port, 1, 64_240);
        answer.ack = true;
        answer.acknowledgment_number = number;
        if self.syn_ack.contains(&port) {
            answer.syn = true;
            Some(Reply::Segment(answer))
        } else if self.reset.contains(&port) {
            answer.rst = true;
            Some(Reply::Segment(answer))
        } else if self.unreachable.contains(&port) {
            Some(Reply::Unreachable(TcpHeader { sequence_number: number, ..syn.clone() }))
        } else {
            None
        }
    }

    /// The frame that answers this one, if it is a SYN to one of the ports.
    fn answer(&self, frame: &[u8]) -> Result<Option<Vec<u8>>, Box<dyn std::error::Error>> {
        let headers = PacketHeaders::from_ethernet_slice(frame)?;
        let (Some(net), Some(TransportHeader::Tcp(tcp))) = (headers.net, headers.transport) else { return Ok(None) };
        if !tcp.syn || tcp.ack {
            return Ok(None);
        }
        let Some(forgery) = self.forgery(&tcp) else { return Ok(None) };
        // Back to the sender, with the same ether type.
        let mut spoofed = [&frame[6..12], &frame[..6], &frame[12..14]].concat();
        let mut quoted = Vec::new();
        match net {
            NetHeaders::Ipv4(ip, _) => {
                let builder = PacketBuilder::ipv4(ip.destination, ip.source, 64);
                match forgery {
                    Reply::Segment(tcp) => builder.tcp_header(tcp).write(&mut spoofed, &[])?,
                    Reply::Unreachable(tcp) => {
                        ip.write(&mut quoted)?;
                        tcp.write(&mut quoted)?;
                        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
                        builder.icmpv4(kind).write(&mut spoofed, &quoted)?;
                    }
                }
            }
            NetHeaders::Ipv6(ip, _) => {
                let builder = PacketBuilder::ipv6(ip.destination, ip.source, 64);
                match forgery {
                    Reply::Segment(tcp) => builder.tcp_header(tcp).write(&mut spoofed, &[])?,
                    Reply::Unreachable(tcp) => {
                        ip.write(&mut quoted)?;
                        tcp.write(&mut quoted)?;
                        let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
                        builder.icmpv6(kind).write(&mut spoofed, &quoted)?;
                    }
                }
            }
            NetHeaders::Arp(_) => return Ok(None),
        }
        Ok(Some(spoofed))
    }
}
