//! The whole pure part behind one door: fed with frames and times, drained of events.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Config, Door, DoorId, GATE_ELEMENTS, OpenPort, Sequence};
use crate::decode::{Knock, LinkType, decode};
use crate::event::{Event, EventKind, FailReason};
use crate::local_addresses::LocalAddresses;
use crate::matcher::{FETCHED_TOGETHER, Matcher, SavedAttempt, Sink};
use crate::openings::{Opening, Openings};
use crate::time::Timestamp;
use crate::timeline::CHECKED;

/// What the engine holds now, and what it counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Attempts that are alive; running cooldowns count too, since they take the same room.
    pub attempts: usize,
    /// Doors that stand open, each address of a door counted.
    pub openings: usize,
    /// Knocks seen, relevant or not.
    pub knocks: u64,
    /// Knocks among them at ports that no door uses.
    pub unused: u64,
    /// Attempts that were pushed out of the full table.
    pub evicted: u64,
    /// First knocks that found the table full of attempts further on.
    pub refused: u64,
}

/// Configuration, packets and times in; events out. No socket, clock or thread is behind it.
///
/// # The run loop
///
/// After every input (`feed`, `handle_…`, `reload`, …) drain [`Engine::poll_event`] until `None`, then wait for the next
/// packet until [`Engine::poll_timeout`] at the latest; when that time has come, call [`Engine::handle_timeout`].
/// What the events ask for (commands, files) is the caller's to do.
///
/// Time never runs backwards: an input stamped earlier than the one before counts as simultaneous with it. What is due
/// by an input's time happens before the input itself.
///
/// # Example
///
/// ```
/// use portknock_core::{Config, Door, Engine, EventKind, Knock, Protocol, Sequence, Step, TcpFlags, Timestamp};
///
/// let steps: Vec<Step> =
///     [7000, 8000].iter().map(|&port| Step { port: port.try_into().unwrap(), protocol: Protocol::Udp }).collect();
/// let mut door = Door::new("ssh", Some(Sequence::new(steps)?));
/// door.start_command = Some("open-ssh %IP%".into());
/// let mut engine = Engine::new(&Config { doors: vec![door], ..Config::default() });
///
/// for (second, port) in [(1, 7000), (2, 8000)] {
///     engine.handle_knock(&Knock {
///         time: Timestamp::from_secs(second),
///         source: [192, 0, 2, 7].into(),
///         destination: [192, 0, 2, 1].into(),
///         port,
///         protocol: Protocol::Udp,
///         flags: TcpFlags::NONE,
///         source_port: 40_000,
///         sequence_number: 0,
///     });
/// }
/// let mut opened = None;
/// while let Some(event) = engine.poll_event() {
///     if let EventKind::Open { command, .. } = event.kind {
///         opened = command;
///     }
/// }
/// assert_eq!(opened.as_deref(), Some("open-ssh 192.0.2.7"));
/// # Ok::<(), portknock_core::config::SequenceError>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    matcher: Matcher,
    outcomes: Outcomes,
    now: Timestamp,
    knocks: u64,
    /// Room for knocks that are taken together.
    knocks_ahead: Vec<Knock>,
}

/// What comes out of the matcher turned into events, with the openings that follow from it.
#[derive(Debug)]
struct Outcomes {
    doors: Vec<Door>,
    openings: Openings,
    events: VecDeque<Event>,
    /// `MaxOpenings`.
    max_openings: usize,
    /// The same for doors with `open`, where all of them together are not to use up the kernel's set.
    gate_share: usize,
    /// Complete sequences are only told: the openings are another engine's.
    only_tells: bool,
}

impl Engine {
    /// An engine for the doors of `config` (those beyond the first 65,536 are left out, as no file can hold more);
    /// every destination address counts until [`Engine::set_local_addresses`].
    pub fn new(config: &Config) -> Self {
        let mut outcomes = Outcomes {
            doors: Vec::new(),
            openings: Openings::new(),
            events: VecDeque::new(),
            max_openings: 0,
            gate_share: 0,
            only_tells: false,
        };
        outcomes.set_config(config);
        Self {
            matcher: Matcher::new(config),
            outcomes,
            now: Timestamp::default(),
            knocks: 0,
            knocks_ahead: Vec::with_capacity(FETCHED_TOGETHER),
        }
    }

