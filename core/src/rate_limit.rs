//! Token buckets that limit the rate of events.
//!
//! All times are in nanoseconds, by one clock of the caller that does not run backwards.

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Depth of a bucket, in nanoseconds, that holds the events of one second.
pub(crate) const BURST: u64 = SECOND;

/// A token bucket. It stores the time at which it will be full again, and starts full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds per token.
    interval: u64,
    /// Time at which the bucket is full, in nanoseconds.
    full_at: u64,
}

impl Bucket {
    /// Returns a bucket that gains `rate` tokens, at least one, in `seconds`.
    pub(crate) fn new(rate: u32, seconds: u64) -> Self {
        Self { interval: seconds * SECOND / u64::from(rate.max(1)), full_at: 0 }
    }

    /// Takes a token, and returns true, if the bucket is full again at most `depth` nanoseconds
    /// after `now` then. A full bucket always has a token.
    pub(crate) fn take(&mut self, now: u64, depth: u64) -> bool {
        let full_at = self.full_at.max(now).saturating_add(self.interval);
        let is_admitted = full_at - now <= depth.max(self.interval);
        if is_admitted {
            self.full_at = full_at;
        }
        is_admitted
    }
}

/// A rate per second and a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    bucket: Bucket,
    /// Nanoseconds in which a burst refills.
    depth: u64,
}

impl Limit {
    /// Returns a limit of `rate` events per second after `burst` events at one time, each at least
    /// one.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        let bucket = Bucket::new(rate, 1);
        Self { bucket, depth: bucket.interval.saturating_mul(burst.into()) }
    }

    /// Returns true if an event at the time `now` is admitted.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        self.bucket.take(now, self.depth)
    }
}

/// A rate that doors share fairly. Any door may use one half of it; the other half is divided
/// equally between the doors. A flood at one door leaves the other doors their parts, each of at
/// least one event.
#[derive(Debug)]
pub(crate) struct FairRate {
    shared: Bucket,
    doors: Vec<Bucket>,
}

impl FairRate {
    /// Returns a rate per second for this number of doors.
    pub(crate) fn new(rate: u32, doors: usize) -> Self {
        Self { shared: Bucket::new(rate, 2), doors: vec![Bucket::new(rate, 2 * doors.max(1) as u64); doors] }
    }

    /// Returns true if an event of this door is admitted; `depth` as for [`Bucket::take`]. Returns
    /// false for a door that does not exist.
    pub(crate) fn take(&mut self, door: u16, now: u64, depth: u64) -> bool {
        let Some(own) = self.doors.get_mut(usize::from(door)) else { return false };
        own.take(now, depth) || self.shared.take(now, depth)
    }
}

/// A separate limit for each door.
#[derive(Debug)]
pub(crate) struct DoorRate {
    doors: Vec<Limit>,
}

impl DoorRate {
    /// Returns limits for this number of doors; `rate` and `burst` as for [`Limit::new`].
    pub(crate) fn new(rate: u32, burst: u32, doors: usize) -> Self {
        Self { doors: vec![Limit::new(rate, burst); doors] }
    }

    /// Returns true if an event of this door is admitted. Returns false for a door that does not
    /// exist.
    pub(crate) fn take(&mut self, door: u16, now: u64) -> bool {
        self.doors.get_mut(usize::from(door)).is_some_and(|limit| limit.take(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_admits_its_burst_and_then_its_rate() {
        let mut limit = Limit::new(1, 3);
        let mut take = |seconds| [0; 5].map(|_| limit.take(seconds * SECOND));
        assert_eq!(take(0), [true, true, true, false, false]);
        assert_eq!(take(2), [true, true, false, false, false]);
        assert_eq!(take(3600), [true, true, true, false, false], "no more than the burst");
    }

    #[test]
    fn a_limit_of_the_highest_rate_admits_everything() {
        let mut limit = Limit::new(u32::MAX, u32::MAX);
        assert!((0..1_000_000).all(|_| limit.take(0)));
    }
}
