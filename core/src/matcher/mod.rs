//! The sequence matcher: finds out which step of which door a knock is, separately for each source.
//!
//! Inputs are knocks and times; results go to a [`Sink`]. The cost of a knock depends on the number
//! of attempts of its source and the number of doors that begin with its port, not on the number of
//! all attempts.

mod attempts;
mod codes;
mod handover;
mod ports;
mod rules;
mod scan_log;
mod shares;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

pub(crate) use self::attempts::PREFETCH_BATCH;
use self::attempts::{Attempt, Attempts, Cursor, Removed, Source};
use self::codes::CodeMatch;
pub(crate) use self::handover::SavedAttempt;
use self::ports::{PortIndex, PortKey, PortUse};
use self::rules::{DoorRules, keys_of};
use self::scan_log::ScanLog;
use crate::config::{CodeSequence, Config, Door, DoorId, Sequence};
use crate::decode::Knock;
use crate::event::{EventKind, FailReason};
use crate::live_windows::{LiveWindow, LiveWindows};
use crate::local_addresses::LocalAddresses;
use crate::packet::Protocol;
use crate::time::Timestamp;

/// Receives the results of the matcher, in the order in which they happen.
pub(crate) trait Sink {
    /// Reports a stage, a timeout or a failure.
    fn event(&mut self, time: Timestamp, door: &Arc<str>, ip: IpAddr, kind: EventKind);
    /// Reports that the whole sequence of a door matched.
    fn complete(&mut self, time: Timestamp, door: DoorId, ip: IpAddr);
}

/// An attempt or a cooldown that is due to end.
#[derive(Debug)]
pub(crate) struct Due {
    /// Due time.
    pub(crate) time: Timestamp,
    index: u32,
}

/// A knock while it is compared with the attempts of its source.
struct Arrival<'a> {
    knock: &'a Knock,
    key: PortKey,
    /// True if the destination is an address of this machine.
    is_local: bool,
    now: Timestamp,
    /// The next attempt of the source.
    cursor: Cursor,
}

/// All doors and all attempts at them.
#[derive(Debug)]
pub(crate) struct Matcher {
    doors: Vec<DoorRules>,
    ports: PortIndex,
    attempts: Attempts,
    scan_guard: bool,
    scan_log: ScanLog,
    /// `None` if every destination is local.
    local: Option<HashSet<IpAddr, RandomState>>,
    /// One-time doors and live windows that the current knock opened.
    opened_one_time: Vec<u16>,
    /// Knocks at ports that no door uses.
    unused: u64,
    evicted: u64,
    refused: u64,
}

impl Matcher {
    /// Creates a matcher for the doors and the live windows, without attempts. Every destination is
    /// local until [`Matcher::set_local_addresses`].
    pub(crate) fn new(config: &Config, windows: &LiveWindows) -> Self {
        let mut doors: Vec<_> = config.doors.iter().map(DoorRules::of).collect();
        let lifetimes = |door: &Door| [door.seq_timeout, door.seq_cooldown.unwrap_or(Duration::ZERO)];
        let mut all_lifetimes: Vec<_> = config.doors.iter().map(lifetimes).collect();
        for (id, window) in windows.iter() {
            let Some(door) = config.doors.get(usize::from(window.door)) else { continue };
            doors.push(DoorRules::of_window(door, window));
            if window.number != u64::MAX {
                doors[usize::from(window.door)].set_code_window(id.0, window);
            }
            all_lifetimes.push(lifetimes(door));
        }
        Self {
            ports: PortIndex::new(doors.iter().map(DoorRules::ports)),
            doors,
            attempts: Attempts::new(limit_of(config), all_lifetimes.into()),
            scan_guard: config.options.scan_guard > 0,
            scan_log: ScanLog::new(config.options.scan_guard),
            local: None,
            opened_one_time: Vec::new(),
            unused: 0,
            evicted: 0,
            refused: 0,
        }
    }

    pub(crate) fn set_local_addresses(&mut self, addresses: LocalAddresses) {
        self.local = match addresses {
            LocalAddresses::Any => None,
            LocalAddresses::Only(addresses) => Some(addresses.into_iter().collect()),
        };
    }

    /// True if a knock to this address is one for this machine.
    pub(crate) fn is_local(&self, destination: IpAddr) -> bool {
        self.local.as_ref().is_none_or(|local| local.contains(&destination))
    }

