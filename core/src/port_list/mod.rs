//! Lists of ports, as nmap writes them.

mod common;

use std::num::NonZeroU16;
use std::str::FromStr;

use crate::packet::Protocol;
use crate::sys::names::service_port;

/// A set of ports from 1 to 65535, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(Vec<NonZeroU16>);

/// Why a text is no list of ports. Its display names the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortListError {
    /// A part is neither a port nor a range.
    #[error(
        "`{}` is not a port: expected a number from 1 to 65535, a range as in 8000-8100, or a service that the system \
         knows",
        .0.escape_default()
    )]
    Port(String),
    /// A range ends before it begins.
    #[error("the range `{}` ends before it begins", .0.escape_default())]
    Backwards(String),
}

impl PortList {
    /// The ports of the services that people run most, more than two hundred of TCP or eighty of UDP.
    pub fn most_used(protocol: Protocol) -> Self {
        let ports = if protocol == Protocol::Udp { common::UDP } else { common::TCP };
        Self(ports.iter().filter_map(|&port| NonZeroU16::new(port)).collect())
    }

    /// The ports in rising order, each once.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = NonZeroU16> + '_ {
        self.0.iter().copied()
    }
}

/// One port.
impl From<NonZeroU16> for PortList {
    fn from(port: NonZeroU16) -> Self {
        Self(vec![port])
    }
}

/// Ports and ranges with commas between, as in `22,80,8000-8100`. A range without its first port begins at 1, without its
/// last it ends at 65535, and `-` is all of them. The name of a service (`ssh`, see services(5)) is a port. Order and
/// repetition do not matter.
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
    // Names of services may have hyphens too.
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

/// A number without a sign.
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
    fn lists_are_nmaps() {
        assert_eq!(ports("22"), [22]);
        assert_eq!(ports("443,22,80,22"), [22, 80, 443]);
        assert_eq!(ports("8000-8003,8002-8004"), [8000, 8001, 8002, 8003, 8004]);
        assert_eq!(ports("-3"), [1, 2, 3]);
        assert_eq!(ports("65534-"), [65534, 65535]);
        assert_eq!(ports("7-7"), [7]);
        assert_eq!(ports("-").len(), 65_535);
    }

    #[test]
    fn the_most_used_ports_rise_and_have_what_everyone_expects() {
        for (protocol, expected) in [(Protocol::Tcp, [22, 443, 3389]), (Protocol::Udp, [53, 123, 51_820])] {
            let ports: Vec<u16> = PortList::most_used(protocol).iter().map(NonZeroU16::get).collect();
            assert!(ports.is_sorted_by(|port, next| port < next) && ports.len() >= 70, "{protocol}");
            assert!(expected.iter().all(|port| ports.contains(port)), "{protocol}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
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
