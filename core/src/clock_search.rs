//! Finds out by how much the clock of a client is wrong whose packet has no known hint.
//!
//! The minute that the packet was made in is unknown, and so is the key. The search tries all keys
//! with the minutes of a day before and after the present one, the nearest first, a few at a time.

use std::sync::Arc;

use crate::config::DoorId;
use crate::decode::Knock;
use crate::keys::Fingerprint;
use crate::packet_keys::PacketKeys;
use crate::spa::{self, PACKET_LENGTH};
use crate::time::Timestamp;

/// Number of minutes before and after the present one that are tried.
const REACH_MINUTES: u64 = 24 * 60;
/// Time for which unknown packets are counted before one of them is searched for, in nanoseconds.
const SAMPLE_INTERVAL: u64 = 1_000_000_000;
/// Maximum number of unknown packets in [`SAMPLE_INTERVAL`]. More of them are a flood, in which no
/// packet is searched for.
const FLOOD_THRESHOLD: u32 = 8;

/// A packet without a known hint, with the time and the addresses of its datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownPacket {
    pub(crate) knock: Knock,
    pub(crate) bytes: [u8; PACKET_LENGTH],
}

/// Selects the unknown packets that are worth a search. Times are in nanoseconds, by a clock that does
/// not run backwards.
#[derive(Debug)]
pub(crate) struct UnknownSample<T = UnknownPacket> {
    first: Option<T>,
    since: u64,
    count: u32,
}

impl<T> Default for UnknownSample<T> {
    fn default() -> Self {
        Self { first: None, since: 0, count: 0 }
    }
}

impl<T> UnknownSample<T> {
    /// Counts a packet. `packet` returns it, if it is the first one.
    pub(crate) fn add(&mut self, now: u64, packet: impl FnOnce() -> T) {
        if self.first.is_none() {
            (self.since, self.count) = (now, 0);
            self.first = Some(packet());
        }
        self.count = self.count.saturating_add(1);
    }

    /// Returns the time at which [`UnknownSample::take`] is due; `None` if no packet waits.
    pub(crate) fn due(&self) -> Option<u64> {
        self.first.as_ref().map(|_| self.since.saturating_add(SAMPLE_INTERVAL))
    }

    /// Returns the packet that waits, if its time has come and few others came with it.
    pub(crate) fn take(&mut self, now: u64) -> Option<T> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        self.first.take().filter(|_| self.count <= FLOOD_THRESHOLD)
    }
}

/// A search for the key and the minute of a packet.
#[derive(Debug)]
pub(crate) struct ClockSearch {
    packet: UnknownPacket,
    /// The minute in which the packet arrived, by the wall clock.
    present: u64,
    /// The number of the minute to try next, in the order of [`minute_at`].
    minute: u64,
    /// The index of the key to try next.
    key: usize,
}

/// The state of a search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SearchState {
    /// More must be tried.
    Searching,
    /// No key made the packet within a day.
    NotFound,
    /// A key made the packet.
    Found {
        /// The name of the key.
        key: Arc<str>,
        fingerprint: Fingerprint,
        /// A door that the key opens.
        door: DoorId,
        /// The wall clock of the client.
        time: Timestamp,
    },
}

impl ClockSearch {
    /// Begins a search for a packet that arrived at `wall`, the wall clock's time.
    pub(crate) fn new(packet: UnknownPacket, wall: Timestamp) -> Self {
        Self { packet, present: spa::minute_of(wall), minute: 0, key: 0 }
    }

    pub(crate) fn packet(&self) -> &UnknownPacket {
        &self.packet
    }

    /// Tries the next `count` combinations of a minute and a key.
    pub(crate) fn advance(&mut self, keys: &PacketKeys, count: u32) -> SearchState {
        for _ in 0..count {
            if self.key >= keys.len() {
                (self.minute, self.key) = (self.minute + 1, 0);
            }
            if self.minute > 2 * REACH_MINUTES || keys.is_empty() {
                return SearchState::NotFound;
            }
            let minute = minute_at(self.present, self.minute);
            if let Some((key, fingerprint, door, content)) = keys.try_open(self.key, minute, &self.packet.bytes) {
                return SearchState::Found { key: key.clone(), fingerprint, door, time: content.time };
            }
            self.key += 1;
        }
        SearchState::Searching
    }
}

