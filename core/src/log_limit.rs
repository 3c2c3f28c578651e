//! Limits the rate of log lines about attempts, so that packets from spoofed source addresses
//! cannot fill a disk.
//!
//! The limit admits `LogRate` lines per second. One half of them is shared: any door may use it,
//! but first stages, and attempts that end there, only until half of a second's lines are used. The
//! other half is divided equally between the doors, and the same rule applies to each part. So a
//! flood of first knocks leaves lines for attempts at later stages, and a flood at one door leaves
//! lines for the other doors. The limit counts the events that it does not admit.
//!
//! Complete knocks have separate limits, which leave time for the other doors if the sequence of
//! one door leaks. A door may open for as many addresses at one time as `MaxOpenings` permits, and
//! for at least [`DOOR_BURST`]; after that for [`DOOR_RATE`] addresses per second. All doors
//! together share [`MAX_COMPLETE_RATE`] as described above. The limit counts further complete
//! knocks, and they open nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{EventKind, FailReason};
use crate::printable::Printable;
use crate::rate_limit::{BURST, DoorRate, FairRate};
use crate::time::Timestamp;

/// Maximum number of doors that a report lists by name.
pub(crate) const MAX_REPORTED_DOORS: usize = 8;
/// Time from the first event that is not admitted to the report.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of complete knocks per second, and about as many at one time, that a reader
/// reports.
pub(crate) const MAX_COMPLETE_RATE: u32 = 40_000;
/// Maximum number of complete knocks per second that a reader reports of one door after a burst.
pub(crate) const DOOR_RATE: u32 = 500;
/// Maximum number of complete knocks of one door in a burst, unless `MaxOpenings` is larger.
pub(crate) const DOOR_BURST: u32 = 6_000;

/// Numbers of suppressed events by kind. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Attempts that reached stage 1.
    pub first_stages: u64,
    /// Attempts that reached a later stage.
    pub later_stages: u64,
    /// Attempts that ended by a timeout.
    pub timeouts: u64,
    /// Attempts that failed with [`FailReason::WrongPort`].
    pub wrong_port: u64,
    /// Attempts that failed with [`FailReason::Scan`].
    pub scan: u64,
    /// Attempts that failed with [`FailReason::Full`].
    pub full: u64,
    /// Attempts that failed with [`FailReason::Reload`].
    pub reload: u64,
    /// Complete knocks that opened nothing, because more came than the daemon can open for.
    pub unopened: u64,
}

impl EventCounts {
    /// Counts an event that was not admitted. Closings, failed commands, and the few reports about too
    /// many wrong codes are always admitted.
    fn count(&mut self, kind: &EventKind) {
        let number = match kind {
            EventKind::Stage { stage: 1, .. } => &mut self.first_stages,
            EventKind::Stage { .. } => &mut self.later_stages,
            EventKind::Timeout { .. } => &mut self.timeouts,
            EventKind::Fail { reason: FailReason::WrongPort, .. } => &mut self.wrong_port,
            EventKind::Fail { reason: FailReason::Scan, .. } => &mut self.scan,
            EventKind::Fail { reason: FailReason::Full, .. } => &mut self.full,
            EventKind::Fail { reason: FailReason::Reload, .. } => &mut self.reload,
            EventKind::Open { .. } => &mut self.unopened,
            EventKind::Fail {
                reason: FailReason::Command | FailReason::Silenced | FailReason::DoorSilenced, ..
            }
            | EventKind::Extend { .. }
            | EventKind::Close { .. }
            | EventKind::Refused { .. } => return,
        };
        *number += 1;
    }

    /// Returns the number of all events.
    pub fn total(&self) -> u64 {
        self.named().into_iter().fold(0, |sum, (number, _)| sum.saturating_add(number))
    }

    fn add(&mut self, other: &Self) {
        let Self { first_stages, later_stages, timeouts, wrong_port, scan, full, reload, unopened } = other;
        for (own, number) in [
            (&mut self.first_stages, first_stages),
            (&mut self.later_stages, later_stages),
            (&mut self.timeouts, timeouts),
            (&mut self.wrong_port, wrong_port),
            (&mut self.scan, scan),
            (&mut self.full, full),
            (&mut self.reload, reload),
            (&mut self.unopened, unopened),
        ] {
            *own = own.saturating_add(*number);
        }
    }

