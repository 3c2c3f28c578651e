//! Hand-made frames.

use std::error::Error;
use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpHeader, ether_type};

/// A TCP segment or UDP datagram that no kernel has made.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// The destination's hardware address.
    pub to_mac: [u8; 6],
    /// The VLAN tags around it, the outer one first.
    pub vlan: &'a [u16],
    /// The source address.
    pub from: IpAddr,
    /// The destination address, of the same family.
    pub to: IpAddr,
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub port: u16,
    /// The TCP flags that are set, some of `FSRPAU`; `None` for UDP.
    pub flags: Option<&'a str>,
    /// The TCP sequence number.
    pub sequence_number: u32,
    /// The payload of a UDP datagram.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Appends its bytes, from the Ethernet header on.
    pub fn write(&self, bytes: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
        bytes.extend(self.to_mac);
        bytes.extend([2, 0, 0, 0, 0, 0xfe]);
        for id in self.vlan {
            bytes.extend(ether_type::VLAN_TAGGED_FRAME.0.to_be_bytes());
            bytes.extend(id.to_be_bytes());
        }
        let (network, builder) = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                (ether_type::IPV4, PacketBuilder::ipv4(from.octets(), to.octets(), 64))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                (ether_type::IPV6, PacketBuilder::ipv6(from.octets(), to.octets(), 64))
            }
            (from, to) => return Err(format!("{from} and {to} are not of one family").into()),
        };
        bytes.extend(network.0.to_be_bytes());
        match self.flags {
            None => builder.udp(self.source_port, self.port).write(bytes, self.payload)?,
            Some(flags) => builder.tcp_header(self.tcp_header(flags)?).write(bytes, &[])?,
        }
        Ok(())
    }

    fn tcp_header(&self, flags: &str) -> Result<TcpHeader, Box<dyn Error>> {
        let mut tcp = TcpHeader::new(self.source_port, self.port, self.sequence_number, 64_240);
        for flag in flags.chars() {
            match flag {
                'F' => tcp.fin = true,
                'S' => tcp.syn = true,
                'R' => tcp.rst = true,
                'P' => tcp.psh = true,
                'A' => tcp.ack = true,
                'U' => tcp.urg = true,
                _ => return Err(format!("flags are letters of FSRPAU, not `{flag}`").into()),
            }
        }
        Ok(tcp)
    }
}
