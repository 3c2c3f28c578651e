//! Token buckets: how many of a kind of events a second are let through.

/// Nanoseconds for whose events may come at one time.
pub(crate) const BURST: u64 = 1_000_000_000;

/// A token bucket, held as the time at which it will be full again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds for one token.
    interval: u64,
    /// When it is full, in nanoseconds.
    full_at: u64,
}

impl Bucket {
    /// A full bucket of `rate` tokens, at least one, which takes `seconds` to fill.
    pub(crate) fn new(rate: u32, seconds: u64) -> Self {
        Self { interval: seconds * 1_000_000_000 / u64::from(rate.max(1)), full_at: 0 }
    }

    /// Takes a token if no more than `depth` nanoseconds are missing afterwards; one token can always be had from a full one.
    pub(crate) fn take(&mut self, now: u64, depth: u64) -> bool {
        let full_at = self.full_at.max(now).saturating_add(self.interval);
        let is_there = full_at - now <= depth.max(self.interval);
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }
}

/// A rate that doors share fairly: any door may use one half of it, and the other half belongs to the doors in equal parts.
/// A flood at one door leaves the others their parts, each of them at least one event.
#[derive(Debug)]
pub(crate) struct FairRate {
    shared: Bucket,
    doors: Vec<Bucket>,
}

impl FairRate {
    pub(crate) fn new(rate: u32, doors: usize) -> Self {
        Self { shared: Bucket::new(rate, 2), doors: vec![Bucket::new(rate, 2 * doors.max(1) as u64); doors] }
    }

    /// True for an event of this door that is let through; `depth` as for [`Bucket::take`]. False for a door that does not
    /// exist.
    pub(crate) fn take(&mut self, door: u16, now: u64, depth: u64) -> bool {
        let Some(own) = self.doors.get_mut(usize::from(door)) else { return false };
        own.take(now, depth) || self.shared.take(now, depth)
    }
}

/// A burst and a rate that each door has for itself.
#[derive(Debug)]
pub(crate) struct DoorRate {
    doors: Vec<Bucket>,
    /// Nanoseconds in which a burst refills.
    depth: u64,
}

impl DoorRate {
    pub(crate) fn new(rate: u32, burst: u32, doors: usize) -> Self {
        let depth = u64::from(burst).saturating_mul(BURST) / u64::from(rate.max(1));
        Self { doors: vec![Bucket::new(rate, 1); doors], depth }
    }

    /// True for an event of this door that is let through. False for a door that does not exist.
    pub(crate) fn take(&mut self, door: u16, now: u64) -> bool {
        self.doors.get_mut(usize::from(door)).is_some_and(|own| own.take(now, self.depth))
    }
}
