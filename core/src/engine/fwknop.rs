//! Packets of fwknop's format: which of them open which door, and for which address.

use std::net::IpAddr;

use super::Engine;
use super::authenticated::offset;
use super::state::EngineState;
use crate::config::{Door, DoorId, OpenPort, PacketAddress};
use crate::decode::Knock;
use crate::event::{Event, EventKind, RefusalReason};
use crate::fwknop::{FwknopContent, FwknopError};
use crate::fwknop_keys::AuthenticPacket;
use crate::mac_detector::MacVerdict;
use crate::matcher::is_possible_source;
use crate::replay_memory::{Form, KnockUse};
use crate::time::Timestamp;
use crate::weak_search::{UnauthenticPacket, WeakSearch, WeakSearchState};

impl Engine {
    /// Handles a packet of fwknop's format: opens a door if a key made it, and if the same packet was
    /// not accepted before. The knock has the time and the addresses of the datagram.
    pub fn handle_fwknop_packet(&mut self, knock: &Knock, payload: &[u8]) {
        self.handle_timeout(knock.time);
        self.knocks += 1;
        self.judge_fwknop_packet(knock, payload, self.now);
    }

    /// Handles a packet that a reader reported; as [`Engine::handle_reported_packet`].
    pub(crate) fn handle_reported_fwknop_packet(&mut self, knock: &Knock, payload: &[u8], now: Timestamp) {
        self.handle_timeout(knock.time);
        self.judge_fwknop_packet(knock, payload, self.now.max(now));
    }

    fn judge_fwknop_packet(&mut self, knock: &Knock, payload: &[u8], judged_at: Timestamp) {
        let is_local = self.matcher.is_local(knock.destination);
        let wall = self.state.wall(judged_at);
        self.state.fwknop_packet(self.now, wall, knock, is_local, payload);
        self.check_invariants();
    }

    /// Returns true if a captured packet is to be handled. Otherwise counts it, with bounded work.
    pub(crate) fn detect_fwknop_packet(&mut self, knock: &Knock, payload: &[u8]) -> bool {
        let now = knock.time.as_nanos();
        let verdict = self.mac_detector.take(payload, now);
        if verdict == MacVerdict::Authentic {
            return true;
        }
        self.knocks += 1;
        self.state.bogus += u64::from(verdict.is_bogus());
        if matches!(verdict, MacVerdict::Bogus | MacVerdict::Unchecked) {
            self.unauthentic.add(now, || UnauthenticPacket { knock: *knock, bytes: payload.to_vec() });
        }
        false
    }

    /// Begins to search for the key of a packet without a valid HMAC, unless a search is under way.
    pub(crate) fn begin_weak_search(&mut self, packet: UnauthenticPacket) {
        self.weak_search.get_or_insert_with(|| WeakSearch::new(packet));
    }

    /// Continues the search with `count` keys, and begins one if a packet is worth it. The reason for
    /// which the packet is refused is reported as an event.
    pub(crate) fn search_weak(&mut self, count: u32) {
        if let Some(packet) = self.unauthentic.take(self.now.as_nanos()) {
            self.begin_weak_search(packet);
        }
        let Some(search) = &mut self.weak_search else { return };
        match search.advance(&self.state.fwknop_keys, count) {
            WeakSearchState::Searching => return,
            WeakSearchState::NotFound => {}
            WeakSearchState::Found { key, door, error } => {
                let (time, ip) = (self.now, search.packet().knock.source);
                if let (Some(door), Some(reason)) = (self.state.doors.get(usize::from(door.0)), reason_of(error)) {
                    let door = door.name.clone();
                    self.state.events.push_back(Event { time, door, ip, kind: EventKind::Refused { key, reason } });
                }
            }
        }
        self.weak_search = None;
    }
}

