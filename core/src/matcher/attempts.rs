//! The bounded table of attempts: indexed by source, ordered by age. No operation on a knock walks
//! the whole table.

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::shares::Shares;
use crate::time::Timestamp;
use crate::timeline::{CHECKED, Linked, Links, List, NIL, Timeline};

/// Number of sources prefetched per batch.
pub(crate) const PREFETCH_BATCH: usize = 32;
/// Number of attempts up to which the table fits into the processor's caches and is cheap to copy.
const SMALL_TABLE_THRESHOLD: usize = 4_096;
/// Number of attempts from which the buckets of the hash table no longer stay in the processor's
/// caches.
const LARGE_TABLE_THRESHOLD: usize = 262_144;

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

/// The part of an attempt that only doors with a code use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CodeProgress {
    /// The number of the door's last change of windows when the last digits matched.
    pub(super) turn: u16,
    /// The slots of the windows whose codes begin with the digits so far, one bit each.
    pub(super) slots: u8,
}

/// The state of one source at one door that a knock reads: half of a cache line, because the table
/// can hold a million of them.
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
    /// Steps matched; 0 for a cooldown, which only prevents the source from starting again.
    stage: u8,
    /// As in [`CodeProgress`]; separate, so that no space is lost.
    code_slots: u8,
    code_turn: u16,
}

impl Attempt {
    /// Creates an attempt or, with stage 0, a cooldown.
    pub(super) fn new(source: Source, door: u16, stage: u8) -> Self {
        Self {
            source,
            next_of_source: NIL,
            sequence_number: 0,
            door,
            source_port: 0,
            stage,
            code_slots: 0,
            code_turn: 0,
        }
    }

    /// The digits of a code that have matched.
    pub(super) fn code(&self) -> CodeProgress {
        CodeProgress { turn: self.code_turn, slots: self.code_slots }
    }

    pub(super) fn set_code(&mut self, progress: CodeProgress) {
        (self.code_turn, self.code_slots) = (progress.turn, progress.slots);
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

    /// True for attempts at stage 1 and for cooldowns, which are evicted first when the table is
    /// full.
    fn is_fresh(&self) -> bool {
        self.stage <= 1
    }

    fn class(&self) -> usize {
        2 * usize::from(self.door) + usize::from(self.stage == 0)
    }
}

/// The state of an attempt that is needed only when it begins and when it ends.
#[derive(Clone, Copy, Debug)]
struct Metadata {
    /// The high and the low half of a timestamp; a `u64` would add padding for its alignment.
    started: [u32; 2],
    by_due: Links,
    by_freshness: Links,
    /// The set in the scan log, or [`NIL`].
    scan_set: u32,
}

impl Metadata {
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

/// An attempt that was removed from the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) attempt: Attempt,
    pub(super) started: Timestamp,
    /// The set in the scan log, or [`NIL`].
    pub(super) scan_set: u32,
}

#[derive(Debug)]
struct ByDue;

impl Linked<Metadata> for ByDue {
    fn links(metadata: &mut Metadata) -> &mut Links {
        &mut metadata.by_due
    }
}

#[derive(Debug)]
struct ByFreshness;

impl Linked<Metadata> for ByFreshness {
    fn links(metadata: &mut Metadata) -> &mut Links {
        &mut metadata.by_freshness
    }
}

/// A position in the chain of the attempts of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    hash: u64,
    /// The attempt before the current one, or [`NIL`] at the start.
    prev: u32,
    /// The current attempt, or [`NIL`] after the last.
    at: u32,
}

impl Cursor {
    /// The current attempt's index, or `None` after the last.
    pub(super) fn index(&self) -> Option<u32> {
        (self.at != NIL).then_some(self.at)
    }
}

/// All attempts and cooldowns.
#[derive(Debug)]
pub(super) struct Attempts {
    slots: Vec<Attempt>,
    /// The metadata of the slots, by the same index.
    metadata: Vec<Metadata>,
    /// The first free slot (linked by `next_of_source`), or [`NIL`].
    free: u32,
    live: usize,
    limit: usize,
    /// The first attempt of each source; the attempts of a source are chained in the order of the
    /// doors.
    sources: HashTable<u32>,
    hasher: RandomState,
    /// For each door, the lifetimes of an attempt and of a cooldown.
    lifetimes: Box<[[Duration; 2]]>,
    timeline: Timeline<ByDue>,
    /// For each door, the attempts that can be evicted, oldest first.
    fresh: Box<[List<ByFreshness>]>,
    shares: Shares,
}

