//! The doors and openings of an engine, and the effects of the results of the matcher on them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::cooldowns::KeyCooldowns;
use crate::config::{Config, Door, DoorId, GATE_ELEMENTS, PacketFormat};
use crate::event::{Event, EventKind, FailReason};
use crate::fwknop_keys::FwknopKeys;
use crate::live_windows::LiveWindows;
use crate::matcher::Sink;
use crate::openings::{Opening, Openings};
use crate::packet_keys::PacketKeys;
use crate::replay_memory::{KnockUse, ReplayMemory};
use crate::time::Timestamp;

/// Receives the results of the matcher, keeps the openings, and queues the events.
#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) doors: Vec<Door>,
    pub(super) windows: LiveWindows,
    /// True if live windows have changed since [`Engine::take_window_change`].
    pub(super) windows_changed: bool,
    pub(super) packet_keys: PacketKeys,
    pub(super) fwknop_keys: FwknopKeys,
    /// True if the hints of packets have changed since [`Engine::take_hint_change`].
    pub(super) hints_changed: bool,
    /// The UDP ports of packets; none if no door is opened by packets.
    pub(super) packet_ports: Vec<RangeInclusive<NonZeroU16>>,
    /// True if a door is opened by packets of portknock's own format.
    pub(super) has_own_packets: bool,
    /// True if a door is opened by packets of fwknop's format.
    pub(super) has_fwknop_packets: bool,
    /// Datagrams of the form of a packet that no key made.
    pub(super) bogus: u64,
    pub(super) replays: ReplayMemory,
    /// Accepted knocks that have not been saved; `None` if they are not saved.
    pub(super) accepted: Option<Vec<KnockUse>>,
    pub(super) cooldowns: KeyCooldowns,
    /// `ClockSkew`.
    pub(super) skew: Duration,
    /// Time by the engine's clock at which live windows or hints change next.
    pub(super) turn_at: Timestamp,
    /// The wall clock minus the engine's clock, in nanoseconds.
    pub(super) wall_offset: i64,
    pub(super) openings: Openings,
    pub(super) events: VecDeque<Event>,
    /// `MaxOpenings`.
    pub(super) max_openings: usize,
    /// Maximum number of openings of a door with `open`, so that all such doors together do not
    /// fill the kernel's set.
    pub(super) gate_share: usize,
    pub(super) role: Role,
}

/// The part of the work that an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// All of it.
    Whole,
    /// It only reports complete sequences. Another engine keeps the openings.
    Detect,
    /// It keeps the openings. Another engine detects the knocks, so that this matcher needs no live
    /// windows.
    Open,
}

impl EngineState {
    /// Closes the opening that is due first, if it is due by `until`, with an event at `time`.
    pub(super) fn close_first(&mut self, until: Timestamp, time: Timestamp) {
        if let Some(opening) = self.openings.take_first_due(until) {
            self.closed(opening, time, None);
        }
    }

    pub(super) fn closed(&mut self, opening: Opening, time: Timestamp, reason: Option<FailReason>) {
        let (door, ip, opening) = (opening.door.clone(), opening.ip, Box::new(opening));
        self.events.push_back(Event { time, door, ip, kind: EventKind::Close { opening, reason } });
    }

    /// Sets the doors and limits of a configuration, and returns the previous doors.
    pub(super) fn set_config(&mut self, config: &Config) -> Vec<Door> {
        let ports: usize = config.doors.iter().map(|door| door.open.len()).sum();
        self.skew = config.options.clock_skew;
        let has = |format| config.doors.iter().any(|door| door.packet == Some(format));
        (self.has_own_packets, self.has_fwknop_packets) = (has(PacketFormat::Portknock), has(PacketFormat::Fwknop));
        let has_packets = self.has_own_packets || self.has_fwknop_packets;
        self.packet_ports = if has_packets { config.options.packet_ports.clone() } else { Vec::new() };
        self.max_openings = config.options.max_openings as usize;
        self.gate_share = self.max_openings.min(GATE_ELEMENTS as usize / ports.max(1)).max(1);
        std::mem::replace(&mut self.doors, config.doors.clone())
    }

    /// Opens a door, or extends its opening. A `span` shortens the time for which it is open.
    pub(super) fn open(
        &mut self,
        time: Timestamp,
        door_id: DoorId,
        ip: IpAddr,
        key: Option<Arc<str>>,
        span: Option<Duration>,
    ) {
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

/// Returns the time for which a door is open if a client asks for `wanted`, at most `whole`. It is
/// rounded up to a multiple of a 64th of `whole`, in whole seconds. Each different time has its own
/// list of openings, so there must be few of them.
fn shortened(whole: Duration, wanted: Duration) -> Duration {
    let step = whole.as_secs().div_ceil(64).max(1);
    Duration::from_secs(wanted.as_secs().div_ceil(step).saturating_mul(step)).min(whole)
}
