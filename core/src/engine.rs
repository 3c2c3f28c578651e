//! The engine: all pure logic in one type. Its inputs are frames and times, its outputs are events.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::clock_search::{ClockSearch, SearchState, UnknownPacket, UnknownSample};
use crate::config::{Config, Door, DoorId, GATE_ELEMENTS, OpenPort, Sequence};
use crate::decode::{Knock, LinkType, datagram, decode};
use crate::event::{Event, EventKind, FailReason, RefusalReason};
use crate::keys::Fingerprint;
use crate::live_windows::{LiveWindow, LiveWindows, knock_use};
use crate::local_addresses::LocalAddresses;
use crate::matcher::{Matcher, PREFETCH_BATCH, SavedAttempt, Sink, is_possible_source};
use crate::openings::{Opening, Openings};
use crate::packet::Protocol;
use crate::packet_keys::{HintTable, OpenedPacket, PacketKeys};
use crate::replay_memory::{Form, KnockUse, ReplayMemory};
use crate::spa::{HINT_LENGTH, NONCE_LENGTH, PACKET_LENGTH};
use crate::time::Timestamp;
use crate::timeline::CHECKED;

/// The engine's current sizes, and its counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Attempts in progress; running cooldowns count too, because they use the same memory.
    pub attempts: usize,
    /// Openings; a door counts once for each address or network that it is open for.
    pub openings: usize,
    /// Knocks received, relevant or not. Datagrams of the form of an authenticated packet are knocks,
    /// too.
    pub knocks: u64,
    /// Knocks among them at ports that no door uses.
    pub unused: u64,
    /// Attempts that were evicted from the full table.
    pub evicted: u64,
    /// First knocks that were refused because attempts at later stages filled the table.
    pub refused: u64,
    /// Knocks among them that had the form of an authenticated packet, but that no key made.
    pub bogus: u64,
}

/// The state machine of the doors. Configuration, packets and times go in, events come out. It
/// opens no socket, reads no clock and starts no thread.
///
/// # The run loop
///
/// After every input (`feed`, `handle_…`, `reload`, …), call [`Engine::poll_event`] until it
/// returns `None`. Then wait for the next packet, at most until [`Engine::poll_timeout`], and call
/// [`Engine::handle_timeout`] when that time has come. The caller does what the events ask for: it
/// runs the commands, and opens and closes the ports.
///
/// Time never runs backwards: an input with an earlier timestamp than the input before it counts as
/// simultaneous with that input. The engine handles everything that is due by the time of an input
/// before the input itself.
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
    state: EngineState,
    now: Timestamp,
    knocks: u64,
    /// Buffer for the knocks of a batch.
    batch: Vec<Knock>,
    unknown: UnknownSample,
    /// The search for the clock of a client.
    search: Option<ClockSearch>,
}

/// Receives the results of the matcher, keeps the openings, and queues the events.
#[derive(Debug)]
struct EngineState {
    doors: Vec<Door>,
    windows: LiveWindows,
    /// True if live windows have changed since [`Engine::take_window_change`].
    windows_changed: bool,
    packet_keys: PacketKeys,
    /// True if the hints of packets have changed since [`Engine::take_hint_change`].
    hints_changed: bool,
    /// The UDP ports of packets; none if no door is opened by packets.
    packet_ports: Vec<RangeInclusive<NonZeroU16>>,
    /// Datagrams of the form of a packet that no key made.
    bogus: u64,
    replays: ReplayMemory,
    /// Accepted knocks that have not been saved; `None` if they are not saved.
    accepted: Option<Vec<KnockUse>>,
    cooldowns: KeyCooldowns,
    /// `ClockSkew`.
    skew: Duration,
    /// The wall clock minus the engine's clock, in nanoseconds.
    wall_offset: i64,
    openings: Openings,
    events: VecDeque<Event>,
    /// `MaxOpenings`.
    max_openings: usize,
    /// Maximum number of openings of a door with `open`, so that all such doors together do not
    /// fill the kernel's set.
    gate_share: usize,
    role: Role,
}

/// The part of the work that an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// All of it.
    Whole,
    /// It only reports complete sequences. Another engine keeps the openings.
    Detect,
    /// It keeps the openings. Another engine detects the knocks, so that this matcher needs no live
    /// windows.
    Open,
}

impl Engine {
    /// Creates an engine for the doors of `config`. Doors beyond the first 65,536 are ignored; a
    /// configuration file cannot contain more. Every destination address is local until
    /// [`Engine::set_local_addresses`].
    pub fn new(config: &Config) -> Self {
        Self::with_role(config, LiveWindows::new(&config.doors), Role::Whole)
    }