    /// Number of attempts, including cooldowns.
    pub(crate) fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Number of knocks at ports that no door uses, since the start.
    pub(crate) fn unused(&self) -> u64 {
        self.unused
    }

    /// Number of attempts evicted from the full table, and number of first knocks that were refused
    /// because it was full, since the start.
    pub(crate) fn overflows(&self) -> (u64, u64) {
        (self.evicted, self.refused)
    }

    /// Returns the attempt or cooldown that ends next, if it ends by `until`.
    pub(crate) fn next_due(&mut self, until: Timestamp) -> Option<Due> {
        self.attempts.first_due(until).map(|(time, index)| Due { time, index })
    }

    /// Ends the attempt or cooldown that [`Matcher::next_due`] just returned.
    pub(crate) fn end_due(&mut self, Due { time, index }: Due, sink: &mut impl Sink) {
        let removed = self.attempts.remove_at(index);
        let stage = removed.attempt.stage();
        // The end of a cooldown is not reported.
        if stage > 0 {
            self.end(&removed, time, EventKind::Timeout { stage }, sink);
        }
        self.check_invariants();
    }

    /// Prefetches the memory that these knocks need; beyond [`PREFETCH_BATCH`] knocks, only that of
    /// the first.
    pub(crate) fn prefetch(&mut self, knocks: &[Knock]) {
        let until = knocks.last().map_or(Timestamp::default(), |knock| knock.time);
        let ports = &self.ports;
        let source =
            |knock: &Knock| (Source::from(knock.source), ports.is_used(PortKey::new(knock.protocol, knock.port)));
        self.attempts.prefetch(knocks.iter().map(source), until);
    }

    /// Handles a knock that arrives at `now`.
    pub(crate) fn handle_knock(&mut self, knock: &Knock, now: Timestamp, sink: &mut impl Sink) {
        if !is_possible_source(knock.source) {
            return;
        }
        let key = PortKey::new(knock.protocol, knock.port);
        let cursor = self.attempts.cursor(Source::from(knock.source));
        let port_use = self.ports.port_use(key);
        self.unused += u64::from(port_use.is_none());
        let is_local = (port_use.is_some() || cursor.index().is_some()) && self.is_local(knock.destination);
        let seen = port_use.filter(|port_use| self.is_seen(knock, is_local, port_use));
        let starters = seen.map(|port_use| port_use.starters.clone());
        let mut arrival = Arrival { knock, key, is_local, now, cursor };
        let Some(mut starters) = starters else {
            if self.scan_guard && arrival.cursor.index().is_some() {
                self.guard(&mut arrival, sink);
                self.check_invariants();
            }
            return;
        };
        loop {
            let current = arrival.cursor.index().map(|index| (self.attempts.get(index).door(), index));
            let starter = starters.clone().next().map(|index| self.ports.starter(index));
            match (current, starter) {
                (None, None) => break,
                (Some((door, index)), starter) if starter.is_none_or(|starter| door <= starter) => {
                    let starts_here = starter == Some(door);
                    starters.start += usize::from(starts_here);
                    if self.doors[usize::from(door)].is_relevant(knock, is_local) {
                        self.step(&mut arrival, index, starts_here, sink);
                    } else {
                        self.attempts.advance(&mut arrival.cursor);
                    }
                }
                (_, Some(door)) => {
                    starters.start += 1;
                    if self.doors[usize::from(door)].is_relevant(knock, is_local) {
                        self.start(&mut arrival, door, sink);
                    }
                }
                // The guard of the second arm is true if there is no starter.
                (Some(_), None) => unreachable!(),
            }
        }
        for i in 0..self.opened_one_time.len() {
            let door = self.opened_one_time[i];
            if self.doors[usize::from(door)].one_time {
                self.set_steps(door, &[], now, sink);
            } else {
                let consumed = |stage| EventKind::Fail { stage, reason: FailReason::Reload };
                self.end_attempts(door, now, consumed, sink);
            }
        }
        self.opened_one_time.clear();
        self.check_invariants();
    }

    /// Sets a door's next sequence, or none. Attempts at the old one fail.
    pub(crate) fn set_sequence(
        &mut self,
        door: DoorId,
        sequence: Option<&Sequence>,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        if usize::from(door.0) < self.doors.len() {
            self.set_steps(door.0, &keys_of(sequence), now, sink);
        }
        self.check_invariants();
    }