/// Returns the minutes around the present one in the order of their distance: 0, -1, 1, -2, 2, …
fn minute_at(present: u64, index: u64) -> u64 {
    let distance = index.div_ceil(2);
    if index % 2 == 1 { present.saturating_sub(distance) } else { present.saturating_add(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Door, PacketFormat};
    use crate::keys::tests::counting_key;
    use crate::keys::{Key, NamedKey};
    use crate::packet::{Protocol, TcpFlags};
    use crate::spa::PacketContent;

    fn key(number: u8) -> Key {
        counting_key().for_server(&number.to_string())
    }

    fn keys(count: u8) -> PacketKeys {
        let named = |number: u8| NamedKey { name: format!("client{number}").into(), key: key(number) };
        let keys = (0..count).map(named).collect();
        PacketKeys::new(&[Door { packet: Some(PacketFormat::Portknock), keys, ..Door::new("ssh", None) }])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000_u64.saturating_add_signed(seconds))
    }

    fn unknown(key: &Key, time: Timestamp) -> UnknownPacket {
        let content = PacketContent { time, address: None, seconds: 0, door: "ssh".into() };
        let knock = Knock {
            time: at(0),
            source: [192, 0, 2, 1].into(),
            destination: [192, 0, 2, 2].into(),
            port: 62_201,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 1,
            sequence_number: 0,
        };
        UnknownPacket { knock, bytes: spa::seal(key, &content).unwrap() }
    }

    fn search(mut search: ClockSearch, keys: &PacketKeys) -> (SearchState, u32) {
        let mut steps = 0;
        loop {
            steps += 1;
            match search.advance(keys, 100) {
                SearchState::Searching => {}
                state => return (state, steps),
            }
        }
    }

    #[test]
    fn a_clock_that_is_wrong_by_up_to_a_day_is_found() {
        let keys = keys(3);
        for offset in [-86_400, -14_754, -61, 0, 61, 3_600, 86_400] {
            let found = search(ClockSearch::new(unknown(&key(2), at(offset)), at(0)), &keys).0;
            let fingerprint = key(2).fingerprint();
            let expected = SearchState::Found { key: "client2".into(), fingerprint, door: DoorId(0), time: at(offset) };
            assert_eq!(found, expected);
        }
        let near = search(ClockSearch::new(unknown(&key(2), at(-120)), at(0)), &keys).1;
        assert_eq!(near, 1, "the nearest minutes come first");
    }

    #[test]
    fn a_search_for_a_foreign_packet_ends() {
        let (state, steps) = search(ClockSearch::new(unknown(&key(9), at(0)), at(0)), &keys(2));
        assert_eq!((state, steps), (SearchState::NotFound, 58));
        assert_eq!(search(ClockSearch::new(unknown(&key(9), at(0)), at(0)), &keys(0)).0, SearchState::NotFound);
        let first = search(ClockSearch::new(unknown(&key(9), at(0)), Timestamp::default()), &keys(1)).0;
        assert_eq!(first, SearchState::NotFound, "the first minutes of 1970");
    }

    #[test]
    fn a_single_packet_is_searched_for_and_a_flood_is_not() {
        let mut sample = UnknownSample::default();
        let UnknownPacket { knock, bytes } = unknown(&key(1), at(0));
        let second = SAMPLE_INTERVAL;
        assert_eq!((sample.due(), sample.take(5 * second)), (None, None));
        sample.add(7, || UnknownPacket { knock, bytes });
        assert_eq!((sample.due(), sample.take(second)), (Some(second + 7), None));
        assert_eq!(sample.take(second + 7), Some(UnknownPacket { knock, bytes }));
        for count in [FLOOD_THRESHOLD, FLOOD_THRESHOLD + 1, 100_000] {
            (0..count).for_each(|_| sample.add(0, || UnknownPacket { knock, bytes }));
            assert_eq!(sample.take(second).is_some(), count <= FLOOD_THRESHOLD);
            assert_eq!(sample.due(), None);
        }
    }
}