    fn with_role(config: &Config, windows: LiveWindows, role: Role) -> Self {
        let matcher = match role {
            Role::Whole | Role::Detect => Matcher::new(config, &windows),
            Role::Open => Matcher::new(config, &LiveWindows::default()),
        };
        let mut state = EngineState {
            doors: Vec::new(),
            windows,
            windows_changed: false,
            packet_keys: PacketKeys::new(&config.doors),
            hints_changed: false,
            packet_ports: Vec::new(),
            bogus: 0,
            replays: ReplayMemory::default(),
            accepted: None,
            cooldowns: KeyCooldowns::default(),
            skew: config.options.clock_skew,
            wall_offset: 0,
            openings: Openings::new(),
            events: VecDeque::new(),
            max_openings: 0,
            gate_share: 0,
            role,
        };
        state.set_config(config);
        Self {
            matcher,
            state,
            now: Timestamp::default(),
            knocks: 0,
            batch: Vec::with_capacity(PREFETCH_BATCH),
            unknown: UnknownSample::default(),
            search: None,
        }
    }

    /// Creates an engine that only detects complete sequences: it reports each as an
    /// [`EventKind::Open`] without a command or an opening. Another engine, to which
    /// [`Engine::apply_detected`] passes these events, opens and closes the doors.
    pub(crate) fn new_detect_only(config: &Config, windows: LiveWindows) -> Self {
        Self::with_role(config, windows, Role::Detect)
    }

    /// Creates an engine for the events of a detect-only engine.
    pub(crate) fn new_for_detected(config: &Config) -> Self {
        Self::with_role(config, LiveWindows::new(&config.doors), Role::Open)
    }

    /// Sets the time of the wall clock at `now`, by which the sequences of doors with
    /// `sequence = time` change and the timestamps of packets are judged. Until the first call the
    /// engine's clock is the wall clock.
    pub fn set_wall_clock(&mut self, wall: Timestamp, now: Timestamp) {
        let offset = i128::from(wall.as_nanos()) - i128::from(now.as_nanos());
        self.state.wall_offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        self.handle_timeout(now);
    }

    /// Adds the knocks that were accepted before the start. From now on [`Engine::take_accepted`]
    /// must be called.
    pub(crate) fn restore_replays(&mut self, replays: &ReplayMemory) {
        self.state.replays.merge(replays);
        self.state.accepted.get_or_insert_default();
    }

    /// True if knocks may have been accepted before the start of which there is no record.
    pub(crate) fn is_memory_incomplete(&self) -> bool {
        self.state.replays.incomplete_until().is_some()
    }

    /// Refuses every knock that was acceptable at `wall`, by the wall clock.
    pub(crate) fn distrust(&mut self, wall: Timestamp) {
        self.state.replays.distrust(wall);
    }

