//! The replay memory: which authenticated knocks were accepted, so that a recorded knock opens
//! nothing.
//!
//! For each key and form the memory has a floor and the last accepted knocks. It accepts a knock if
//! the time of the knock is later than the floor and its token is not in the memory. An entry that
//! is removed raises the floor to its time. The memory therefore has a bounded size, and a clock
//! that is set back makes no earlier knock acceptable.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::keys::Fingerprint;
use crate::time::Timestamp;
use crate::totp::CODE_WINDOW;

/// Maximum number of entries for a key and form.
const MAX_ENTRIES: usize = 64;
/// Maximum number of pairs of a key and a form. Small in tests, so that they reach it.
const MAX_PAIRS: usize = if cfg!(test) { 1 << 10 } else { 1 << 17 };
/// Maximum value of `ClockSkew`.
const MAX_SKEW: Duration = Duration::from_secs(3600);

/// The form of an authenticated knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    /// The sequence of a window with this length, in seconds.
    Time(u32),
    /// A packet in portknock's own format.
    Packet,
    /// The code of an authenticator app.
    Code,
    /// A packet in fwknop's format.
    Fwknop,
}

impl Form {
    /// Returns the maximum time by which the time of an acceptable knock is ahead of the clock.
    fn lead(self, skew: Duration) -> Duration {
        match self {
            // The window after the present one is live too, and a window has the time of its start.
            Self::Time(seconds) => Duration::from_secs(seconds.into()),
            Self::Code => CODE_WINDOW,
            Self::Packet | Self::Fwknop => skew,
        }
    }

    /// Returns a time by which two acceptable knocks never differ.
    fn spread(self) -> Duration {
        self.lead(MAX_SKEW) * 3
    }
}

/// Identifies a knock among those of one key, form and time.
pub(crate) type Token = [u8; 12];

/// An authenticated knock, as the memory stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnockUse {
    pub(crate) key: Fingerprint,
    pub(crate) form: Form,
    /// The wall clock of the client; for a time sequence or a code, the start of its window.
    pub(crate) time: Timestamp,
    /// Zero for a time sequence or a code, of which there is one for each time.
    pub(crate) token: Token,
}

/// A knock was refused, because it may have been accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed;

/// The accepted knocks of one key in one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KeyMemory {
    /// Knocks of this time and earlier are refused.
    floor: Timestamp,
    /// In ascending order.
    entries: Vec<(Timestamp, Token)>,
}

/// Everything that was accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplayMemory {
    keys: HashMap<(Fingerprint, Form), KeyMemory, RandomState>,
    /// Number of entries of all keys.
    entries: usize,
    /// The record of what was accepted is incomplete.
    incomplete: Option<Incomplete>,
}

/// The times for which the record of accepted knocks is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete {
    /// Any knock that was acceptable at this time by the wall clock may have been accepted.
    pub(crate) until: Timestamp,
    /// Packets with this time and earlier may have been accepted. Later than `until` by the skew that
    /// was permitted then, so that a smaller one makes no packet acceptable.
    pub(crate) packets_until: Timestamp,
}

impl Incomplete {
    /// Returns the times for everything that was acceptable at `wall` with this skew.
    pub(crate) fn new(wall: Timestamp, skew: Duration) -> Self {
        Self { until: wall, packets_until: wall.saturating_add(skew) }
    }

    fn max(self, other: Self) -> Self {
        Self { until: self.until.max(other.until), packets_until: self.packets_until.max(other.packets_until) }
    }

    /// The time up to which knocks of this form are refused.
    fn end(self, form: Form, skew: Duration) -> Timestamp {
        let end = self.until.saturating_add(form.lead(skew));
        if form == Form::Packet { end.max(self.packets_until) } else { end }
    }
}

impl ReplayMemory {
    /// Refuses from now on every knock that was acceptable in these times, because earlier knocks may
    /// have been accepted without a record.
    pub(crate) fn distrust(&mut self, times: Incomplete) {
        self.incomplete = Some(self.incomplete.map_or(times, |incomplete| incomplete.max(times)));
    }

