//! What is in the sets: a source (the first address of a network), a protocol and a port, each filled up to four bytes.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

use crate::config::OpenPort;
use crate::packet::Protocol;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A port that is open for an address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The sources.
    pub net: IpNet,
    /// The port.
    pub port: OpenPort,
}

/// The key of a port alone.
pub(super) fn port_key(port: OpenPort) -> [u8; 8] {
    let protocol = match port.protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    let [high, low] = port.port.get().to_be_bytes();
    [protocol, 0, 0, 0, high, low, 0, 0]
}

impl Element {
    /// The key as the kernel has it.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = match self.net.addr() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        key.extend(port_key(self.port));
        key
    }

    /// What the key stands for in a set for networks with a prefix of this length; `None` for one that doors do not open.
    pub(super) fn of_key(key: &[u8], length: u8) -> Option<Self> {
        let (ip, port) = key.split_at_checked(key.len().checked_sub(8)?)?;
        let ip: IpAddr = match ip.len() {
            4 => <[u8; 4]>::try_from(ip).ok()?.into(),
            16 => <[u8; 16]>::try_from(ip).ok()?.into(),
            _ => return None,
        };
        let protocol = match port[0] {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        let port = NonZeroU16::new(u16::from_be_bytes([port[4], port[5]]))?;
        let net = IpNet::new(ip, length).ok().filter(|net| net.trunc() == *net)?;
        Some(Self { net, port: OpenPort { protocol, port } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_address_the_protocol_and_the_port() {
        let port = OpenPort { protocol: Protocol::Udp, port: NonZeroU16::new(51820).unwrap() };
        let element = Element { net: "10.0.0.2/32".parse().unwrap(), port };
        assert_eq!(element.key(), [10, 0, 0, 2, 17, 0, 0, 0, 0xca, 0x6c, 0, 0]);
        for net in ["10.0.0.2/32", "2001:db8::7/128", "10.0.0.0/24", "2001:db8::/56"] {
            let element = Element { net: net.parse().unwrap(), port };
            assert_eq!(Element::of_key(&element.key(), element.net.prefix_len()), Some(element));
        }
        assert_eq!(Element::of_key(&element.key(), 24), None, "the address of a host");
        for broken in [&[][..], &[1; 7], &[6; 9], &[1; 12], &[6, 6, 6, 6, 6, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Element::of_key(broken, 8), None, "{broken:?}");
        }
    }
}