    /// Returns the authenticated knocks that were accepted since the last call. They must be saved
    /// before anything opens.
    pub(crate) fn take_accepted(&mut self) -> Vec<KnockUse> {
        self.state.accepted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the live windows.
    pub(crate) fn windows(&self) -> &LiveWindows {
        &self.state.windows
    }

    /// Returns true if live windows have changed since the last call.
    pub(crate) fn take_window_change(&mut self) -> bool {
        std::mem::take(&mut self.state.windows_changed)
    }

    /// Returns the live windows that another configuration has at `now`.
    fn windows_for(&self, config: &Config, now: Timestamp) -> LiveWindows {
        let mut windows = LiveWindows::new(&config.doors);
        windows.turn(&config.doors, self.state.wall(now), &self.state.replays);
        windows
    }

    /// Returns what a detect-only reader needs for another configuration at `now`.
    pub(crate) fn secrets_for(&self, config: &Config, now: Timestamp) -> LiveSecrets {
        let mut keys = PacketKeys::new(&config.doors);
        keys.turn(self.state.wall(now), config.options.clock_skew);
        LiveSecrets { windows: self.windows_for(config, now), hints: keys.into_hints() }
    }

    /// Returns what a detect-only reader needs.
    pub(crate) fn secrets(&self) -> LiveSecrets {
        LiveSecrets { windows: self.state.windows.clone(), hints: self.hints().clone() }
    }

    /// Sets live windows of a detect-only engine, each with its number and its sequence.
    pub(crate) fn set_windows(
        &mut self,
        windows: impl IntoIterator<Item = (DoorId, u64, Option<Sequence>)>,
        now: Timestamp,
    ) {
        self.handle_timeout(now);
        let mut changed = Vec::new();
        for (id, number, sequence) in windows {
            if self.state.windows.set(id, number, sequence) {
                changed.push(id);
            }
        }
        self.update_windows(&changed);
    }

    /// Passes changed live windows to the matcher.
    fn update_windows(&mut self, changed: &[DoorId]) {
        if changed.is_empty() || self.state.role == Role::Open {
            return;
        }
        let windows = std::mem::take(&mut self.state.windows);
        let with_window = changed.iter().filter_map(|&id| Some((id, windows.get(id)?)));
        self.matcher.set_windows(with_window, self.now, &mut self.state);
        self.state.windows = windows;
    }

    /// Handles the complete sequence of a live window that a detect-only engine reported.
    pub(crate) fn apply_window(&mut self, time: Timestamp, id: DoorId, number: u64, ip: IpAddr) {
        self.handle_timeout(time);
        self.state.complete_window(self.now.max(time), id, number, ip);
    }

    /// Applies an event of a detect-only engine as if this engine had detected it.
    pub(crate) fn apply_detected(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind) {
        // The order is that of the other engine: among simultaneous events, attempts end first, and
        // everything that is due comes before a packet.
        let before =
            if matches!(kind, EventKind::Timeout { .. }) { time.as_nanos().saturating_sub(1) } else { time.as_nanos() };
        self.handle_timeout(Timestamp::from_nanos(before));
        let Some(door) = self.state.doors.get(usize::from(door_id.0)) else { return };
        match kind {
            EventKind::Open { .. } => self.state.complete(self.now.max(time), door_id, ip),
            kind => {
                let door = door.name.clone();
                self.state.events.push_back(Event { time, door, ip, kind });
            }
        }
    }

    /// Ends this engine and returns its attempts, for another engine with the same doors.
    pub(crate) fn hand_over(self) -> impl Iterator<Item = SavedAttempt> {
        let windows = self.state.windows;
        self.matcher.hand_over().map(move |attempt| SavedAttempt {
            window: windows.get(DoorId(attempt.door)).map_or(0, |window| window.number),
            ..attempt
        })
    }

    /// Resumes an attempt that another engine with the same doors handed over.
    pub(crate) fn resume_attempt(&mut self, attempt: &SavedAttempt) {
        // A window may have taken the identifier of one that has ended meanwhile.
        let window = self.state.windows.get(DoorId(attempt.door)).map_or(0, |window| window.number);
        if window == attempt.window {
            self.matcher.resume(attempt, self.now, &mut self.state);
        }
    }

    /// Sets the addresses of this machine.
    pub fn set_local_addresses(&mut self, addresses: LocalAddresses) {
        self.matcher.set_local_addresses(addresses);
    }

    /// Handles a captured frame. It never panics, whatever the bytes of the frame are; a frame that
    /// is no knock only advances the time.
    pub fn feed(&mut self, link_type: LinkType, time: Timestamp, frame: &[u8]) {
        // By reference, because moving the knock costs more than reading it.
        match &decode(link_type, time, frame) {
            Some(knock) => match self.packet_in(knock, link_type, frame) {
                Some(packet) => self.handle_packet(knock, packet),
                None => self.handle_knock(knock),
            },
            None => self.handle_timeout(time),
        }
    }

    /// Returns the authenticated packet in the frame of a knock. `None` if the frame does not have
    /// the form of one, or if no door receives packets at this port and address.
    pub(crate) fn packet_in<'a>(
        &self,
        knock: &Knock,
        link_type: LinkType,
        frame: &'a [u8],
    ) -> Option<&'a [u8; PACKET_LENGTH]> {
        let ports = &self.state.packet_ports;
        if ports.is_empty() || knock.protocol != Protocol::Udp {
            return None;
        }
        let is_open =
            |range: &RangeInclusive<NonZeroU16>| (range.start().get()..=range.end().get()).contains(&knock.port);
        if !ports.iter().any(is_open) {
            return None;
        }
        let packet = datagram(link_type, frame)?.try_into().ok()?;
        let is_target = |door: &Door| door.packet.is_some() && door.target == Some(knock.destination);
        let is_for_door = self.matcher.is_local(knock.destination) || self.state.doors.iter().any(is_target);
        is_for_door.then_some(packet)
    }

    /// Handles an authenticated packet: opens its door if a key made it, and if the same packet was
    /// not accepted before. The knock has the time and the addresses of the datagram.
    pub fn handle_packet(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH]) {
        self.handle_timeout(knock.time);
        self.knocks += 1;
        self.judge_packet(knock, packet, self.now);
    }

    /// Handles an authenticated packet that a reader reported. `now` is the present time: a packet that
    /// the reader has held back counts by it.
    pub(crate) fn handle_reported_packet(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH], now: Timestamp) {
        self.handle_timeout(knock.time);
        self.judge_packet(knock, packet, self.now.max(now));
    }

    fn judge_packet(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH], judged_at: Timestamp) {
        let is_local = self.matcher.is_local(knock.destination);
        let wall = self.state.wall(judged_at);
        self.state.packet(self.now, wall, knock, is_local, packet);
        self.check_invariants();
    }

    /// Counts a packet without a hint.
    pub(crate) fn count_bogus(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH]) {
        self.knocks += 1;
        self.state.bogus += 1;
        self.unknown.add(knock, packet, knock.time.as_nanos());
    }

    /// Begins to search for the clock of the client that made a packet without a hint, unless a
    /// search is under way.
    pub(crate) fn begin_search(&mut self, packet: UnknownPacket) {
        if self.search.is_none() {
            let wall = self.state.wall(packet.knock.time);
            self.search = Some(ClockSearch::new(packet, wall));
        }
    }

    /// Continues the search with `count` attempts, and begins one if a packet without a hint is worth
    /// it. A clock that is found is reported as an event.
    pub(crate) fn search_clock(&mut self, count: u32) {
        if let Some(packet) = self.unknown.take(self.now.as_nanos()) {
            self.begin_search(packet);
        }
        let Some(search) = &mut self.search else { return };
        match search.advance(&self.state.packet_keys, count) {
            SearchState::Searching => return,
            SearchState::NotFound => {}
            SearchState::Found { key, fingerprint, door, time } => {
                let UnknownPacket { knock, bytes } = search.packet();
                let wall = self.state.wall(knock.time);
                self.state.record(&packet_use(fingerprint, time, bytes), wall);
                let reason = RefusalReason::Clock(offset(time, wall));
                let door =
                    self.state.doors.get(usize::from(door.0)).map_or_else(|| "".into(), |door| door.name.clone());
                let kind = EventKind::Refused { key, reason };
                self.state.events.push_back(Event { time: self.now, door, ip: knock.source, kind });
            }
        }
        self.search = None;
    }

    /// Returns the time at which [`Engine::search_clock`] is due; `None` if there is nothing to search
    /// for. `pause` is the time between two calls.
    pub(crate) fn search_due(&self, pause: Duration) -> Option<Timestamp> {
        let next = self.search.as_ref().map(|_| self.now.saturating_add(pause));
        next.or_else(|| self.unknown.due().map(Timestamp::from_nanos))
    }

    /// Returns the hints by which a detect-only reader finds packets that a key may have made.
    pub(crate) fn hints(&self) -> &HintTable {
        self.state.packet_keys.hints()
    }

    /// Returns true if the hints have changed since the last call.
    pub(crate) fn take_hint_change(&mut self) -> bool {
        std::mem::take(&mut self.state.hints_changed)
    }

    /// Handles captured frames of one link type, in order. The events are those of calling
    /// [`Engine::feed`] for each frame, but this is faster if there are many attempts.
    pub fn feed_all<'a>(&mut self, link_type: LinkType, frames: impl IntoIterator<Item = (Timestamp, &'a [u8])>) {
        let mut knocks = std::mem::take(&mut self.batch);
        let mut last = Timestamp::default();
        for (time, frame) in frames {
            last = last.max(time);
            let knock = decode(link_type, time, frame);
            if let Some(knock) = &knock
                && let Some(packet) = self.packet_in(knock, link_type, frame)
            {
                self.handle_knocks(&knocks);
                knocks.clear();
                self.handle_packet(knock, packet);
                continue;
            }
            knocks.extend(knock);
            if knocks.len() == PREFETCH_BATCH {
                self.handle_knocks(&knocks);
                knocks.clear();
            }
        }
        self.handle_knocks(&knocks);
        knocks.clear();
        self.batch = knocks;
        self.handle_timeout(last);
    }

    /// Handles knocks that the caller decoded, in order. The events are those of calling
    /// [`Engine::handle_knock`] for each knock, but this is faster if there are many attempts:
    /// their memory is prefetched in batches.
    pub fn handle_knocks(&mut self, knocks: &[Knock]) {
        for knocks in knocks.chunks(PREFETCH_BATCH) {
            self.matcher.prefetch(knocks);
            for knock in knocks {
                self.handle_knock(knock);
            }
        }
    }

    /// Handles a knock that the caller decoded.
    pub fn handle_knock(&mut self, knock: &Knock) {
        self.handle_timeout(knock.time);
        self.knocks += 1;
        self.matcher.handle_knock(knock, self.now, &mut self.state);
        self.check_invariants();
    }

    /// Advances the time: everything that is due at `now` or earlier happens, in the order of the
    /// due times.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        loop {
            let attempt = self.matcher.next_due(self.now);
            let closing = self.state.openings.next_due(attempt.as_ref().map_or(self.now, |attempt| attempt.time));
            match (attempt, closing) {
                (Some(attempt), closing) if closing.is_none_or(|closing| attempt.time <= closing) => {
                    self.matcher.end_due(attempt, &mut self.state);
                }
                (_, Some(due)) => self.state.close_first(due, due),
                (_, None) => break,
            }
        }
        if self.state.role != Role::Detect && self.state.is_turn_due(self.now) {
            self.turn();
        }
    }

    /// Replaces the live windows and the hints that have ended.
    fn turn(&mut self) {
        let state = &mut self.state;
        let wall = state.wall(self.now);
        state.hints_changed |= state.packet_keys.turn(wall, state.skew);
        let changed = state.windows.turn(&state.doors, wall, &state.replays);
        self.update_windows(&changed);
        self.state.windows_changed |= !changed.is_empty();
    }

    /// Returns the next event. After every input, call it until it returns `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.state.events.pop_front()
    }

    /// True if [`Engine::poll_event`] has an event to return.
    pub fn has_events(&self) -> bool {
        !self.state.events.is_empty()
    }

    /// Returns the time at which [`Engine::handle_timeout`] is due next; `None` if nothing is due.
    /// Every input can change it.
    pub fn poll_timeout(&mut self) -> Option<Timestamp> {
        let end_of_time = Timestamp::from_nanos(u64::MAX);
        let attempt = self.matcher.next_due(end_of_time).map(|attempt| attempt.time);
        let closing = self.state.openings.next_due(end_of_time);
        let turn = if self.state.role == Role::Detect { None } else { self.state.next_turn() };
        attempt.into_iter().chain(closing).chain(turn).min()
    }

    /// Replaces the configuration at `now`. Attempts at doors that did not change go on, and other
    /// attempts fail. Openings always survive. If the doors or limits changed, the cost is
    /// proportional to the number of attempts.
    pub fn reload(&mut self, config: &Config, now: Timestamp) {
        self.reload_with_windows(config, self.windows_for(config, now), now);
    }

    /// As [`Engine::reload`], with live windows that another engine computed.
    pub(crate) fn reload_with_windows(&mut self, config: &Config, windows: LiveWindows, now: Timestamp) {
        self.handle_timeout(now);
        let old = self.state.set_config(config);
        self.state.packet_keys = PacketKeys::new(&config.doors);
        self.search = None;
        let wall = self.state.wall(self.now);
        self.state.packet_keys.turn(wall, self.state.skew);
        self.state.hints_changed = !self.state.packet_keys.is_empty();
        self.state.windows_changed = !windows.is_empty();
        let old_windows = std::mem::replace(&mut self.state.windows, windows);
        let none = LiveWindows::default();
        let (old_windows, windows) = match self.state.role {
            Role::Open => (&none, none.clone()),
            Role::Whole | Role::Detect => (&old_windows, self.state.windows.clone()),
        };
        self.matcher.reload((&old, old_windows), (config, &windows), self.now, &mut self.state);
        self.check_invariants();
    }

    /// Sets the next sequence of a one-time door, or none. After an opening, such a door accepts no
    /// knock until this call. Attempts at the previous sequence fail. A door that does not exist is
    /// ignored.
    pub fn set_sequence(&mut self, door: DoorId, sequence: Option<Sequence>) {
        self.matcher.set_sequence(door, sequence.as_ref(), self.now, &mut self.state);
        if let Some(door) = self.state.doors.get_mut(usize::from(door.0)) {
            door.sequence = sequence;
        }
        self.check_invariants();
    }

    /// Restores openings from before the start. The next [`Engine::handle_timeout`] closes those
    /// that are overdue.
    pub fn restore_openings(&mut self, openings: impl IntoIterator<Item = Opening>) {
        self.state.openings.restore(openings);
    }

    /// Closes every open door at `now`, with an event for each opening.
    pub fn close_all(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        let end_of_time = Timestamp::from_nanos(u64::MAX);
        while self.state.openings.len() > 0 {
            self.state.close_first(end_of_time, self.now);
        }
        self.check_invariants();
    }

    /// Closes the openings of this door that cover this address, or all of this network, as if they
    /// were due at `now`, with an event for each. Returns their number. An opening of a door with
    /// `open_prefix` covers the addresses of its network. The cost is proportional to the number of
    /// all openings.
    pub fn close(&mut self, door: &str, addresses: impl Into<IpNet>, now: Timestamp) -> usize {
        self.handle_timeout(now);
        let taken = self.state.openings.take_covering(door, addresses.into());
        let count = taken.len();
        for opening in taken {
            self.state.closed(opening, self.now, None);
        }
        self.check_invariants();
        count
    }

    /// Closes at `now` the opening that this stop command closes, if it is open.
    pub(crate) fn close_early(
        &mut self,
        door: &str,
        net: IpNet,
        stop_command: Option<&str>,
        reason: Option<FailReason>,
        now: Timestamp,
    ) {
        let is_it = |opening: &Opening| opening.stop_command.as_deref() == stop_command;
        if let Some(opening) = self.state.openings.take(door, net, is_it) {
            self.state.closed(opening, self.now.max(now), reason);
        }
        self.check_invariants();
    }

    /// Checks the invariants. Every change in a debug build ends with this call; matcher and
    /// openings check their own.
    fn check_invariants(&self) {
        debug_assert!(
            self.state.doors.len() > CHECKED || self.matcher.is_for(&self.state.doors),
            "the doors are not those of the matcher"
        );
    }

    /// Returns the openings, in no particular order.
    pub fn openings(&self) -> impl Iterator<Item = &Opening> {
        self.state.openings.iter()
    }

    /// Returns the opening that keeps this port open for this network for longest, among those that
    /// `is_wanted` accepts.
    pub(crate) fn holder(&self, net: IpNet, port: OpenPort, is_wanted: impl Fn(&Opening) -> bool) -> Option<&Opening> {
        self.state.openings.holder(net, port, is_wanted)
    }

    /// True if there is an opening of this door for this network that this stop command closes.
    pub(crate) fn is_open(&self, door: &str, net: IpNet, stop_command: &str) -> bool {
        self.state.openings.is_open(door, net, stop_command)
    }

    /// Returns the doors of the configuration; one-time doors have their current sequences.
    pub fn doors(&self) -> &[Door] {
        &self.state.doors
    }

    /// Returns the sizes and counters.
    pub fn stats(&self) -> EngineStats {
        let (evicted, refused) = self.matcher.overflows();
        EngineStats {
            attempts: self.matcher.len(),
            openings: self.state.openings.len(),
            knocks: self.knocks,
            unused: self.matcher.unused(),
            evicted,
            refused,
            bogus: self.state.bogus,
        }
    }
}