    /// Sets the sequences of these live windows. Attempts at the old sequences time out; those at a code
    /// when their next knock comes.
    pub(crate) fn set_windows<'a>(
        &mut self,
        windows: impl Iterator<Item = (DoorId, &'a LiveWindow)>,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        let mut has_new_ports = false;
        for (id, window) in windows {
            let Some(rules) = self.doors.get_mut(usize::from(id.0)) else { continue };
            if let Some(door) = rules.code_door {
                // The index contains all ports that the code can have.
                self.doors[usize::from(door)].set_code_window(id.0, window);
                continue;
            }
            has_new_ports = true;
            rules.set_steps(keys_of(window.sequence.as_ref()));
            self.end_attempts(id.0, now, |stage| EventKind::Timeout { stage }, sink);
        }
        if has_new_ports {
            self.ports = PortIndex::new(self.doors.iter().map(DoorRules::ports));
        }
        self.check_invariants();
    }

    /// Replaces the doors and the live windows; attempts at those that did not change go on.
    pub(crate) fn reload(
        &mut self,
        (old, old_windows): (&[Door], &LiveWindows),
        (new, new_windows): (&Config, &LiveWindows),
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        let options = &new.options;
        if *old == new.doors
            && *old_windows == *new_windows
            && self.attempts.limit() == limit_of(new)
            && self.scan_log.limit() == usize::from(options.scan_guard)
        {
            // Moving a million attempts can last a second.
            return;
        }
        let mut fresh = Self::new(new, new_windows);
        fresh.local = self.local.take();
        (fresh.unused, fresh.evicted, fresh.refused) = (self.unused, self.evicted, self.refused);
        let mut before = std::mem::replace(self, fresh);
        let mut moved = indices_of_unchanged(old, &new.doors);
        for (rules, door) in before.doors.iter_mut().zip(&moved) {
            if let Some(code) = rules.code.take()
                && let Some(rules) = door.and_then(|door| self.doors.get_mut(usize::from(door)))
            {
                rules.resume_code(*code);
            }
        }
        moved.extend(ids_of_unchanged_windows(&moved, old_windows, new_windows));
        for removed in before.attempts.drain_by_age() {
            let attempt = removed.attempt;
            let old_door = usize::from(attempt.door());
            match moved.get(old_door).copied().flatten() {
                Some(door) => {
                    let hits = before.scan_log.ports(removed.scan_set);
                    self.insert_moved(&removed, door, hits, now, sink);
                }
                None if attempt.stage() > 0 => {
                    let kind = EventKind::Fail { stage: attempt.stage(), reason: FailReason::Reload };
                    sink.event(now, &before.doors[old_door].name, attempt.source().ip(), kind);
                }
                None => {}
            }
        }
        self.check_invariants();
    }

    /// True if the matcher's doors, without live windows, have the names and sequences of these
    /// doors.
    pub(crate) fn is_for(&self, doors: &[Door]) -> bool {
        let is_same = |(rules, door): (&DoorRules, &Door)| {
            let steps = door.sequence.as_ref().map_or(&[][..], Sequence::steps);
            let steps = door.code.as_ref().map_or(steps, CodeSequence::fixed);
            rules.name == door.name && rules.steps.iter().copied().eq(steps.iter().map(|&step| step.into()))
        };
        self.doors.len() >= doors.len() && self.doors.iter().zip(doors).all(is_same)
    }

    /// Checks the invariants. Every change in a debug build ends with this call.
    fn check_invariants(&mut self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let doors = &self.doors;
        if self.attempts.check(|attempt| is_valid_attempt(doors, attempt.door(), attempt.stage())) {
            let (sets, free) = self.scan_log.sets();
            assert_eq!(free + self.attempts.scan_sets(), sets, "sets of the scan log that are free or used");
        }
    }

