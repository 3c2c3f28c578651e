//! Summaries that are logged once a second for a door in place of single lines, so that a flood of
//! complete knocks does not fill the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Notice;
use crate::event::{Event, EventKind, FailReason};
use crate::time::Timestamp;

/// Time between two summaries of a door.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// Numbers of log lines of one door in one second that were not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FloodCounts {
    /// Openings for which the door's oldest opening was closed.
    pub replaced: u64,
    /// Complete knocks after the first that changed a closing time at most.
    pub repeated: u64,
    /// Start commands that were dropped, because too many of the door wait.
    pub dropped: u64,
    /// Commands that were started.
    pub commands: u64,
}

/// The doors that have summaries.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    doors: HashMap<Arc<str>, Summary>,
    /// The door whose next opening replaces one that was just closed.
    replacing: Option<Arc<str>>,
}

#[derive(Debug)]
struct Summary {
    counts: FloodCounts,
    due: Timestamp,
    /// True if the door has reached its limit of openings or waiting commands, in this or the
    /// previous interval.
    is_full: bool,
}

impl Summaries {
    /// Counts an event and returns true if it is not logged by itself. `is_absorbed` is true for a
    /// complete knock for which no command runs, because the same command waits already.
    pub(super) fn take(&mut self, event: &Event, is_absorbed: bool, now: Timestamp) -> bool {
        match &event.kind {
            EventKind::Close { reason: Some(FailReason::Full), .. } => {
                let summary = self.of(&event.door, now);
                summary.is_full = true;
                summary.counts.replaced += 1;
                self.replacing = Some(event.door.clone());
                true
            }
            EventKind::Open { .. } if self.replacing.take_if(|door| *door == event.door).is_some() => true,
            EventKind::Open { opening: None, .. } if self.doors.get(&event.door).is_some_and(|door| door.is_full) => {
                true
            }
            EventKind::Open { .. } if !is_absorbed => false,
            EventKind::Extend { command: None, .. } => self.is_repeated(event, now),
            EventKind::Open { .. } | EventKind::Extend { .. } if is_absorbed => self.is_repeated(event, now),
            _ => false,
        }
    }

    /// Counts a start command that was dropped.
    pub(super) fn dropped(&mut self, door: &Arc<str>, now: Timestamp) {
        let summary = self.of(door, now);
        summary.is_full = true;
        summary.counts.dropped += 1;
    }

    /// Counts a command that starts and returns true if it is not logged by itself.
    pub(super) fn started(&mut self, door: &Arc<str>) -> bool {
        let summary = self.doors.get_mut(door).filter(|summary| summary.is_full);
        summary.map(|summary| summary.counts.commands += 1).is_some()
    }

    /// Reports the summaries that are due.
    pub(super) fn report(&mut self, now: Timestamp, notices: &mut VecDeque<Notice>) {
        self.doors.retain(|door, summary| {
            if now < summary.due {
                return true;
            }
            let counts = std::mem::take(&mut summary.counts);
            summary.due = now.saturating_add(SUMMARY_INTERVAL);
            summary.is_full = counts.replaced + counts.dropped > 0;
            if counts == FloodCounts::default() {
                return false;
            }
            notices.push_back(Notice::Flood { door: door.clone(), counts });
            true
        });
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.doors.values().map(|summary| summary.due).min()
    }

    /// Counts a repeated knock and returns true, except for the first in an interval, which is
    /// logged.
    fn is_repeated(&mut self, event: &Event, now: Timestamp) -> bool {
        let is_first = !self.doors.contains_key(&event.door);
        self.of(&event.door, now).counts.repeated += u64::from(!is_first);
        !is_first
    }