impl EngineState {
    /// Closes the opening that is due first, if it is due by `until`, with an event at `time`.
    fn close_first(&mut self, until: Timestamp, time: Timestamp) {
        if let Some(opening) = self.openings.take_first_due(until) {
            self.closed(opening, time, None);
        }
    }

    fn closed(&mut self, opening: Opening, time: Timestamp, reason: Option<FailReason>) {
        let (door, ip, opening) = (opening.door.clone(), opening.ip, Box::new(opening));
        self.events.push_back(Event { time, door, ip, kind: EventKind::Close { opening, reason } });
    }

    /// Sets the doors and limits of a configuration, and returns the previous doors.
    fn set_config(&mut self, config: &Config) -> Vec<Door> {
        let ports: usize = config.doors.iter().map(|door| door.open.len()).sum();
        self.skew = config.options.clock_skew;
        let has_packets = config.doors.iter().any(|door| door.packet.is_some());
        self.packet_ports = if has_packets { config.options.packet_ports.clone() } else { Vec::new() };
        self.max_openings = config.options.max_openings as usize;
        self.gate_share = self.max_openings.min(GATE_ELEMENTS as usize / ports.max(1)).max(1);
        std::mem::replace(&mut self.doors, config.doors.clone())
    }
}

impl Sink for EngineState {
    fn event(&mut self, time: Timestamp, door: &Arc<str>, ip: IpAddr, kind: EventKind) {
        self.events.push_back(Event { time, door: door.clone(), ip, kind });
    }

