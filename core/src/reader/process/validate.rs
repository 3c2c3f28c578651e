//! Validates everything that the daemon and the next reader take from a reader.
//!
//! The reader parses packets, so it is taken for compromised: it may send anything at any time. Each function here takes
//! what a message contains and returns what may be used of it, or the protocol violation for which the reader is
//! replaced. Nothing that a reader sends reaches the daemon, the log or the next reader but through these functions.
//!
//! What remains to a compromised reader is what an intact one does: to report that an address that `allow` permits has
//! knocked at a door, and to report nothing.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::budget::Budget;
use crate::capture::{Absence, CaptureNotice};
use crate::clock::Clock;
use crate::config::{Config, Door, DoorId, MAX_STEPS, Sequence};
use crate::decode::Knock;
use crate::event::EventKind;
use crate::log_limit::{Counted, MAX_REPORTED_DOORS, Suppressed};
use crate::matcher::SavedAttempt;
use crate::reader::wire::{
    Counts, DoorEvent, DoorEventKind, MAX_TEXT_CHARS, ReaderOptions, WireAbsence, WireKnock, WireNotice, WireNoticeKind,
};
use crate::time::Timestamp;

/// Shortest time between two uses of the one-time sequences of a door.
const ONE_TIME_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of permissions that a reader may say it has kept.
const MAX_KEPT: usize = 8;
/// Numbers of ports as an attempt contains them: 16 bits of a port, and a bit for the protocol.
const PORT_NUMBERS: u32 = 1 << 17;

/// What readers are validated against.
#[derive(Debug)]
pub(super) struct Validator {
    /// The doors; one-time doors have the sequence that is in use, or none between a use and the next sequence.
    config: Config,
    interfaces: Vec<String>,
    options: ReaderOptions,
    /// The doors of each name that several have, by the first of them, which most reports name.
    same_name: HashMap<u16, Vec<u16>>,
    clock: Clock,
    /// A time that is over.
    past: Timestamp,
    /// When each one-time door was used last, and whether a refusal was reported since.
    one_time_uses: HashMap<u16, OneTimeUse>,
    /// What was last reported of each interface, because each reader reports it again.
    reported: HashMap<String, Reported>,
    budget: Budget,
}

#[derive(Debug)]
struct OneTimeUse {
    time: Timestamp,
    is_refusal_reported: bool,
}

#[derive(Debug, Default)]
struct Reported {
    /// Why it is not captured; `None` if it is.
    absence: Option<Absence>,
    /// How many instructions its coarse filter has.
    coarse: Option<Option<usize>>,
}

/// What becomes of a report about a door.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DoorReport {
    /// It counts, for this time.
    Accepted(Timestamp, EventKind),
    /// It does not count, because no host has this address, or because the door opens for no more.
    Ignored,
    /// It does not count, because the one-time door was used a moment ago; `is_first`: since that use.
    TooSoon { is_first: bool },
}

impl Validator {
    pub(super) fn new(config: &Config, interfaces: &[String], clock: Clock, options: ReaderOptions) -> Self {
        Self {
            config: config.clone(),
            interfaces: interfaces.to_vec(),
            options,
            same_name: same_name(config),
            clock,
            past: Timestamp::default(),
            one_time_uses: HashMap::new(),
            reported: HashMap::new(),
            budget: Budget::new(interfaces.len(), config),
        }
    }

