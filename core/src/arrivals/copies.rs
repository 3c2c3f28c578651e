//! Packets that several interfaces show: a bridge and its port, a bond and its link, a VLAN device and the one below.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::decode::Knock;
use crate::time::Timestamp;

/// Maximum time between the stamps of one packet at two interfaces.
const WINDOW: Duration = Duration::from_millis(20);
/// Number of packets that are remembered with equal low bits of their hashes.
const WAYS: usize = 8;
/// Number of such groups. The table holds more than the frames that are taken of one interface in a turn, so that they
/// are still known when the next one shows them.
const SETS: usize = 2048;

/// The packets of the last moments, each with the interface that showed it first. Of equal packets only those of that
/// interface count: so two equal datagrams are two, and each is one, whatever shows them.
#[derive(Debug)]
pub(super) struct Copies {
    hasher: RandomState,
    sets: Box<[[Entry; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    stamp: Timestamp,
    interface: u32,
}

impl Default for Copies {
    fn default() -> Self {
        Self { hasher: RandomState::default(), sets: vec![[Entry::default(); WAYS]; SETS].into() }
    }
}

impl Copies {
    /// True if another interface has shown this packet.
    pub(super) fn is_copy(&mut self, knock: &Knock, interface: u32, stamp: Timestamp) -> bool {
        let Knock { source, destination, port, protocol, flags, source_port, sequence_number, time: _ } = *knock;
        let ports = (protocol, source_port, port, flags.bits(), sequence_number);
        let hash = self.hasher.hash_one((source, destination, ports));
        #[allow(clippy::cast_possible_truncation, reason = "the low bits choose the group")]
        let set = &mut self.sets[hash as usize % SETS];
        let seen = Entry { hash, stamp, interface };
        let Some(known) = set.iter_mut().find(|entry| entry.hash == hash) else {
            if let Some(oldest) = set.iter_mut().min_by_key(|entry| entry.stamp) {
                *oldest = seen;
            }
            return false;
        };
        // A whole buffer of one interface is read before the next: an earlier stamp is a copy's, too.
        if known.interface != interface && stamp <= known.stamp.saturating_add(WINDOW) {
            return true;
        }
        *known = seen;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::knock;
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(1_700_000_000_000_000_000 + millis * 1_000_000)
    }

    /// How many of these packets (interface, milliseconds), all alike, count.
    fn counted(packets: &[(u32, u64)]) -> usize {
        let mut copies = Copies::default();
        let knock = knock("10.0.0.2", "10.0.0.1");
        packets.iter().filter(|(interface, millis)| !copies.is_copy(&knock, *interface, at(*millis))).count()
    }

    #[test]
    fn a_packet_counts_once_however_many_interfaces_show_it() {
        assert_eq!(counted(&[(2, 0), (3, 0)]), 1, "a bridge and its port");
        assert_eq!(counted(&[(2, 0), (4, 0), (5, 1), (6, 1)]), 1, "a link, its bond, a VLAN on it, a bridge over that");
        assert_eq!(counted(&[(3, 1), (2, 0)]), 1, "the other order");
    }

    #[test]
    fn equal_packets_count_each_whatever_the_order_in_which_interfaces_are_read() {
        assert_eq!(counted(&[(2, 0), (2, 0), (2, 1)]), 3, "one interface");
        assert_eq!(counted(&[(2, 0), (3, 0), (2, 1), (3, 1)]), 2);
        assert_eq!(counted(&[(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]), 3);
        assert_eq!(counted(&[(2, 0), (2, 900), (3, 0), (3, 900)]), 2, "after a time in which nothing was read");
        assert_eq!(counted(&[(2, 0), (3, 0), (3, 500), (2, 500)]), 2, "the other one first the second time");
    }

    #[test]
    fn the_same_by_another_interface_later_is_another_packet() {
        assert_eq!(counted(&[(2, 0), (3, 21)]), 2);
        assert_eq!(counted(&[(2, 0), (3, 20)]), 1);
    }

    #[test]
    fn packets_that_differ_in_anything_are_no_copies() {
        let mut copies = Copies::default();
        let first = knock("10.0.0.2", "10.0.0.1");
        assert!(!copies.is_copy(&first, 2, at(0)));
        for other in [
            Knock { source: [10, 0, 0, 3].into(), ..first },
            Knock { destination: [10, 0, 0, 9].into(), ..first },
            Knock { port: 7001, ..first },
            Knock { source_port: 40_001, ..first },
            Knock { sequence_number: 1, ..first },
            Knock { protocol: crate::packet::Protocol::Tcp, ..first },
            Knock { flags: crate::packet::TcpFlags::SYN, ..first },
        ] {
            assert!(!copies.is_copy(&other, 3, at(0)), "{other:?}");
        }
        assert!(copies.is_copy(&first, 3, at(0)));
    }

    #[test]
    fn a_full_buffer_of_one_interface_is_still_known_when_the_next_shows_it() {
        let mut copies = Copies::default();
        let packet = |number: u32| Knock { sequence_number: number, ..knock("10.0.0.2", "10.0.0.1") };
        assert!((0..4096).all(|number| !copies.is_copy(&packet(number), 2, at(u64::from(number) / 100))));
        let copied =
            (0..4096).filter(|number| copies.is_copy(&packet(*number), 3, at(u64::from(*number) / 100))).count();
        assert!(copied > 4_070, "{copied}");
    }
}
