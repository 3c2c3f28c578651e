//! The engine: all pure logic in one type. Its inputs are frames and times, its outputs are events.

mod authenticated;
mod cooldowns;
mod fwknop;
mod keyed;
mod split;
mod state;

use std::collections::VecDeque;

use ipnet::IpNet;

use self::cooldowns::KeyCooldowns;
pub(crate) use self::keyed::PacketForm;
pub(crate) use self::split::LiveSecrets;
use self::state::{EngineState, Role};
use crate::clock_search::{ClockSearch, UnknownSample};
use crate::config::{Config, Door, DoorId, OpenPort, Sequence};
use crate::decode::{Knock, LinkType, decode};
use crate::event::{Event, FailReason};
use crate::fwknop_keys::FwknopKeys;
use crate::live_windows::LiveWindows;
use crate::local_addresses::LocalAddresses;
use crate::mac_detector::MacDetector;
use crate::matcher::{Matcher, PREFETCH_BATCH};
use crate::openings::{Opening, Openings};
use crate::packet_keys::PacketKeys;
use crate::replay_memory::ReplayMemory;
use crate::time::Timestamp;
use crate::timeline::CHECKED;
use crate::weak_search::{UnauthenticPacket, WeakSearch};

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
    /// Knocks among them that had the form of an authenticated packet, but that no key made or that
    /// were not checked because there were too many.
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
    mac_detector: MacDetector,
    unauthentic: UnknownSample<UnauthenticPacket>,
    /// The search for the key of a packet without a valid HMAC.
    weak_search: Option<WeakSearch>,
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
            fwknop_keys: FwknopKeys::new(&config.doors),
            hints_changed: false,
            packet_ports: Vec::new(),
            has_own_packets: false,
            has_fwknop_packets: false,
            bogus: 0,
            replays: ReplayMemory::default(),
            accepted: None,
            cooldowns: KeyCooldowns::default(),
            skew: config.options.clock_skew,
            wall_offset: 0,
            turn_at: Timestamp::default(),
            openings: Openings::new(),
            events: VecDeque::new(),
            max_openings: 0,
            gate_share: 0,
            role,
        };
        state.set_config(config);
        state.schedule_turn(Timestamp::default());
        Self {
            matcher,
            mac_detector: MacDetector::new(state.fwknop_keys.mac_keys().clone()),
            state,
            now: Timestamp::default(),
            knocks: 0,
            batch: Vec::with_capacity(PREFETCH_BATCH),
            unknown: UnknownSample::default(),
            search: None,
            unauthentic: UnknownSample::default(),
            weak_search: None,
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
                Some(packet) => self.handle_form(knock, packet),
                None => self.handle_knock(knock),
            },
            None => self.handle_timeout(time),
        }
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
                self.handle_form(knock, packet);
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
        if self.state.turn_at <= self.now {
            self.turn();
        }
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
        let turn = Some(self.state.turn_at).filter(|turn_at| *turn_at < end_of_time);
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
        self.state.fwknop_keys = FwknopKeys::new(&config.doors);
        self.mac_detector.set_keys(self.state.fwknop_keys.mac_keys().clone());
        (self.search, self.weak_search) = (None, None);
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
        self.state.schedule_turn(self.now);
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