    /// An engine that sees: it opens nothing, each complete sequence is an [`EventKind::Open`] without a command. Another
    /// one, which gets its events by [`Engine::take_over`], opens and closes.
    pub(crate) fn that_only_tells(config: &Config) -> Self {
        let mut engine = Self::new(config);
        engine.outcomes.only_tells = true;
        engine
    }

    /// Takes what an engine that only tells has found, as if it were found here.
    pub(crate) fn take_over(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind) {
        // As there: of what is due at the same time, attempts end first, and all of that comes before a packet.
        let before =
            if matches!(kind, EventKind::Timeout { .. }) { time.as_nanos().saturating_sub(1) } else { time.as_nanos() };
        self.handle_timeout(Timestamp::from_nanos(before));
        let Some(door) = self.outcomes.doors.get(usize::from(door_id.0)) else { return };
        match kind {
            EventKind::Open { .. } => self.outcomes.complete(self.now.max(time), door_id, ip),
            kind => {
                let door = door.name.clone();
                self.outcomes.events.push_back(Event { time, door, ip, kind });
            }
        }
    }

    /// Ends this engine; its attempts are for another one with the same doors.
    pub(crate) fn hand_over(self) -> impl Iterator<Item = SavedAttempt> {
        self.matcher.hand_over()
    }

    /// Goes on with what another engine with the same doors handed over.
    pub(crate) fn take_up(&mut self, attempt: &SavedAttempt) {
        self.matcher.take_up(attempt, self.now, &mut self.outcomes);
    }

    /// Says which addresses are this machine's from now on.
    pub fn set_local_addresses(&mut self, addresses: LocalAddresses) {
        self.matcher.set_local_addresses(addresses);
    }

    /// Takes a captured frame. Whatever its bytes, it never panics; what is no knock only moves time on.
    pub fn feed(&mut self, link_type: LinkType, time: Timestamp, frame: &[u8]) {
        // By reference: moving the knock out costs more than a look at it.
        match &decode(link_type, time, frame) {
            Some(knock) => self.handle_knock(knock),
            None => self.handle_timeout(time),
        }
    }