impl Attempts {
    /// Creates an empty table for at most `limit` attempts at doors with these lifetimes (attempt,
    /// cooldown).
    pub(super) fn new(limit: usize, lifetimes: Box<[[Duration; 2]]>) -> Self {
        Self {
            slots: Vec::new(),
            metadata: Vec::new(),
            free: NIL,
            live: 0,
            limit,
            sources: HashTable::new(),
            hasher: RandomState::default(),
            timeline: Timeline::new(2 * lifetimes.len()),
            fresh: lifetimes.iter().map(|_| List::default()).collect(),
            shares: Shares::new(lifetimes.len()),
            lifetimes,
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
        &mut self.metadata[index as usize].scan_set
    }

    /// Prefetches the memory that these sources need: their attempts or, if a source can begin an
    /// attempt (`true`), the bucket for it. Also prefetches the attempts that are due by `until`.
    /// The loads of a batch overlap, whereas a knock on its own would wait for each of its loads.
    pub(super) fn prefetch(&mut self, sources: impl Iterator<Item = (Source, bool)>, until: Timestamp) {
        if self.live < SMALL_TABLE_THRESHOLD {
            return;
        }
        let mut hashes = [(0, false); 2 * PREFETCH_BATCH];
        let mut count = 0;
        for (source, may_begin) in sources.take(PREFETCH_BATCH) {
            hashes[count] = (hash_of(&self.hasher, source), may_begin);
            count += 1;
        }
        let mut due = self.first_due(until).map_or(NIL, |(_, index)| index);
        while due != NIL && count < hashes.len() {
            hashes[count] = (hash_of(&self.hasher, self.slots[due as usize].source), false);
            count += 1;
            due = self.metadata[due as usize].by_due.next();
        }
        // The first entry that matches a few bits of the hash is nearly always the right one.
        // Verifying it would mean waiting for its memory.
        for &(hash, may_begin) in &hashes[..count] {
            if let Some(&head) = self.sources.iter_hash(hash).next() {
                black_box(self.slots[head as usize].stage);
            } else if may_begin && self.live >= LARGE_TABLE_THRESHOLD {
                black_box(self.entry_near_bucket(hash));
            }
        }
    }

    /// Returns an entry next to the bucket into which a new source with this hash will be inserted,
    /// if there is one. The table gives no access to the free bucket itself, but its neighbours
    /// share its cache line.
    fn entry_near_bucket(&self, hash: u64) -> Option<u32> {
        #[allow(clippy::cast_possible_truncation, reason = "the low bits select the bucket")]
        let (bucket, buckets) = (hash as usize, self.sources.num_buckets());
        // The number of buckets is a power of two, and about half of them are in use. If these four
        // are free, nothing is prefetched.
        (0..4).find_map(|i| self.sources.get_bucket(bucket.wrapping_add(i) & (buckets - 1)).copied())
    }

    /// Returns a cursor at the first attempt of a source.
    pub(super) fn cursor(&self, source: Source) -> Cursor {
        let hash = hash_of(&self.hasher, source);
        let at = self.sources.find(hash, |&head| self.slots[head as usize].source == source).copied().unwrap_or(NIL);
        Cursor { hash, prev: NIL, at }
    }

    /// Moves the cursor to the source's attempt at the next door.
    pub(super) fn advance(&self, cursor: &mut Cursor) {
        cursor.prev = cursor.at;
        cursor.at = self.slots[cursor.at as usize].next_of_source;
    }

    /// Inserts an attempt before the cursor's current one and returns its index. The caller makes
    /// sure that there is room, and that the chain stays in door order.
    pub(super) fn insert(&mut self, cursor: &mut Cursor, mut attempt: Attempt, started: Timestamp) -> u32 {
        attempt.next_of_source = cursor.at;
        let metadata = Metadata::new(started);
        let index = match self.free {
            NIL => {
                if self.slots.len() == SMALL_TABLE_THRESHOLD {
                    self.reserve();
                }
                self.slots.push(attempt);
                self.metadata.push(metadata);
                // The limit is far below the range of a u32.
                u32::try_from(self.slots.len() - 1).unwrap_or(NIL)
            }
            free => {
                self.free = std::mem::replace(&mut self.slots[free as usize], attempt).next_of_source;
                self.metadata[free as usize] = metadata;
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
            self.fresh[usize::from(attempt.door)].push_back(&mut self.metadata, index);
        }
        self.shares.add(attempt.door);
        let (class, lifetimes) = (attempt.class(), &self.lifetimes);
        self.timeline.push(&mut self.metadata, class, index, |metadata| due_of(lifetimes, class, metadata));
        index
    }

    /// Reserves address space for the maximum number of attempts, which uses no memory yet: growing
    /// later would copy many of them in the middle of a flood. If the reservation fails, the
    /// vectors grow on demand.
    #[cold]
    fn reserve(&mut self) {
        let more = self.limit.saturating_sub(self.slots.len());
        let _ = self.slots.try_reserve_exact(more);
        let _ = self.metadata.try_reserve_exact(more);
    }

    /// Removes the cursor's current attempt and moves the cursor to the next one.
    pub(super) fn remove(&mut self, cursor: &mut Cursor) -> Removed {
        let index = cursor.at;
        cursor.at = self.slots[index as usize].next_of_source;
        if cursor.prev != NIL {
            self.slots[cursor.prev as usize].next_of_source = cursor.at;
        } else {
            self.remove_head(cursor.hash, index);
        }
        self.remove_unchained(index)
    }

    /// Removes an attempt by its index.
    pub(super) fn remove_at(&mut self, index: u32) -> Removed {
        let source = self.slots[index as usize].source;
        if self.remove_head(hash_of(&self.hasher, source), index) {
            return self.remove_unchained(index);
        }
        let mut cursor = self.cursor(source);
        while cursor.at != index {
            self.advance(&mut cursor);
        }
        self.remove(&mut cursor)
    }

    /// Makes the source's chain begin with the attempt after this one. Returns false if the chain
    /// did not begin with this one.
    fn remove_head(&mut self, hash: u64, index: u32) -> bool {
        let Ok(mut head) = self.sources.find_entry(hash, |&head| head == index) else { return false };
        match self.slots[index as usize].next_of_source {
            NIL => drop(head.remove()),
            next => *head.get_mut() = next,
        }
        true
    }

    /// Removes an attempt that is no longer in the chain of its source.
    fn remove_unchained(&mut self, index: u32) -> Removed {
        let attempt = self.slots[index as usize];
        let metadata = self.metadata[index as usize];
        if attempt.is_fresh() {
            self.fresh[usize::from(attempt.door)].unlink(&mut self.metadata, index);
        }
        self.shares.remove(attempt.door);
        self.timeline.unlink(&mut self.metadata, attempt.class(), index);
        self.slots[index as usize].next_of_source = self.free;
        self.free = index;
        self.live -= 1;
        Removed { attempt, started: metadata.started(), scan_set: metadata.scan_set }
    }

    /// Returns the source's attempt or cooldown at a door.
    pub(super) fn find(&self, source: Source, door: u16) -> Option<u32> {
        let mut cursor = self.cursor(source);
        while cursor.index().is_some_and(|index| self.get(index).door < door) {
            self.advance(&mut cursor);
        }
        cursor.index().filter(|&index| self.get(index).door == door)
    }

    /// Returns a cursor at the source's first attempt at a door after `door`.
    pub(super) fn cursor_after(&self, source: Source, door: u16) -> Cursor {
        let mut cursor = self.cursor(source);
        while cursor.index().is_some_and(|index| self.get(index).door <= door) {
            self.advance(&mut cursor);
        }
        cursor
    }

    /// Counts one more matched step.
    pub(super) fn raise_stage(&mut self, index: u32) {
        let attempt = &mut self.slots[index as usize];
        let was_fresh = attempt.is_fresh();
        attempt.stage += 1;
        if was_fresh {
            self.fresh[usize::from(attempt.door)].unlink(&mut self.metadata, index);
        }
    }

    /// Returns the attempt or cooldown to evict for one more at `door` when the table is full: an
    /// attempt at the door that holds most, the oldest at stage 1 if there is any. Attempts at a
    /// later stage are evicted only for doors that hold fewer attempts, so that no door can fill
    /// the table alone, and first knocks alone evict no attempt at a later stage.
    pub(super) fn evictable_for(&self, door: u16) -> Option<u32> {
        let most = self.shares.most();
        let oldest_fresh = |door: u16| Some(self.fresh[usize::from(door)].head()).filter(|&head| head != NIL);
        oldest_fresh(most).or_else(|| {
            let evens_out = self.shares.held(door) + 1 < self.shares.held(most);
            if evens_out { self.oldest_at_door(most) } else { oldest_fresh(door) }
        })
    }

    /// Returns the attempt or cooldown that is due first, if it is due by `until`.
    #[inline]
    pub(super) fn first_due(&mut self, until: Timestamp) -> Option<(Timestamp, u32)> {
        let lifetimes = &self.lifetimes;
        self.timeline.first(&self.metadata, until, |class, metadata| due_of(lifetimes, class, metadata))
    }

    /// Returns the oldest attempt at a door.
    pub(super) fn oldest_at_door(&self, door: u16) -> Option<u32> {
        Some(self.timeline.head(2 * usize::from(door))).filter(|&head| head != NIL)
    }

    /// Returns every attempt and cooldown, oldest first. For a reload: the only operation that
    /// visits all of them.
    pub(super) fn drain_by_age(mut self) -> Vec<Removed> {
        let mut all = Vec::with_capacity(self.live);
        while let Some((_, index)) = self.first_due(Timestamp::from_nanos(u64::MAX)) {
            all.push(self.remove_at(index));
        }
        all.sort_by_key(|removed| (removed.started, removed.attempt.door));
        all
    }

    /// Asserts in debug builds that every index leads to each attempt, and that `is_valid` holds
    /// for each attempt. Returns false without a check if there are too many attempts.
    pub(super) fn check(&mut self, is_valid: impl Fn(&Attempt) -> bool) -> bool {
        if self.slots.len() > CHECKED || self.lifetimes.len() > CHECKED {
            return false;
        }
        assert!(self.live <= self.limit, "more attempts than the limit");
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
                assert!(is_valid(attempt), "an invalid attempt: {attempt:?}");
                door_before = Some(attempt.door);
                found += 1;
                fresh += usize::from(attempt.is_fresh());
            }
        }
        assert_eq!(found, self.live, "attempts of all sources");
        let (attempt, lifetimes) = (|index: u32| &self.slots[index as usize], &self.lifetimes);
        let mut listed = 0;
        for (door, list) in self.fresh.iter().enumerate() {
            let is_here = |index, _: &Metadata| attempt(index).is_fresh() && usize::from(attempt(index).door) == door;
            listed += list.check(&mut self.metadata, is_here);
        }
        assert_eq!(listed, fresh, "attempts that can be evicted");
        let held = (0..=u16::MAX).zip(&self.lifetimes).map(|(door, _)| self.shares.held(door) as usize).sum::<usize>();
        assert_eq!(held, self.live, "attempts of all doors");
        let class_and_due = |index, metadata: &Metadata| {
            let class = attempt(index).class();
            (class, due_of(lifetimes, class, metadata))
        };
        self.timeline.check(&mut self.metadata, self.live, class_and_due);
        true
    }