    /// The times for which the memory is incomplete, if it is.
    pub(crate) fn incomplete(&self) -> Option<Incomplete> {
        self.incomplete
    }

    /// Accepts a knock for the first time. `now` is the wall clock of this machine, and `skew` is
    /// the maximum difference between the clocks of a client and of this machine.
    ///
    /// # Errors
    /// Refuses a knock that was accepted before, or that may have been.
    pub(crate) fn accept(&mut self, knock: &KnockUse, now: Timestamp, skew: Duration) -> Result<(), Replayed> {
        let lead = knock.form.lead(skew);
        if self.incomplete.is_some_and(|incomplete| knock.time <= incomplete.end(knock.form, skew)) {
            return Err(Replayed);
        }
        // Nothing that old can be accepted while the clock is right.
        let old = earlier(now, lead * 2);
        self.change(knock.key, knock.form, |memory| {
            memory.forget(|time, _| time < old);
            memory.insert(knock)
        })
    }

    /// Returns true if the memory has accepted this knock and still contains it.
    pub(crate) fn has(&self, knock: &KnockUse) -> bool {
        let memory = self.keys.get(&(knock.key, knock.form));
        memory.is_some_and(|memory| memory.entries.binary_search(&(knock.time, knock.token)).is_ok())
    }

    /// Adds a knock that was accepted, according to a record of it.
    pub(crate) fn restore(&mut self, knock: &KnockUse) {
        // A record that an earlier one implies changes nothing.
        let _ = self.change(knock.key, knock.form, |memory| memory.insert(knock));
    }

    /// Raises a floor according to a record of it.
    pub(crate) fn restore_floor(&mut self, key: Fingerprint, form: Form, floor: Timestamp) {
        self.change(key, form, |memory| {
            memory.forget(|time, _| time <= floor);
            memory.floor = memory.floor.max(floor);
        });
    }

    /// Adds everything that another memory refuses.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (key, form, floor, knocks) in other.iter() {
            self.restore_floor(key, form, floor);
            knocks.for_each(|knock| self.restore(&knock));
        }
        if let Some(times) = other.incomplete {
            self.distrust(times);
        }
    }

    /// Returns the maximum number of floors and knocks that [`ReplayMemory::iter`] returns.
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.entries
    }

    /// Returns the floors and the accepted knocks, in no particular order, from which
    /// [`ReplayMemory::restore_floor`] and [`ReplayMemory::restore`] make an equal memory.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Fingerprint, Form, Timestamp, impl Iterator<Item = KnockUse>)> {
        self.keys.iter().map(|(&(key, form), memory)| {
            let knocks = memory.entries.iter().map(move |&(time, token)| KnockUse { key, form, time, token });
            (key, form, memory.floor, knocks)
        })
    }

    /// Changes what the memory has of a key and form.
    fn change<T>(&mut self, key: Fingerprint, form: Form, change: impl FnOnce(&mut KeyMemory) -> T) -> T {
        if self.keys.len() >= MAX_PAIRS && !self.keys.contains_key(&(key, form)) {
            self.forget_pair();
        }
        let memory = self.keys.entry((key, form)).or_default();
        let before = memory.entries.len();
        let result = change(memory);
        self.entries = self.entries + memory.entries.len() - before;
        result
    }

    /// Forgets the pair of a key and a form whose latest knock is the oldest. Knocks of all keys up to
    /// that time are refused from then on.
    fn forget_pair(&mut self) {
        let oldest = self.keys.iter().map(|(pair, memory)| (memory.latest(), *pair)).min();
        if let Some((latest, pair)) = oldest
            && let Some(memory) = self.keys.remove(&pair)
        {
            self.entries -= memory.entries.len();
            self.distrust(Incomplete::new(latest, Duration::ZERO));
        }
    }
}

impl KeyMemory {
    /// The time of the latest knock that is refused.
    fn latest(&self) -> Timestamp {
        self.entries.last().map_or(self.floor, |&(time, _)| time)
    }

