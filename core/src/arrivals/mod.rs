//! Which of the captured knocks have arrived: those whose addresses can be, and each packet once.

mod copies;

use std::collections::HashSet;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use self::copies::Copies;
use crate::decode::Knock;
use crate::packet::CaptureOrigin;
use crate::time::Timestamp;

/// Decides which captured packets count.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// The machine's addresses, and the broadcast addresses of its networks: no packet from the network comes from them.
    own: HashSet<IpAddr, RandomState>,
    copies: Option<Box<Copies>>,
}

impl Arrivals {
    /// For a machine with these addresses and broadcast addresses.
    pub(crate) fn set_addresses(&mut self, own: impl Iterator<Item = IpAddr>) {
        self.own = own.collect();
    }

    /// Packets may be captured by several interfaces.
    pub(crate) fn expect_copies(&mut self, expected: bool) {
        self.copies = match self.copies.take() {
            None if expected => Some(Box::default()),
            copies => copies.filter(|_| expected),
        };
    }

    /// True if a knock counts that was captured there and stamped with this time.
    pub(crate) fn takes(&mut self, knock: &Knock, origin: CaptureOrigin, stamp: Timestamp) -> bool {
        let addresses_can_be = origin.is_loopback
            || !knock.source.is_loopback() && !knock.destination.is_loopback() && !self.own.contains(&knock.source);
        addresses_can_be && !self.copies.as_mut().is_some_and(|copies| copies.is_copy(knock, origin.interface, stamp))
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
    fn addresses_that_no_packet_of_the_network_can_have_count_on_the_loopback_interface_alone() {
        let mut arrivals = Arrivals::default();
        let own = ["10.0.0.1", "10.0.0.255", "fd00::1", "127.0.0.1", "::1"];
        arrivals.set_addresses(own.into_iter().map(|address| address.parse().unwrap()));
        let mut takes = |source, destination, is_loopback| {
            let origin = CaptureOrigin { interface: 2, is_loopback };
            arrivals.takes(&knock(source, destination), origin, Timestamp::default())
        };
        assert!(takes("10.0.0.2", "10.0.0.1", false));
        assert!(takes("fd00::2", "fd00::1", false));
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
            assert!(!takes(source, destination, false), "{source} {destination}");
            assert!(takes(source, destination, true), "{source} {destination} by lo");
        }
    }
}