    /// Rule 4 of `docs/semantics.md`, section Attempts: a relevant knock that is seen, by a source
    /// that has an attempt.
    fn step(&mut self, arrival: &mut Arrival<'_>, index: u32, starts_here: bool, sink: &mut impl Sink) {
        let Arrival { knock, key, now, ref mut cursor, .. } = *arrival;
        let attempt = *self.attempts.get(index);
        let (door, stage) = (attempt.door(), usize::from(attempt.stage()));
        let rules = &self.doors[usize::from(door)];
        if stage == 0 || !rules.counts(knock) || self.is_network_cooling(door, knock.source) {
            return self.attempts.advance(cursor);
        }
        if stage >= rules.steps.len() {
            return self.step_code(arrival, index, sink);
        }
        let matched = rules.steps[stage - 1];
        let is_retransmission = knock.protocol == Protocol::Tcp
            && matched == key
            && (attempt.source_port, attempt.sequence_number) == (knock.source_port, knock.sequence_number);
        if !is_retransmission && rules.steps[stage] == key {
            self.stage_event(door, knock.source, now, stage + 1, sink);
            if stage + 1 == self.doors[usize::from(door)].length {
                let removed = self.attempts.remove(cursor);
                self.scan_log.release(removed.scan_set);
                return self.open(arrival, door, sink);
            }
            self.attempts.raise_stage(index);
            let attempt = self.attempts.get_mut(index);
            (attempt.source_port, attempt.sequence_number) = (knock.source_port, knock.sequence_number);
            return self.attempts.advance(cursor);
        }
        if matched == key {
            return self.attempts.advance(cursor);
        }
        let failed = self.attempts.remove(cursor);
        let kind = EventKind::Fail { stage: failed.attempt.stage(), reason: FailReason::WrongPort };
        self.end(&failed, now, kind, sink);
        if starts_here {
            self.start(arrival, door, sink);
        }
    }

    /// As [`Matcher::step`], for an attempt that has passed the steps before a code. The first knock that
    /// is not a digit of a live code ends it.
    #[cold]
    fn step_code(&mut self, arrival: &mut Arrival<'_>, index: u32, sink: &mut impl Sink) {
        let Arrival { knock, key, now, ref mut cursor, .. } = *arrival;
        let attempt = *self.attempts.get(index);
        let (door, stage) = (attempt.door(), attempt.stage());
        let rules = &mut self.doors[usize::from(door)];
        let (fixed, length) = (rules.steps.len(), rules.length);
        let Some(code) = &mut rules.code else { return self.attempts.advance(cursor) };
        let matched = usize::from(stage) - fixed;
        let fail = |reason| EventKind::Fail { stage, reason };
        let kind = match code.compare(attempt.code(), matched, key) {
            CodeMatch::Repeated => return self.attempts.advance(cursor),
            CodeMatch::NotCode if matched == 0 && rules.steps[fixed - 1] == key => {
                return self.attempts.advance(cursor);
            }
            CodeMatch::Next(progress) if usize::from(stage) + 1 < length => {
                self.attempts.raise_stage(index);
                self.attempts.get_mut(index).set_code(progress);
                self.attempts.advance(cursor);
                return self.stage_event(door, knock.source, now, usize::from(stage) + 1, sink);
            }
            CodeMatch::Next(progress) => {
                let window = code.consume(progress);
                rules.update_silence();
                self.stage_event(door, knock.source, now, length, sink);
                let removed = self.attempts.remove(cursor);
                self.scan_log.release(removed.scan_set);
                if let Some(id) = window {
                    sink.complete(now, DoorId(id), knock.source);
                }
                return;
            }
            CodeMatch::NotCode => fail(FailReason::WrongPort),
            CodeMatch::Expired => EventKind::Timeout { stage },
            CodeMatch::Wrong => {
                let reason = code.count_wrong(attempt.source());
                rules.update_silence();
                fail(reason)
            }
        };
        let is_first_step = rules.steps[0] == key;
        let ended = self.attempts.remove(cursor);
        self.end(&ended, now, kind, sink);
        if is_first_step {
            self.start(arrival, door, sink);
        }
    }

    /// Handles a relevant first step by a source without an attempt at the door. The cursor is at
    /// the position of the new attempt.
    fn start(&mut self, arrival: &mut Arrival<'_>, door: u16, sink: &mut impl Sink) {
        let Arrival { knock, now, ref mut cursor, .. } = *arrival;
        let rules = &self.doors[usize::from(door)];
        if !rules.counts(knock) || self.is_network_cooling(door, knock.source) {
            return;
        }
        if rules.length == 1 {
            self.stage_event(door, knock.source, now, 1, sink);
            return self.open(arrival, door, sink);
        }
        let source = Source::from(knock.source);
        if rules.code.as_ref().is_some_and(|code| code.is_silent_for(source)) {
            return;
        }
        if self.make_room(source, door, now, cursor, sink) {
            let mut attempt = Attempt::new(source, door, 1);
            (attempt.source_port, attempt.sequence_number) = (knock.source_port, knock.sequence_number);
            self.attempts.insert(cursor, attempt, now);
            self.stage_event(door, knock.source, now, 1, sink);
        }
    }

