//! Detects packets that several interfaces capture: a bridge and its port, a bond and its link, a
//! VLAN device and the device below it.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::decode::Knock;
use crate::time::Timestamp;

/// Maximum time between the timestamps of one packet at two interfaces.
const WINDOW: Duration = Duration::from_millis(20);
/// Number of packets in a set of the table.
const WAYS: usize = 8;
/// Number of sets in the table; the low bits of a packet's hash select its set. The table holds
/// more packets than a turn reads from one interface, so that it still contains them when the next
/// interface is read.
const SETS: usize = 2048;

/// The latest packets, each with the interface that captured it first. Of equal packets, only those
/// of that interface count. So two equal datagrams count twice, and each of them once, however many
/// interfaces capture them.
#[derive(Debug)]
pub(super) struct Copies {
    /// The set is selected by the low bits of the hash alone. Under some of its seeds the fast
    /// variant of foldhash concentrates them on few sets.
    hasher: RandomState,
    sets: Box<[[Entry; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    timestamp: Timestamp,
    interface: u32,
}

impl Default for Copies {
    fn default() -> Self {
        Self { hasher: RandomState::default(), sets: vec![[Entry::default(); WAYS]; SETS].into() }
    }
}

impl Copies {
    /// Returns true if another interface has captured this packet. Records the packet otherwise.
    /// `timestamp` is by the wall clock.
    pub(super) fn is_copy(&mut self, knock: &Knock, interface: u32, timestamp: Timestamp) -> bool {
        let Knock { source, destination, port, protocol, flags, source_port, sequence_number, time: _ } = *knock;
        let ports = (protocol, source_port, port, flags.bits(), sequence_number);
        let hash = self.hasher.hash_one((source, destination, ports));
        #[allow(clippy::cast_possible_truncation, reason = "the low bits select the set")]
        let set = &mut self.sets[hash as usize % SETS];
        let entry = Entry { hash, timestamp, interface };
        let Some(known) = set.iter_mut().find(|entry| entry.hash == hash) else {
            if let Some(oldest) = set.iter_mut().min_by_key(|entry| entry.timestamp) {
                *oldest = entry;
            }
            return false;
        };
        // A turn reads the whole buffer of an interface before the next: a copy may have an earlier
        // timestamp.
        if known.interface != interface && timestamp <= known.timestamp.saturating_add(WINDOW) {
            return true;
        }
        *known = entry;
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

    /// Returns how many of these equal packets (interface, milliseconds) count.
    fn counted(packets: &[(u32, u64)]) -> usize {
        let mut copies = Copies::default();
        let knock = knock("10.0.0.2", "10.0.0.1");
        packets.iter().filter(|(interface, millis)| !copies.is_copy(&knock, *interface, at(*millis))).count()
    }

    #[test]
    fn a_packet_counts_once_however_many_interfaces_capture_it() {
        assert_eq!(counted(&[(2, 0), (3, 0)]), 1, "a bridge and its port");
        assert_eq!(counted(&[(2, 0), (4, 0), (5, 1), (6, 1)]), 1, "a link, its bond, a VLAN on it, a bridge over that");
        assert_eq!(counted(&[(3, 1), (2, 0)]), 1, "the other order");
    }

    #[test]
    fn each_of_equal_packets_counts_in_whatever_order_interfaces_are_read() {
        assert_eq!(counted(&[(2, 0), (2, 0), (2, 1)]), 3, "one interface");
        assert_eq!(counted(&[(2, 0), (3, 0), (2, 1), (3, 1)]), 2);
        assert_eq!(counted(&[(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]), 3);
        assert_eq!(counted(&[(2, 0), (2, 900), (3, 0), (3, 900)]), 2, "after a pause in reading");
        assert_eq!(counted(&[(2, 0), (3, 0), (3, 500), (2, 500)]), 2, "the other interface first the second time");
    }

    #[test]
    fn an_equal_packet_at_another_interface_later_is_another_packet() {
        assert_eq!(counted(&[(2, 0), (3, 21)]), 2);
        assert_eq!(counted(&[(2, 0), (3, 20)]), 1);
    }

    #[test]
    fn packets_that_differ_in_any_field_are_no_copies() {
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
    fn copies_of_a_full_buffer_are_detected_at_the_next_interface() {
        let mut copies = Copies::default();
        let packet = |number: u32| Knock { sequence_number: number, ..knock("10.0.0.2", "10.0.0.1") };
        assert!((0..4096).all(|number| !copies.is_copy(&packet(number), 2, at(u64::from(number) / 100))));
        let copied =
            (0..4096).filter(|number| copies.is_copy(&packet(*number), 3, at(u64::from(*number) / 100))).count();
        assert!(copied > 4_070, "{copied}");
    }
}
