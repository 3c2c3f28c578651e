//! The first packet of a connection, and what is known of it.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::packet::Protocol;

/// A TCP segment with SYN alone, or a UDP datagram, from outside to this host.
pub(super) struct Packet<'a> {
    pub(super) ipv6: bool,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// `None` is an address that no rule names.
    pub(super) from: Option<IpAddr>,
    pub(super) knocked: bool,
    /// The addresses of this host; empty where they are not known.
    pub(super) to: &'a HashSet<IpAddr>,
    /// The sets that it is in if the address has knocked.
    pub(super) sets: &'a OpenSets,
}

impl Packet<'_> {
    /// Whether it comes from an address or a network, as in `10.0.0.0/8`.
    pub(super) fn is_from(&self, network: &str) -> Truth {
        match (parse_network(network), self.from) {
            (None, _) => Truth::Maybe,
            (Some(network), None) => (network.prefix_len() == 0).into(),
            (Some(network), Some(from)) => network.contains(&from).into(),
        }
    }

    /// Whether it comes from one of the addresses from `first` to `last`.
    pub(super) fn is_from_between(&self, first: &str, last: &str) -> Truth {
        match (first.parse::<IpAddr>(), last.parse::<IpAddr>(), self.from) {
            (Ok(_), Ok(_), None) => Truth::No,
            (Ok(first), Ok(last), Some(from)) => (first..=last).contains(&from).into(),
            _ => Truth::Maybe,
        }
    }

    /// Whether it goes to an address or a network. Which of this host's addresses it goes to is not known.
    pub(super) fn is_to(&self, network: &str) -> Truth {
        match parse_network(network) {
            Some(network) if network.prefix_len() == 0 => Truth::Yes,
            Some(network) if network.addr().is_multicast() || network.addr().to_string() == "255.255.255.255" => {
                Truth::No
            }
            Some(network) => {
                // From outside, nothing comes to a loopback address.
                let is_own = self.to.iter().any(|own| !own.is_loopback() && network.contains(own));
                if is_own || self.to.is_empty() { Truth::Maybe } else { Truth::No }
            }
            None => Truth::Maybe,
        }
    }

    /// Whether it has the protocol of this name or number.
    pub(super) fn has_protocol(&self, name: &str) -> Truth {
        let (own, number) = match self.protocol {
            Protocol::Tcp => ("tcp", "6"),
            Protocol::Udp => ("udp", "17"),
        };
        (name == own || name == number).into()
    }
}

/// An address, or an address and the length of its prefix.
fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Sets into which the daemon or a command puts openings: family and table, and the names of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenSets(pub(super) Vec<(String, String, Vec<String>)>);

impl OpenSets {
    pub(super) fn contains(&self, family: &str, table: &str, set: &str) -> bool {
        self.0
            .iter()
            .any(|(of, in_table, names)| of == family && in_table == table && names.iter().any(|name| name == set))
    }
}

/// What is known about a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Maybe,
}

impl Truth {
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Maybe,
        }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
        }
    }

    /// Whether one of them holds.
    pub(super) fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        truths.into_iter().fold(Self::No, |any, truth| any.not().and(truth.not()).not())
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