    /// Completes an attempt whose last step matched.
    fn open(&mut self, arrival: &mut Arrival<'_>, door: u16, sink: &mut impl Sink) {
        let Arrival { knock, now, ref mut cursor, .. } = *arrival;
        sink.complete(now, DoorId(door), knock.source);
        let rules = &mut self.doors[usize::from(door)];
        if rules.one_time || rules.consume_window() {
            self.opened_one_time.push(door);
        }
        let rules = &self.doors[usize::from(door)];
        let (source, network) = (Source::from(knock.source), rules.cooled_network(knock.source).map(Source::from));
        if !rules.has_cooldown {
            return;
        }
        // The cooldown replaces an attempt of the network's first address.
        if let Some(index) = network.and_then(|first| self.attempts.find(first, door)) {
            let removed = self.attempts.remove_at(index);
            let kind = EventKind::Fail { stage: removed.attempt.stage(), reason: FailReason::Reload };
            self.end(&removed, now, kind, sink);
        }
        if !self.make_room(source, door, now, cursor, sink) {
            return;
        }
        match network {
            None => self.attempts.insert(cursor, Attempt::new(source, door, 0), now),
            Some(first) => {
                let mut cursor = self.attempts.cursor_after(first, door);
                self.attempts.insert(&mut cursor, Attempt::new(first, door, 0), now)
            }
        };
    }

    /// True if the door ignores this source for now, because another address of its network opened
    /// it.
    fn is_network_cooling(&self, door: u16, source: IpAddr) -> bool {
        let first = self.doors[usize::from(door)].cooled_network(source);
        let held = first.and_then(|first| self.attempts.find(first.into(), door));
        held.is_some_and(|index| self.attempts.get(index).stage() == 0)
    }

    /// Makes room for one more attempt at the door. Returns false if only attempts at a later stage
    /// fill the table.
    fn make_room(
        &mut self,
        source: Source,
        door: u16,
        now: Timestamp,
        cursor: &mut Cursor,
        sink: &mut impl Sink,
    ) -> bool {
        if !self.attempts.is_full() {
            return true;
        }
        let Some(oldest) = self.attempts.evictable_for(door) else {
            self.refused += 1;
            return false;
        };
        let evicted = self.attempts.remove_at(oldest);
        let stage = evicted.attempt.stage();
        if stage > 0 {
            self.evicted += 1;
            self.end(&evicted, now, EventKind::Fail { stage, reason: FailReason::Full }, sink);
        }
        if evicted.attempt.source() == source {
            // The evicted attempt can be the cursor's current one.
            *cursor = self.attempts.cursor_after(source, door);
        }
        true
    }

    /// True if some door that uses the port accepts the packet. A packet that no door accepts is
    /// not seen.
    fn is_seen(&self, knock: &Knock, is_local: bool, port_use: &PortUse) -> bool {
        let accepts = |door: &u16| {
            let rules = &self.doors[usize::from(*door)];
            rules.counts(knock) && rules.is_relevant(knock, is_local)
        };
        is_local && port_use.packets.contains(knock.flags) || self.ports.restricted(port_use).iter().any(accepts)
    }

    /// Counts a packet that no door accepts at its port, for every attempt of the source at a door
    /// for which the packet would be a knock.
    fn guard(&mut self, arrival: &mut Arrival<'_>, sink: &mut impl Sink) {
        let Arrival { knock, key, is_local, now, ref mut cursor } = *arrival;
        while let Some(index) = cursor.index() {
            let attempt = self.attempts.get(index);
            let rules = &self.doors[usize::from(attempt.door())];
            let is_counted = attempt.stage() > 0 && rules.guards_against(knock) && rules.is_relevant(knock, is_local);
            if is_counted && !self.scan_log.note(self.attempts.scan_set(index), key) {
                let failed = self.attempts.remove(cursor);
                let kind = EventKind::Fail { stage: failed.attempt.stage(), reason: FailReason::Scan };
                self.end(&failed, now, kind, sink);
            } else {
                self.attempts.advance(cursor);
            }
        }
    }

    fn set_steps(&mut self, door: u16, steps: &[PortKey], now: Timestamp, sink: &mut impl Sink) {
        let rules = &mut self.doors[usize::from(door)];
        if *rules.steps == *steps {
            return;
        }
        rules.set_steps(steps.into());
        self.ports = PortIndex::new(self.doors.iter().map(DoorRules::ports));
        self.end_attempts(door, now, |stage| EventKind::Fail { stage, reason: FailReason::Reload }, sink);
    }

