//! What the matcher needs to know of a door.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::ports::{DoorPorts, PortKey};
use crate::config::{Door, Sequence};
use crate::decode::Knock;
use crate::packet::{Protocol, SegmentSet};

/// What the matcher needs to know of a door.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) name: Arc<str>,
    /// Empty while the door takes no knocks.
    pub(super) steps: Box<[PortKey]>,
    /// The TCP segments that satisfy the door's `tcpflags`.
    segments: SegmentSet,
    target: Option<IpAddr>,
    allow: Vec<IpNet>,
    pub(super) one_time: bool,
    pub(super) has_cooldown: bool,
    /// The door, if its cooldowns are for networks.
    cools_networks: Option<Box<Door>>,
}

impl Rules {
    pub(super) fn of(door: &Door) -> Self {
        Self {
            name: door.name.clone(),
            steps: keys_of(door.sequence.as_ref()),
            segments: door.tcpflags.segments(),
            target: door.target,
            allow: door.allow.clone(),
            one_time: door.one_time_sequences.is_some(),
            has_cooldown: door.seq_cooldown.is_some(),
            cools_networks: (door.seq_cooldown.is_some() && door.open_prefix.is_some()).then(|| Box::new(door.clone())),
        }
    }

    /// The address that has the cooldown of this source, if it may be another one: the first of the network that the door
    /// opens for.
    pub(super) fn cooled_network(&self, source: IpAddr) -> Option<IpAddr> {
        let door = self.cools_networks.as_ref()?;
        Some(door.network_of(source).addr()).filter(|first| *first != source)
    }

    /// The knock is for this door's address and its source may knock here.
    pub(super) fn is_relevant(&self, knock: &Knock, is_local: bool) -> bool {
        self.target.map_or(is_local, |target| target == knock.destination)
            && (self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&knock.source)))
    }

    /// The knock's TCP flags, where it has any, are those that the door looks at.
    pub(super) fn counts(&self, knock: &Knock) -> bool {
        knock.protocol == Protocol::Udp || self.segments.contains(knock.flags)
    }

    /// The scan guard counts the knock: at another port it could be one for this door.
    pub(super) fn guards_against(&self, knock: &Knock) -> bool {
        self.counts(knock) && self.steps.iter().any(|step| step.protocol() == knock.protocol)
    }

    pub(super) fn ports(&self) -> DoorPorts<'_> {
        let is_restricted = self.target.is_some() || !self.allow.is_empty();
        DoorPorts { steps: &self.steps, segments: self.segments, is_restricted }
    }
}

/// The steps of a sequence; without one the door takes no knocks.
pub(super) fn keys_of(sequence: Option<&Sequence>) -> Box<[PortKey]> {
    sequence.map_or_else(Box::default, |sequence| sequence.steps().iter().map(|&step| step.into()).collect())
}
