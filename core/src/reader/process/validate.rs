//! Validates everything that the daemon and the next reader use of a reader's messages.
//!
//! The reader parses packets, so the daemon treats it as compromised: it may send any bytes at any
//! time. Each function here validates the content of a message. It returns the part that may be
//! used, or the protocol violation for which the daemon replaces the reader. No content of a
//! message reaches the daemon, the log or the next reader except through these functions.
//!
//! A compromised reader can still do what an intact one does: report that an address that `allow`
//! permits has knocked at a door, and report nothing.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::ReportedPacket;
use super::budget::Budget;
use crate::capture::{Absence, CaptureNotice};
use crate::clock::Clock;
use crate::config::{Config, Door, DoorId, MAX_STEPS, PacketFormat, Sequence};
use crate::decode::Knock;
use crate::engine::LiveSecrets;
use crate::event::EventKind;
use crate::fwknop::has_form;
use crate::live_windows::{LiveWindow, LiveWindows};
use crate::log_limit::{Counted, MAX_REPORTED_DOORS, Suppressed};
use crate::matcher::{SavedAttempt, is_possible_source};
use crate::packet::{Protocol, TcpFlags};
use crate::packet_keys::HintTable;
use crate::rate_limit::Limit;
use crate::reader::wire::{
    Counts, DoorEvent, DoorEventKind, MAX_TEXT_CHARS, ReaderOptions, WireAbsence, WireHints, WireKnock, WireNotice,
    WireNoticeKind, WirePacket,
};
use crate::time::Timestamp;

/// Minimum time between two uses of the one-time sequences of a door.
const ONE_TIME_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of privileges that a reader may report as kept.
const MAX_KEPT: usize = 8;
/// Number of values of a port in an attempt: 16 bits of the port, and a bit for the protocol.
const PORT_NUMBERS: u32 = 1 << 17;

/// The state that messages are validated against. It outlives each reader.
#[derive(Debug)]
pub(super) struct Validator {
    /// The doors. One-time doors have their current sequence, or none after a use until the next
    /// sequence is set.
    config: Config,
    /// The sequences and hints that detect the knocks of doors with keys. A window has no sequence after its use.
    secrets: LiveSecrets,
    interfaces: Vec<String>,
    options: ReaderOptions,
    /// The doors that share a name, by the index of the first of them, which most reports contain.
    same_name: HashMap<u16, Vec<u16>>,
    clock: Clock,
    /// A time in the past: the last reading of the clock.
    past: Timestamp,
    /// The last use of each one-time door, by its index.
    one_time_uses: HashMap<u16, OneTimeUse>,
    /// The last reported state of each interface, because each reader reports it again.
    reported: HashMap<String, Reported>,
    budget: Budget,
}

/// The last use of a one-time door.
#[derive(Debug)]
struct OneTimeUse {
    time: Timestamp,
    /// True if a notice about a refused knock was reported since.
    is_refusal_reported: bool,
}

/// The reported state of an interface.
#[derive(Debug, Default)]
struct Reported {
    /// The reason why it is not captured; `None` if it is.
    absence: Option<Absence>,
    /// The reported length of its coarse filter, in instructions: the outer `None` if none was
    /// reported, the inner `None` if the kernel accepted no filter.
    coarse: Option<Option<usize>>,
}

/// The result of validating an event at a door.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DoorVerdict {
    /// The event counts, with this time.
    Accepted(Timestamp, EventKind),
    /// The sequence of a live window with this number is complete.
    Window { time: Timestamp, number: u64 },
    /// The event does not count, because no host has this address, or because the door has reached
    /// its limit of openings.
    Ignored,
    /// The event does not count, because the one-time door was used less than [`ONE_TIME_INTERVAL`]
    /// before. `is_first` for the first such event since that use.
    TooSoon { is_first: bool },
}