    /// Ends all attempts at a door, with the event that `kind` returns for the stage of each.
    fn end_attempts(&mut self, door: u16, now: Timestamp, kind: impl Fn(u8) -> EventKind, sink: &mut impl Sink) {
        while let Some(index) = self.attempts.oldest_at_door(door) {
            let removed = self.attempts.remove_at(index);
            self.end(&removed, now, kind(removed.attempt.stage()), sink);
        }
    }

    /// Inserts an attempt that existed before a reload or a hand-over at the new index of its door.
    fn insert_moved(
        &mut self,
        removed: &Removed,
        door: u16,
        scan_hits: impl Iterator<Item = PortKey>,
        now: Timestamp,
        sink: &mut impl Sink,
    ) {
        let attempt = &removed.attempt;
        let mut cursor = self.attempts.cursor_after(attempt.source(), door);
        if !self.make_room(attempt.source(), door, now, &mut cursor, sink) {
            // The end of a cooldown is not reported here either.
            if attempt.stage() > 0 {
                let kind = EventKind::Fail { stage: attempt.stage(), reason: FailReason::Full };
                sink.event(now, &self.doors[usize::from(door)].name, attempt.source().ip(), kind);
            }
            return;
        }
        let mut moved = Attempt::new(attempt.source(), door, attempt.stage());
        (moved.source_port, moved.sequence_number) = (attempt.source_port, attempt.sequence_number);
        moved.set_code(attempt.code());
        let index = self.attempts.insert(&mut cursor, moved, removed.started);
        if self.scan_guard {
            for port in scan_hits {
                self.scan_log.note(self.attempts.scan_set(index), port);
            }
        }
    }

    fn stage_event(&self, door: u16, ip: IpAddr, now: Timestamp, stage: usize, sink: &mut impl Sink) {
        let rules = &self.doors[usize::from(door)];
        let kind = EventKind::Stage { stage: to_u8(stage), steps: to_u8(rules.length) };
        sink.event(now, &rules.name, ip, kind);
    }

    /// Reports the end of an attempt that was removed.
    fn end(
        &mut self,
        Removed { attempt, scan_set, .. }: &Removed,
        time: Timestamp,
        kind: EventKind,
        sink: &mut impl Sink,
    ) {
        self.scan_log.release(*scan_set);
        sink.event(time, &self.doors[usize::from(attempt.door())].name, attempt.source().ip(), kind);
    }
}

/// Maximum number of attempts.
fn limit_of(config: &Config) -> usize {
    config.options.max_attempts.max(1) as usize
}

/// False for addresses that no host can send from.
pub(crate) fn is_possible_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        // The kernel drops packets from IPv4-mapped addresses too, and they would be mistaken for
        // IPv4.
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none(),
    }
}

/// True if an attempt of this stage, or a cooldown (0), is possible at this door.
fn is_valid_attempt(doors: &[DoorRules], door: u16, stage: u8) -> bool {
    doors.get(usize::from(door)).is_some_and(|rules| match stage {
        0 => rules.has_cooldown,
        stage => usize::from(stage) < rules.length,
    })
}

/// For each old door, the index of the new door that is the same in every respect, if there is one.
fn indices_of_unchanged(old: &[Door], new: &[Door]) -> Vec<Option<u16>> {
    let mut by_name: HashMap<&str, Vec<u16>> = HashMap::new();
    for (index, door) in (0..=u16::MAX).zip(new) {
        by_name.entry(&door.name).or_default().push(index);
    }
    old.iter()
        .map(|door| {
            let indices = by_name.get_mut(&*door.name)?;
            let found = indices.iter().position(|&index| new[usize::from(index)] == *door)?;
            Some(indices.remove(found))
        })
        .collect()
}

/// For each old window, the identifier of the new window of the same door with the same sequence.
fn ids_of_unchanged_windows(moved: &[Option<u16>], old: &LiveWindows, new: &LiveWindows) -> Vec<Option<u16>> {
    let unused = new.iter().filter_map(|(id, window)| Some(((window.door, window.sequence.as_ref()?), id.0)));
    let by_sequence: HashMap<_, _> = unused.collect();
    old.iter()
        .map(|(_, window)| {
            let door = moved.get(usize::from(window.door)).copied().flatten()?;
            by_sequence.get(&(door, window.sequence.as_ref()?)).copied()
        })
        .collect()
}

/// Converts a number of stages or steps; a sequence has at most 32 steps.
fn to_u8(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}