    fn complete(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr) {
        match self.windows.get(door_id).map(|window| window.number) {
            // The other engine has the key.
            Some(_) if self.role == Role::Detect => {
                let Some(window) = self.windows.get(door_id) else { return };
                let door = self.doors[usize::from(window.door)].name.clone();
                let kind = EventKind::Open { door_id, command: None, opening: None, net: ip.into(), key: None };
                self.events.push_back(Event { time, door, ip, kind });
            }
            Some(number) => self.complete_window(time, door_id, number, ip),
            None => self.open(time, door_id, ip, None, None),
        }
    }
}

impl EngineState {
    /// Opens the door of a live window whose sequence matched, unless the sequence was accepted
    /// before.
    fn complete_window(&mut self, time: Timestamp, id: DoorId, number: u64, ip: IpAddr) {
        let wall = self.wall(time);
        let Some(window) = self.windows.get(id) else { return };
        let door_id = DoorId(window.door);
        let Some(door) = self.doors.get(usize::from(window.door)) else { return };
        // The report of another engine may be late by one turn.
        let present = door.time_sequence.as_ref().map_or(0, |time| time.window_at(wall));
        if !(present.saturating_sub(2)..=present + 1).contains(&number) {
            return;
        }
        let reported = LiveWindow { number, ..window.clone() };
        let (Some(knock), Some(named)) = (knock_use(door, &reported), door.keys.get(window.key as usize)) else {
            return;
        };
        let (name, is_present) = (named.name.clone(), window.number == number);
        if is_present {
            self.windows.consume(id);
        }
        self.authenticated(time, door_id, ip, name, &knock, None);
    }