    /// Takes captured frames of one link type, as [`Engine::feed`] does one after the other: the events are the same. It is
    /// faster where many attempts are alive.
    pub fn feed_all<'a>(&mut self, link_type: LinkType, frames: impl IntoIterator<Item = (Timestamp, &'a [u8])>) {
        let mut knocks = std::mem::take(&mut self.knocks_ahead);
        let mut last = Timestamp::default();
        for (time, frame) in frames {
            last = last.max(time);
            knocks.extend(decode(link_type, time, frame));
            if knocks.len() == FETCHED_TOGETHER {
                self.handle_knocks(&knocks);
                knocks.clear();
            }
        }
        self.handle_knocks(&knocks);
        knocks.clear();
        self.knocks_ahead = knocks;
        self.handle_timeout(last);
    }

    /// Takes knocks that the caller decoded, as [`Engine::handle_knock`] does one after the other. It is faster where many
    /// attempts are alive: what is known of several sources is fetched from memory at a time.
    pub fn handle_knocks(&mut self, knocks: &[Knock]) {
        for knocks in knocks.chunks(FETCHED_TOGETHER) {
            self.matcher.fetch(knocks);
            for knock in knocks {
                self.handle_knock(knock);
            }
        }
    }

    /// Takes a knock that the caller decoded.
    pub fn handle_knock(&mut self, knock: &Knock) {
        self.handle_timeout(knock.time);
        self.knocks += 1;
        self.matcher.handle_knock(knock, self.now, &mut self.outcomes);
        self.check_invariants();
    }

    /// Moves time on: what is due at `now` or before happens, in the order of the due times.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        loop {
            let attempt = self.matcher.next_due(self.now);
            let closing = self.outcomes.openings.next_due(attempt.as_ref().map_or(self.now, |attempt| attempt.time));
            match (attempt, closing) {
                (Some(attempt), closing) if closing.is_none_or(|closing| attempt.time <= closing) => {
                    self.matcher.end_due(attempt, &mut self.outcomes);
                }
                (_, Some(due)) => self.outcomes.close_first(due, due),
                (_, None) => return,
            }
        }
    }

    /// The next event; call until `None` after every input.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outcomes.events.pop_front()
    }

    /// True where [`Engine::poll_event`] has one.
    pub fn has_events(&self) -> bool {
        !self.outcomes.events.is_empty()
    }

    /// When [`Engine::handle_timeout`] is due next, if ever; may change with every input.
    pub fn poll_timeout(&mut self) -> Option<Timestamp> {
        let end_of_time = Timestamp::from_nanos(u64::MAX);
        let attempt = self.matcher.next_due(end_of_time).map(|attempt| attempt.time);
        let closing = self.outcomes.openings.next_due(end_of_time);
        attempt.into_iter().chain(closing).min()
    }

    /// Replaces the configuration at `now`. Attempts at doors that did not change go on, others fail; openings always
    /// survive. This looks at every attempt once.
    pub fn reload(&mut self, config: &Config, now: Timestamp) {
        self.handle_timeout(now);
        let old = self.outcomes.set_config(config);
        self.matcher.reload(&old, config, self.now, &mut self.outcomes);
        self.check_invariants();
    }

    /// Gives a one-time door its next sequence, or none. After an opening such a door takes no knock until this is
    /// called; attempts at the sequence before fail. A door that does not exist is passed over.
    pub fn set_sequence(&mut self, door: DoorId, sequence: Option<Sequence>) {
        self.matcher.set_sequence(door, sequence.as_ref(), self.now, &mut self.outcomes);
        if let Some(door) = self.outcomes.doors.get_mut(usize::from(door.0)) {
            door.sequence = sequence;
        }
        self.check_invariants();
    }

    /// Takes up openings from before the start; the next [`Engine::handle_timeout`] closes those that are overdue.
    pub fn restore_openings(&mut self, openings: impl IntoIterator<Item = Opening>) {
        self.outcomes.openings.restore(openings);
    }

    /// Closes every open door at `now`, each with its event.
    pub fn close_all(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        let end_of_time = Timestamp::from_nanos(u64::MAX);
        while self.outcomes.openings.len() > 0 {
            self.outcomes.close_first(end_of_time, self.now);
        }
        self.check_invariants();
    }

    /// Closes what this door has open for this address, or for all of this network, as if it were due at `now`, each with
    /// its event; gives how many openings that were. An address is in the network that a door with `open_prefix` is open
    /// for. This reads all openings.
    pub fn close(&mut self, door: &str, addresses: impl Into<IpNet>, now: Timestamp) -> usize {
        self.handle_timeout(now);
        let taken = self.outcomes.openings.take_covering(door, addresses.into());
        let count = taken.len();
        for opening in taken {
            self.outcomes.closed(opening, self.now, None);
        }
        self.check_invariants();
        count
    }

    /// Closes at `now` the one opening that this stop command closes, where it is open.
    pub(crate) fn close_early(
        &mut self,
        door: &str,
        net: IpNet,
        stop_command: Option<&str>,
        reason: Option<FailReason>,
        now: Timestamp,
    ) {
        let is_it = |opening: &Opening| opening.stop_command.as_deref() == stop_command;
        if let Some(opening) = self.outcomes.openings.take(door, net, is_it) {
            self.outcomes.closed(opening, self.now.max(now), reason);
        }
        self.check_invariants();
    }

    /// Debug builds end every change with this; matcher and openings look after themselves.
    fn check_invariants(&self) {
        debug_assert!(
            self.outcomes.doors.len() > CHECKED || self.matcher.is_for(&self.outcomes.doors),
            "the doors are not those of the matcher"
        );
    }

    /// The doors that stand open, in no particular order.
    pub fn openings(&self) -> impl Iterator<Item = &Opening> {
        self.outcomes.openings.iter()
    }

    /// The opening of this network that opens this port for longest, of those that are wanted.
    pub(crate) fn holder(&self, net: IpNet, port: OpenPort, is_wanted: impl Fn(&Opening) -> bool) -> Option<&Opening> {
        self.outcomes.openings.holder(net, port, is_wanted)
    }

    /// True if this stop command has something to close at this door for this network.
    pub(crate) fn is_open(&self, door: &str, net: IpNet, stop_command: &str) -> bool {
        self.outcomes.openings.is_open(door, net, stop_command)
    }

    /// The doors as they are now: those of the configuration, one-time doors with their current sequences.
    pub fn doors(&self) -> &[Door] {
        &self.outcomes.doors
    }

    /// The counters.
    pub fn stats(&self) -> EngineStats {
        let (evicted, refused) = self.matcher.overflows();
        EngineStats {
            attempts: self.matcher.len(),
            openings: self.outcomes.openings.len(),
            knocks: self.knocks,
            unused: self.matcher.unused(),
            evicted,
            refused,
        }
    }
}