impl EngineState {
    /// Opens the door whose ports an authenticated packet asks for. A packet that opens nothing is
    /// recorded like one that does, because an observer could use it later. `wall` is the wall clock at
    /// present.
    fn fwknop_packet(&mut self, time: Timestamp, wall: Timestamp, knock: &Knock, is_local: bool, payload: &[u8]) {
        let Knock { source, destination, .. } = *knock;
        let Some(packet) = self.fwknop_keys.open(payload) else {
            self.bogus += 1;
            return;
        };
        let AuthenticPacket { name, fingerprint, doors, content } = packet;
        let name = name.clone();
        let of = |id: &DoorId| &self.doors[usize::from(id.0)];
        let is_at_destination = |id: &&DoorId| of(id).target.map_or(is_local, |target| target == destination);
        let door = doors.iter().find(is_at_destination).or(doors.first());
        let (refusal, knock) = match &content {
            Err(error) => match reason_of(*error) {
                Some(reason) => (Err(reason), None),
                None => return,
            },
            Ok(content) => {
                let difference = content.time.max(wall).saturating_since(content.time.min(wall));
                let result = if difference > self.skew {
                    Err(RefusalReason::Clock(offset(content.time, wall)))
                } else {
                    let here = doors.iter().filter(is_at_destination).map(|id| (*id, of(id)));
                    choose_door(here, content, source)
                };
                let FwknopContent { time, token, .. } = *content;
                (result, Some(KnockUse { key: fingerprint, form: Form::Fwknop, time, token }))
            }
        };
        let door = door.map_or_else(|| "".into(), |id| of(id).name.clone());
        match (refusal, knock) {
            (Ok((door_id, ip)), Some(knock)) => self.authenticated(time, door_id, ip, name, &knock, None),
            (Ok(_), None) => {}
            (Err(reason), knock) => {
                if let Some(knock) = knock {
                    self.record(&knock, wall);
                }
                self.events.push_back(Event { time, door, ip: source, kind: EventKind::Refused { key: name, reason } });
            }
        }
    }
}

/// Returns the first of these doors that accepts a packet, and the address for which it opens. If none
/// does, returns the reason of the door that is nearest to accepting it.
fn choose_door<'a>(
    doors: impl Iterator<Item = (DoorId, &'a Door)>,
    content: &FwknopContent,
    source: IpAddr,
) -> Result<(DoorId, IpAddr), RefusalReason> {
    let mut nearest = RefusalReason::UnknownDoor;
    for (id, door) in doors {
        let has_ports = door.open.is_empty() || content.ports.iter().all(|port: &OpenPort| door.open.contains(port));
        if !has_ports {
            if nearest == RefusalReason::UnknownDoor {
                nearest = RefusalReason::Ports;
            }
            continue;
        }
        match address_of(door, content, source) {
            Some(ip) if is_possible_source(ip) && door.allows(ip) => return Ok((id, ip)),
            _ => nearest = RefusalReason::Address,
        }
    }
    Err(nearest)
}

/// Returns the address for which a door opens by a packet; `None` if `packet_address` refuses it.
fn address_of(door: &Door, content: &FwknopContent, source: IpAddr) -> Option<IpAddr> {
    let inside = content.address.map(IpAddr::V4);
    match door.packet_address {
        PacketAddress::Any => Some(inside.unwrap_or(source)),
        PacketAddress::Required => inside,
        PacketAddress::Source => inside.filter(|inside| *inside == source),
    }
}

/// Returns the reason of a refusal; `None` if no key made the packet.
fn reason_of(error: FwknopError) -> Option<RefusalReason> {
    match error {
        FwknopError::NotAuthentic => None,
        FwknopError::Weak(reason) => Some(RefusalReason::Weak(reason)),
        FwknopError::Command => Some(RefusalReason::Command),
        FwknopError::Nat => Some(RefusalReason::Nat),
        FwknopError::User => Some(RefusalReason::User),
        FwknopError::Malformed => Some(RefusalReason::Malformed),
    }
}