impl Validator {
    pub(super) fn new(
        config: &Config,
        secrets: &LiveSecrets,
        interfaces: &[String],
        clock: Clock,
        options: ReaderOptions,
    ) -> Self {
        Self {
            config: config.clone(),
            secrets: secrets.clone(),
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

    /// Replaces the doors and interfaces.
    pub(super) fn replace(&mut self, config: &Config, secrets: &LiveSecrets, interfaces: &[String]) {
        self.config = config.clone();
        self.secrets = secrets.clone();
        self.same_name = same_name(config);
        self.one_time_uses.clear();
        self.interfaces = interfaces.to_vec();
        self.reported.retain(|name, _| interfaces.contains(name));
        self.budget = Budget::new(interfaces.len(), config);
    }

    /// Returns the current doors and options.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Sets the sequence of a one-time door. Returns false if another door has this index. That is
    /// possible after [`Validator::replace`], while the caller handles reports about the old doors.
    pub(super) fn set_sequence(&mut self, id: DoorId, door: &Door) -> bool {
        let is_same = |own: &&mut Door| own.name == door.name && own.one_time_sequences == door.one_time_sequences;
        let Some(own) = self.config.doors.get_mut(usize::from(id.0)).filter(is_same) else { return false };
        own.sequence.clone_from(&door.sequence);
        true
    }

    /// Returns what detects the knocks of doors with keys.
    pub(super) fn secrets(&self) -> &LiveSecrets {
        &self.secrets
    }

    /// Sets the hints of packets, and returns those that are new.
    pub(super) fn set_hints(&mut self, hints: &HintTable) -> WireHints {
        let new = WireHints::new_since(hints, &self.secrets.hints);
        self.secrets.hints = hints.clone();
        new
    }

    /// Sets the live windows, and returns those that have changed; none if they are those of other
    /// doors. A window that was used stays without a sequence.
    pub(super) fn set_windows(&mut self, windows: &LiveWindows) -> Vec<DoorId> {
        if !self.secrets.windows.is_for_same_keys(windows) {
            return Vec::new();
        }
        let is_changed = |(id, window): &(DoorId, &LiveWindow)| {
            self.secrets.windows.get(*id).is_some_and(|own| own.number != window.number)
        };
        let changed: Vec<_> = windows.iter().filter(is_changed).map(|(id, _)| id).collect();
        for &id in &changed {
            if let Some(window) = windows.get(id) {
                self.secrets.windows.set(id, window.number, window.sequence.clone());
            }
        }
        changed
    }

    /// Returns the time by the service's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Validates descriptions of the privileges that a reader has kept.
    pub(super) fn kept(kept: Vec<String>) -> io::Result<Vec<String>> {
        if kept.len() > MAX_KEPT {
            return Err(violation("it keeps more privileges than there are"));
        }
        kept.into_iter().map(text).collect()
    }

    /// Validates the reason of [`FromReader::Failed`](crate::reader::wire::FromReader::Failed).
    pub(super) fn failure(reason: String) -> io::Error {
        text(reason).map_or_else(|violation| violation, io::Error::other)
    }

    /// Validates an event at a door.
    pub(super) fn door_event(&mut self, event: &DoorEvent) -> io::Result<DoorVerdict> {
        let is_open = matches!(event.kind, DoorEventKind::Complete | DoorEventKind::CompleteWindow { .. });
        if !self.is_within(|budget| if is_open { &mut budget.opens } else { &mut budget.reports }) {
            return Err(violation("it reports more than packets can cause"));
        }
        let time = Timestamp::from_nanos(event.time);
        if !self.is_past(time) {
            return Err(violation("it reports something of the future"));
        }
        if let DoorEventKind::CompleteWindow { number } = event.kind {
            return self.complete_window(event, time, number);
        }
        let index = usize::from(event.door);
        let Some(door) = self.config.doors.get(index) else {
            return Err(violation("it reports something at a door that does not exist"));
        };
        let is_allowed = match (is_open, self.same_name.get(&event.door)) {
            (true, _) | (_, None) => door.allows(event.ip),
            (_, Some(doors)) => doors.iter().any(|door| self.config.doors[usize::from(*door)].allows(event.ip)),
        };
        if !is_allowed || !self.may_be_read(event.ip) {
            return Err(violation("it reports an address that may not knock"));
        }
        let is_valid = match (event.stage(), event.kind) {
            (Some(stage), DoorEventKind::Stage { steps, .. }) => {
                is_stage(stage) && stage <= steps && usize::from(steps) <= MAX_STEPS
            }
            (Some(stage), _) => is_stage(stage),
            (None, _) => true,
        };
        let silences = matches!(event.kind, DoorEventKind::Silenced { .. } | DoorEventKind::DoorSilenced { .. });
        if silences && !self.config.doors.iter().any(|other| other.name == door.name && other.code.is_some()) {
            return Err(violation("it reports wrong codes at a door without codes"));
        }
        if !is_valid {
            return Err(violation("it reports a stage that no attempt has"));
        }
        if is_open && door.sequence.is_none() {
            return Err(violation("it opens a door that accepts no knocks"));
        }
        if !is_possible_source(event.ip) {
            return Ok(DoorVerdict::Ignored);
        }
        if is_open && door.one_time_sequences.is_some() {
            return Ok(self.use_one_time(event, time));
        }
        if is_open && !self.budget.opens_of_door.take(event.door, self.past.as_nanos()) {
            return Ok(DoorVerdict::Ignored);
        }
        Ok(DoorVerdict::Accepted(time, event.event_kind()))
    }

    /// Validates the complete sequence of a live window.
    fn complete_window(&mut self, event: &DoorEvent, time: Timestamp, number: u64) -> io::Result<DoorVerdict> {
        let id = DoorId(event.door);
        let window =
            self.secrets.windows.get(id).ok_or_else(|| violation("it reports a window that does not exist"))?;
        let (present, is_unused, index) = (window.number, window.sequence.is_some(), window.door);
        let door = self.config.doors.get(usize::from(index));
        if !door.is_some_and(|door| door.allows(event.ip)) || !self.may_be_read(event.ip) {
            return Err(violation("it reports an address that may not knock"));
        }
        // The report of an intact reader can be older than the last turn.
        if number != present || !is_unused || !is_possible_source(event.ip) {
            return Ok(DoorVerdict::Ignored);
        }
        self.secrets.windows.consume(id);
        if !self.budget.opens_of_door.take(index, self.past.as_nanos()) {
            return Ok(DoorVerdict::Ignored);
        }
        Ok(DoorVerdict::Window { time, number })
    }

    /// Handles a complete knock at a one-time door. At most one in [`ONE_TIME_INTERVAL`] counts, so
    /// that a reader cannot consume a whole file at one time.
    fn use_one_time(&mut self, event: &DoorEvent, time: Timestamp) -> DoorVerdict {
        let now = self.clock.now();
        if let Some(last) = self.one_time_uses.get_mut(&event.door)
            && now.saturating_since(last.time) < ONE_TIME_INTERVAL
        {
            return DoorVerdict::TooSoon { is_first: !std::mem::replace(&mut last.is_refusal_reported, true) };
        }
        self.one_time_uses.insert(event.door, OneTimeUse { time: now, is_refusal_reported: false });
        // The door accepts no knock until its next sequence is set.
        self.config.doors[usize::from(event.door)].sequence = None;
        DoorVerdict::Accepted(time, event.event_kind())
    }

    /// Validates numbers of events that were not reported individually. Returns them with the names
    /// of their doors.
    pub(super) fn suppressed(&mut self, time: u64, counted: Counted) -> io::Result<Suppressed> {
        self.take_notice()?;
        let time = Timestamp::from_nanos(time);
        if !self.is_past(time) || counted.doors.len() > MAX_REPORTED_DOORS {
            return Err(violation("it reports impossible numbers of events"));
        }
        let named = |(door, counts)| self.config.doors.get(usize::from(door)).map(|door| (door.name.clone(), counts));
        let doors: Option<Vec<_>> = counted.doors.into_iter().map(named).collect();
        let doors = doors.ok_or_else(|| violation("it reports something at a door that does not exist"))?;
        Ok(Suppressed { time, doors, others: counted.others })
    }

    /// Validates a packet that a key may have made. `None` if it does not count, because no host has
    /// its source address.
    pub(super) fn packet(&mut self, packet: WirePacket) -> io::Result<Option<(Knock, ReportedPacket)>> {
        let WirePacket { time, source, destination, bytes } = packet;
        if !self.config.doors.iter().any(|door| door.packet.is_some()) {
            return Err(out_of_turn());
        }
        if !self.is_within(|budget| &mut budget.packets) {
            return Err(violation("it passes on more packets than keys can make"));
        }
        let packet = self.form_of(bytes).ok_or_else(|| violation("it passes on a packet of another form"))?;
        let time = Timestamp::from_nanos(time);
        if !self.is_past(time) {
            return Err(violation("it reports something of the future"));
        }
        if !self.may_be_read(source) {
            return Err(violation("it reports an address that may not knock"));
        }
        let knock = Knock {
            time,
            source,
            destination,
            port: 0,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 0,
            sequence_number: 0,
        };
        Ok(is_possible_source(source).then_some((knock, packet)))
    }

    /// Returns the packet that these bytes are, if a door receives packets of that format.
    fn form_of(&self, bytes: Vec<u8>) -> Option<ReportedPacket> {
        let has = |format| self.config.doors.iter().any(|door| door.packet == Some(format));
        match bytes.try_into() {
            Ok(own) if has(PacketFormat::Portknock) => Some(ReportedPacket::Own(own)),
            Ok(own) => Self::fwknop(has(PacketFormat::Fwknop), own.to_vec()),
            Err(bytes) => Self::fwknop(has(PacketFormat::Fwknop), bytes),
        }
    }

    fn fwknop(is_received: bool, bytes: Vec<u8>) -> Option<ReportedPacket> {
        (is_received && has_form(&bytes)).then_some(ReportedPacket::Fwknop(bytes))
    }

    /// Validates a packet for the log of `--debug`.
    pub(super) fn knock(&mut self, knock: WireKnock) -> io::Result<Knock> {
        if !self.options.report_knocks {
            return Err(out_of_turn());
        }
        if !self.is_within(|budget| &mut budget.knocks) {
            return Err(violation("it reports more packets than can come"));
        }
        Ok(knock.into())
    }

    /// Validates a notice of a reader that was started with `interfaces`. Returns `None` if the
    /// notice is not new, or if its interface is no longer configured.
    pub(super) fn notice(&mut self, notice: WireNotice, interfaces: &[String]) -> io::Result<Option<CaptureNotice>> {
        self.take_notice()?;
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
        Ok(self.is_new(&notice).then_some(notice))
    }

    /// Counts a message that is limited like a notice.
    ///
    /// # Errors
    /// Fails if the limit is exceeded.
    pub(super) fn take_notice(&mut self) -> io::Result<()> {
        if self.is_within(|budget| &mut budget.notices) { Ok(()) } else { Err(violation("it sends too many notices")) }
    }

    /// Returns true if the daemon may answer a request for the state of the network now, and counts
    /// the answer.
    pub(super) fn may_answer_network(&mut self) -> bool {
        self.is_within(|budget| &mut budget.network_answers)
    }

    /// Validates the time up to which the reader has reported everything; `asked` is the time of
    /// the request.
    pub(super) fn caught_up(&mut self, time: u64, asked: Timestamp) -> io::Result<Timestamp> {
        let time = Timestamp::from_nanos(time);
        // An earlier time would make the daemon repeat the request without end.
        if time < asked || !self.is_past(time) {
            return Err(violation("it has caught up with a time that was not requested"));
        }
        Ok(time)
    }

    /// Validates attempts for the next reader, which has received `before` attempts already. Leaves
    /// out attempts that cannot continue.
    pub(super) fn attempts(&mut self, attempts: Vec<SavedAttempt>, before: usize) -> io::Result<Vec<SavedAttempt>> {
        // Messages without attempts could come without end.
        if attempts.is_empty() || before.saturating_add(attempts.len()) > self.config.options.max_attempts as usize {
            return Err(violation("it hands over more attempts than there can be"));
        }
        let now = self.clock.now().as_nanos();
        let mut valid = Vec::with_capacity(attempts.len());
        for mut attempt in attempts {
            let window = self.secrets.windows.get(DoorId(attempt.door));
            let index = window.map_or(attempt.door, |window| window.door);
            let Some(door) = self.config.doors.get(usize::from(index)) else {
                return Err(violation("it hands over an attempt at a door that does not exist"));
            };
            if !door.allows(attempt.ip) || !self.may_be_read(attempt.ip) {
                return Err(violation("it hands over an attempt of an address that may not knock"));
            }
            let hits = &attempt.scan_hits;
            if hits.len() > usize::from(self.config.options.scan_guard) || hits.iter().any(|hit| *hit >= PORT_NUMBERS) {
                return Err(violation("it hands over an attempt that the scan guard would have ended"));
            }
            let sequence = window.map_or(&door.sequence, |window| &window.sequence);
            let steps = sequence.as_ref().map_or(0, |sequence| Sequence::steps(sequence).len());
            let is_possible = match attempt.stage {
                0 => door.seq_cooldown.is_some() && window.is_none(),
                stage => usize::from(stage) < steps,
            };
            // The sequence of a one-time door or a live window may have changed meanwhile.
            if !is_possible && door.one_time_sequences.is_none() && window.is_none() {
                return Err(violation("it hands over an attempt at a stage that the door does not have"));
            }
            // An attempt with a start in the future would time out later.
            attempt.started = attempt.started.min(now);
            if is_possible && is_possible_source(attempt.ip) {
                valid.push(attempt);
            }
        }
        Ok(valid)
    }

    /// Validates the timestamp, by the wall clock, up to which a reader has handled the packets.
    /// Replaces a timestamp of the future, which is possible after the clock was set back, by the
    /// earliest time.
    pub(super) fn last_timestamp(&self, last: u64) -> Timestamp {
        let last = Timestamp::from_nanos(last);
        if last > self.clock.read().wall { Timestamp::default() } else { last }
    }

    /// Validates the counters of a reader.
    pub(super) fn counts(&self, counts: Counts) -> Counts {
        Counts { attempts: counts.attempts.min(self.config.options.max_attempts.into()), ..counts }
    }

    /// Validates a sign of life of a reader that has polled this many captures.
    ///
    /// # Errors
    /// Fails if the reader has polled fewer captures than it has reported.
    pub(super) fn alive(&self, captures: u16) -> io::Result<()> {
        let captured = self.reported.values().filter(|reported| reported.absence.is_none()).count();
        if usize::from(captures) < captured {
            return Err(io::Error::other("its captures do not work"));
        }
        Ok(())
    }

    /// Returns true if a limit admits another message now, and counts the message. Reads the clock
    /// only if the limit does not admit it at the time of the last reading.
    fn is_within(&mut self, limit: impl Fn(&mut Budget) -> &mut Limit) -> bool {
        if limit(&mut self.budget).take(self.past.as_nanos()) {
            return true;
        }
        self.past = self.clock.now();
        limit(&mut self.budget).take(self.past.as_nanos())
    }

    /// Returns true if the time is not in the future. Reads the clock only if necessary, because a
    /// flood brings many reports at one time.
    fn is_past(&mut self, time: Timestamp) -> bool {
        if time > self.past {
            self.past = self.clock.now();
        }
        time <= self.past
    }

    /// Returns true if a reader may accept packets of this address as knocks.
    fn may_be_read(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => !self.options.ipv4_only && ip.to_ipv4_mapped().is_none(),
        }
    }

    /// Returns false if the notice repeats the last one about its interface, or if the interface is
    /// no longer configured.
    fn is_new(&mut self, notice: &CaptureNotice) -> bool {
        let name = notice.interface();
        if !self.interfaces.iter().any(|interface| interface == name) {
            return false;
        }
        let absence = match notice {
            CaptureNotice::Listening { .. } => None,
            CaptureNotice::Waiting { reason, .. } | CaptureNotice::Lost { reason, .. } => Some(reason.clone()),
            CaptureNotice::CoarseFilter { instructions, .. } => {
                let reported = self.reported.entry(name.to_owned()).or_default();
                // The length changes with the live windows and is no news.
                let before = reported.coarse.replace(*instructions);
                return before.map(|before| before.is_some()) != Some(instructions.is_some());
            }
            CaptureNotice::Dropped { .. } => return true,
        };
        let is_first = !self.reported.contains_key(name);
        let reported = self.reported.entry(name.to_owned()).or_default();
        std::mem::replace(&mut reported.absence, absence.clone()) != absence || is_first
    }
}

/// Returns the error for a message that no intact reader sends.
pub(super) fn violation(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Returns the violation of a message that answers no request, or that is not permitted at this
/// time.
pub(super) fn out_of_turn() -> io::Error {
    violation("it sends a message out of turn")
}

/// Validates the length of a text.
fn text(text: String) -> io::Result<String> {
    if text.chars().count() > MAX_TEXT_CHARS { Err(violation("it sends a text that is too long")) } else { Ok(text) }
}

/// Validates the texts of an [`Absence`].
fn absence(absence: WireAbsence) -> io::Result<Absence> {
    Ok(match absence {
        WireAbsence::Missing { near } => Absence::Missing { near: near.map(text).transpose()? },
        WireAbsence::Down => Absence::Down,
        WireAbsence::Replaced => Absence::Replaced,
        WireAbsence::Failed(message) => Absence::Failed(text(message)?),
    })
}

/// Returns true if an attempt can be at this stage.
fn is_stage(stage: u8) -> bool {
    (1..=MAX_STEPS).contains(&usize::from(stage))
}

/// Returns the indices of doors that share a name, by the first of them.
fn same_name(config: &Config) -> HashMap<u16, Vec<u16>> {
    let mut by_name: HashMap<&str, Vec<u16>> = HashMap::new();
    for (index, door) in (0..=u16::MAX).zip(&config.doors) {
        by_name.entry(&door.name).or_default().push(index);
    }
    by_name.into_values().filter(|doors| doors.len() > 1).map(|doors| (doors[0], doors)).collect()
}
