//! Authenticated knocks: time sequences, codes and packets that a key made, and the replay memory.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::state::{EngineState, Role};
use crate::config::DoorId;
use crate::decode::Knock;
use crate::event::{Event, EventKind, RefusalReason};
use crate::keys::Fingerprint;
use crate::live_windows::{LiveWindow, key_name, knock_use, window_at};
use crate::matcher::is_possible_source;
use crate::packet_keys::OpenedPacket;
use crate::replay_memory::{Form, KnockUse};
use crate::spa::{HINT_LENGTH, NONCE_LENGTH, PACKET_LENGTH};
use crate::time::Timestamp;

impl EngineState {
    /// Opens the door of a live window whose sequence matched, unless the sequence was accepted
    /// before.
    pub(super) fn complete_window(&mut self, time: Timestamp, id: DoorId, number: u64, ip: IpAddr) {
        let wall = self.wall(time);
        let Some(window) = self.windows.get(id) else { return };
        let door_id = DoorId(window.door);
        let Some(door) = self.doors.get(usize::from(window.door)) else { return };
        // The report of another engine may be late by one turn.
        let present = door.window_length().map_or(0, |length| window_at(length, wall));
        if !(present.saturating_sub(2)..=present + 1).contains(&number) {
            return;
        }
        let reported = LiveWindow { number, ..window.clone() };
        let (Some(knock), Some(name)) = (knock_use(door, &reported), key_name(door, window)) else { return };
        if window.number == number {
            self.windows.consume(id);
        }
        self.authenticated(time, door_id, ip, name, &knock, None);
    }

    /// Opens a door for an authenticated knock, unless it was accepted before. `span` is the time
    /// that the client asks for, if it does.
    pub(super) fn authenticated(
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
        let mut may_open = |cooldown| self.cooldowns.begin(&door.name, door.network_of(ip).addr(), time, cooldown);
        let reason = match door.seq_cooldown {
            _ if !is_new => RefusalReason::Replay,
            Some(cooldown) if !may_open(cooldown) => RefusalReason::Cooldown,
            _ => return self.open(time, door_id, ip, Some(key), span),
        };
        let door = door.name.clone();
        self.events.push_back(Event { time, door, ip, kind: EventKind::Refused { key, reason } });
    }

    /// Records an authenticated knock. Returns false if it was recorded before, or may have been.
    pub(super) fn record(&mut self, knock: &KnockUse, wall: Timestamp) -> bool {
        let is_new = self.replays.accept(knock, wall, self.skew).is_ok();
        if is_new {
            self.accepted.iter_mut().for_each(|accepted| accepted.push(*knock));
        }
        is_new
    }

    /// Returns the time by the wall clock.
    pub(super) fn wall(&self, time: Timestamp) -> Timestamp {
        Timestamp::from_nanos(time.as_nanos().saturating_add_signed(self.wall_offset))
    }

    /// Opens the door that an authenticated packet asks for. A packet that opens nothing is recorded like
    /// one that does, because an observer could use it later. `wall` is the wall clock at present.
    pub(super) fn packet(
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

    /// Sets the time of the next change of live windows or hints: immediately if one is due at `now`.
    pub(super) fn schedule_turn(&mut self, now: Timestamp) {
        let never = Timestamp::from_nanos(u64::MAX);
        self.turn_at = match self.role {
            Role::Detect => never,
            Role::Whole | Role::Open if self.is_turn_due(now) => Timestamp::default(),
            Role::Whole | Role::Open => self.next_turn().unwrap_or(never),
        };
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
}

/// Returns what the replay memory stores of a packet.
pub(super) fn packet_use(key: Fingerprint, time: Timestamp, packet: &[u8; PACKET_LENGTH]) -> KnockUse {
    let mut token = [0; NONCE_LENGTH];
    token.copy_from_slice(&packet[HINT_LENGTH..HINT_LENGTH + NONCE_LENGTH]);
    KnockUse { key, form: Form::Packet, time, token }
}

/// Returns the number of seconds by which the clock of a client is ahead of the wall clock.
pub(super) fn offset(client: Timestamp, wall: Timestamp) -> i64 {
    let offset = i128::from(client.as_nanos()) - i128::from(wall.as_nanos());
    i64::try_from(offset / 1_000_000_000).unwrap_or(i64::MAX)
}