    /// Opens a door for an authenticated knock, unless it was accepted before. `span` is the time
    /// that the client asks for, if it does.
    fn authenticated(
        &mut self,
        time: Timestamp,
        door_id: DoorId,
        ip: IpAddr,
        key: Arc<str>,
        knock: &KnockUse,
        span: Option<Duration>,
    ) {
        let wall = self.wall(time);
        let is_new = self.record(knock, wall);
        let door = &self.doors[usize::from(door_id.0)];
        let refusal = if !is_new {
            Some(RefusalReason::Replay)
        } else {
            let begins = door.seq_cooldown.map(|cooldown| {
                let first = door.network_of(ip).addr();
                self.cooldowns.begin(&door.name, first, time, cooldown)
            });
            (begins == Some(false)).then_some(RefusalReason::Cooldown)
        };
        match refusal {
            Some(reason) => {
                let door = door.name.clone();
                self.events.push_back(Event { time, door, ip, kind: EventKind::Refused { key, reason } });
            }
            None => self.open(time, door_id, ip, Some(key), span),
        }
    }

    /// Records an authenticated knock. Returns false if it was recorded before, or may have been.
    fn record(&mut self, knock: &KnockUse, wall: Timestamp) -> bool {
        let is_new = self.replays.accept(knock, wall, self.skew).is_ok();
        if is_new {
            self.accepted.iter_mut().for_each(|accepted| accepted.push(*knock));
        }
        is_new
    }

