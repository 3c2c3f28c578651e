//! The daemon's side: starts the reader, validates what it sends, and replaces it if that is necessary.
//!
//! The daemon never waits for a reader for longer than one short deadline. Whatever takes several messages (a start, a
//! hand-over, a reload) is a state here, which [`ReaderProcess::turn`] moves on; while it lasts, the daemon's loop runs.

mod alarm;
mod budget;
mod child;
mod exchange;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
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
use exchange::{Reload, Successor};
use restart::Restart;
use validate::{DoorReport, Validator, out_of_turn};

use super::channel::AT_ONCE;
use super::notice::ReaderNotice;
use super::wire::{ALIVE_INTERVAL, Counts, Found, FromReader, Start, ToReader, WireSequence};
use crate::capture::CaptureNotice;
use crate::config::{Config, Door, DoorId};
use crate::decode::Knock;
use crate::event::EventKind;
use crate::log_limit::Suppressed;
use crate::clock::Clock;
use crate::sys::epoll::Epoll;
use crate::sys::netlink::Network;
use crate::time::Timestamp;

/// A reader that is silent for this long after a question, or after it should have said that it works, is replaced.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay of the next look whether a question about the network may be answered.
const NETWORK_ANSWER_DELAY: Duration = Duration::from_millis(50);
/// Maximum number of times that the socket is read in one turn, so that other work gets its time.
const RECEIVED_A_TURN: usize = 4;
/// Maximum number of reports that wait to be polled. The socket holds further ones.
const MAX_SEEN: usize = 200_000;
/// Without a message for this long, no reader makes progress: the longest silence of one that works, the timeouts of one
/// that hangs and of one that does not start, and the longest delay of the next.
const PROGRESS_TIMEOUT: Duration =
    Duration::from_secs(ALIVE_INTERVAL.as_secs() + 2 * ANSWER_TIMEOUT.as_secs() + restart::MAX_DELAY.as_secs());

