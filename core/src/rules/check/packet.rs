//! The known properties of the first packet of a connection.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::network::parse_address_or_network;
use crate::packet::Protocol;

/// A TCP segment with SYN alone, or a UDP datagram, from another host to this host.
pub(super) struct Packet<'a> {
    pub(super) ipv6: bool,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// The source; `None` means an address that no rule names.
    pub(super) from: Option<IpAddr>,
    pub(super) knocked: bool,
    /// The addresses of this host; empty if they are unknown.
    pub(super) to: &'a HashSet<IpAddr>,
    /// The sets that contain the packet if the address has knocked.
    pub(super) sets: &'a OpenSets,
}

impl Packet<'_> {
    /// Evaluates whether the source is in this address or network, as in `10.0.0.0/8`.
    pub(super) fn is_from(&self, network: &str) -> Truth {
        match (parse_address_or_network(network), self.from) {
            (None, _) => Truth::Maybe,
            (Some(network), None) => (network.prefix_len() == 0).into(),
            (Some(network), Some(from)) => network.contains(&from).into(),
        }
    }

    /// Evaluates whether the source is in the range from `first` to `last`, inclusive.
    pub(super) fn is_from_between(&self, first: &str, last: &str) -> Truth {
        match (first.parse::<IpAddr>(), last.parse::<IpAddr>(), self.from) {
            (Ok(_), Ok(_), None) => Truth::No,
            (Ok(first), Ok(last), Some(from)) => (first..=last).contains(&from).into(),
            _ => Truth::Maybe,
        }
    }

    /// Evaluates whether the destination is in this address or network. It is unknown which address
    /// of this host is the destination.
    pub(super) fn is_to(&self, network: &str) -> Truth {
        match parse_address_or_network(network) {
            Some(network) if network.prefix_len() == 0 => Truth::Yes,
            Some(network) if network.addr().is_multicast() || network.addr().to_string() == "255.255.255.255" => {
                Truth::No
            }
            Some(network) => {
                // Packets from other hosts do not have a loopback destination.
                let is_own = self.to.iter().any(|own| !own.is_loopback() && network.contains(own));
                if is_own || self.to.is_empty() { Truth::Maybe } else { Truth::No }
            }
            None => Truth::Maybe,
        }
    }

    /// Evaluates whether the packet has the protocol with this name or number.
    pub(super) fn has_protocol(&self, name: &str) -> Truth {
        let (own, number) = match self.protocol {
            Protocol::Tcp => ("tcp", "6"),
            Protocol::Udp => ("udp", "17"),
        };
        (name == own || name == number).into()
    }
}

/// The sets to which the daemon or a command adds openings: family, table, and the names of the
/// sets.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenSets(pub(super) Vec<(String, String, Vec<String>)>);

impl OpenSets {
    pub(super) fn contains(&self, family: &str, table: &str, set: &str) -> bool {
        self.0
            .iter()
            .any(|(of, in_table, names)| of == family && in_table == table && names.iter().any(|name| name == set))
    }
}

/// The truth value of a condition in three-valued logic; `Maybe` is unknown.
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

    /// Returns the disjunction: `Yes` if one of the values is `Yes`.
    pub(super) fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        truths.into_iter().fold(Self::No, |any, truth| any.not().and(truth.not()).not())
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
