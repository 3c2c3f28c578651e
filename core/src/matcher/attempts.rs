//! The bounded table of attempts: found by source, ordered by age, never walked.

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::shares::Shares;
use crate::time::Timestamp;
use crate::timeline::{CHECKED, Linked, Links, List, NIL, Timeline};

/// So many sources have their attempts fetched together.
pub(crate) const FETCHED_TOGETHER: usize = 32;
/// Up to so many attempts are in the processor's caches anyway, and quickly copied.
const FEW: usize = 4_096;
/// From so many attempts on, the way to them does not stay in the processor's caches either.
const MANY: usize = 262_144;

/// The third part of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2).
const MAPPED: u32 = 0xffff;

/// A source address in 16 bytes; IPv4 as IPv4-mapped IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source([u32; 4]);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        let bits = match ip {
            IpAddr::V4(ip) => return Self([0, 0, MAPPED, ip.to_bits()]),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        #[allow(clippy::cast_possible_truncation, reason = "each part is the low 32 bits of a shift")]
        Self([(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32])
    }
}

impl Source {
    fn bits(self) -> u128 {
        self.0.iter().fold(0, |bits, &part| bits << 32 | u128::from(part))
    }

    pub(super) fn ip(self) -> IpAddr {
        match self.0 {
            [0, 0, MAPPED, ip] => Ipv4Addr::from_bits(ip).into(),
            _ => Ipv6Addr::from_bits(self.bits()).into(),
        }
    }
}

/// What is known of one source at one door, as far as a knock looks at it: half of a cache line, since there may be a
/// million of them.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Attempt {
    source: Source,
    /// The same source's attempt at the next door in the order of the file.
    next_of_source: u32,
    /// The TCP sequence number of the step just matched.
    pub(super) sequence_number: u32,
    door: u16,
    /// The TCP source port of the step just matched.
    pub(super) source_port: u16,
    /// Steps matched; 0 for a cooldown, which only keeps the source from starting again.
    stage: u8,
}

impl Attempt {
    /// An attempt, or, with stage 0, a cooldown.
    pub(super) fn new(source: Source, door: u16, stage: u8) -> Self {
        Self { source, next_of_source: NIL, sequence_number: 0, door, source_port: 0, stage }
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn door(&self) -> u16 {
        self.door
    }

    pub(super) fn stage(&self) -> u8 {
        self.stage
    }

    /// Attempts that have made no step beyond the first, and cooldowns, make room when the table is full.
    fn is_fresh(&self) -> bool {
        self.stage <= 1
    }

    fn class(&self) -> usize {
        2 * usize::from(self.door) + usize::from(self.stage == 0)
    }
}

/// The rest of an attempt, which matters at its beginning and at its end.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// The halves of a timestamp, which would take room for its alignment.
    started: [u32; 2],
    by_due: Links,
    by_freshness: Links,
    /// The set in the scan log, or [`NIL`].
    scan_set: u32,
}

impl Term {
    fn new(started: Timestamp) -> Self {
        let nanos = started.as_nanos();
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of a u64")]
        let started = [(nanos >> 32) as u32, nanos as u32];
        Self { started, by_due: Links::default(), by_freshness: Links::default(), scan_set: NIL }
    }

    fn started(&self) -> Timestamp {
        Timestamp::from_nanos(u64::from(self.started[0]) << 32 | u64::from(self.started[1]))
    }
}

/// An attempt that was taken out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) attempt: Attempt,
    pub(super) started: Timestamp,
    /// The set in the scan log, or [`NIL`].
    pub(super) scan_set: u32,
}

#[derive(Debug)]
struct ByDue;

impl Linked<Term> for ByDue {
    fn links(term: &mut Term) -> &mut Links {
        &mut term.by_due
    }
}

#[derive(Debug)]
struct ByFreshness;

impl Linked<Term> for ByFreshness {
    fn links(term: &mut Term) -> &mut Links {
        &mut term.by_freshness
    }
}

/// Where a walk along the attempts of one source stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    hash: u64,
    /// The attempt before the current one, or [`NIL`] at the start.
    prev: u32,
    /// The current attempt, or [`NIL`] behind the last.
    at: u32,
}

