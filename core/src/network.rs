//! Networks as people write them: one that is a single address has no length.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A network as in `203.0.113.0/24`, or as in `203.0.113.7` if it is a single address.
#[derive(Clone, Copy, Debug)]
pub struct Written(pub IpNet);

impl fmt::Display for Written {
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

/// Reads an address or a network; `None` for anything else, and for a network with bits set after its prefix.
pub fn parse_network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.into()),
        Err(_) => text.parse().ok().filter(|net: &IpNet| net.trunc() == *net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written() {
        for text in ["203.0.113.7", "203.0.113.0/24", "2001:db8::7", "2001:db8::/56", "0.0.0.0/0"] {
            assert_eq!(Written(parse_network(text).unwrap()).to_string(), text);
        }
        assert_eq!(Written(parse_network("203.0.113.7/32").unwrap()).to_string(), "203.0.113.7");
        for bad in ["", "203.0.113.7/24", "203.0.113.0/33", "203.0.113.0/", "host", "203.0.113.0/255.255.255.0"] {
            assert_eq!(parse_network(bad), None, "{bad}");
        }
    }
}
