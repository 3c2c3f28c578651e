//! Attempts that the matcher of one process hands over to the matcher of another.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Matcher;
use super::attempts::{Attempt, Removed};
use super::{Sink, Source};
use crate::time::Timestamp;

/// An attempt or a cooldown, in the form in which it is handed over to another matcher with the
/// same doors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedAttempt {
    pub(crate) ip: IpAddr,
    /// The index of the door, or the identifier of the live window. For a door with a code it is a window
    /// in which the attempt can still be completed.
    pub(crate) door: u16,
    /// The number of the live window; 0 for a door.
    pub(crate) window: u64,
    /// Steps matched; 0 for a cooldown.
    pub(crate) stage: u8,
    pub(crate) source_port: u16,
    pub(crate) sequence_number: u32,
    /// Nanoseconds since the epoch.
    pub(crate) started: u64,
    /// The unused ports that the source has hit, as the numbers of their
    /// [`PortKey`](super::PortKey)s.
    pub(crate) scan_hits: Vec<u32>,
}

impl Matcher {
    /// Ends this matcher and returns its attempts and cooldowns, oldest first.
    pub(crate) fn hand_over(self) -> impl Iterator<Item = SavedAttempt> {
        let (scan_log, doors) = (self.scan_log, self.doors);
        self.attempts.drain_by_age().into_iter().filter_map(move |Removed { attempt, started, scan_set }| {
            let rules = &doors[usize::from(attempt.door())];
            let matched = usize::from(attempt.stage()).saturating_sub(rules.steps.len());
            // An attempt at a code is one at a window in which it can still be completed.
            let window = rules.code.as_ref().map(|code| code.window_of(attempt.code(), matched));
            Some(SavedAttempt {
                ip: attempt.source().ip(),
                door: window.map_or(Some(attempt.door()), |window| window)?,
                window: 0,
                stage: attempt.stage(),
                source_port: attempt.source_port,
                sequence_number: attempt.sequence_number,
                started: started.as_nanos(),
                scan_hits: scan_log.ports(scan_set).map(|port| port.number()).collect(),
            })
        })
    }

    /// Resumes an attempt that [`Matcher::hand_over`] returned. Must be called before the first
    /// knock. An attempt that is not valid for these doors is ignored.
    pub(crate) fn resume(&mut self, saved: &SavedAttempt, now: Timestamp, sink: &mut impl Sink) {
        let door = self.doors.get(usize::from(saved.door)).and_then(|rules| rules.code_door).unwrap_or(saved.door);
        if !super::is_valid_attempt(&self.doors, door, saved.stage) {
            return;
        }
        let mut attempt = Attempt::new(Source::from(saved.ip), door, saved.stage);
        if let Some(code) = &self.doors[usize::from(door)].code {
            let Some(progress) = code.progress_of(saved.door) else { return };
            attempt.set_code(progress);
        }
        (attempt.source_port, attempt.sequence_number) = (saved.source_port, saved.sequence_number);
        let removed =
            Removed { attempt, started: Timestamp::from_nanos(saved.started), scan_set: crate::timeline::NIL };
        let hits = saved.scan_hits.iter().map(|&number| super::PortKey::from_number(number));
        self.insert_moved(&removed, door, hits, now, sink);
        self.check_invariants();
    }
}