    /// Number of sets in the scan log that attempts own.
    pub(super) fn scan_sets(&self) -> usize {
        let next = |index: &u32| Some(self.slots[*index as usize].next_of_source).filter(|next| *next != NIL);
        let all = self.sources.iter().flat_map(|&head| std::iter::successors(Some(head), next));
        all.filter(|index| self.metadata[*index as usize].scan_set != NIL).count()
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

fn due_of(lifetimes: &[[Duration; 2]], class: usize, metadata: &Metadata) -> Timestamp {
    metadata.started().saturating_add(lifetimes.as_flattened()[class])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_occupies_sixty_bytes() {
        assert_eq!((size_of::<Attempt>(), size_of::<Metadata>()), (32, 28));
    }

    #[test]
    fn a_source_keeps_its_address() {
        for ip in ["0.0.0.0", "10.0.0.1", "255.255.255.255", "::1", "::fffe:0:1", "1::ffff:0:1", "2001:db8::ffff"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(Source::from(ip).ip(), ip);
        }
    }

    #[test]
    fn chains_of_one_source_stay_in_door_order_after_each_removal() {
        let mut table = Attempts::new(10, vec![[Duration::from_secs(5); 2]; 4].into());
        let source = Source::from(IpAddr::from([10, 0, 0, 1]));
        for door in [2, 0, 3, 1] {
            let mut cursor = if door == 0 { table.cursor(source) } else { table.cursor_after(source, door - 1) };
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
        assert_eq!((table.len(), table.sources.len(), table.evictable_for(0)), (0, 0, None));
    }

    #[test]
    fn most_new_sources_are_inserted_next_to_the_prefetched_entry() {
        let mut table = Attempts::new(2 * LARGE_TABLE_THRESHOLD, vec![[Duration::from_secs(5); 2]].into());
        let begin = |ip: u32| {
            let source = Source::from(IpAddr::from(ip.to_be_bytes()));
            let mut cursor = table.cursor(source);
            let near = table.entry_near_bucket(cursor.hash);
            let index = table.insert(&mut cursor, Attempt::new(source, 0, 1), Timestamp::from_secs(1));
            let bucket = |index: u32| {
                let hash = hash_of(&table.hasher, table.get(index).source);
                table.sources.find_bucket_index(hash, |&head| head == index).unwrap()
            };
            // A cache line holds sixteen buckets.
            near.is_some_and(|near| bucket(near).abs_diff(bucket(index)) < 16)
        };
        let first = u32::try_from(LARGE_TABLE_THRESHOLD).unwrap();
        let near: Vec<bool> = (0..first + 1_000).map(begin).collect();
        let near = near[LARGE_TABLE_THRESHOLD..].iter().filter(|near| **near).count();
        assert!(near > 750, "{near} of 1,000");
    }
}
