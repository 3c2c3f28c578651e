//! The inputs and outputs of an engine for doors with keys: the wall clock, packets, live windows,
//! hints, and the search for the clock of a client.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Engine;
use super::authenticated::{offset, packet_use};
use super::state::Role;
use crate::clock_search::{ClockSearch, SearchState, UnknownPacket};
use crate::config::{Config, Door, DoorId, PacketFormat};
use crate::decode::{Datagram, Knock, LinkType, datagram};
use crate::event::{Event, EventKind, RefusalReason};
use crate::fwknop_keys::may_be_packet;
use crate::live_windows::LiveWindows;
use crate::packet::Protocol;
use crate::packet_keys::HintTable;
use crate::replay_memory::{Incomplete, KnockUse, ReplayMemory};
use crate::spa::PACKET_LENGTH;
use crate::time::Timestamp;

/// A datagram that has the form of an authenticated packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketForm<'a> {
    /// A packet of portknock's own format.
    Own(&'a [u8; PACKET_LENGTH]),
    /// The payload of a datagram with the length and the first byte of fwknop's format; only its
    /// beginning if the frame is cut.
    Fwknop(&'a [u8]),
}

impl PacketForm<'_> {
    fn format(self) -> PacketFormat {
        match self {
            Self::Own(_) => PacketFormat::Portknock,
            Self::Fwknop(_) => PacketFormat::Fwknop,
        }
    }
}

impl Engine {
    /// Sets the time of the wall clock at `now`, by which the sequences of doors with
    /// `sequence = time` change and the timestamps of packets are judged. Until the first call the
    /// engine's clock is the wall clock.
    pub fn set_wall_clock(&mut self, wall: Timestamp, now: Timestamp) {
        let offset = i128::from(wall.as_nanos()) - i128::from(now.as_nanos());
        self.state.wall_offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        self.state.schedule_turn(self.now.max(now));
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
        self.state.replays.incomplete().is_some()
    }

    /// Refuses every knock that was acceptable in these times, by the wall clock.
    pub(crate) fn distrust(&mut self, times: Incomplete) {
        self.state.replays.distrust(times);
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
    pub(super) fn windows_for(&self, config: &Config, now: Timestamp) -> LiveWindows {
        let mut windows = LiveWindows::new(&config.doors);
        windows.turn(&config.doors, self.state.wall(now), &self.state.replays);
        windows
    }

    /// Passes changed live windows to the matcher.
    pub(super) fn update_windows(&mut self, changed: &[DoorId]) {
        if changed.is_empty() || self.state.role == Role::Open {
            return;
        }
        let windows = std::mem::take(&mut self.state.windows);
        let with_window = changed.iter().filter_map(|&id| Some((id, windows.get(id)?)));
        self.matcher.set_windows(with_window, self.now, &mut self.state);
        self.state.windows = windows;
    }

    /// Returns the authenticated packet in the frame of a knock. `None` if the frame does not have
    /// the form of one, or if no door receives packets at this port and address.
    #[inline]
    pub(crate) fn packet_in<'a>(&self, knock: &Knock, link_type: LinkType, frame: &'a [u8]) -> Option<PacketForm<'a>> {
        // Most configurations have no door that receives packets, and pay for this comparison only.
        if self.state.packet_ports.is_empty() { None } else { self.packet_at_port(knock, link_type, frame) }
    }

    #[inline(never)]
    fn packet_at_port<'a>(&self, knock: &Knock, link_type: LinkType, frame: &'a [u8]) -> Option<PacketForm<'a>> {
        let is_open =
            |range: &RangeInclusive<NonZeroU16>| (range.start().get()..=range.end().get()).contains(&knock.port);
        if knock.protocol != Protocol::Udp || !self.state.packet_ports.iter().any(is_open) {
            return None;
        }
        let packet = self.form_of(&datagram(link_type, frame)?)?;
        let is_target = |door: &Door| door.packet == Some(packet.format()) && door.target == Some(knock.destination);
        let is_for_door = self.matcher.is_local(knock.destination) || self.state.doors.iter().any(is_target);
        is_for_door.then_some(packet)
    }

    /// Returns the packet in a datagram, if a door receives packets of its form.
    fn form_of<'a>(&self, &Datagram { length, payload }: &Datagram<'a>) -> Option<PacketForm<'a>> {
        if self.state.has_own_packets && length == PACKET_LENGTH {
            return payload.try_into().ok().map(PacketForm::Own);
        }
        let is_fwknop = self.state.has_fwknop_packets && may_be_packet(length, *payload.first()?);
        is_fwknop.then_some(PacketForm::Fwknop(payload))
    }

    /// Handles an authenticated packet of either format.
    pub(crate) fn handle_form(&mut self, knock: &Knock, packet: PacketForm<'_>) {
        match packet {
            PacketForm::Own(packet) => self.handle_packet(knock, packet),
            PacketForm::Fwknop(payload) => self.handle_fwknop_packet(knock, payload),
        }
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

    pub(super) fn judge_packet(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH], judged_at: Timestamp) {
        let is_local = self.matcher.is_local(knock.destination);
        let wall = self.state.wall(judged_at);
        self.state.packet(self.now, wall, knock, is_local, packet);
        self.check_invariants();
    }

    /// Returns true if a captured packet has a hint and is to be handled. Otherwise counts it.
    pub(crate) fn detect_packet(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH]) -> bool {
        if self.hints().find(packet).is_some() {
            return true;
        }
        self.knocks += 1;
        self.state.bogus += 1;
        self.unknown.add(knock.time.as_nanos(), || UnknownPacket { knock: *knock, bytes: *packet });
        false
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
        let is_searching = self.search.is_some() || self.weak_search.is_some();
        let samples = self.unknown.due().into_iter().chain(self.unauthentic.due());
        let next = is_searching.then(|| self.now.saturating_add(pause));
        next.or_else(|| samples.min().map(Timestamp::from_nanos))
    }

    /// Returns the hints by which a detect-only reader finds packets that a key may have made.
    pub(crate) fn hints(&self) -> &HintTable {
        self.state.packet_keys.hints()
    }

    /// Returns true if the hints have changed since the last call.
    pub(crate) fn take_hint_change(&mut self) -> bool {
        std::mem::take(&mut self.state.hints_changed)
    }

    /// Replaces the live windows and the hints that have ended. This is rare, and must not make the
    /// handling of knocks longer.
    #[cold]
    pub(super) fn turn(&mut self) {
        let state = &mut self.state;
        let wall = state.wall(self.now);
        state.hints_changed |= state.packet_keys.turn(wall, state.skew);
        let changed = state.windows.turn(&state.doors, wall, &state.replays);
        self.update_windows(&changed);
        self.state.windows_changed |= !changed.is_empty();
        self.state.schedule_turn(self.now);
    }
}
