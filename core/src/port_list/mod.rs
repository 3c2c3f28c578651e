//! Lists of ports in nmap's syntax.

mod common;

use std::num::NonZeroU16;
use std::str::FromStr;

use crate::packet::Protocol;
use crate::sys::names::service_port;

/// A set of ports from 1 to 65535, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(Vec<NonZeroU16>);

/// The reason why a text is not a list of ports. The message quotes the invalid part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortListError {
    /// A part is neither a port nor a range.
    #[error(
        "`{}` is not a port: expected a number from 1 to 65535, a range as in 8000-8100, or a service \
         name",
        .0.escape_default()
    )]
    Port(String),
    /// A range ends before it begins.
    #[error("the range `{}` ends before it begins", .0.escape_default())]
    Backwards(String),
}

impl PortList {
    /// Returns the ports of commonly used services: 223 for TCP, 76 for UDP.
    pub fn most_used(protocol: Protocol) -> Self {
        let ports = if protocol == Protocol::Udp { common::UDP } else { common::TCP };
        Self(ports.iter().filter_map(|&port| NonZeroU16::new(port)).collect())
    }

    /// Returns the ports in ascending order, without duplicates.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = NonZeroU16> + '_ {
        self.0.iter().copied()
    }
}

/// A list of one port.
impl From<NonZeroU16> for PortList {
    fn from(port: NonZeroU16) -> Self {
        Self(vec![port])
    }
}

/// Parses ports and ranges separated by commas, as in `22,80,8000-8100`. A range without its first
/// port begins at 1, a range without its last port ends at 65535, and `-` is all ports. A service
/// name (`ssh`, see services(5)) is a valid port. Order and duplicates do not matter.
impl FromStr for PortList {
    type Err = PortListError;

    fn from_str(text: &str) -> Result<Self, PortListError> {
        let mut ports = Vec::new();
        for part in text.split(',') {
            let (first, last) = parse_part(part)?;
            ports.extend((first.get()..=last.get()).filter_map(NonZeroU16::new));
        }
        ports.sort_unstable();
        ports.dedup();
        Ok(Self(ports))
    }
}

fn parse_part(part: &str) -> Result<(NonZeroU16, NonZeroU16), PortListError> {
    let wrong = || PortListError::Port(part.into());
    // Service names may contain hyphens.
    if let Some(port) = single(part) {
        return Ok((port, port));
    }
    let (first, last) = part.split_once('-').ok_or_else(wrong)?;
    let end = |text: &str, default| if text.is_empty() { Some(default) } else { number(text) };
    let first = end(first, NonZeroU16::MIN).ok_or_else(wrong)?;
    let last = end(last, NonZeroU16::MAX).ok_or_else(wrong)?;
    if last < first { Err(PortListError::Backwards(part.into())) } else { Ok((first, last)) }
}

fn single(text: &str) -> Option<NonZeroU16> {
    number(text).or_else(|| {
        if text.contains(|c: char| c.is_ascii_alphabetic()) {
            service_port(text).and_then(NonZeroU16::new)
        } else {
            None
        }
    })
}

/// Parses a port number without a sign.
fn number(text: &str) -> Option<NonZeroU16> {
    text.parse().ok().filter(|_| text.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<u16> {
        text.parse::<PortList>().unwrap().iter().map(NonZeroU16::get).collect()
    }

    #[test]
    fn lists_follow_nmaps_syntax() {
        assert_eq!(ports("22"), [22]);
        assert_eq!(ports("443,22,80,22"), [22, 80, 443]);
        assert_eq!(ports("8000-8003,8002-8004"), [8000, 8001, 8002, 8003, 8004]);
        assert_eq!(ports("-3"), [1, 2, 3]);
        assert_eq!(ports("65534-"), [65534, 65535]);
        assert_eq!(ports("7-7"), [7]);
        assert_eq!(ports("-").len(), 65_535);
    }

    #[test]
    fn the_common_ports_are_sorted_and_contain_well_known_services() {
        for (protocol, expected) in [(Protocol::Tcp, [22, 443, 3389]), (Protocol::Udp, [53, 123, 51_820])] {
            let ports: Vec<u16> = PortList::most_used(protocol).iter().map(NonZeroU16::get).collect();
            assert!(ports.is_sorted_by(|port, next| port < next) && ports.len() >= 70, "{protocol}");
            assert!(expected.iter().all(|port| ports.contains(port)), "{protocol}");
        }
    }

    #[test]
    fn an_error_quotes_the_invalid_part() {
        let message = |text: &str| text.parse::<PortList>().unwrap_err().to_string();
        for text in
            ["", "0", "65536", "1,,2", "22,", "+1", "1-2-3", "--", "no-such-service", "80:udp", "1- 2", "0-5", "\u{1b}"]
        {
            assert!(message(text).contains("is not a port: expected"), "{text}: {}", message(text));
            assert!(!message(text).contains('\u{1b}'));
        }
        assert_eq!(message("90-80"), "the range `90-80` ends before it begins");
    }
}
