//! The ports that stay open to every client.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::packet::Protocol;
use crate::port_list::{PortList, PortListError};

/// A range of consecutive ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, at least `first`.
    pub last: u16,
}

/// A set of TCP and UDP ports, which may be empty.
///
/// The text form is a list of ports, ranges and service names with commas between them, as for
/// `portknock probe`. A port is a TCP port unless it is written with its protocol, `53/udp` or
/// `udp/53`, or follows nmap's `U:`, which applies until `T:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedPorts(BTreeSet<(Protocol, u16)>);

/// An error in the text of a set of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowedPortsError {
    /// A part is not a port.
    #[error(transparent)]
    Ports(#[from] PortListError),
    /// A part has a slash but no protocol.
    #[error("`{}` has no protocol: expected tcp or udp, as in 53/udp", .0.escape_default())]
    Protocol(String),
}

impl AllowedPorts {
    /// Returns each port with its protocol, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Protocol, u16)> + '_ {
        self.0.iter().copied()
    }

    /// Returns the ports of a protocol, as the smallest number of ranges.
    pub fn ranges(&self, protocol: Protocol) -> Vec<PortRange> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for (_, port) in self.iter().filter(|&(of, _)| of == protocol) {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(port) => range.last = port,
                _ => ranges.push(PortRange { first: port, last: port }),
            }
        }
        ranges
    }
}

impl FromStr for AllowedPorts {
    type Err = AllowedPortsError;

    fn from_str(text: &str) -> Result<Self, AllowedPortsError> {
        let mut ports = BTreeSet::new();
        let mut current = Protocol::Tcp;
        for mut part in text.split(',') {
            for (prefix, protocol) in [("T:", Protocol::Tcp), ("U:", Protocol::Udp)] {
                if let Some(rest) = part.strip_prefix(prefix) {
                    (part, current) = (rest, protocol);
                }
            }
            let (list, protocol) = match part.split_once('/') {
                None => (part, current),
                Some((one, other)) => protocol_named(other)
                    .map(|protocol| (one, protocol))
                    .or_else(|| protocol_named(one).map(|protocol| (other, protocol)))
                    .ok_or_else(|| AllowedPortsError::Protocol(part.into()))?,
            };
            ports.extend(list.parse::<PortList>()?.iter().map(|port| (protocol, port.get())));
        }
        Ok(Self(ports))
    }
}

fn protocol_named(name: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| name.eq_ignore_ascii_case(&protocol.to_string()))
}

/// As in `22`, or `8000-8100`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// As in `tcp/22,udp/53`, which can be parsed again.
impl fmt::Display for AllowedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_protocol = |protocol| {
            let ranges = self.ranges(protocol).into_iter();
            ranges.map(move |range| format!("{protocol}/{range}"))
        };
        let parts: Vec<String> = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(with_protocol).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed_with_their_protocols() {
        for (text, ports) in [
            ("22", "tcp/22"),
            ("443,80/tcp,8000-8100", "tcp/80,tcp/443,tcp/8000-8100"),
            ("udp/51820,53/UDP,22", "tcp/22,udp/53,udp/51820"),
            ("U:53,123,T:22", "tcp/22,udp/53,udp/123"),
            ("1,2,3,5,65534-", "tcp/1-3,tcp/5,tcp/65534-65535"),
            ("https", "tcp/443"),
        ] {
            let allowed: AllowedPorts = text.parse().unwrap();
            assert_eq!(allowed.to_string(), ports, "{text}");
            assert_eq!(ports.parse(), Ok(allowed), "{text}");
        }
        assert_eq!(AllowedPorts::default().to_string(), "");
    }

    #[test]
    fn an_error_contains_the_invalid_part() {
        let message = |text: &str| text.parse::<AllowedPorts>().unwrap_err().to_string();
        assert_eq!(message("22/sctp"), "`22/sctp` has no protocol: expected tcp or udp, as in 53/udp");
        assert!(message("22/tcp/udp").contains("has no protocol"));
        for text in ["", "22,", "0", "U:", "tcp/"] {
            assert!(message(text).contains("is not a port"), "{text}: {}", message(text));
        }
    }
}
