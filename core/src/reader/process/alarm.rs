//! A timer that is armed only when that is needed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::sys::clock::boottime;
use crate::sys::timer::TimerFd;

/// A timer for a time that mostly moves further away. It may fire early; then it is armed again.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    /// When the timer fires, by the clock that it runs on.
    fires_at: Option<Duration>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { timer: TimerFd::new()?, fires_at: None })
    }

    /// Takes note that the timer has fired, if it has.
    pub(super) fn acknowledge(&mut self) {
        if self.fires_at.is_some_and(|at| at <= boottime()) && self.timer.acknowledge() {
            self.fires_at = None;
        }
    }

    /// Has the timer fire at this time at the latest.
    pub(super) fn set(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        let fires_at = boottime().saturating_add(left);
        if self.fires_at.is_none_or(|at| fires_at < at) {
            self.timer.arm(Some(left))?;
            self.fires_at = Some(fires_at);
        }
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
