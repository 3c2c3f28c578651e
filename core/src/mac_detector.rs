//! Selects the datagrams that a key authenticated, with bounded work for all others.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::fwknop::{MacKey, has_form};
use crate::rate_limit::Limit;

/// Maximum number of packets per second, and at one time, that are passed on for each key.
pub(crate) const MAX_PACKET_RATE: u32 = 8;
/// Number of the last packets of each key that are recognised, so that a repeated packet does not
/// exhaust the rate of the key.
const REMEMBERED: usize = 1024;
/// Maximum number of HMACs that are computed per second.
const MAX_MAC_RATE: u64 = 200_000;
/// Time over which the load is measured, in nanoseconds.
const INTERVAL: u64 = 50_000_000;
/// Maximum number of HMACs in [`INTERVAL`].
const MACS_PER_INTERVAL: u64 = MAX_MAC_RATE * INTERVAL / 1_000_000_000;

/// The result for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MacVerdict {
    /// A key authenticated the datagram.
    Authentic,
    /// A key authenticated the datagram, but it was passed on before, or there are too many of the key.
    Ignored,
    /// The datagram does not have the form of a packet.
    Malformed,
    /// No key authenticated the datagram.
    Bogus,
    /// The datagram was not checked, because there are too many.
    Unchecked,
}

impl MacVerdict {
    /// Returns true for a datagram that counts as bogus.
    pub(crate) fn is_bogus(self) -> bool {
        match self {
            Self::Malformed | Self::Bogus | Self::Unchecked => true,
            Self::Authentic | Self::Ignored => false,
        }
    }
}

/// Selects the datagrams that a key authenticated. Times are in nanoseconds, by a clock that does not
/// run backwards.
#[derive(Debug, Default)]
pub(crate) struct MacDetector {
    keys: Arc<[MacKey]>,
    limits: Vec<KeyLimit>,
    load: Load,
}

impl MacDetector {
    pub(crate) fn new(keys: Arc<[MacKey]>) -> Self {
        let mut detector = Self::default();
        detector.set_keys(keys);
        detector
    }

    /// Replaces the keys. They keep their rates if they are the same.
    pub(crate) fn set_keys(&mut self, keys: Arc<[MacKey]>) {
        if keys != self.keys {
            self.limits = keys.iter().map(|_| KeyLimit::new()).collect();
            self.keys = keys;
        }
    }

    /// Handles a datagram at the time `now`.
    pub(crate) fn take(&mut self, payload: &[u8], now: u64) -> MacVerdict {
        if !has_form(payload) {
            return MacVerdict::Malformed;
        }
        if !self.load.admits(self.keys.len() as u64, now) {
            return MacVerdict::Unchecked;
        }
        let found = self.keys.iter().zip(&mut self.limits).find(|(key, _)| key.verify(payload));
        let Some((_, limit)) = found else { return MacVerdict::Bogus };
        if limit.take(payload, now) { MacVerdict::Authentic } else { MacVerdict::Ignored }
    }
}

/// The rate of a key, and its last packets.
#[derive(Debug)]
struct KeyLimit {
    limit: Limit,
    /// The ends of the HMACs of the last packets.
    known: HashSet<[u8; 8], RandomState>,
    /// The same, the oldest first.
    order: VecDeque<[u8; 8]>,
}

impl KeyLimit {
    fn new() -> Self {
        let limit = Limit::new(MAX_PACKET_RATE, MAX_PACKET_RATE);
        Self { limit, known: HashSet::default(), order: VecDeque::new() }
    }

