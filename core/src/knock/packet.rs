//! Sending one knock as one packet.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use etherparse::TcpHeader;

use super::KnockError;
use crate::host;
use crate::packet::Protocol;
use crate::packet::set_checksum;
use crate::sys::raw::{RawProtocol, RawSocket};
use crate::sys::socket;

/// Payload of a UDP knock: one zero byte, as knockd's client sends it.
const UDP_PAYLOAD: [u8; 1] = [0];

/// A sender of knocks to one address.
#[derive(Debug)]
pub(super) struct Sender {
    source: Option<IpAddr>,
    /// The raw socket and the address that it sends from.
    raw: Option<(RawSocket, IpAddr)>,
}

impl Sender {
    pub(super) fn new(address: SocketAddr, source: Option<IpAddr>, raw: bool) -> Result<Self, KnockError> {
        let raw = if raw {
            let open = || -> io::Result<_> {
                let from = host::local_address(address, source)?;
                Ok((RawSocket::open(from, RawProtocol::Tcp)?, from.ip()))
            };
            Some(open().map_err(|error| KnockError::Raw { address: address.ip(), error })?)
        } else {
            None
        };
        Ok(Self { source, raw })
    }

    /// Sends one knock. When it returns, the packet has left.
    pub(super) fn send(&self, to: SocketAddr, protocol: Protocol) -> io::Result<()> {
        match (protocol, &self.raw) {
            (Protocol::Udp, _) => host::udp_socket(to, self.source)?.send_to(&UDP_PAYLOAD, to).map(drop),
            (Protocol::Tcp, Some((raw, from))) => raw.send(&[bare_syn(*from, to)], to).map(drop),
            (Protocol::Tcp, None) => match socket::start_connect(to, self.source) {
                // Dropped immediately, so that the kernel sends no second SYN.
                Ok(_stream) => Ok(()),
                // The port's refusal is here already: the knock was sent.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}

/// Returns a TCP header whose only flag is SYN, with a random source port and sequence number.
fn bare_syn(from: IpAddr, to: SocketAddr) -> Vec<u8> {
    // The seeds of the standard library's hash maps are random numbers that need no further crate.
    let [r0, r1, r2, r3, r4, r5, ..] = RandomState::new().hash_one(to).to_ne_bytes();
    // The range from which the kernel chooses the ports of outgoing connections: 32768 and above.
    let source_port = 32_768 | u16::from_ne_bytes([r0, r1]);
    let sequence_number = u32::from_ne_bytes([r2, r3, r4, r5]);
    let mut header = TcpHeader::new(source_port, to.port(), sequence_number, 64_240);
    header.syn = true;
    set_checksum(&mut header, from, to.ip());
    header.to_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_syn_is_twenty_bytes_with_a_valid_checksum() {
        for (from, to) in [("192.0.2.1", "192.0.2.2:7000"), ("2001:db8::1", "[2001:db8::2]:7000")] {
            let (from, to): (IpAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let bytes = bare_syn(from, to);
            assert_eq!(bytes.len(), 20);
            assert_eq!(bytes[2..4], 7000_u16.to_be_bytes());
            assert_eq!(bytes[13], 0x02, "only SYN is set");
            assert!(u16::from_be_bytes([bytes[0], bytes[1]]) >= 32_768);
            // RFC 9293, section 3.1: over pseudo header and segment the ones' complement sum is all
            // ones.
            let mut words = bytes;
            match (from, to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => words.extend([from.octets(), to.octets()].concat()),
                (IpAddr::V6(from), IpAddr::V6(to)) => words.extend([from.octets(), to.octets()].concat()),
                _ => unreachable!(),
            }
            words.extend([0, 6, 0, 20]);
            let mut sum: u32 = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(sum, 0xffff);
        }
    }

    #[test]
    fn two_bare_syns_are_two_connections() {
        let (from, to) = ("192.0.2.1".parse().unwrap(), "192.0.2.2:7000".parse().unwrap());
        assert_ne!(bare_syn(from, to), bare_syn(from, to));
    }
}
