//! How many SYNs may leave, those counted that the kernel sends again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A connection sends at most one SYN in this time: the kernel repeats the first one no sooner, and the later ones neither.
pub(super) const REPETITION: Duration = Duration::from_secs(1);
/// Who woke up late may catch up with so much.
const BURST: Duration = Duration::from_millis(5);

/// Keeps the SYNs below a rate, whatever the time that they are counted from. Each connection takes up one of `rate`
/// places from its beginning until a second after its last SYN, so no second sees more SYNs than there are places.
#[derive(Debug)]
pub(super) struct Allowance {
    /// How many places there are, and the time between two beginnings; `None` for no bound.
    bound: Option<(usize, Duration)>,
    next: Instant,
    /// Connections that wait for their answers.
    waiting: usize,
    /// When the places of those that ended become free.
    taken_until: BinaryHeap<Reverse<Instant>>,
}

impl Allowance {
    pub(super) fn new(rate: Option<NonZeroU32>, now: Instant) -> Self {
        let bound = rate.map(|rate| (usize::try_from(rate.get()).unwrap_or(usize::MAX), REPETITION / rate.get()));
        Self { bound, next: now, waiting: 0, taken_until: BinaryHeap::new() }
    }

    /// When the next connection may begin; in the past where it may now. `None`: not before one of those that wait has
    /// ended.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let Some((places, _)) = self.bound else { return Some(now) };
        while self.taken_until.peek().is_some_and(|Reverse(until)| *until <= now) {
            self.taken_until.pop();
        }
        if self.waiting + self.taken_until.len() < places {
            return Some(self.next);
        }
        self.taken_until.peek().map(|Reverse(until)| self.next.max(*until))
    }

    /// A connection has begun.
    pub(super) fn begun(&mut self, now: Instant) {
        self.waiting += 1;
        if let Some((_, spacing)) = self.bound {
            self.next = self.next.max(now.checked_sub(BURST).unwrap_or(now)) + spacing;
        }
    }

    /// The connection that began then has ended now.
    pub(super) fn ended(&mut self, begun: Instant, now: Instant) {
        self.waiting -= 1;
        if self.bound.is_some() {
            // After the first second it is not known when the kernel sent the last one.
            let last = if now < begun + REPETITION { begun } else { now };
            self.taken_until.push(Reverse(last + REPETITION));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When SYNs leave at this rate, in milliseconds, where each connection ends after so long; in five seconds.
    fn syns(rate: u32, lasts: u64) -> Vec<u64> {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut allowance = Allowance::new(NonZeroU32::new(rate), start);
        let (mut open, mut sent) = (Vec::new(), Vec::new());
        for now in 0..5_000 {
            // The clock goes in steps of a millisecond; what is between them is late.
            while allowance.next(at(now)).is_some_and(|next| next <= at(now)) {
                allowance.begun(at(now));
                open.push(now);
                sent.push(now);
            }
            open.retain(|&begun| {
                if now - begun >= lasts {
                    allowance.ended(at(begun), at(now));
                    return false;
                }
                if now > begun && (now - begun) % 1_000 == 0 {
                    sent.push(now);
                }
                true
            });
        }
        sent.sort_unstable();
        sent
    }

    #[test]
    fn no_second_sees_more_than_allowed() {
        for rate in [1, 7, 100, 5_000] {
            for lasts in [0, 1, 30, 999, 1_001, 1_500, 3_300] {
                let sent = syns(rate, lasts);
                for (i, start) in sent.iter().enumerate() {
                    let count = sent[i..].partition_point(|time| *time < start + 1_000);
                    assert!(count <= rate as usize, "{count} from {start} ms on, rate {rate}, {lasts} ms");
                }
                // Nor does it see many fewer.
                assert!(sent.len() >= 3 * rate as usize, "{} at rate {rate}, {lasts} ms", sent.len());
            }
        }
    }

    #[test]
    fn beginnings_are_spread() {
        let sent = syns(100, 1);
        assert_eq!(sent[..10], [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }
}
