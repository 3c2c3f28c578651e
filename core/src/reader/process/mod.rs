//! The daemon's side: starts the reader, validates its messages, and replaces it if necessary.
//!
//! The daemon never waits for a reader longer than one short deadline. An operation of several
//! messages (a start, a hand-over, a reload) is a state here, which [`ReaderProcess::turn`]
//! advances. The daemon's loop runs meanwhile.

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
use crate::clock_search::UnknownPacket;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::LiveSecrets;
use crate::event::EventKind;
use crate::log_limit::Suppressed;
use crate::spa::PACKET_LENGTH;
use crate::sys::epoll::Epoll;
use crate::time::Timestamp;
use crate::weak_search::UnauthenticPacket;

/// Maximum number of reports that wait to be polled. Further reports stay in the socket.
const MAX_REPORTS: usize = 200_000;

/// A validated report of the reader, or a notice about it.
#[derive(Debug)]
pub(crate) enum ReaderReport {
    /// An event at a door, as reported by an engine that only detects knocks.
    DoorEvent { time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind },
    /// The sequence of this live window is complete.
    Window { time: Timestamp, id: DoorId, number: u64, ip: IpAddr },
    /// A packet that a key may have made, with the time and the addresses of its datagram.
    Packet { knock: Knock, packet: ReportedPacket },
    /// A packet that no key made in the permitted time.
    UnknownPacket(UnknownPacket),
    /// A packet without a valid HMAC.
    UnauthenticPacket(UnauthenticPacket),
    /// A packet that passed the filter.
    Knock(Knock),
    /// A notice about a capture.
    Capture(CaptureNotice),
    /// Numbers of events that the reader did not report individually.
    Suppressed(Suppressed),
    /// The reader has reported everything up to this time.
    CaughtUp(Timestamp),
    /// A notice about the reader itself.
    Notice(ReaderNotice),
}

/// A packet that a reader reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReportedPacket {
    /// A packet of portknock's own format.
    Own([u8; PACKET_LENGTH]),
    /// A packet of the form of fwknop's.
    Fwknop(Vec<u8>),
}

/// The reader process and its successors. Its descriptor is readable when a [`ReaderProcess::turn`]
/// is due. Dropping it kills the processes.
#[derive(Debug)]
pub(crate) struct ReaderProcess {
    program: ReaderProgram,
    /// The parameters of the next reader, except its doors, which the validator has.
    start: Start,
    validator: Validator,
    epoll: Epoll,
    alarm: Alarm,
    /// `None` if the last reader has ended and the next reader is not ready yet.
    running: Option<ReaderChild>,
    /// The next reader, until it replaces the running reader.
    successor: Option<Successor>,
    restart: Restart,
    reload: Option<Reload>,
    /// True if messages may have been received that are not handled yet and that no descriptor
    /// reports.
    has_unhandled: bool,
    /// Time at which a reader last made progress.
    progress: Instant,
    /// The counters of all previous readers.
    earlier: Counts,
    /// The last counters of the running reader.
    counts: Counts,
    /// Reports to be polled, in order.
    reports: VecDeque<ReaderReport>,
    /// Reports about the new doors, while the caller still uses the old doors.
    reports_after_reload: Option<VecDeque<ReaderReport>>,
    /// The kept privileges that were reported last.
    reported_kept: Vec<String>,
    /// The reported reason why the last start failed.
    reported_failure: Option<String>,
}

impl ReaderProcess {
    /// Starts a reader for the doors of `config`, and waits until it listens.
    ///
    /// # Errors
    /// Fails with the reason if the reader cannot be started.
    pub(crate) fn start(
        program: ReaderProgram,
        config: &Config,
        secrets: &LiveSecrets,
        start: Start,
    ) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut process = Self::new(program, config, secrets, start).map_err(text)?;
        process.turn().map_err(text)?;
        while process.running.is_none() {
            if let Some(failure) = process.reported_failure.take() {
                return Err(failure);
            }
            process.wait(Duration::MAX).map_err(text)?;
        }
        // The notices about its captures are part of the start.
        process.turn().map_err(text)?;
        Ok(process)
    }

    /// Returns the daemon's side without a reader.
    fn new(program: ReaderProgram, config: &Config, secrets: &LiveSecrets, start: Start) -> io::Result<Self> {
        let (epoll, alarm) = (Epoll::new()?, Alarm::new()?);
        epoll.add(alarm.as_fd(), 0)?;
        let clock = Clock::from_zero(Timestamp::from_nanos(start.clock));
        Ok(Self {
            program,
            validator: Validator::new(config, secrets, &start.interfaces, clock, start.options),
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
            reports: VecDeque::new(),
            reports_after_reload: None,
            reported_kept: Vec::new(),
            reported_failure: None,
        })
    }

    /// Handles messages and deadlines, and starts a reader if that is due. Never waits for a
    /// reader, except a moment for the end of one that it kills.
    ///
    /// # Errors
    /// Fails if the timer cannot be set.
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

    /// Waits until a turn is due, at most for `timeout`, and makes it if it is due.
    ///
    /// # Errors
    /// Fails if waiting fails, or as [`ReaderProcess::turn`].
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut ready = Vec::new();
        self.epoll.wait(&mut ready, Some(timeout))?;
        if ready.is_empty() { Ok(()) } else { self.turn() }
    }

    /// Returns false if no reader has made progress for [`PROGRESS_TIMEOUT`], so that none is
    /// likely to.
    pub(crate) fn is_alive(&self) -> bool {
        self.progress.elapsed() < PROGRESS_TIMEOUT
    }

    /// Returns the next report. Call until `None` after each other call.
    pub(crate) fn poll_report(&mut self) -> Option<ReaderReport> {
        self.reports.pop_front()
    }

    /// Adds a report.
    fn report(&mut self, report: ReaderReport) {
        self.reports_after_reload.as_mut().unwrap_or(&mut self.reports).push_back(report);
    }
}

impl AsFd for ReaderProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