    /// Validates against other doors and interfaces from now on.
    pub(super) fn replace(&mut self, config: &Config, interfaces: &[String]) {
        self.config = config.clone();
        self.same_name = same_name(config);
        self.one_time_uses.clear();
        self.interfaces = interfaces.to_vec();
        self.reported.retain(|name, _| interfaces.contains(name));
        self.budget = Budget::new(interfaces.len(), config);
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Gives a one-time door its next sequence. False if that index is another door's, as it may be after
    /// [`Validator::replace`] while reports about the old doors are handled.
    pub(super) fn set_sequence(&mut self, id: DoorId, door: &Door) -> bool {
        let is_same = |own: &&mut Door| own.name == door.name && own.one_time_sequences == door.one_time_sequences;
        let Some(own) = self.config.doors.get_mut(usize::from(id.0)).filter(is_same) else { return false };
        own.sequence.clone_from(&door.sequence);
        true
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The permissions that a reader says it has kept.
    pub(super) fn kept(kept: Vec<String>) -> io::Result<Vec<String>> {
        if kept.len() > MAX_KEPT {
            return Err(violation("it keeps more permissions than there are"));
        }
        kept.into_iter().map(text).collect()
    }

    /// Why a reader says it cannot go on.
    pub(super) fn failure(reason: String) -> io::Error {
        text(reason).map_or_else(|violation| violation, io::Error::other)
    }

    /// A report about a door.
    pub(super) fn door_report(&mut self, found: &DoorEvent) -> io::Result<DoorReport> {
        let is_open = matches!(found.kind, DoorEventKind::Complete);
        let bucket = if is_open { &mut self.budget.opens } else { &mut self.budget.reports };
        if !bucket.take() {
            return Err(violation("it reports more than packets can cause"));
        }
        let time = Timestamp::from_nanos(found.time);
        if !self.is_past(time) {
            return Err(violation("it reports something of the future"));
        }
        let index = usize::from(found.door);
        let Some(door) = self.config.doors.get(index) else {
            return Err(violation("it reports something at a door that does not exist"));
        };
        let is_allowed = match (is_open, self.same_name.get(&found.door)) {
            (true, _) | (_, None) => allows(door, found.ip),
            (_, Some(doors)) => doors.iter().any(|door| allows(&self.config.doors[usize::from(*door)], found.ip)),
        };
        if !is_allowed || !self.may_be_read(found.ip) {
            return Err(violation("it reports an address that may not knock"));
        }
        let is_valid = match (found.stage(), found.kind) {
            (Some(stage), DoorEventKind::Stage { steps, .. }) => {
                is_stage(stage) && stage <= steps && usize::from(steps) <= MAX_STEPS
            }
            (Some(stage), _) => is_stage(stage),
            (None, _) => true,
        };
        if !is_valid {
            return Err(violation("it reports a stage that no attempt has"));
        }
        if is_open && door.sequence.is_none() {
            return Err(violation("it opens a door that takes no knocks"));
        }
        if !is_host(found.ip) {
            return Ok(DoorReport::Ignored);
        }
        if is_open && door.one_time_sequences.is_some() {
            return Ok(self.use_one_time(found, time));
        }
        if is_open && !self.budget.opens_of_door.take(found.door, self.past.as_nanos()) {
            return Ok(DoorReport::Ignored);
        }
        Ok(DoorReport::Accepted(time, found.event_kind()))
    }

    /// A complete knock at a one-time door: at most one in [`ONE_TIME_INTERVAL`] counts, so that a reader cannot use up a
    /// whole file at one time.
    fn use_one_time(&mut self, found: &DoorEvent, time: Timestamp) -> DoorReport {
        let now = self.clock.now();
        if let Some(last) = self.one_time_uses.get_mut(&found.door)
            && now.saturating_since(last.time) < ONE_TIME_INTERVAL
        {
            return DoorReport::TooSoon { is_first: !std::mem::replace(&mut last.is_refusal_reported, true) };
        }
        self.one_time_uses.insert(found.door, OneTimeUse { time: now, is_refusal_reported: false });
        // It takes no knock until it has its next sequence.
        self.config.doors[usize::from(found.door)].sequence = None;
        DoorReport::Accepted(time, found.event_kind())
    }

    /// Numbers of events that were not reported one by one, with the names of their doors.
    pub(super) fn suppressed(&mut self, time: u64, counted: Counted) -> io::Result<Suppressed> {
        self.notices_left()?;
        let time = Timestamp::from_nanos(time);
        if !self.is_past(time) || counted.doors.len() > MAX_REPORTED_DOORS {
            return Err(violation("it reports numbers of events that cannot be"));
        }
        let named = |(door, counts)| self.config.doors.get(usize::from(door)).map(|door| (door.name.clone(), counts));
        let doors: Option<Vec<_>> = counted.doors.into_iter().map(named).collect();
        let doors = doors.ok_or_else(|| violation("it reports something at a door that does not exist"))?;
        Ok(Suppressed { time, doors, others: counted.others })
    }

    /// A packet for the log of `--debug`.
    pub(super) fn knock(&mut self, knock: WireKnock) -> io::Result<Knock> {
        if !self.options.report_knocks {
            return Err(out_of_turn());
        }
        if !self.budget.knocks.take() {
            return Err(violation("it reports more packets than can come"));
        }
        Ok(knock.into())
    }

    /// A notice of a reader that was started with `interfaces`; `None` if it says nothing new about an interface that
    /// matters.
    pub(super) fn notice(&mut self, notice: WireNotice, interfaces: &[String]) -> io::Result<Option<CaptureNotice>> {
        self.notices_left()?;
        let Some(interface) = interfaces.get(usize::from(notice.interface)).cloned() else {
            return Err(violation("it reports something of an interface that it was not started with"));
        };
        let notice = match notice.kind {
            WireNoticeKind::Listening => CaptureNotice::Listening { interface },
            WireNoticeKind::Waiting(reason) => CaptureNotice::Waiting { interface, reason: absence(reason)? },
            WireNoticeKind::Lost(reason) => CaptureNotice::Lost { interface, reason: absence(reason)? },
            WireNoticeKind::Dropped { packets } => CaptureNotice::Dropped { interface, packets },
            WireNoticeKind::CoarseFilter { instructions } => {
                CaptureNotice::CoarseFilter { interface, instructions: instructions.map(usize::from) }
            }
        };
        Ok(self.is_news(&notice).then_some(notice))
    }

    /// A request for a successor.
    pub(super) fn notices_left(&mut self) -> io::Result<()> {
        if self.budget.notices.take() { Ok(()) } else { Err(violation("it sends too many notices")) }
    }

    /// True if a question about the network is to be answered now.
    pub(super) fn may_answer_network(&mut self) -> bool {
        self.budget.network_answers.take()
    }

    /// The time up to which nothing is missing, as the answer to a question of the time `asked`.
    pub(super) fn caught_up(&mut self, time: u64, asked: Timestamp) -> io::Result<Timestamp> {
        let time = Timestamp::from_nanos(time);
        // An earlier time would have the question asked again and again.
        if time < asked || !self.is_past(time) {
            return Err(violation("it has caught up with a time that was not asked for"));
        }
        Ok(time)
    }

    /// Attempts for the next reader; `before` of them were handed over already. Those that cannot go on are left out.
    pub(super) fn attempts(&mut self, attempts: Vec<SavedAttempt>, before: usize) -> io::Result<Vec<SavedAttempt>> {
        // A message without any could come for ever.
        if attempts.is_empty() || before.saturating_add(attempts.len()) > self.config.options.max_attempts as usize {
            return Err(violation("it hands over more attempts than there can be"));
        }
        let now = self.clock.now().as_nanos();
        let mut valid = Vec::with_capacity(attempts.len());
        for mut attempt in attempts {
            let Some(door) = self.config.doors.get(usize::from(attempt.door)) else {
                return Err(violation("it hands over an attempt at a door that does not exist"));
            };
            if !allows(door, attempt.ip) || !self.may_be_read(attempt.ip) {
                return Err(violation("it hands over an attempt of an address that may not knock"));
            }
            let hits = &attempt.scan_hits;
            if hits.len() > usize::from(self.config.options.scan_guard) || hits.iter().any(|hit| *hit >= PORT_NUMBERS) {
                return Err(violation("it hands over an attempt that the scan guard would have ended"));
            }
            let steps = door.sequence.as_ref().map_or(0, |sequence| Sequence::steps(sequence).len());
            let may_be = match attempt.stage {
                0 => door.seq_cooldown.is_some(),
                stage => usize::from(stage) < steps,
            };
            // The sequence of a one-time door may have changed meanwhile.
            if !may_be && door.one_time_sequences.is_none() {
                return Err(violation("it hands over an attempt at a stage that the door does not have"));
            }
            // An attempt of the future would not end for as long.
            attempt.started = attempt.started.min(now);
            if may_be && is_host(attempt.ip) {
                valid.push(attempt);
            }
        }
        Ok(valid)
    }

    /// Up to which timestamp, by the wall clock, the next reader leaves packets to the one before. One of the future, as
    /// after the clock was set back, says nothing.
    pub(super) fn last_stamp(&self, last: u64) -> Timestamp {
        let last = Timestamp::from_nanos(last);
        if last > self.clock.read().wall { Timestamp::default() } else { last }
    }

    /// What a reader holds and has counted.
    pub(super) fn counts(&self, counts: Counts) -> Counts {
        Counts { attempts: counts.attempts.min(self.config.options.max_attempts.into()), ..counts }
    }

    /// That a reader works, which has polled this many captures.
    pub(super) fn alive(&self, captures: u16) -> io::Result<()> {
        let captured = self.reported.values().filter(|reported| reported.absence.is_none()).count();
        if usize::from(captures) < captured {
            return Err(io::Error::other("its captures do not work"));
        }
        Ok(())
    }

    /// Reads the clock only if it matters: a flood brings many reports of the past at one time.
    fn is_past(&mut self, time: Timestamp) -> bool {
        if time > self.past {
            self.past = self.clock.now();
        }
        time <= self.past
    }

    /// True if a reader may take a packet of this address for a knock.
    fn may_be_read(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => !self.options.ipv4_only && ip.to_ipv4_mapped().is_none(),
        }
    }

    /// False for what was reported of the interface before, and for interfaces that no longer matter.
    fn is_news(&mut self, notice: &CaptureNotice) -> bool {
        let name = notice.interface();
        if !self.interfaces.iter().any(|interface| interface == name) {
            return false;
        }
        let absence = match notice {
            CaptureNotice::Listening { .. } => None,
            CaptureNotice::Waiting { reason, .. } | CaptureNotice::Lost { reason, .. } => Some(reason.clone()),
            CaptureNotice::CoarseFilter { instructions, .. } => {
                let reported = self.reported.entry(name.to_owned()).or_default();
                return reported.coarse.replace(*instructions) != Some(*instructions);
            }
            CaptureNotice::Dropped { .. } => return true,
        };
        let is_first = !self.reported.contains_key(name);
        let reported = self.reported.entry(name.to_owned()).or_default();
        std::mem::replace(&mut reported.absence, absence.clone()) != absence || is_first
    }
}

/// A message that no intact reader sends.
pub(super) fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A message that answers nothing, or of a kind that does not come at this time.
pub(super) fn out_of_turn() -> io::Error {
    violation("it sends a message out of turn")
}

fn text(text: String) -> io::Result<String> {
    if text.chars().count() > MAX_TEXT_CHARS { Err(violation("it sends a text that is too long")) } else { Ok(text) }
}

fn absence(absence: WireAbsence) -> io::Result<Absence> {
    Ok(match absence {
        WireAbsence::Missing { near } => Absence::Missing { near: near.map(text).transpose()? },
        WireAbsence::Down => Absence::Down,
        WireAbsence::Replaced => Absence::Replaced,
        WireAbsence::Failed(message) => Absence::Failed(text(message)?),
    })
}

fn is_stage(stage: u8) -> bool {
    (1..=MAX_STEPS).contains(&usize::from(stage))
}

fn allows(door: &Door, ip: IpAddr) -> bool {
    door.allow.is_empty() || door.allow.iter().any(|net| net.contains(&ip))
}

/// False for addresses that no host sends from. Loopback addresses are a host's own.
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn same_name(config: &Config) -> HashMap<u16, Vec<u16>> {
    let mut by_name: HashMap<&str, Vec<u16>> = HashMap::new();
    for (index, door) in (0..=u16::MAX).zip(&config.doors) {
        by_name.entry(&door.name).or_default().push(index);
    }
    by_name.into_values().filter(|doors| doors.len() > 1).map(|doors| (doors[0], doors)).collect()
}
