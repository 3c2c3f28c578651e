//! The part of a door's configuration that the matcher uses.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::ports::{DoorPorts, PortKey};
use crate::config::{Door, Sequence};
use crate::decode::Knock;
use crate::packet::{Protocol, SegmentSet};

/// The part of a door's configuration that the matcher uses.
#[derive(Debug)]
pub(super) struct DoorRules {
    pub(super) name: Arc<str>,
    /// Empty while the door accepts no knocks.
    pub(super) steps: Box<[PortKey]>,
    /// The TCP segments that satisfy the door's `tcpflags`.
    segments: SegmentSet,
    target: Option<IpAddr>,
    allow: Vec<IpNet>,
    pub(super) one_time: bool,
    /// True for a live window of a time sequence.
    is_window: bool,
    /// True after a live window has opened its door. The index of ports still contains its steps.
    is_consumed: bool,
    pub(super) has_cooldown: bool,
    /// The door, if its cooldowns apply to networks.
    cools_networks: Option<Box<Door>>,
}

impl DoorRules {
    pub(super) fn of(door: &Door) -> Self {
        Self {
            name: door.name.clone(),
            steps: keys_of(door.sequence.as_ref()),
            segments: door.tcpflags.segments(),
            target: door.target,
            allow: door.allow.clone(),
            one_time: door.one_time_sequences.is_some(),
            is_window: false,
            is_consumed: false,
            has_cooldown: door.seq_cooldown.is_some(),
            cools_networks: (door.seq_cooldown.is_some() && door.open_prefix.is_some()).then(|| Box::new(door.clone())),
        }
    }

    /// Returns the rules of a live window of this door. The engine keeps its cooldowns, because they
    /// apply to all windows.
    pub(super) fn of_window(door: &Door, sequence: Option<&Sequence>) -> Self {
        Self { steps: keys_of(sequence), is_window: true, has_cooldown: false, cools_networks: None, ..Self::of(door) }
    }

    /// Sets the steps; none if the door accepts no knocks.
    pub(super) fn set_steps(&mut self, steps: Box<[PortKey]>) {
        (self.steps, self.is_consumed) = (steps, false);
    }

    /// Stops accepting knocks, if this is a live window, which opens its door once.
    pub(super) fn consume_window(&mut self) -> bool {
        self.is_consumed = self.is_window;
        self.is_window
    }

    /// Returns the address that holds the cooldown of this source, if it can be another address:
    /// the first of the network that the door opens for.
    pub(super) fn cooled_network(&self, source: IpAddr) -> Option<IpAddr> {
        let door = self.cools_networks.as_ref()?;
        Some(door.network_of(source).addr()).filter(|first| *first != source)
    }

    /// True if the knock is sent to this door's address, and its source is allowed to knock here.
    pub(super) fn is_relevant(&self, knock: &Knock, is_local: bool) -> bool {
        self.target.map_or(is_local, |target| target == knock.destination)
            && (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&knock.source)))
    }

    /// True for UDP, and for a TCP segment whose flags the door accepts. False after a live window
    /// was consumed.
    pub(super) fn counts(&self, knock: &Knock) -> bool {
        (knock.protocol == Protocol::Udp || self.segments.contains(knock.flags)) && !self.is_consumed
    }

    /// True if the scan guard counts the knock: at another port it could be a knock for this door.
    pub(super) fn guards_against(&self, knock: &Knock) -> bool {
        self.counts(knock) && self.steps.iter().any(|step| step.protocol() == knock.protocol)
    }

    pub(super) fn ports(&self) -> DoorPorts<'_> {
        // A consumed window accepts nothing at its ports.
        let is_restricted = self.target.is_some() || !self.allow.is_empty() || self.is_window;
        DoorPorts { steps: &self.steps, segments: self.segments, is_restricted }
    }
}

/// Returns the steps of a sequence; none without a sequence, because the door then accepts no
/// knocks.
pub(super) fn keys_of(sequence: Option<&Sequence>) -> Box<[PortKey]> {
    sequence.map_or_else(Box::default, |sequence| sequence.steps().iter().map(|&step| step.into()).collect())
}