/// What the reader has seen, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Something happened at a door, as an engine that only tells says it.
    Found { time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind },
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

    /// Asks for [`Seen::CaughtUp`], unless that is done already. False if no answer can be had, or if none came in this
    /// time.
    pub(crate) fn catch_up(&mut self, timeout: Duration) -> bool {
        let Some(running) = &mut self.running else { return false };
        if let Some((asked, _)) = running.catch_up_asked {
            return asked.elapsed() < timeout;
        }
        running.catch_up_asked = Some((Instant::now(), self.validator.now()));
        self.send(&ToReader::CatchUp);
        self.running.is_some()
    }

    /// For how long the answer to [`ReaderProcess::catch_up`] has been waited for, if it is.
    pub(crate) fn waits_since(&self) -> Option<Duration> {
        let (asked, _) = self.running.as_ref()?.catch_up_asked?;
        Some(asked.elapsed())
    }

    /// Gives a one-time door the sequence that it has now. Nothing happens if that index is another door's, as it may be
    /// after a reload, while reports about the old doors are handled.
    pub(crate) fn set_sequence(&mut self, id: DoorId, door: &Door) {
        if self.validator.set_sequence(id, door) {
            self.send_sequence(id);
        }
    }

    /// Sends the readers the current sequence of a one-time door.
    fn send_sequence(&mut self, id: DoorId) {
        let Some(door) = self.validator.config().doors.get(usize::from(id.0)) else { return };
        let message = || ToReader::Sequence { door: id.0, sequence: door.sequence.as_ref().map(WireSequence::of) };
        let (running, successor) = (message(), message());
        self.send(&running);
        self.send_to_successor(&successor);
    }

    /// Handles what the running reader has sent.
    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVED_A_TURN {
            let has_room = self.has_room();
            let Some(running) = &mut self.running else { return Ok(()) };
            running.set_reading(has_room, &self.epoll)?;
            running.send_rest(&self.epoll)?;
            if !has_room {
                return Ok(());
            }
            let more = running.channel.receive()? == AT_ONCE;
            let mut is_heard = false;
            // After a hand-over it is another reader's.
            while let Some(running) = &mut self.running {
                let Some(message) = running.channel.next()? else { break };
                self.take(message)?;
                is_heard = true;
            }
            if let (true, Some(running)) = (is_heard, &mut self.running) {
                self.progress = Instant::now();
                running.heard = self.progress;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// False if more could not be stored: the reports until they are polled, or the attempts until the successor reads
    /// them.
    fn has_room(&mut self) -> bool {
        if self.seen.len() + self.seen_after_reload.as_ref().map_or(0, VecDeque::len) >= MAX_SEEN {
            self.has_unhandled = true;
            return false;
        }
        self.successor.as_ref().is_none_or(Successor::has_room)
    }

    /// Takes a message of the running reader.
    fn take(&mut self, message: FromReader) -> io::Result<()> {
        match message {
            FromReader::Found(found) => self.take_door_report(&found)?,
            FromReader::Knock(knock) => {
                let knock = self.validator.knock(knock)?;
                self.report(Seen::Knock(knock));
            }
            FromReader::Capture(notice) => {
                let Some(running) = &self.running else { return Ok(()) };
                if let Some(notice) = self.validator.notice(notice, &running.interfaces)? {
                    if !matches!(notice, CaptureNotice::Dropped { .. } | CaptureNotice::CoarseFilter { .. }) {
                        self.restart.forget_failures();
                    }
                    self.report(Seen::Capture(notice));
                }
            }
            FromReader::CaughtUp { time } => {
                let asked = self.running.as_mut().and_then(|running| running.catch_up_asked.take());
                let (_, asked) = asked.ok_or_else(out_of_turn)?;
                let time = self.validator.caught_up(time, asked)?;
                self.report(Seen::CaughtUp(time));
            }
            FromReader::AskNetwork => {
                let Some(running) = &mut self.running else { return Ok(()) };
                if std::mem::replace(&mut running.asks_network, true) {
                    return Err(out_of_turn());
                }
            }
            FromReader::AskRenewal { failed } => {
                self.validator.notices_left()?;
                self.restart.want(failed);
            }
            FromReader::Suppressed { time, counted } => {
                let suppressed = self.validator.suppressed(time, counted)?;
                self.report(Seen::Suppressed(suppressed));
            }
            FromReader::Counts(counts) => {
                let asked = self.running.as_mut().and_then(|running| running.count_asked.take());
                asked.ok_or_else(out_of_turn)?;
                self.counts = self.validator.counts(counts);
            }
            FromReader::Alive { captures } => {
                self.validator.notices_left()?;
                self.validator.alive(captures)?;
            }
            FromReader::Reloaded => self.take_reloaded()?,
            FromReader::Attempts(attempts) => self.take_attempts(attempts)?,
            FromReader::HandedOver { last, counts } => self.take_handed_over(last, counts)?,
            FromReader::Failed(reason) => return Err(Validator::failure(reason)),
            FromReader::Ready { .. } => return Err(out_of_turn()),
        }
        Ok(())
    }

    fn take_door_report(&mut self, found: &Found) -> io::Result<()> {
        let door_id = DoorId(found.door);
        match self.validator.door_report(found)? {
            DoorReport::Accepted(time, kind) => self.report(Seen::Found { time, door_id, ip: found.ip, kind }),
            DoorReport::Ignored => {}
            DoorReport::TooSoon { is_first } => {
                if is_first {
                    let door = self.validator.config().doors[usize::from(found.door)].name.clone();
                    self.report(Seen::Notice(ReaderNotice::UsedTooSoon { door, ip: found.ip }));
                }
                // The reader takes no knock at it until it is sent a sequence, which is the same.
                self.send_sequence(door_id);
            }
        }
        Ok(())
    }

    /// Answers a question about the network, unless too many were answered a moment ago.
    fn answer_network(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.asks_network && self.validator.may_answer_network() {
            running.asks_network = false;
            self.send(&ToReader::Network(Network::read().ok()));
        }
    }

    /// Sends the running reader a message, if there is one.
    fn send(&mut self, message: &ToReader) {
        let Some(running) = &mut self.running else { return };
        if let Err(error) = running.send(message, &self.epoll) {
            self.lose(&error);
        }
    }

    /// When the running reader has been silent for too long.
    fn answer_due(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            // The hand-over has a deadline of its own.
            return None;
        }
        let question = running.oldest_question().filter(|asked| running.heard < *asked);
        Some(question.unwrap_or(running.heard + ALIVE_INTERVAL) + ANSWER_TIMEOUT)
    }

    /// When to start a reader, if at all.
    fn start_due(&self) -> Option<Instant> {
        if self.successor.is_some() || self.reload.as_ref().is_some_and(Reload::is_waiting) {
            return None;
        }
        self.restart.due(self.running.is_some())
    }

    fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let unhandled = self.has_unhandled.then_some(now);
        let asks_network = self.running.as_ref().is_some_and(|running| running.asks_network);
        let network = asks_network.then_some(now + NETWORK_ANSWER_DELAY);
        let successor = self.successor.as_ref().map(|successor| successor.deadline);
        let reload = self.reload.as_ref().map(|reload| reload.deadline);
        [unhandled, network, successor, reload, self.answer_due(), self.start_due()].into_iter().flatten().min()
    }
}

impl AsFd for ReaderProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