    /// The numbers with their names in a log line.
    fn named(&self) -> [(u64, &'static str); 8] {
        [
            (self.first_stages, "stage 1"),
            (self.later_stages, "later stages"),
            (self.timeouts, "timeouts"),
            (self.wrong_port, "failed: wrong-port"),
            (self.scan, "failed: scan"),
            (self.full, "failed: full"),
            (self.reload, "failed: reload"),
            (self.unopened, "complete knocks too many to open for"),
        ]
    }
}

/// The numbers that are not 0, as in `91234 stage 1, 90210 timeouts`.
impl fmt::Display for EventCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (number, name) in self.named().into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{comma}{number} {name}")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// The events of about a second that were counted and not logged individually.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Time of the report.
    pub time: Timestamp,
    /// The doors with the largest numbers, at most eight, in descending order: name and numbers.
    pub doors: Vec<(Arc<str>, EventCounts)>,
    /// The numbers of all other doors together.
    pub others: EventCounts,
}

impl Suppressed {
    /// Returns the number of all events.
    pub fn total(&self) -> u64 {
        self.doors.iter().fold(self.others.total(), |sum, (_, counts)| sum.saturating_add(counts.total()))
    }
}

/// The line for a log, as in
/// `not logged in the last second: ssh: 91234 stage 1, 90210 timeouts; web: 3 timeouts`.
impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not logged in the last second: ")?;
        let mut separator = "";
        for (door, counts) in &self.doors {
            write!(f, "{separator}{}: {counts}", Printable(door))?;
            separator = "; ";
        }
        if self.others.total() > 0 {
            write!(f, "{separator}other doors: {}", self.others)?;
        }
        Ok(())
    }
}

/// The events that a [`LogLimit`] has counted. Doors are indices into the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// The doors with the largest numbers, at most [`MAX_REPORTED_DOORS`].
    pub(crate) doors: Vec<(u16, EventCounts)>,
    /// The numbers of all other doors together.
    pub(crate) others: EventCounts,
}

/// Selects the events that a reader reports individually, and counts the others.
#[derive(Debug)]
pub(crate) struct LogLimit {
    /// Limit of log lines; `None` for no limit.
    lines: Option<FairRate>,
    /// Limit of complete knocks at all doors.
    complete: FairRate,
    /// Limit of complete knocks at each door.
    complete_of_door: DoorRate,
    /// Number of events that were not admitted, by the doors' indices.
    counts: Vec<EventCounts>,
    /// Time at which the next report is due; `None` if there is nothing to report.
    report_at: Option<Timestamp>,
}

impl LogLimit {
    /// Returns a limit of `rate` lines per second (0: no limit) for a configuration with this
    /// `MaxOpenings` and this number of doors.
    pub(crate) fn new(rate: u32, max_openings: u32, doors: usize) -> Self {
        Self {
            lines: (rate > 0).then(|| FairRate::new(rate, doors)),
            complete: FairRate::new(MAX_COMPLETE_RATE, doors),
            complete_of_door: DoorRate::new(DOOR_RATE, max_openings.max(DOOR_BURST), doors),
            counts: vec![EventCounts::default(); doors],
            report_at: None,
        }
    }

    /// Returns true if the event is to be reported; otherwise counts it. `door` is the index of the
    /// first door with the event's door name, or of the door itself if its sequence is complete.
    /// `now` is the current time and not the event's, because the engine may return the events of
    /// many seconds at one time.
    pub(crate) fn admits(&mut self, door: u16, kind: &EventKind, now: Timestamp) -> bool {
        let Some(counts) = self.counts.get_mut(usize::from(door)) else { return true };
        let nanos = now.as_nanos();
        let is_admitted = match kind {
            EventKind::Fail {
                reason: FailReason::Command | FailReason::Silenced | FailReason::DoorSilenced, ..
            }
            | EventKind::Extend { .. }
            | EventKind::Close { .. }
            | EventKind::Refused { .. } => true,
            EventKind::Open { .. } => {
                // The door's own limit comes first, so that a flood uses less of the shared limit.
                self.complete_of_door.take(door, nanos) && self.complete.take(door, nanos, BURST)
            }
            EventKind::Stage { .. } | EventKind::Timeout { .. } | EventKind::Fail { .. } => {
                let depth = if is_first_stage(kind) { BURST / 2 } else { BURST };
                self.lines.as_mut().is_none_or(|lines| lines.take(door, nanos, depth))
            }
        };
        if is_admitted {
            return true;
        }
        counts.count(kind);
        self.report_at.get_or_insert(now.saturating_add(REPORT_INTERVAL));
        false
    }