impl Outcomes {
    /// Closes the door that is due first and not after `until`, as an event of `time`.
    fn close_first(&mut self, until: Timestamp, time: Timestamp) {
        if let Some(opening) = self.openings.take_first_due(until) {
            self.closed(opening, time, None);
        }
    }

    fn closed(&mut self, opening: Opening, time: Timestamp, reason: Option<FailReason>) {
        let (door, ip, opening) = (opening.door.clone(), opening.ip, Box::new(opening));
        self.events.push_back(Event { time, door, ip, kind: EventKind::Close { opening, reason } });
    }

    /// Takes the doors and the bounds of a configuration, and returns the doors before.
    fn set_config(&mut self, config: &Config) -> Vec<Door> {
        let ports: usize = config.doors.iter().map(|door| door.open.len()).sum();
        self.max_openings = config.options.max_openings as usize;
        self.gate_share = self.max_openings.min(GATE_ELEMENTS as usize / ports.max(1)).max(1);
        std::mem::replace(&mut self.doors, config.doors.clone())
    }
}

impl Sink for Outcomes {
    fn event(&mut self, time: Timestamp, door: &Arc<str>, ip: IpAddr, kind: EventKind) {
        self.events.push_back(Event { time, door: door.clone(), ip, kind });
    }

    fn complete(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr) {
        let door = &mut self.doors[usize::from(door_id.0)];
        // Where another engine opens, nothing here does.
        let opens_ports = !self.only_tells && !door.open.is_empty();
        let net = door.network_of(ip);
        // A network is opened again by the commands that opened it, so that the stop command finds what the start command
        // did. Without a stop command there is nothing to find.
        let is_reopened =
            |held: &Opening| held.stop_command.is_some() && door.stop_command_for(held.ip) == held.stop_command;
        let opener = self.openings.opener(&door.name, net, ip, is_reopened).unwrap_or(ip);
        let command = if self.only_tells { None } else { door.start_command_for(opener) };
        // As with knockd: where nothing opens the door, there is nothing to close.
        let stop_command = if opens_ports || command.is_some() { door.stop_command_for(opener) } else { None };
        let opening = (opens_ports || stop_command.is_some()).then(|| Opening {
            door: door.name.clone(),
            ip: opener,
            closes_at: time.saturating_add(door.cmd_timeout),
            stop_command,
            open: door.open.clone(),
            net,
        });
        if door.one_time_sequences.is_some() {
            door.sequence = None;
        }
        let (door, span) = (door.name.clone(), door.cmd_timeout);
        let is_open = opening.as_ref().is_some_and(|opening| self.openings.contains(opening));
        if let Some(opening) = &opening {
            let limit = if opens_ports { self.gate_share } else { self.max_openings };
            while !is_open && let Some(oldest) = self.openings.take_oldest_beyond(&door, limit) {
                self.closed(oldest, time, Some(FailReason::Full));
            }
            self.openings.open(opening.clone(), span);
        }
        let kind = match opening.map(Box::new) {
            Some(opening) if is_open => EventKind::Extend { door_id, command, opening },
            opening => EventKind::Open { door_id, command, opening, net },
        };
        self.events.push_back(Event { time, door, ip, kind });
    }
}
