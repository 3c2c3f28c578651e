//! Counters that a service derives from its notices, by interface and by door.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Notice;
use crate::capture::{Absence, CaptureNotice};
use crate::event::{EventKind, FailReason, RefusalReason};
use crate::log_limit::{EventCounts, Suppressed};

/// Counters of the doors of one name since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DoorCounts {
    /// Number of times that a door opened.
    pub opened: u64,
    /// Attempts that took too long.
    pub timeout: u64,
    /// Attempts that failed at a wrong port.
    pub wrong_port: u64,
    /// Attempts that failed as scans.
    pub scan: u64,
    /// Attempts that were evicted from the full table.
    pub full: u64,
    /// Attempts that failed because the door changed.
    pub reload: u64,
    /// Openings that ended because their start command failed.
    pub command: u64,
    /// Authenticated knocks that opened nothing, by reason.
    pub refused: RefusedCounts,
}

/// Numbers of authenticated knocks that opened nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedCounts {
    /// Knocks that were accepted before, or may have been.
    pub replay: u64,
    /// Packets of clients whose clocks are wrong.
    pub clock: u64,
    /// Packets that ask for a door that their key does not open.
    pub unknown_door: u64,
    /// Knocks of addresses for which the door opened a short time before.
    pub cooldown: u64,
    /// Packets that ask for an address that may not use the door.
    pub address: u64,
    /// Packets that ask for ports that their key does not open.
    pub ports: u64,
    /// Packets that contain a command.
    pub command: u64,
    /// Packets that ask for network address translation.
    pub nat: u64,
    /// Packets that lack a protection that is required, such as an HMAC.
    pub weak: u64,
    /// Packets that name a user other than that of their key.
    pub user: u64,
    /// Packets with a valid HMAC that cannot be decrypted, or whose content is invalid.
    pub malformed: u64,
}

impl RefusedCounts {
    fn of(&mut self, reason: RefusalReason) -> &mut u64 {
        match reason {
            RefusalReason::Replay => &mut self.replay,
            RefusalReason::Clock(_) => &mut self.clock,
            RefusalReason::UnknownDoor => &mut self.unknown_door,
            RefusalReason::Cooldown => &mut self.cooldown,
            RefusalReason::Address => &mut self.address,
            RefusalReason::Ports => &mut self.ports,
            RefusalReason::Command => &mut self.command,
            RefusalReason::Nat => &mut self.nat,
            RefusalReason::Weak(_) => &mut self.weak,
            RefusalReason::User => &mut self.user,
            RefusalReason::Malformed => &mut self.malformed,
        }
    }
}

impl DoorCounts {
    /// Adds events that were not reported one by one.
    fn add(&mut self, counts: &EventCounts) {
        let EventCounts { first_stages: _, later_stages: _, timeouts, wrong_port, scan, full, reload, unopened: _ } =
            *counts;
        self.timeout = self.timeout.saturating_add(timeouts);
        self.wrong_port = self.wrong_port.saturating_add(wrong_port);
        self.scan = self.scan.saturating_add(scan);
        self.full = self.full.saturating_add(full);
        self.reload = self.reload.saturating_add(reload);
    }
}

/// The counters, and the interfaces that the service does not listen on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    doors: HashMap<Arc<str>, DoorCounts>,
    absent: HashMap<String, Absence>,
}

impl Tally {
    pub(super) fn take(&mut self, notice: &Notice) {
        match notice {
            Notice::Capture(CaptureNotice::Listening { interface }) => drop(self.absent.remove(interface)),
            Notice::Capture(
                CaptureNotice::Waiting { interface, reason } | CaptureNotice::Lost { interface, reason },
            ) => {
                self.absent.insert(interface.clone(), reason.clone());
            }
            Notice::Suppressed(Suppressed { doors, .. }) => {
                for (door, counts) in doors {
                    self.doors.entry(door.clone()).or_default().add(counts);
                }
            }
            Notice::Event(event) | Notice::SummarisedEvent(event) => {
                let counts = self.doors.entry(event.door.clone()).or_default();
                match event.kind {
                    EventKind::Open { .. } => counts.opened += 1,
                    EventKind::Timeout { .. } => counts.timeout += 1,
                    EventKind::Fail {
                        reason: FailReason::WrongPort | FailReason::Silenced | FailReason::DoorSilenced,
                        ..
                    } => counts.wrong_port += 1,
                    EventKind::Fail { reason: FailReason::Scan, .. } => counts.scan += 1,
                    EventKind::Fail { reason: FailReason::Full, .. } => counts.full += 1,
                    EventKind::Fail { reason: FailReason::Reload, .. } => counts.reload += 1,
                    EventKind::Fail { reason: FailReason::Command, .. } => counts.command += 1,
                    EventKind::Refused { reason, .. } => *counts.refused.of(reason) += 1,
                    EventKind::Stage { .. } | EventKind::Extend { .. } | EventKind::Close { .. } => {}
                }
            }
            _ => {}
        }
    }

    /// Removes all doors and interfaces except these.
    pub(super) fn keep(&mut self, doors: &HashSet<&str>, interfaces: &[String]) {
        self.doors.retain(|door, _| doors.contains(&**door));
        self.absent.retain(|interface, _| interfaces.contains(interface));
    }

    pub(super) fn door(&self, name: &str) -> DoorCounts {
        self.doors.get(name).copied().unwrap_or_default()
    }

    /// Returns the reason for which the service does not listen on an interface; `None` if it does.
    pub(super) fn absence(&self, interface: &str) -> Option<String> {
        self.absent.get(interface).map(Absence::to_string)
    }
}
