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
    /// The index of the door, or the identifier of the live window.
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
        let scan_log = self.scan_log;
        self.attempts.drain_by_age().into_iter().map(move |Removed { attempt, started, scan_set }| SavedAttempt {
            ip: attempt.source().ip(),
            door: attempt.door(),
            window: 0,
            stage: attempt.stage(),
            source_port: attempt.source_port,
            sequence_number: attempt.sequence_number,
            started: started.as_nanos(),
            scan_hits: scan_log.ports(scan_set).map(|port| port.number()).collect(),
        })
    }

    /// Resumes an attempt that [`Matcher::hand_over`] returned. Must be called before the first
    /// knock. An attempt that is not valid for these doors is ignored.
    pub(crate) fn resume(&mut self, saved: &SavedAttempt, now: Timestamp, sink: &mut impl Sink) {
        if !super::is_valid_attempt(&self.doors, saved.door, saved.stage) {
            return;
        }
        let mut attempt = Attempt::new(Source::from(saved.ip), saved.door, saved.stage);
        (attempt.source_port, attempt.sequence_number) = (saved.source_port, saved.sequence_number);
        let removed =
            Removed { attempt, started: Timestamp::from_nanos(saved.started), scan_set: crate::timeline::NIL };
        let hits = saved.scan_hits.iter().map(|&number| super::PortKey::from_number(number));
        self.insert_moved(&removed, saved.door, hits, now, sink);
        self.check_invariants();
    }
}
