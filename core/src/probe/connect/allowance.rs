//! The limit on the rate of SYNs, including those that the kernel retransmits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Minimum time between two SYNs of one connection: the kernel retransmits no SYN sooner than this.
pub(super) const RETRANSMISSION_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum delay that a sender which woke up late may catch up with.
const MAX_CATCH_UP: Duration = Duration::from_millis(5);

/// Keeps the number of SYNs within any second below a rate. Each connection occupies one of `rate`
/// slots from its beginning until a second after its last SYN, so no second contains more SYNs than
/// there are slots.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Number of slots, and the minimum time between two beginnings; `None` without a limit.
    bound: Option<(usize, Duration)>,
    next: Instant,
    /// Number of connections whose answers are outstanding.
    pending: usize,
    /// The times at which the slots of ended connections become free.
    occupied_until: BinaryHeap<Reverse<Instant>>,
}

impl Allowance {
    pub(super) fn new(rate: Option<NonZeroU32>, now: Instant) -> Self {
        let bound =
            rate.map(|rate| (usize::try_from(rate.get()).unwrap_or(usize::MAX), RETRANSMISSION_INTERVAL / rate.get()));
        Self { bound, next: now, pending: 0, occupied_until: BinaryHeap::new() }
    }

    /// Returns the time at which the next connection may begin, which is in the past if it may
    /// begin now. `None` if a pending connection must end first.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let Some((slots, _)) = self.bound else { return Some(now) };
        while self.occupied_until.peek().is_some_and(|Reverse(until)| *until <= now) {
            self.occupied_until.pop();
        }
        if self.pending + self.occupied_until.len() < slots {
            return Some(self.next);
        }
        self.occupied_until.peek().map(|Reverse(until)| self.next.max(*until))
    }

    /// Records that a connection has begun.
    pub(super) fn begun(&mut self, now: Instant) {
        self.pending += 1;
        if let Some((_, spacing)) = self.bound {
            self.next = self.next.max(now.checked_sub(MAX_CATCH_UP).unwrap_or(now)) + spacing;
        }
    }

    /// Records that the connection which began at `begun` has ended now.
    pub(super) fn ended(&mut self, begun: Instant, now: Instant) {
        self.pending -= 1;
        if self.bound.is_some() {
            // After the first second the time of the kernel's last SYN is unknown.
            let last = if now < begun + RETRANSMISSION_INTERVAL { begun } else { now };
            self.occupied_until.push(Reverse(last + RETRANSMISSION_INTERVAL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times of the SYNs within five seconds at this rate, in milliseconds, if each
    /// connection ends after `lasts` milliseconds.
    fn syns(rate: u32, lasts: u64) -> Vec<u64> {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut allowance = Allowance::new(NonZeroU32::new(rate), start);
        let (mut open, mut sent) = (Vec::new(), Vec::new());
        for now in 0..5_000 {
            // The clock advances in steps of a millisecond; anything between two steps is late.
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
    fn no_second_contains_more_syns_than_allowed() {
        for rate in [1, 7, 100, 5_000] {
            for lasts in [0, 1, 30, 999, 1_001, 1_500, 3_300] {
                let sent = syns(rate, lasts);
                for (i, start) in sent.iter().enumerate() {
                    let count = sent[i..].partition_point(|time| *time < start + 1_000);
                    assert!(count <= rate as usize, "{count} from {start} ms on, rate {rate}, {lasts} ms");
                }
                // Nor does a second contain many fewer.
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