impl Cursor {
    /// The current attempt's index, or `None` behind the last.
    pub(super) fn index(&self) -> Option<u32> {
        (self.at != NIL).then_some(self.at)
    }
}

/// All attempts and cooldowns.
#[derive(Debug)]
pub(super) struct Attempts {
    slots: Vec<Attempt>,
    /// What belongs to the slots.
    terms: Vec<Term>,
    /// The first free slot (linked by `next_of_source`), or [`NIL`].
    free: u32,
    live: usize,
    limit: usize,
    /// For each source the first of its attempts; they are chained in the order of the doors.
    sources: HashTable<u32>,
    hasher: RandomState,
    /// For each door how long an attempt lives, and a cooldown.
    spans: Box<[[Duration; 2]]>,
    timeline: Timeline<ByDue>,
    /// For each door the attempts that make room, the oldest first.
    fresh: Box<[List<ByFreshness>]>,
    shares: Shares,
}

impl Attempts {
    /// An empty table for at most `limit` attempts at doors with these spans (attempt, cooldown).
    pub(super) fn new(limit: usize, spans: Box<[[Duration; 2]]>) -> Self {
        Self {
            slots: Vec::new(),
            terms: Vec::new(),
            free: NIL,
            live: 0,
            limit,
            sources: HashTable::new(),
            hasher: RandomState::default(),
            timeline: Timeline::new(2 * spans.len()),
            fresh: spans.iter().map(|_| List::default()).collect(),
            shares: Shares::new(spans.len()),
            spans,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Maximum number of attempts.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_full(&self) -> bool {
        self.live >= self.limit
    }

    pub(super) fn get(&self, index: u32) -> &Attempt {
        &self.slots[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Attempt {
        &mut self.slots[index as usize]
    }

    /// The attempt's set in the scan log, or [`NIL`].
    pub(super) fn scan_set(&mut self, index: u32) -> &mut u32 {
        &mut self.terms[index as usize].scan_set
    }

    /// Has the memory fetched in which the attempts of these sources are, or will be where a source may begin one (then with
    /// true), and those that are due by `until`.
    /// The processor does that for many of them at a time, while one knock after the other would wait for its own.
    pub(super) fn fetch(&mut self, sources: impl Iterator<Item = (Source, bool)>, until: Timestamp) {
        if self.live < FEW {
            return;
        }
        let mut hashes = [(0, false); 2 * FETCHED_TOGETHER];
        let mut count = 0;
        for (source, may_begin) in sources.take(FETCHED_TOGETHER) {
            hashes[count] = (hash_of(&self.hasher, source), may_begin);
            count += 1;
        }
        let mut due = self.first_due(until).map_or(NIL, |(_, index)| index);
        while due != NIL && count < hashes.len() {
            hashes[count] = (hash_of(&self.hasher, self.slots[due as usize].source), false);
            count += 1;
            due = self.terms[due as usize].by_due.next();
        }
        // The first that has a few bits of the hash is nearly always the right one. To make sure would be to wait for it.
        for &(hash, may_begin) in &hashes[..count] {
            if let Some(&head) = self.sources.iter_hash(hash).next() {
                black_box(self.slots[head as usize].stage);
            } else if may_begin && self.live >= MANY {
                black_box(self.near_its_place(hash));
            }
        }
    }

    /// What is next to where a new source with this hash will be put in, if there is anything: the table does not let us
    /// look at the free place itself, but its neighbours come from memory together with it.
    fn near_its_place(&self, hash: u64) -> Option<u32> {
        #[allow(clippy::cast_possible_truncation, reason = "the low bits say where")]
        let (place, buckets) = (hash as usize, self.sources.num_buckets());
        // There is a power of two of them, some half in use; if these four are free, one has to wait.
        (0..4).find_map(|i| self.sources.get_bucket(place.wrapping_add(i) & (buckets - 1)).copied())
    }

    /// A cursor before the first attempt of a source.
    pub(super) fn cursor(&self, source: Source) -> Cursor {
        let hash = hash_of(&self.hasher, source);
        let at = self.sources.find(hash, |&head| self.slots[head as usize].source == source).copied().unwrap_or(NIL);
        Cursor { hash, prev: NIL, at }
    }

    /// Moves on to the source's attempt at the next door.
    pub(super) fn advance(&self, cursor: &mut Cursor) {
        cursor.prev = cursor.at;
        cursor.at = self.slots[cursor.at as usize].next_of_source;
    }

    /// Puts in an attempt before the cursor's current one. There must be room, and the chain must stay in door order.
    pub(super) fn insert(&mut self, cursor: &mut Cursor, mut attempt: Attempt, started: Timestamp) -> u32 {
        attempt.next_of_source = cursor.at;
        let term = Term::new(started);
        let index = match self.free {
            NIL => {
                if self.slots.len() == FEW {
                    self.reserve();
                }
                self.slots.push(attempt);
                self.terms.push(term);
                // The limit is far below the range of a u32.
                u32::try_from(self.slots.len() - 1).unwrap_or(NIL)
            }
            free => {
                self.free = std::mem::replace(&mut self.slots[free as usize], attempt).next_of_source;
                self.terms[free as usize] = term;
                free
            }
        };
        self.live += 1;
        if cursor.prev != NIL {
            self.slots[cursor.prev as usize].next_of_source = index;
        } else if cursor.at != NIL {
            self.replace_head(cursor.hash, cursor.at, index);
        } else {
            let (slots, hasher) = (&self.slots, &self.hasher);
            self.sources.insert_unique(cursor.hash, index, |&head| hash_of(hasher, slots[head as usize].source));
        }
        cursor.prev = index;
        if attempt.is_fresh() {
            self.fresh[usize::from(attempt.door)].push_back(&mut self.terms, index);
        }
        self.shares.add(attempt.door);
        let (class, spans) = (attempt.class(), &self.spans);
        self.timeline.push(&mut self.terms, class, index, |term| due_of(spans, class, term));
        index
    }

    /// Reserves address space for all attempts that there may be, which takes no memory yet: to grow later would be to copy
    /// many of them in the middle of a flood. Where there is none to be had, they grow.
    #[cold]
    fn reserve(&mut self) {
        let more = self.limit.saturating_sub(self.slots.len());
        let _ = self.slots.try_reserve_exact(more);
        let _ = self.terms.try_reserve_exact(more);
    }

    /// Takes out the cursor's current attempt; the cursor then stands on the next one.
    pub(super) fn remove(&mut self, cursor: &mut Cursor) -> Removed {
        let index = cursor.at;
        cursor.at = self.slots[index as usize].next_of_source;
        if cursor.prev != NIL {
            self.slots[cursor.prev as usize].next_of_source = cursor.at;
        } else {
            self.remove_head(cursor.hash, index);
        }
        self.take_out(index)
    }

    /// Takes out an attempt that was not reached by a walk along its source.
    pub(super) fn remove_at(&mut self, index: u32) -> Removed {
        let source = self.slots[index as usize].source;
        if self.remove_head(hash_of(&self.hasher, source), index) {
            return self.take_out(index);
        }
        let mut cursor = self.cursor(source);
        while cursor.at != index {
            self.advance(&mut cursor);
        }
        self.remove(&mut cursor)
    }

    /// Has the source begin with the attempt behind this one. False where it did not begin with this one.
    fn remove_head(&mut self, hash: u64, index: u32) -> bool {
        let Ok(mut head) = self.sources.find_entry(hash, |&head| head == index) else { return false };
        match self.slots[index as usize].next_of_source {
            NIL => drop(head.remove()),
            next => *head.get_mut() = next,
        }
        true
    }

    /// Takes out an attempt to which its source does not lead any more.
    fn take_out(&mut self, index: u32) -> Removed {
        let attempt = self.slots[index as usize];
        let term = self.terms[index as usize];
        if attempt.is_fresh() {
            self.fresh[usize::from(attempt.door)].unlink(&mut self.terms, index);
        }
        self.shares.remove(attempt.door);
        self.timeline.unlink(&mut self.terms, attempt.class(), index);
        self.slots[index as usize].next_of_source = self.free;
        self.free = index;
        self.live -= 1;
        Removed { attempt, started: term.started(), scan_set: term.scan_set }
    }

    /// The source's attempt or cooldown at a door.
    pub(super) fn find(&self, source: Source, door: u16) -> Option<u32> {
        let mut cursor = self.cursor(source);
        while cursor.index().is_some_and(|index| self.get(index).door < door) {
            self.advance(&mut cursor);
        }
        cursor.index().filter(|&index| self.get(index).door == door)
    }

    /// A cursor on the source's first attempt at a door behind `door`.
    pub(super) fn cursor_behind(&self, source: Source, door: u16) -> Cursor {
        let mut cursor = self.cursor(source);
        while cursor.index().is_some_and(|index| self.get(index).door <= door) {
            self.advance(&mut cursor);
        }
        cursor
    }

    /// Notes one more matched step.
    pub(super) fn raise_stage(&mut self, index: u32) {
        let attempt = &mut self.slots[index as usize];
        let was_fresh = attempt.is_fresh();
        attempt.stage += 1;
        if was_fresh {
            self.fresh[usize::from(attempt.door)].unlink(&mut self.terms, index);
        }
    }

    /// The attempt or cooldown that makes room for one more at `door` when the table is full: one at the door that holds
    /// most, the oldest at stage 1 if there is any. Attempts further on make room only for doors that hold fewer
    /// attempts, so that no door can have the table to itself and first knocks alone push out none of them.
    pub(super) fn makes_room_for(&self, door: u16) -> Option<u32> {
        let most = self.shares.most();
        let oldest_fresh = |door: u16| Some(self.fresh[usize::from(door)].head()).filter(|&head| head != NIL);
        oldest_fresh(most).or_else(|| {
            let evens_out = self.shares.held(door) + 1 < self.shares.held(most);
            if evens_out { self.oldest_at_door(most) } else { oldest_fresh(door) }
        })
    }

    /// What is due first, if not later than `until`.
    #[inline]
    pub(super) fn first_due(&mut self, until: Timestamp) -> Option<(Timestamp, u32)> {
        let spans = &self.spans;
        self.timeline.first(&self.terms, until, |class, term| due_of(spans, class, term))
    }

    /// The oldest attempt at a door.
    pub(super) fn oldest_at_door(&self, door: u16) -> Option<u32> {
        Some(self.timeline.head(2 * usize::from(door))).filter(|&head| head != NIL)
    }

    /// Every attempt and cooldown, oldest first. For a reload; the one place that looks at all of them.
    pub(super) fn drain_by_age(mut self) -> Vec<Removed> {
        let mut all = Vec::with_capacity(self.live);
        while let Some((_, index)) = self.first_due(Timestamp::from_nanos(u64::MAX)) {
            all.push(self.remove_at(index));
        }
        all.sort_by_key(|removed| (removed.started, removed.attempt.door));
        all
    }

    /// Asserts for debug builds that every way to an attempt leads to it, and that each attempt is as `is_right` says.
    /// False where there are too many for that.
    pub(super) fn check(&mut self, is_right: impl Fn(&Attempt) -> bool) -> bool {
        if self.slots.len() > CHECKED || self.spans.len() > CHECKED {
            return false;
        }
        assert!(self.live <= self.limit, "more attempts than may be");
        let next = |index: &u32| Some(self.slots.get(*index as usize)?.next_of_source);
        let chain = |first| std::iter::successors(Some(first), next).take_while(|index| *index != NIL);
        let free = chain(self.free).take(self.slots.len() + 1).count();
        assert_eq!(free + self.live, self.slots.len(), "slots that are free or live");
        let (mut found, mut fresh) = (0, 0);
        for &head in &self.sources {
            let source = self.slots[head as usize].source;
            assert_eq!(self.cursor(source).at, head, "the first attempt of {}", source.ip());
            let mut door_before = None;
            for index in chain(head) {
                let attempt = self.get(index);
                assert!(attempt.source == source && door_before < Some(attempt.door), "the chain of {}", source.ip());
                assert!(is_right(attempt), "an attempt that cannot be: {attempt:?}");
                door_before = Some(attempt.door);
                found += 1;
                fresh += usize::from(attempt.is_fresh());
            }
        }
        assert_eq!(found, self.live, "attempts of all sources");
        let (attempt, spans) = (|index: u32| &self.slots[index as usize], &self.spans);
        let mut listed = 0;
        for (door, list) in self.fresh.iter().enumerate() {
            let is_here = |index, _: &Term| attempt(index).is_fresh() && usize::from(attempt(index).door) == door;
            listed += list.check(&mut self.terms, is_here);
        }
        assert_eq!(listed, fresh, "attempts that make room");
        let held = (0..=u16::MAX).zip(&self.spans).map(|(door, _)| self.shares.held(door) as usize).sum::<usize>();
        assert_eq!(held, self.live, "attempts of all doors");
        let class_and_due = |index, term: &Term| {
            let class = attempt(index).class();
            (class, due_of(spans, class, term))
        };
        self.timeline.check(&mut self.terms, self.live, class_and_due);
        true
    }

    /// The sets in the scan log that attempts have.
    pub(super) fn scan_sets(&self) -> usize {
        let next = |index: &u32| Some(self.slots[*index as usize].next_of_source).filter(|next| *next != NIL);
        let all = self.sources.iter().flat_map(|&head| std::iter::successors(Some(head), next));
        all.filter(|index| self.terms[*index as usize].scan_set != NIL).count()
    }

    fn replace_head(&mut self, hash: u64, old: u32, new: u32) {
        if let Some(head) = self.sources.find_mut(hash, |&head| head == old) {
            *head = new;
        }
    }
}

fn hash_of(hasher: &RandomState, source: Source) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u128(source.bits());
    hasher.finish()
}

fn due_of(spans: &[[Duration; 2]], class: usize, term: &Term) -> Timestamp {
    term.started().saturating_add(spans.as_flattened()[class])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_takes_sixty_bytes() {
        assert_eq!((size_of::<Attempt>(), size_of::<Term>()), (32, 28));
    }

    #[test]
    fn addresses_survive_the_key() {
        for ip in ["0.0.0.0", "10.0.0.1", "255.255.255.255", "::1", "::fffe:0:1", "1::ffff:0:1", "2001:db8::ffff"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Source::from(ip).ip(), ip);
        }
    }

    #[test]
    fn chains_of_one_source_stay_in_door_order_whatever_is_removed() {
        let mut table = Attempts::new(10, vec![[Duration::from_secs(5); 2]; 4].into());
        let source = Source::from(IpAddr::from([10, 0, 0, 1]));
        for door in [2, 0, 3, 1] {
            let mut cursor = if door == 0 { table.cursor(source) } else { table.cursor_behind(source, door - 1) };
            table.insert(&mut cursor, Attempt::new(source, door, 1), Timestamp::from_secs(1));
        }
        let doors = |table: &Attempts| {
            let mut cursor = table.cursor(source);
            let mut doors = Vec::new();
            while let Some(index) = cursor.index() {
                doors.push(table.get(index).door());
                table.advance(&mut cursor);
            }
            doors
        };
        assert_eq!(doors(&table), [0, 1, 2, 3]);
        for (door, left) in [(1, &[0, 2, 3][..]), (0, &[2, 3]), (3, &[2]), (2, &[])] {
            let index = table.oldest_at_door(door).unwrap();
            table.remove_at(index);
            assert_eq!(doors(&table), left);
        }
        assert_eq!((table.len(), table.sources.len(), table.makes_room_for(0)), (0, 0, None));
    }

    #[test]
    fn most_new_sources_are_put_in_next_to_what_was_fetched_for_them() {
        let mut table = Attempts::new(2 * MANY, vec![[Duration::from_secs(5); 2]].into());
        let begin = |ip: u32| {
            let source = Source::from(IpAddr::from(ip.to_be_bytes()));
            let mut cursor = table.cursor(source);
            let near = table.near_its_place(cursor.hash);
            let index = table.insert(&mut cursor, Attempt::new(source, 0, 1), Timestamp::from_secs(1));
            let bucket = |index: u32| {
                let hash = hash_of(&table.hasher, table.get(index).source);
                table.sources.find_bucket_index(hash, |&head| head == index).unwrap()
            };
            // A cache line has room for sixteen.
            near.is_some_and(|near| bucket(near).abs_diff(bucket(index)) < 16)
        };
        let first = u32::try_from(MANY).unwrap();
        let near: Vec<bool> = (0..first + 1_000).map(begin).collect();
        let near = near[MANY..].iter().filter(|near| **near).count();
        assert!(near > 750, "{near} of 1,000");
    }
}