    /// Returns the time at which [`LogLimit::take_report`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.report_at
    }

    /// Returns the events counted since the last report, if any, and resets the counters.
    pub(crate) fn take_report(&mut self) -> Option<Counted> {
        self.report_at.take()?;
        let indexed = (0..=u16::MAX).zip(&mut self.counts);
        let counted = indexed.map(|(door, counts)| (door, std::mem::take(counts)));
        let mut doors: Vec<_> = counted.filter(|(_, counts)| counts.total() > 0).collect();
        doors.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.total()));
        let mut others = EventCounts::default();
        for (_, counts) in doors.drain(MAX_REPORTED_DOORS.min(doors.len())..) {
            others.add(&counts);
        }
        Some(Counted { doors, others })
    }
}

/// Returns true for a first stage, and for the end of an attempt there.
fn is_first_stage(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Stage { stage: 1, .. } | EventKind::Timeout { stage: 1 } | EventKind::Fail { stage: 1, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: EventKind = EventKind::Stage { stage: 1, steps: 3 };
    const SECOND: EventKind = EventKind::Stage { stage: 2, steps: 3 };
    const TIMEOUT: EventKind = EventKind::Timeout { stage: 1 };

    /// Returns the time `millis` after the start.
    fn at(millis: u64) -> Timestamp {
        Timestamp::from_secs(1_000).saturating_add(Duration::from_millis(millis))
    }

    /// Returns how many of `count` events at one time are admitted.
    fn admitted(limit: &mut LogLimit, door: u16, kind: &EventKind, millis: u64, count: usize) -> usize {
        (0..count).filter(|_| limit.admits(door, kind, at(millis))).count()
    }

    #[test]
    fn a_flood_is_admitted_at_the_rate_and_the_others_are_counted_once_a_second() {
        let mut limit = LogLimit::new(1_000, 1, 1);
        let mut logged = 0;
        let mut counted = EventCounts::default();
        for millis in 0..10_000 {
            logged += admitted(&mut limit, 0, &FIRST, millis, 50) + admitted(&mut limit, 0, &TIMEOUT, millis, 50);
            if limit.poll_timeout().is_some_and(|due| due <= at(millis)) {
                counted.add(&limit.take_report().unwrap().doors[0].1);
            }
        }
        counted.add(&limit.take_report().unwrap().doors[0].1);
        assert!((10_000..=10_600).contains(&logged), "{logged}");
        assert_eq!(counted.total() + logged as u64, 1_000_000);
        assert!(counted.first_stages.abs_diff(counted.timeouts) < 1_000_000 / 10, "{counted}");
        assert_eq!((limit.poll_timeout(), limit.take_report()), (None, None));
    }

    #[test]
    fn a_flood_of_first_knocks_leaves_lines_for_later_stages() {
        let mut limit = LogLimit::new(1_000, 1, 1);
        for millis in 0..5_000 {
            admitted(&mut limit, 0, &FIRST, millis, 100);
            if millis % 5 == 0 {
                assert!(limit.admits(0, &SECOND, at(millis)), "{millis}");
                assert!(limit.admits(0, &EventKind::Timeout { stage: 2 }, at(millis)), "{millis}");
            }
        }
    }

    #[test]
    fn a_flood_at_one_door_leaves_lines_for_the_others() {
        let mut limit = LogLimit::new(1_000, 1, 10);
        for millis in 0..5_000 {
            admitted(&mut limit, 3, &FIRST, millis, 50);
            admitted(&mut limit, 3, &SECOND, millis, 50);
            if millis % 100 == 0 {
                assert!(limit.admits(7, &FIRST, at(millis)) && limit.admits(7, &SECOND, at(millis)), "{millis}");
            }
        }
        let report = limit.take_report().unwrap();
        assert_eq!(report.doors.iter().map(|(door, _)| *door).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_the_lowest_rate_admits_a_first_line() {
        let close = EventKind::Fail { stage: 0, reason: FailReason::Command };
        let mut limit = LogLimit::new(1, 1, 1);
        assert_eq!(admitted(&mut limit, 0, &close, 0, 10_000), 10_000, "errors are always logged");
        assert_eq!(limit.poll_timeout(), None);
        let mut limit = LogLimit::new(0, 1, 1);
        assert_eq!(admitted(&mut limit, 0, &FIRST, 0, 10_000), 10_000);
        let mut limit = LogLimit::new(1, 1, 60_000);
        assert!(admitted(&mut limit, 0, &FIRST, 0, 10) > 0);
    }

    fn open() -> EventKind {
        let net = std::net::IpAddr::from([10, 0, 0, 1]).into();
        EventKind::Open { door_id: crate::config::DoorId(0), command: None, opening: None, net, key: None }
    }

    #[test]
    fn a_flood_of_complete_knocks_at_one_door_leaves_those_of_others() {
        let mut limit = LogLimit::new(1, 1, 1_000);
        for millis in 0..5_000 {
            admitted(&mut limit, 3, &open(), millis, 1_000);
            if millis % 100 == 0 {
                assert!(limit.admits(7, &open(), at(millis)), "{millis}");
            }
        }
        let report = limit.take_report().unwrap();
        let [(3, counts)] = report.doors[..] else { panic!("{report:?}") };
        assert!(counts.unopened > 4_900_000, "{counts}");
    }

    #[test]
    fn complete_knocks_of_a_door_have_a_burst_and_then_a_rate() {
        for (max_openings, burst) in [(1, DOOR_BURST), (DOOR_BURST + 5_000, DOOR_BURST + 5_000)] {
            let mut limit = LogLimit::new(1, max_openings, 2);
            assert_eq!(admitted(&mut limit, 0, &open(), 0, 100_000), burst as usize);
            let later: usize = (1..=1_000).map(|millis| admitted(&mut limit, 0, &open(), millis, 100)).sum();
            assert_eq!(later, DOOR_RATE as usize);
            // The flood has used no part of the other door's limit.
            assert_eq!(admitted(&mut limit, 1, &open(), 1_000, 5_000), 5_000);
        }
    }

    #[test]
    fn all_doors_together_complete_no_more_knocks_than_the_total_rate() {
        let mut limit = LogLimit::new(1, 1, 100);
        let all: usize = (0..100).map(|door| admitted(&mut limit, door, &open(), 0, 8_000)).sum();
        assert_eq!(all, MAX_COMPLETE_RATE as usize);
    }

    #[test]
    fn a_report_lists_the_doors_with_the_most_events_and_sums_up_the_others() {
        let mut limit = LogLimit::new(1, 1, 20);
        for door in 0..20 {
            admitted(&mut limit, door, &TIMEOUT, 0, 100 + usize::from(door));
        }
        let Counted { doors, others } = limit.take_report().unwrap();
        assert_eq!(doors.iter().map(|(door, _)| *door).collect::<Vec<_>>(), [19, 18, 17, 16, 15, 14, 13, 12]);
        // One line of each door's own part was admitted, and one of the shared half.
        assert_eq!(others.timeouts, (0..12).map(|door| 100 + door - 1).sum::<u64>() - 1);
    }

    #[test]
    fn the_line_has_counts_by_door_and_kind() {
        let counts = |first_stages, timeouts, scan| EventCounts { first_stages, timeouts, scan, ..Default::default() };
        let doors = vec![("ssh".into(), counts(91_234, 90_210, 0)), ("a\nb".into(), counts(0, 0, 3))];
        let mut suppressed = Suppressed { time: at(0), doors, others: EventCounts::default() };
        let line = "not logged in the last second: ssh: 91234 stage 1, 90210 timeouts; a\\x0ab: 3 failed: scan";
        assert_eq!(suppressed.to_string(), line);
        suppressed.others = counts(0, 5, 0);
        assert_eq!(suppressed.to_string(), format!("{line}; other doors: 5 timeouts"));
        assert_eq!(suppressed.total(), 91_234 + 90_210 + 3 + 5);
    }
}
