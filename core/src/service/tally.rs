//! What a service counts of its notices, by interface and by door.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Notice;
use crate::capture::CaptureNotice;
use crate::event::{EventKind, FailReason};

/// What happened at the doors of one name since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Times that a door opened.
    pub opened: u64,
    /// Attempts that took too long.
    pub timeout: u64,
    /// Attempts that failed at a wrong port.
    pub wrong_port: u64,
    /// Attempts that failed as scans.
    pub scan: u64,
    /// Attempts that were pushed out of the full table.
    pub full: u64,
    /// Attempts that ended because the door changed.
    pub reload: u64,
}

/// The counts, and the interfaces that are not listened on.
#[derive(Debug, Default)]
pub(super) struct Tally {
    doors: HashMap<Arc<str>, DoorCounts>,
    absent: HashMap<String, String>,
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
            Notice::Event(event) => {
                let counts = self.doors.entry(event.door.clone()).or_default();
                match event.kind {
                    EventKind::Open { .. } => counts.opened += 1,
                    EventKind::Timeout { .. } => counts.timeout += 1,
                    EventKind::Fail { reason: FailReason::WrongPort, .. } => counts.wrong_port += 1,
                    EventKind::Fail { reason: FailReason::Scan, .. } => counts.scan += 1,
                    EventKind::Fail { reason: FailReason::Full, .. } => counts.full += 1,
                    EventKind::Fail { reason: FailReason::Reload, .. } => counts.reload += 1,
                    EventKind::Stage { .. } | EventKind::Extend { .. } | EventKind::Close { .. } => {}
                }
            }
            _ => {}
        }
    }

    /// Forgets the doors and the interfaces that are gone.
    pub(super) fn keep(&mut self, doors: &HashSet<&str>, interfaces: &[String]) {
        self.doors.retain(|door, _| doors.contains(&**door));
        self.absent.retain(|interface, _| interfaces.contains(interface));
    }

    pub(super) fn door(&self, name: &str) -> DoorCounts {
        self.doors.get(name).copied().unwrap_or_default()
    }

    /// Why an interface is not listened on; `None` if it is.
    pub(super) fn absence(&self, interface: &str) -> Option<&str> {
        self.absent.get(interface).map(String::as_str)
    }
}