    /// Returns the time by the wall clock.
    fn wall(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_nanos(time.as_nanos().saturating_add_signed(self.wall_offset))
    }

    /// Opens the door that an authenticated packet asks for. A packet that opens nothing is recorded like
    /// one that does, because an observer could use it later. `wall` is the wall clock at present.
    fn packet(
        &mut self,
        time: Timestamp,
        wall: Timestamp,
        knock: &Knock,
        is_local: bool,
        packet: &[u8; PACKET_LENGTH],
    ) {
        let Knock { source, destination, .. } = *knock;
        let Some(opened) = self.packet_keys.open(packet) else {
            self.bogus += 1;
            return;
        };
        let OpenedPacket { name, fingerprint, doors, content } = opened;
        let of = |id: &DoorId| &self.doors[usize::from(id.0)];
        let accepts = |id: &&DoorId| {
            let door = of(id);
            *door.name == *content.door && door.target.map_or(is_local, |target| target == destination)
        };
        let ip = content.address.unwrap_or(source);
        let difference = content.time.max(wall).saturating_since(content.time.min(wall));
        let refusal = match doors.iter().find(accepts) {
            _ if difference > self.skew => Err(RefusalReason::Clock(offset(content.time, wall))),
            None => Err(RefusalReason::UnknownDoor),
            Some(id) if !is_possible_source(ip) || !of(id).allows(ip) => Err(RefusalReason::Address),
            Some(id) => Ok(*id),
        };
        let name = name.clone();
        let knock = packet_use(fingerprint, content.time, packet);
        match refusal {
            Ok(door_id) => {
                let seconds = NonZeroU32::new(content.seconds).map(|seconds| Duration::from_secs(seconds.get().into()));
                self.authenticated(time, door_id, ip, name, &knock, seconds);
            }
            Err(reason) => {
                let door = doors.first().map_or_else(|| "".into(), |id| of(id).name.clone());
                self.record(&knock, wall);
                self.events.push_back(Event { time, door, ip: source, kind: EventKind::Refused { key: name, reason } });
            }
        }
    }

    /// True if live windows or hints have ended, or if the clock was set.
    fn is_turn_due(&self, now: Timestamp) -> bool {
        let wall = self.wall(now);
        self.windows.needs_turn(wall) || self.packet_keys.needs_turn(wall)
    }

