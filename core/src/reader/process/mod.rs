//! The daemon's side: starts the reader, validates what it sends, and replaces it if that is necessary.
//!
//! The daemon never waits for a reader for longer than one short deadline. Whatever takes several messages (a start, a
//! hand-over, a reload) is a state here, which [`ReaderProcess::turn`] moves on; while it lasts, the daemon's loop runs.

mod alarm;
mod budget;
mod child;
mod deadlines;
mod exchange;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod receive;
mod requests;
mod restart;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use alarm::Alarm;
use child::ReaderChild;
pub use child::ReaderProgram;
use deadlines::PROGRESS_TIMEOUT;
use exchange::{Reload, Successor};
use restart::Restart;
use validate::Validator;

use super::notice::ReaderNotice;
use super::wire::{Counts, Start};
use crate::capture::CaptureNotice;
use crate::clock::Clock;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::event::EventKind;
use crate::log_limit::Suppressed;
use crate::sys::epoll::Epoll;
use crate::time::Timestamp;

/// Maximum number of reports that wait to be polled. The socket holds further ones.
const MAX_SEEN: usize = 200_000;

/// What the reader has seen, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Something happened at a door, as an engine that only tells says it.
    DoorEvent { time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind },
    /// A packet that matters.
    Knock(Knock),
    /// Something happened to a capture.
    Capture(CaptureNotice),
    /// Events that were not reported one by one.
    Suppressed(Suppressed),
    /// Nothing that came up to this time is missing.
    CaughtUp(Timestamp),
    /// Something about the reader itself.
    Notice(ReaderNotice),
}

/// The process that reads packets, and its successors. Its descriptor is readable when [`ReaderProcess::turn`] has
/// something to do.
#[derive(Debug)]
pub(crate) struct ReaderProcess {
    program: ReaderProgram,
    start: Start,
    validator: Validator,
    epoll: Epoll,
    alarm: Alarm,
    /// `None` if the last one has ended and the next one does not work yet.
    running: Option<ReaderChild>,
    /// The next one, until it works.
    successor: Option<Successor>,
    restart: Restart,
    reload: Option<Reload>,
    /// Messages may have been received that are not handled yet, and that no descriptor reports.
    has_unhandled: bool,
    /// When a reader last made progress.
    progress: Instant,
    /// What all readers before this one counted.
    earlier: Counts,
    /// What this one had counted when it answered last.
    counts: Counts,
    seen: VecDeque<Seen>,
    /// What was seen of the new doors, while the caller still uses the old ones.
    seen_after_reload: Option<VecDeque<Seen>>,
    reported_kept: Vec<String>,
    /// Why the last start failed.
    reported_failure: Option<String>,
}

impl ReaderProcess {
    /// Starts a reader of the doors of `config`; it listens when this returns.
    pub(crate) fn start(program: ReaderProgram, config: &Config, start: Start) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut process = Self::new(program, config, start).map_err(text)?;
        process.turn().map_err(text)?;
        while process.running.is_none() {
            if let Some(failure) = process.reported_failure.take() {
                return Err(failure);
            }
            process.wait(Duration::MAX).map_err(text)?;
        }
        // What it reports of its captures belongs to the start.
        process.turn().map_err(text)?;
        Ok(process)
    }

    /// The same without a reader yet.
    fn new(program: ReaderProgram, config: &Config, start: Start) -> io::Result<Self> {
        let (epoll, alarm) = (Epoll::new()?, Alarm::new()?);
        epoll.add(alarm.as_fd(), 0)?;
        let clock = Clock::from_zero(Timestamp::from_nanos(start.clock));
        Ok(Self {
            program,
            validator: Validator::new(config, &start.interfaces, clock, start.options),
            start,
            epoll,
            alarm,
            running: None,
            successor: None,
            restart: Restart::new(),
            reload: None,
            has_unhandled: false,
            progress: Instant::now(),
            earlier: Counts::default(),
            counts: Counts::default(),
            seen: VecDeque::new(),
            seen_after_reload: None,
            reported_kept: Vec::new(),
            reported_failure: None,
        })
    }

    /// Handles what the reader sends, and makes sure that there is one. Never waits.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.alarm.acknowledge();
        self.has_unhandled = false;
        if let Err(error) = self.receive() {
            self.lose(&error);
        }
        self.poll_successor();
        self.answer_network();
        let now = Instant::now();
        if self.answer_due().is_some_and(|due| due <= now) {
            self.lose(&io::ErrorKind::TimedOut.into());
        }
        self.advance_reload(now);
        if self.start_due().is_some_and(|due| due <= now) {
            self.start_successor();
        }
        match self.next_due() {
            Some(due) => self.alarm.set(due),
            None => Ok(()),
        }
    }

    /// Waits until a turn is due, and makes it; makes none if `timeout` is over before.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut ready = Vec::new();
        self.epoll.wait(&mut ready, Some(timeout))?;
        if ready.is_empty() { Ok(()) } else { self.turn() }
    }

    /// True unless no reader has made progress for so long that waiting for one is in vain.
    pub(crate) fn is_alive(&self) -> bool {
        self.progress.elapsed() < PROGRESS_TIMEOUT
    }

    /// What has been seen; call until `None` after each other call.
    pub(crate) fn poll_seen(&mut self) -> Option<Seen> {
        self.seen.pop_front()
    }

    fn report(&mut self, seen: Seen) {
        self.seen_after_reload.as_mut().unwrap_or(&mut self.seen).push_back(seen);
    }
}

impl AsFd for ReaderProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