    /// Returns true if an authentic packet is to be passed on.
    fn take(&mut self, payload: &[u8], now: u64) -> bool {
        let end = payload.last_chunk().copied().unwrap_or_default();
        if self.known.contains(&end) || !self.limit.take(now) {
            return false;
        }
        self.known.insert(end);
        self.order.push_back(end);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// Limits the number of HMACs. In an overload it admits packets at random, so that an attacker cannot
/// choose which of them are checked.
#[derive(Debug, Default)]
struct Load {
    random: RandomState,
    /// The start of the present interval.
    since: u64,
    /// Number of HMACs in the present interval if all packets were admitted.
    wanted: u64,
    /// Number of HMACs in the present interval.
    used: u64,
    /// The part of the packets that are admitted, as a fraction of 2^32. 0 admits all of them.
    share: u64,
    count: u64,
}

impl Load {
    /// Returns true if a packet that costs this number of HMACs is to be checked.
    fn admits(&mut self, macs: u64, now: u64) -> bool {
        if now.saturating_sub(self.since) >= INTERVAL {
            // The load of an interval that began long ago is no measure.
            let is_recent = now - self.since < 2 * INTERVAL;
            let is_overload = is_recent && self.wanted > MACS_PER_INTERVAL;
            self.share = if is_overload { (MACS_PER_INTERVAL << 32) / self.wanted } else { 0 };
            (self.since, self.wanted, self.used) = (now, 0, 0);
        }
        self.wanted = self.wanted.saturating_add(macs);
        self.count = self.count.wrapping_add(1);
        let is_chosen = self.share == 0 || self.random.hash_one(self.count) >> 32 < self.share;
        // One packet is checked in any case, however many keys there are.
        let is_within = self.used == 0 || self.used + macs <= MACS_PER_INTERVAL;
        let is_admitted = is_chosen && is_within;
        if is_admitted {
            self.used += macs;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fwknop::{FwknopKey, HmacDigest, seal_with};

    const SECOND: u64 = 1_000_000_000;

    fn key(number: usize) -> FwknopKey {
        FwknopKey::new("a", None, b"passphrase", HmacDigest::Sha256, &number.to_be_bytes()).unwrap()
    }

    fn detector(keys: usize) -> MacDetector {
        MacDetector::new((0..keys).map(|number| key(number).mac_key().clone()).collect())
    }

    /// A packet with this content that the key of this number authenticated.
    fn packet(number: usize, content: u32) -> Vec<u8> {
        seal_with(&key(number), &content.to_string(), [0; 8])
    }

    #[test]
    fn authentic_packets_are_found_and_others_are_not() {
        let mut detector = detector(3);
        assert_eq!(detector.take(&packet(2, 1), 1), MacVerdict::Authentic);
        assert_eq!(detector.take(&packet(2, 1), 1), MacVerdict::Ignored, "a repeated packet");
        assert_eq!(detector.take(&packet(3, 1), 1), MacVerdict::Bogus, "another key");
        let mut altered = packet(1, 1);
        altered[5] = if altered[5] == b'A' { b'B' } else { b'A' };
        assert_eq!(detector.take(&altered, 1), MacVerdict::Bogus);
        for malformed in [&b""[..], &[&packet(1, 1)[..], b"="].concat(), &[b'8'; 35]] {
            assert_eq!(detector.take(malformed, 1), MacVerdict::Malformed);
        }
    }

    #[test]
    fn each_key_has_its_own_rate_and_repeated_packets_do_not_use_it_up() {
        let mut detector = detector(2);
        let authentic = |detector: &mut MacDetector, content: u32, at: u64| {
            detector.take(&packet(0, content), at) == MacVerdict::Authentic
        };
        let found = (0..1_000).filter(|number| authentic(&mut detector, *number, u64::from(*number) * SECOND / 1_000));
        assert!((8..=17).contains(&found.count()));
        assert_eq!(detector.take(&packet(1, 0), SECOND), MacVerdict::Authentic);
        let known: Vec<u32> = (0..100).filter(|number| authentic(&mut detector, *number, 100 * SECOND)).collect();
        for second in 101..200 {
            known.iter().for_each(|number| assert!(!authentic(&mut detector, *number, second * SECOND)));
            assert!(authentic(&mut detector, u32::try_from(second).unwrap() * 1_000, second * SECOND));
        }
    }

    #[test]
    fn the_number_of_macs_is_limited_and_the_choice_is_spread_over_time() {
        for (keys, rate) in [(1, 1_000_000_u64), (50, 20_000), (1_000, 20_000)] {
            let mut load = Load::default();
            let admitted: Vec<u64> = (0..rate).filter(|number| load.admits(keys, number * SECOND / rate)).collect();
            let macs = admitted.len() as u64 * keys;
            assert!(macs <= MAX_MAC_RATE, "{keys} {rate} {macs}");
            // The load is known after the first interval; from then on the choice is even.
            let in_tenth = |tenth: u64| admitted.iter().filter(|number| **number * 10 / rate == tenth).count() as u64;
            for tenth in 1..10 {
                let part = in_tenth(tenth) * keys * 10;
                assert!(part > MAX_MAC_RATE * 3 / 5, "{keys} {rate} {tenth} {part}");
            }
        }
        let mut load = Load::default();
        assert!((0..200_000).all(|number| load.admits(1, number * SECOND / 200_000)), "no more than the limit");
        let mut load = Load::default();
        assert!(load.admits(1_000_000, 1), "more keys than HMACs");
    }

    #[test]
    fn keys_that_stay_the_same_keep_their_rates() {
        let mut detector = detector(2);
        assert_eq!(detector.take(&packet(1, 1), 1), MacVerdict::Authentic);
        detector.set_keys(self::detector(2).keys.clone());
        assert_eq!(detector.take(&packet(1, 1), 1), MacVerdict::Ignored);
        detector.set_keys(self::detector(3).keys.clone());
        assert_eq!(detector.take(&packet(1, 1), 1), MacVerdict::Authentic);
    }
}
