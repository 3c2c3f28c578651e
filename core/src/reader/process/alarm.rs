//! A timer that is armed only if necessary.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::sys::clock::boottime;
use crate::sys::timer::TimerFd;

/// A timer for a deadline that usually moves later. It may expire early; the caller then sets it
/// again.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    /// Time at which the timer expires, by `CLOCK_BOOTTIME`; `None` if it is not armed.
    expires_at: Option<Duration>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { timer: TimerFd::new()?, expires_at: None })
    }

    /// Makes the descriptor unreadable, if the timer has expired.
    pub(super) fn acknowledge(&mut self) {
        if self.expires_at.is_some_and(|at| at <= boottime()) && self.timer.acknowledge() {
            self.expires_at = None;
        }
    }

    /// Makes the descriptor readable at this time or earlier.
    pub(super) fn set(&mut self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        let expires_at = boottime().saturating_add(left);
        if self.expires_at.is_none_or(|at| expires_at < at) {
            self.timer.arm(Some(left))?;
            self.expires_at = Some(expires_at);
        }
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