    /// Returns the time by the engine's clock at which a live window or a hint ends next.
    fn next_turn(&self) -> Option<Timestamp> {
        let wall = self.windows.next_turn().into_iter().chain(self.packet_keys.next_turn()).min()?;
        let offset = self.wall_offset.checked_neg().unwrap_or(i64::MAX);
        Some(Timestamp::from_nanos(wall.as_nanos().saturating_add_signed(offset)))
    }

    /// Opens a door, or extends its opening. A `span` shortens the time for which it is open.
    fn open(&mut self, time: Timestamp, door_id: DoorId, ip: IpAddr, key: Option<Arc<str>>, span: Option<Duration>) {
        let detect_only = self.role == Role::Detect;
        let door = &mut self.doors[usize::from(door_id.0)];
        // Nothing opens here if another engine keeps the openings.
        let opens_ports = !detect_only && !door.open.is_empty();
        let span = span.map_or(door.cmd_timeout, |span| shortened(door.cmd_timeout, span));
        let net = door.network_of(ip);
        // The commands that opened a network open it again, so that the stop command finds the rule
        // that the start command added. This does not apply without a stop command.
        let is_reopened =
            |held: &Opening| held.stop_command.is_some() && door.stop_command_for(held.ip) == held.stop_command;
        let opener = self.openings.opener(&door.name, net, ip, is_reopened).unwrap_or(ip);
        let command = if detect_only { None } else { door.start_command_for(opener) };
        // Like knockd: if nothing opens the door, there is nothing to close.
        let stop_command = if opens_ports || command.is_some() { door.stop_command_for(opener) } else { None };
        let opening = (opens_ports || stop_command.is_some()).then(|| Opening {
            door: door.name.clone(),
            ip: opener,
            closes_at: time.saturating_add(span),
            stop_command,
            open: door.open.clone(),
            net,
        });
        if door.one_time_sequences.is_some() {
            door.sequence = None;
        }
        let door = door.name.clone();
        let is_open = opening.as_ref().is_some_and(|opening| self.openings.contains(opening));
        if let Some(opening) = &opening {
            let limit = if opens_ports { self.gate_share } else { self.max_openings };
            while !is_open && let Some(oldest) = self.openings.take_oldest_beyond(&door, limit) {
                self.closed(oldest, time, Some(FailReason::Full));
            }
            self.openings.open(opening.clone(), span);
        }
        let kind = match opening.map(Box::new) {
            Some(opening) if is_open => EventKind::Extend { door_id, command, opening, key },
            opening => EventKind::Open { door_id, command, opening, net, key },
        };
        self.events.push_back(Event { time, door, ip, kind });
    }
}

/// The sequences and hints that detect the knocks of doors with keys at present, without any key.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveSecrets {
    pub(crate) windows: LiveWindows,
    pub(crate) hints: HintTable,
}

/// Returns what the replay memory stores of a packet.
fn packet_use(key: Fingerprint, time: Timestamp, packet: &[u8; PACKET_LENGTH]) -> KnockUse {
    let mut token = [0; NONCE_LENGTH];
    token.copy_from_slice(&packet[HINT_LENGTH..HINT_LENGTH + NONCE_LENGTH]);
    KnockUse { key, form: Form::Packet, time, token }
}

/// Returns the number of seconds by which the clock of a client is ahead of the wall clock.
fn offset(client: Timestamp, wall: Timestamp) -> i64 {
    let offset = i128::from(client.as_nanos()) - i128::from(wall.as_nanos());
    i64::try_from(offset / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Returns the time for which a door is open if a client asks for `wanted`, at most `whole`. It is
/// rounded up to a multiple of a 64th of `whole`, in whole seconds. Each different time has its own
/// list of openings, so there must be few of them.
fn shortened(whole: Duration, wanted: Duration) -> Duration {
    let step = whole.as_secs().div_ceil(64).max(1);
    Duration::from_secs(wanted.as_secs().div_ceil(step).saturating_mul(step)).min(whole)
}

/// The cooldowns of doors with keys. Only authenticated knocks begin one, so that their number is
/// bounded by the number of keys.
#[derive(Debug, Default)]
struct KeyCooldowns(HashMap<(Arc<str>, IpAddr), Timestamp, RandomState>);

impl KeyCooldowns {
    /// Begins a cooldown, unless one is running. Returns false if one is.
    fn begin(&mut self, door: &Arc<str>, ip: IpAddr, now: Timestamp, cooldown: Duration) -> bool {
        self.0.retain(|_, end| *end > now);
        let end = now.saturating_add(cooldown);
        match self.0.entry((door.clone(), ip)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(end);
                true
            }
        }
    }
}