    fn of(&mut self, door: &Arc<str>, now: Timestamp) -> &mut Summary {
        self.doors.entry(door.clone()).or_insert_with(|| Summary {
            counts: FloodCounts::default(),
            due: now.saturating_add(SUMMARY_INTERVAL),
            is_full: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DoorId;
    use crate::openings::Opening;

    /// The time `millis` after the start.
    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs(1_000).saturating_add(Duration::from_millis(millis))
    }

    fn event(door: &str, kind: EventKind) -> Event {
        Event { time: at(0), door: door.into(), ip: [10, 0, 0, 1].into(), kind }
    }

    fn opening() -> Box<Opening> {
        let (door, ip) = ("door".into(), std::net::IpAddr::from([10, 0, 0, 1]));
        let net = ip.into();
        Box::new(Opening { door, ip, closes_at: at(5_000), stop_command: None, open: Arc::new([]), net })
    }

    fn open(door: &str, opening: Option<Box<Opening>>) -> Event {
        let net = std::net::IpAddr::from([10, 0, 0, 1]).into();
        event(door, EventKind::Open { door_id: DoorId(0), command: Some("open".into()), opening, net, key: None })
    }

    fn extend(command: Option<String>) -> Event {
        event("door", EventKind::Extend { door_id: DoorId(0), command, opening: opening(), key: None })
    }

    fn replaced(door: &str) -> Event {
        event(door, EventKind::Close { opening: opening(), reason: Some(FailReason::Full) })
    }

    /// The reports that are due.
    fn reports(summaries: &mut Summaries, millis: u64) -> Vec<FloodCounts> {
        let mut notices = VecDeque::new();
        summaries.report(at(millis), &mut notices);
        let counts = |notice| match notice {
            Notice::Flood { counts, .. } => counts,
            other => panic!("{other:?}"),
        };
        notices.into_iter().map(counts).collect()
    }

    #[test]
    fn an_opening_that_replaces_another_is_counted_and_one_of_another_door_is_logged() {
        let mut summaries = Summaries::default();
        assert!(!summaries.take(&open("door", Some(opening())), false, at(0)));
        for _ in 0..3 {
            assert!(summaries.take(&replaced("door"), false, at(1)));
            assert!(summaries.take(&open("door", Some(opening())), false, at(1)));
        }
        assert!(summaries.take(&replaced("door"), false, at(2)));
        assert!(!summaries.take(&open("other", Some(opening())), false, at(2)), "another door");
        assert!(!summaries.started(&"other".into()), "a command of another door");
        assert!(summaries.started(&"door".into()));
        assert_eq!(reports(&mut summaries, 1_000), []);
        let counts = FloodCounts { replaced: 4, commands: 1, ..FloodCounts::default() };
        assert_eq!(reports(&mut summaries, 1_001), [counts]);
    }

    #[test]
    fn repeated_knocks_are_counted_after_the_first_one_in_a_second() {
        let mut summaries = Summaries::default();
        for time in [0, 2_000] {
            assert!(!summaries.take(&extend(None), false, at(time)), "the first one");
            assert!(summaries.take(&extend(None), false, at(time + 1)));
            assert!(summaries.take(&extend(Some("open".into())), true, at(time + 2)), "its command waits");
            assert!(!summaries.take(&extend(Some("open".into())), false, at(time + 3)), "its command runs again");
            let counts = FloodCounts { repeated: 2, ..FloodCounts::default() };
            assert_eq!(reports(&mut summaries, time + 1_000), [counts]);
            // A second without repeated knocks ends it.
            assert_eq!(reports(&mut summaries, time + 2_000), []);
            assert_eq!(summaries.poll_timeout(), None);
        }
    }

    #[test]
    fn dropped_commands_make_a_door_silent_until_a_second_without_them() {
        let mut summaries = Summaries::default();
        assert!(!summaries.take(&open("door", None), false, at(0)));
        summaries.dropped(&"door".into(), at(0));
        assert!(summaries.take(&open("door", None), false, at(1)));
        assert!(!summaries.take(&open("other", None), false, at(1)));
        assert!(summaries.started(&"door".into()));
        assert_eq!(summaries.poll_timeout(), Some(at(1_000)));
        let counts = FloodCounts { dropped: 1, commands: 1, ..FloodCounts::default() };
        assert_eq!(reports(&mut summaries, 1_000), [counts]);
        assert!(summaries.take(&open("door", None), false, at(1_001)), "it was full a moment ago");
        assert_eq!(reports(&mut summaries, 2_000), []);
        assert!(!summaries.take(&open("door", None), false, at(2_001)));
    }
}
