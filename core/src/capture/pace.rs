//! When to look for packets: at once on a calm line, once in a millisecond on a busy one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::sys::timer::TimerFd;

/// How long a busy line rests between two looks. A wake-up costs as much as a hundred packets; the ring holds what
/// arrives meanwhile.
const REST: Duration = Duration::from_millis(1);

/// So many looks in a row that closely follow each other make a line busy: fewer are the knocks of somebody, whom a rest
/// would keep waiting.
const BUSY: u32 = 8;

/// Decides about rests.
#[derive(Debug)]
pub(super) struct Pace {
    /// Readable when a rest is over. `None` where whoever waits does so no longer than for [`Pace::rest_left`].
    timer: Option<TimerFd>,
    /// When this rest is over.
    rests_until: Option<Instant>,
    /// Looks in a row that found frames soon after the one before.
    close_looks: u32,
    last_frames: Option<Instant>,
}

/// What to do with the captures' descriptors after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Stop waiting for them until the rest is over.
    Rest,
    /// Wait for them again.
    Wake,
}

impl Pace {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { timer: Some(TimerFd::new()?), rests_until: None, close_looks: 0, last_frames: None })
    }

    /// The descriptor that is readable when a rest is over.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().map(TimerFd::as_fd)
    }

    /// Goes without that descriptor.
    pub(super) fn drop_timer(&mut self) {
        self.timer = None;
    }

    /// True while the captures' descriptors are not waited for, so that every turn must look by itself.
    pub(super) fn is_resting(&self) -> bool {
        self.rests_until.is_some()
    }

    /// How much of a rest is left.
    pub(super) fn rest_left(&self) -> Option<Duration> {
        self.rests_until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Takes note of a turn that began at `start` and found this many frames; `more` where it left some behind.
    pub(super) fn turned(&mut self, start: Instant, frames: usize, more: bool) -> io::Result<Change> {
        let close_to_the_last = self.last_frames.is_some_and(|last| start.saturating_duration_since(last) < REST);
        let now = Instant::now();
        if frames > 0 {
            self.last_frames = Some(now);
            self.close_looks = if close_to_the_last { self.close_looks.saturating_add(1) } else { 0 };
        }
        match (self.rests_until, frames > 0) {
            (Some(_), true) => {
                self.rest(now, if more { Duration::ZERO } else { REST })?;
                Ok(Change::None)
            }
            (Some(until), false) if self.is_over(until, now) => {
                self.rests_until = None;
                self.close_looks = 0;
                Ok(Change::Wake)
            }
            (None, true) if self.close_looks >= BUSY && !more => {
                self.rest(now, REST)?;
                Ok(Change::Rest)
            }
            _ => Ok(Change::None),
        }
    }

    fn rest(&mut self, now: Instant, span: Duration) -> io::Result<()> {
        self.rests_until = Some(now + span);
        self.timer.as_mut().map_or(Ok(()), |timer| timer.arm(Some(span)))
    }

    /// By the timer where there is one: it would still wake somebody who goes by the clock.
    fn is_over(&mut self, until: Instant, now: Instant) -> bool {
        self.timer.as_mut().map_or(until <= now, TimerFd::acknowledge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::Epoll;

    fn wait_for_the_timer(pace: &Pace) {
        let epoll = Epoll::new().unwrap();
        epoll.add(pace.fd().unwrap(), 0).unwrap();
        epoll.wait(&mut Vec::new(), None).unwrap();
    }

    #[test]
    fn a_lone_packet_causes_no_rest() {
        let mut pace = Pace::new().unwrap();
        assert_eq!(pace.turned(Instant::now(), 1, false).unwrap(), Change::None);
        std::thread::sleep(2 * REST);
        assert_eq!(pace.turned(Instant::now(), 1, false).unwrap(), Change::None);
        assert!(!pace.is_resting());
    }

    #[test]
    fn a_busy_line_rests_until_a_look_finds_nothing() {
        let mut pace = Pace::new().unwrap();
        for _ in 0..BUSY {
            assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::None);
        }
        assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::Rest);
        wait_for_the_timer(&pace);
        assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::None);
        assert!(pace.is_resting());
        // Somebody looks before the rest is over.
        assert_eq!(pace.turned(Instant::now(), 0, false).unwrap(), Change::None);
        wait_for_the_timer(&pace);
        assert_eq!(pace.turned(Instant::now(), 0, false).unwrap(), Change::Wake);
        assert!(!pace.is_resting());
    }

    #[test]
    fn without_a_timer_a_rest_is_over_by_the_clock() {
        let mut pace = Pace::new().unwrap();
        pace.drop_timer();
        for _ in 0..BUSY {
            assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::None);
        }
        assert!(pace.fd().is_none() && pace.rest_left().is_none());
        assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::Rest);
        let left = pace.rest_left().unwrap();
        assert!(left <= REST);
        std::thread::sleep(left);
        assert_eq!(pace.turned(Instant::now(), 0, false).unwrap(), Change::Wake);
        assert_eq!(pace.rest_left(), None);
    }

    #[test]
    fn what_was_left_behind_is_taken_without_a_rest() {
        let mut pace = Pace::new().unwrap();
        for _ in 0..=BUSY {
            assert_eq!(pace.turned(Instant::now(), 5, true).unwrap(), Change::None);
        }
        assert_eq!(pace.turned(Instant::now(), 5, false).unwrap(), Change::Rest);
        assert_eq!(pace.turned(Instant::now(), 5, true).unwrap(), Change::None);
        wait_for_the_timer(&pace);
    }
}
