//! The state of an engine as its events describe it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use portknock_core::{Config, Event, EventKind, FailReason, IpNet, Opening, Timestamp};

type Key = (Arc<str>, IpNet, Option<String>);

#[derive(Default)]
pub(super) struct Ledger {
    /// The time of the last event.
    time: Timestamp,
    /// The attempt that the previous event completed.
    complete: Option<(Arc<str>, IpAddr)>,
    attempts: usize,
    open: HashSet<Key>,
    /// Some door has or had a cooldown, which no event reports.
    cooldowns: bool,
}

impl Ledger {
    /// Doors of this configuration may report events from now on.
    pub(super) fn allow(&mut self, config: &Config) {
        self.cooldowns |= config.doors.iter().any(|door| door.seq_cooldown.is_some());
    }

    pub(super) fn restore(&mut self, opening: &Opening) {
        self.open.insert(key(opening));
        // An overdue opening closes with the time at which it was due.
        self.time = self.time.min(opening.closes_at);
    }

    pub(super) fn take(&mut self, event: &Event) {
        assert!(event.time >= self.time, "{event:?} after {:?}", self.time);
        self.time = event.time;
        let complete = self.complete.take();
        let opens = matches!(event.kind, EventKind::Open { .. } | EventKind::Extend { .. });
        if let EventKind::Close { opening, reason: Some(FailReason::Full) } = &event.kind {
            // Makes room for the opening that the next event reports.
            assert!(complete.as_ref().is_some_and(|(door, _)| *door == opening.door), "{event:?} without need");
            assert!(self.open.remove(&key(opening)), "{event:?} of a door that is not open");
            self.complete = complete;
            return;
        }
        assert_eq!(complete, opens.then(|| (event.door.clone(), event.ip)), "before {event:?}");
        match &event.kind {
            EventKind::Stage { stage, steps } => {
                assert!((1..=*steps).contains(stage), "{event:?}");
                self.attempts += usize::from(*stage == 1);
                if stage == steps {
                    self.end_attempt(event);
                    self.complete = Some((event.door.clone(), event.ip));
                }
            }
            EventKind::Open { opening: Some(opening), .. } => {
                assert!(self.open.insert(key(opening)), "{event:?} of an open door");
            }
            EventKind::Open { .. } => {}
            EventKind::Extend { opening, .. } => assert!(self.open.contains(&key(opening)), "{event:?}"),
            EventKind::Close { opening, .. } => {
                assert!(self.open.remove(&key(opening)), "{event:?} of a door that is not open");
            }
            EventKind::Timeout { stage } | EventKind::Fail { stage, .. } => {
                assert!(*stage > 0, "{event:?}");
                self.end_attempt(event);
            }
            _ => panic!("{event:?} of an unexpected kind"),
        }
    }

    fn end_attempt(&mut self, event: &Event) {
        assert!(self.attempts > 0, "{event:?} without an attempt");
        self.attempts -= 1;
    }

    /// The engine holds what its events reported.
    pub(super) fn check<'a>(&self, attempts: usize, openings: impl Iterator<Item = &'a Opening>) {
        assert_eq!(self.complete, None);
        assert_eq!(openings.map(key).collect::<HashSet<_>>(), self.open);
        assert!(self.attempts <= attempts && (self.cooldowns || self.attempts == attempts), "{attempts} attempts");
    }
}

fn key(opening: &Opening) -> Key {
    (opening.door.clone(), opening.net, opening.stop_command.clone())
}
