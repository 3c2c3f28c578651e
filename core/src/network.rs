//! The notation of networks: the network of a single address is written without a prefix length.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A network as in `203.0.113.0/24`, or as in `203.0.113.7` if it is a single address.
#[derive(Clone, Copy, Debug)]
pub struct DisplayNetwork(pub IpNet);

impl fmt::Display for DisplayNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            net if is_address(net) => net.addr().fmt(f),
            net => net.fmt(f),
        }
    }
}

/// True for the network of a single address.
pub(crate) fn is_address(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// Parses an address or a network. Returns `None` for anything else, and for a network with bits
/// set after its prefix.
pub fn parse_network(text: &str) -> Option<IpNet> {
    parse_address_or_network(text).filter(|net| net.trunc() == *net)
}

/// Parses an address, or an address with a prefix length, which can have bits set after its prefix.
pub(crate) fn parse_address_or_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written() {
        for text in ["203.0.113.7", "203.0.113.0/24", "2001:db8::7", "2001:db8::/56", "0.0.0.0/0"] {
            assert_eq!(DisplayNetwork(parse_network(text).unwrap()).to_string(), text);
        }
        assert_eq!(DisplayNetwork(parse_network("203.0.113.7/32").unwrap()).to_string(), "203.0.113.7");
        for bad in ["", "203.0.113.7/24", "203.0.113.0/33", "203.0.113.0/", "host", "203.0.113.0/255.255.255.0"] {
            assert_eq!(parse_network(bad), None, "{bad}");
        }
    }
}