    fn insert(&mut self, &KnockUse { form, time, token, .. }: &KnockUse) -> Result<(), Replayed> {
        if time <= self.floor {
            return Err(Replayed);
        }
        let Err(at) = self.entries.binary_search(&(time, token)) else { return Err(Replayed) };
        self.entries.insert(at, (time, token));
        if self.entries.len() > MAX_ENTRIES {
            let (oldest, _) = self.entries[0];
            // All entries of this time: the floor refuses them.
            self.forget(|time, _| time <= oldest);
        }
        let old = earlier(self.latest(), form.spread());
        self.forget(|time, _| time < old);
        Ok(())
    }

    /// Removes the first entries for which `is_forgotten` is true, and raises the floor to the time
    /// of the last one.
    fn forget(&mut self, is_forgotten: impl Fn(Timestamp, Token) -> bool) {
        let count = self.entries.partition_point(|&(time, token)| is_forgotten(time, token));
        if let Some((time, _)) = self.entries.drain(..count).next_back() {
            self.floor = self.floor.max(time);
        }
    }
}

/// Returns the time `span` before `time`, or the epoch if that is out of range.
fn earlier(time: Timestamp, span: Duration) -> Timestamp {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_nanos(time.as_nanos().saturating_sub(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKEW: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    fn packet(key: u8, time: Timestamp, number: u32) -> KnockUse {
        let mut token = [0; 12];
        token[..4].copy_from_slice(&number.to_be_bytes());
        KnockUse { key: Fingerprint([key; 16]), form: Form::Packet, time, token }
    }

    fn window(start: Timestamp) -> KnockUse {
        KnockUse { form: Form::Time(30), token: [0; 12], ..packet(1, start, 0) }
    }

    #[test]
    fn a_knock_is_accepted_once() {
        let mut memory = ReplayMemory::default();
        assert_eq!(memory.accept(&packet(1, at(0), 1), at(1), SKEW), Ok(()));
        assert_eq!(memory.accept(&packet(1, at(0), 1), at(2), SKEW), Err(Replayed));
        assert_eq!(memory.accept(&packet(1, at(0), 2), at(2), SKEW), Ok(()), "another nonce");
        assert_eq!(memory.accept(&packet(2, at(0), 1), at(2), SKEW), Ok(()), "another key");
        assert_eq!(memory.accept(&window(at(0)), at(2), SKEW), Ok(()), "another form");
        assert_eq!(memory.accept(&window(at(0)), at(2), SKEW), Err(Replayed));
        let code = KnockUse { form: Form::Code, ..window(at(0)) };
        assert_eq!(memory.accept(&code, at(2), SKEW), Ok(()));
        assert_eq!(memory.accept(&code, at(2), SKEW), Err(Replayed));
    }

    #[test]
    fn any_order_of_times_within_the_skew_is_accepted() {
        let mut memory = ReplayMemory::default();
        for (number, time) in [(1, 100), (2, 41), (3, 160), (4, 99), (5, 41)] {
            assert_eq!(memory.accept(&packet(1, at(time), number), at(100), SKEW), Ok(()), "{time}");
        }
    }

    #[test]
    fn what_is_forgotten_stays_refused_even_if_the_clock_is_set_back() {
        let mut memory = ReplayMemory::default();
        let knocks: Vec<_> = (0..10_000).map(|i| packet(1, at(u64::from(i)), i)).collect();
        for knock in &knocks {
            assert_eq!(memory.accept(knock, knock.time, SKEW), Ok(()));
        }
        for knock in &knocks {
            for now in [knock.time, at(10_000), at(0)] {
                assert_eq!(memory.accept(knock, now, SKEW), Err(Replayed));
            }
        }
    }

    #[test]
    fn the_size_is_bounded_and_what_does_not_fit_is_refused() {
        let mut memory = ReplayMemory::default();
        for number in 0..1_000_u32 {
            // All at one time and at different times.
            let time = at(100 + u64::from(number / 40));
            let _ = memory.accept(&packet(1, time, number), at(100), SKEW);
            for (_, _, _, knocks) in memory.iter() {
                assert!(knocks.count() <= MAX_ENTRIES);
            }
        }
        for number in 0..1_000_u32 {
            let time = at(100 + u64::from(number / 40));
            assert_eq!(memory.accept(&packet(1, time, number), at(100), SKEW), Err(Replayed), "{number}");
        }
    }

    #[test]
    fn an_incomplete_memory_refuses_what_was_acceptable_until_then() {
        let mut memory = ReplayMemory::default();
        memory.distrust(Incomplete::new(at(100), SKEW));
        for (knock, is_accepted) in [
            (packet(1, at(99), 1), false),
            (packet(1, at(160), 1), false),
            (packet(1, at(161), 1), true),
            (window(at(130)), false),
            (window(at(131)), true),
        ] {
            assert_eq!(memory.accept(&knock, at(161), SKEW).is_ok(), is_accepted, "{knock:?}");
        }
    }

    #[test]
    fn a_smaller_skew_makes_nothing_acceptable_that_may_have_been_accepted_with_a_larger_one() {
        let mut memory = ReplayMemory::default();
        memory.distrust(Incomplete::new(at(100), 10 * SKEW));
        // Neither do later starts with the smaller skew.
        memory.distrust(Incomplete::new(at(200), SKEW));
        for (time, is_accepted) in [(261, false), (700, false), (701, true)] {
            assert_eq!(memory.accept(&packet(1, at(time), 1), at(time), SKEW).is_ok(), is_accepted, "{time}");
        }
        // A larger skew than before refuses everything that is acceptable with it.
        let mut memory = ReplayMemory::default();
        memory.distrust(Incomplete::new(at(100), SKEW));
        assert_eq!(memory.accept(&packet(1, at(700), 1), at(700), 10 * SKEW), Err(Replayed));
        assert_eq!(memory.accept(&window(at(131)), at(131), 10 * SKEW), Ok(()));
    }

    #[test]
    fn a_restored_memory_is_equal() {
        let mut memory = ReplayMemory::default();
        for i in 0..200_u32 {
            memory.accept(&packet(1, at(u64::from(i) * 3), i), at(u64::from(i) * 3), SKEW).unwrap();
        }
        memory.distrust(Incomplete::new(at(7), SKEW));
        let mut restored = ReplayMemory::default();
        restored.merge(&memory);
        assert_eq!(restored.keys, memory.keys);
        assert_eq!((restored.incomplete, restored.len()), (memory.incomplete, memory.len()));
        assert_eq!(restored.len(), memory.iter().map(|(_, _, _, knocks)| 1 + knocks.count()).sum::<usize>());
    }

    #[test]
    fn knocks_far_in_the_past_of_a_key_need_no_entries() {
        let mut memory = ReplayMemory::default();
        let knocks: Vec<_> = (0..10).map(|i| packet(1, at(u64::from(i) * 24 * 3600), i)).collect();
        knocks.iter().for_each(|knock| memory.restore(knock));
        assert_eq!(memory.len(), 2, "a floor and the latest");
        for knock in knocks {
            assert_eq!(memory.accept(&knock, knock.time, SKEW), Err(Replayed));
        }
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_a_knock_of_a_forgotten_key_is_refused() {
        let mut memory = ReplayMemory::default();
        let of_key = |number: usize| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&number.to_be_bytes());
            KnockUse { key: Fingerprint(key), ..packet(0, at(number as u64), 1) }
        };
        for number in 0..3 * MAX_PAIRS {
            // The clock of the machine is right: no knock is too old for the floor of a forgotten key.
            let knock = of_key(number);
            assert_eq!(memory.accept(&knock, knock.time, SKEW), Ok(()), "{number}");
            assert!(memory.keys.len() <= MAX_PAIRS && memory.len() <= 2 * MAX_PAIRS);
        }
        for number in 0..3 * MAX_PAIRS {
            for now in [at(number as u64), at(3 * MAX_PAIRS as u64)] {
                assert_eq!(memory.accept(&of_key(number), now, SKEW), Err(Replayed), "{number}");
            }
        }
    }
}
