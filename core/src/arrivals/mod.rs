//! Selects the captured knocks that count: those with possible addresses, and each packet once.

mod copies;

use std::collections::HashSet;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use self::copies::Copies;
use crate::decode::Knock;
use crate::packet::CaptureOrigin;
use crate::time::Timestamp;

/// Selects the captured packets that count.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// The addresses of this machine, and the broadcast addresses of its networks. No packet from
    /// the network has such a source address.
    own: HashSet<IpAddr, RandomState>,
    /// `None` if no packet is captured twice.
    copies: Option<Box<Copies>>,
}

impl Arrivals {
    /// Sets the addresses and broadcast addresses of this machine.
    pub(crate) fn set_addresses(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.own = own.collect();
    }

    /// Sets whether several interfaces may capture the same packet.
    pub(crate) fn expect_copies(&mut self, expected: bool) {
        self.copies = match self.copies.take() {
            None if expected => Some(Box::default()),
            copies => copies.filter(|_| expected),
        };
    }

    /// Returns true if a knock counts that was captured at `origin` and has this timestamp, by the
    /// wall clock.
    pub(crate) fn accepts(&mut self, knock: &Knock, origin: CaptureOrigin, timestamp: Timestamp) -> bool {
        let is_possible = origin.is_loopback
            || !knock.source.is_loopback() && !knock.destination.is_loopback() && !self.own.contains(&knock.source);
        is_possible && !self.copies.as_mut().is_some_and(|copies| copies.is_copy(knock, origin.interface, timestamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Protocol, TcpFlags};

    pub(super) fn knock(source: &str, destination: &str) -> Knock {
        Knock {
            time: Timestamp::default(),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            port: 7000,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 40_000,
            sequence_number: 0,
        }
    }

    #[test]
    fn impossible_addresses_count_on_the_loopback_interface_alone() {
        let mut arrivals = Arrivals::default();
        let own = ["10.0.0.1", "10.0.0.255", "fd00::1", "127.0.0.1", "::1"];
        arrivals.set_addresses(own.into_iter().map(|address| address.parse().unwrap()));
        let mut accepts = |source, destination, is_loopback| {
            let origin = CaptureOrigin { interface: 2, is_loopback };
            arrivals.accepts(&knock(source, destination), origin, Timestamp::default())
        };
        assert!(accepts("10.0.0.2", "10.0.0.1", false));
        assert!(accepts("fd00::2", "fd00::1", false));
        for (source, destination) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.255", "10.0.0.1"),
            ("127.0.0.1", "10.0.0.1"),
            ("127.3.2.1", "127.0.0.1"),
            ("10.0.0.2", "127.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("::1", "fd00::1"),
            ("fd00::2", "::1"),
        ] {
            assert!(!accepts(source, destination, false), "{source} {destination}");
            assert!(accepts(source, destination, true), "{source} {destination} on lo");
        }
    }
}
