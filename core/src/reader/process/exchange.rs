//! Operations of several messages: starting a reader, handing attempts over to it, a reload, and
//! reading the counters. Each operation has one deadline for all its messages.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::child::ReaderChild;
use super::validate::{Validator, out_of_turn, violation};
use super::{MAX_REPORTS, ReaderProcess, ReaderReport};
use crate::config::Config;
use crate::engine::LiveSecrets;
use crate::filter::{PortFilter, SnapLengths};
use crate::matcher::SavedAttempt;
use crate::reader::memory::memory_for;
use crate::reader::notice::ReaderNotice;
use crate::reader::wire::{Counts, Doors, FromReader, Start, ToReader, WireWindow};
use crate::time::Timestamp;

/// Maximum time from the start of a reader until it is ready. The daemon kills it then.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of a whole hand-over, even of a million attempts.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time of a reload: until the reader uses the new doors and listens on the new interfaces.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time for which a status request waits for the counters. A later answer serves the next
/// request.
const COUNT_TIMEOUT: Duration = Duration::from_millis(150);
/// Number of bytes that wait for the successor during a hand-over, above which the daemon receives
/// no further attempts.
const MAX_ATTEMPT_BYTES: usize = 256 << 10;
/// Maximum number of bytes that a successor may send before it replaces the running reader: notices
/// about its captures.
const MAX_NOTICE_BYTES: usize = 256 << 10;

/// A reader that has not replaced the running reader yet.
#[derive(Debug)]
pub(super) struct Successor {
    reader: ReaderChild,
    stage: Stage,
    /// End of the start, or of the hand-over.
    pub(super) deadline: Instant,
}

/// The stage of a start.
#[derive(Debug)]
enum Stage {
    /// The successor opens its captures.
    Starting,
    /// The running reader hands over its attempts; contains the number of received attempts.
    Receiving(usize),
}

impl Successor {
    pub(super) fn new(reader: ReaderChild) -> Self {
        Self { reader, stage: Stage::Starting, deadline: Instant::now() + START_TIMEOUT }
    }

    /// Returns true during the hand-over.
    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.stage, Stage::Receiving(_))
    }

    /// Returns false while the successor must read before the daemon sends it more attempts.
    pub(super) fn has_room(&self) -> bool {
        self.reader.channel.unsent() < MAX_ATTEMPT_BYTES
    }
}

/// A reload under way.
#[derive(Debug)]
pub(super) struct Reload {
    config: Config,
    secrets: LiveSecrets,
    interfaces: Vec<String>,
    stage: ReloadStage,
    /// End of the whole reload.
    pub(super) deadline: Instant,
}

/// The stage of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadStage {
    /// A hand-over must end first.
    Waiting,
    /// The daemon has sent the new doors to the running reader.
    Asked,
    /// The running reader uses the new doors. A successor starts to listen on new interfaces.
    Replaced,
}

impl Reload {
    /// Returns true while no other reader may start.
    pub(super) fn is_waiting(&self) -> bool {
        self.stage != ReloadStage::Replaced
    }
}

/// Returns the numbers of bytes of a frame that the captures for these doors return.
fn snap_lengths(config: &Config) -> SnapLengths {
    PortFilter::new(config, 0).snap_lengths()
}

impl ReaderProcess {
    /// Starts a reader that will replace the running reader, if there is one.
    pub(super) fn start_successor(&mut self) {
        self.restart.record_start();
        // The current doors; one-time doors have the sequences that are not consumed yet.
        let start = Start { doors: Doors::of(self.validator.config(), self.validator.secrets()), ..self.start.clone() };
        match ReaderChild::spawn(&self.program, start, &self.epoll) {
            Ok(reader) => self.successor = Some(Successor::new(reader)),
            Err(error) => self.report_failure(error.to_string()),
        }
    }

    /// Handles messages of the successor, and ends the reader whose deadline has passed.
    pub(super) fn poll_successor(&mut self) {
        let polled = self.receive_from_successor();
        if let Err(error) = polled {
            self.lose_successor(&error);
        }
        let Some(successor) = &self.successor else { return };
        if successor.deadline > Instant::now() {
            return;
        }
        let error = io::ErrorKind::TimedOut.into();
        if successor.is_receiving() { self.lose(&error) } else { self.lose_successor(&error) }
    }

    fn receive_from_successor(&mut self) -> io::Result<()> {
        let Some(Successor { reader, stage, .. }) = &mut self.successor else { return Ok(()) };
        reader.send_rest(&self.epoll)?;
        reader.channel.receive()?;
        if !matches!(stage, Stage::Starting) {
            // Its notices about its captures stay in the channel until it has replaced the running
            // reader.
            if reader.channel.has_ended() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reader.channel.received() > MAX_NOTICE_BYTES {
                return Err(violation("it sends too much before it is in use"));
            }
            return Ok(());
        }
        match reader.channel.next()? {
            None => Ok(()),
            Some(FromReader::Ready { kept }) => {
                let kept = Validator::kept(kept)?;
                if !kept.is_empty() && kept != self.reported_kept {
                    self.reported_kept.clone_from(&kept);
                    self.report(ReaderReport::Notice(ReaderNotice::KeptPrivileges(kept)));
                }
                self.hand_over();
                Ok(())
            }
            Some(FromReader::Failed(reason)) => Err(Validator::failure(reason)),
            Some(_) => Err(out_of_turn()),
        }
    }

    /// Requests the hand-over of attempts to the successor, which is ready. Without a running
    /// reader, there are none.
    fn hand_over(&mut self) {
        if self.running.is_some() {
            if let Some(successor) = &mut self.successor {
                successor.stage = Stage::Receiving(0);
                successor.deadline = Instant::now() + HAND_OVER_TIMEOUT;
            }
            self.send(&ToReader::HandOver);
        } else {
            self.promote(Timestamp::default());
        }
    }

    /// Passes attempts of the running reader to the successor, after validation.
    pub(super) fn take_attempts(&mut self, attempts: Vec<SavedAttempt>) -> io::Result<()> {
        let Some(Successor { reader, stage: Stage::Receiving(count), .. }) = &mut self.successor else {
            return Err(out_of_turn());
        };
        let received = attempts.len();
        let attempts = self.validator.attempts(attempts, *count)?;
        *count += received;
        // Further attempts may come in the same turn; the next turn sends them together.
        reader.channel.put(&ToReader::Attempts(attempts))
    }

    /// Ends the hand-over.
    pub(super) fn take_handed_over(&mut self, last: u64, counts: Counts) -> io::Result<()> {
        if !self.successor.as_ref().is_some_and(Successor::is_receiving) {
            return Err(out_of_turn());
        }
        self.counts = self.validator.counts(counts);
        self.promote(self.validator.last_timestamp(last));
        Ok(())
    }

    /// Replaces the running reader by the successor, which ignores packets with timestamps up to
    /// `after`.
    pub(super) fn promote(&mut self, after: Timestamp) {
        let Some(Successor { mut reader, .. }) = self.successor.take() else { return };
        self.running = None;
        self.add_counts();
        (self.progress, self.reported_failure) = (Instant::now(), None);
        reader.last_message = self.progress;
        self.running = Some(reader);
        // Some of its messages may have been received already.
        self.has_unhandled = true;
        // The successor may have been started with sequences that were consumed during the
        // hand-over.
        for index in 0..self.validator.config().doors.len() {
            let door = &self.validator.config().doors[index];
            if let (true, None, Ok(door)) = (door.one_time_sequences.is_some(), &door.sequence, u16::try_from(index)) {
                self.send(&ToReader::Sequence { door, sequence: None });
            }
        }
        let windows = self.validator.secrets().windows.iter().filter(|(_, window)| window.sequence.is_none());
        let consumed: Vec<_> = windows.map(|(id, window)| WireWindow::of(id, window)).collect();
        if !consumed.is_empty() {
            self.send(&ToReader::Windows(consumed));
        }
        self.send(&ToReader::Begin { after: after.as_nanos() });
    }

    /// Ends the running reader because of `error`. If it has violated the protocol, discards its
    /// reports.
    pub(super) fn lose(&mut self, error: &io::Error) {
        let Some(running) = self.running.take() else { return };
        let is_violation = error.kind() == io::ErrorKind::InvalidData;
        if is_violation {
            // Its reports are not trustworthy.
            let is_of_daemon = |report: &ReaderReport| matches!(report, ReaderReport::Notice(_));
            self.reports.retain(is_of_daemon);
            self.reports_after_reload.iter_mut().for_each(|reports| reports.retain(is_of_daemon));
        }
        self.restart.record_end(running.started.elapsed(), is_violation);
        self.report(ReaderReport::Notice(ReaderNotice::Ended(running.end(error))));
        self.add_counts();
        self.earlier.attempts = 0;
        self.has_unhandled = true;
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            // The attempts that were not handed over yet are lost.
            self.promote(Timestamp::default());
        }
        self.wake();
    }

    /// Ends the successor because of `error`.
    fn lose_successor(&mut self, error: &io::Error) {
        let Some(Successor { reader, stage, .. }) = self.successor.take() else { return };
        let reason = reader.end(error);
        if matches!(stage, Stage::Receiving(_)) {
            // The running reader has handed over its attempts and cannot continue.
            self.lose(&io::Error::other("its successor ended"));
        }
        self.report_failure(reason);
    }

    /// Sends the successor a message, if there is one.
    pub(super) fn send_to_successor(&mut self, message: &ToReader) {
        let Some(successor) = &mut self.successor else { return };
        if let Err(error) = successor.reader.send(message, &self.epoll) {
            self.lose_successor(&error);
        }
    }

    /// Reports that a reader could not be started, unless the last start failed for the same
    /// reason.
    fn report_failure(&mut self, reason: String) {
        self.restart.record_failure();
        if self.reported_failure.as_ref() != Some(&reason) {
            self.report(ReaderReport::Notice(ReaderNotice::NotStarted(reason.clone())));
            self.reported_failure = Some(reason);
        }
        self.wake();
    }

    /// Makes the descriptor readable, because a turn is due and the caller may wait next.
    fn wake(&mut self) {
        // Setting an open timer cannot fail.
        let _ = self.alarm.set(Instant::now());
    }

    /// Adds the counters of a reader that has ended to those of the previous readers.
    fn add_counts(&mut self) {
        self.earlier = std::mem::take(&mut self.counts).after(self.earlier);
    }

    /// Starts to use new doors and interfaces. Call [`ReaderProcess::wait`] while
    /// [`ReaderProcess::is_reloading`] is true. All reports that are polled until then are about
    /// the old doors.
    pub(crate) fn begin_reload(&mut self, config: &Config, secrets: LiveSecrets, interfaces: Vec<String>) {
        self.reload = Some(Reload {
            config: config.clone(),
            secrets,
            interfaces,
            stage: ReloadStage::Waiting,
            deadline: Instant::now() + RELOAD_TIMEOUT,
        });
        self.advance_reload(Instant::now());
        self.wake();
    }

    /// Returns true until the reader uses the new doors and listens on the new interfaces, or until
    /// [`RELOAD_TIMEOUT`].
    pub(crate) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// Ends a reload. From now on [`ReaderProcess::poll_report`] returns the reports about the new
    /// doors as well.
    pub(crate) fn end_reload(&mut self) {
        self.reports.extend(self.reports_after_reload.take().into_iter().flatten());
        self.wake();
    }

    /// Advances a reload to its next stage, if that is due at the time `now`.
    pub(super) fn advance_reload(&mut self, now: Instant) {
        let Some(Reload { config, secrets, stage, deadline, .. }) = &mut self.reload else { return };
        let is_over = *deadline <= now;
        match stage {
            ReloadStage::Waiting | ReloadStage::Asked if is_over => {
                self.successor = None;
                self.lose(&io::ErrorKind::TimedOut.into());
                self.replace_doors();
                self.reload = None;
            }
            ReloadStage::Waiting => {
                if self.successor.as_ref().is_some_and(Successor::is_receiving) {
                    return;
                }
                if self.successor.take().is_some() {
                    // The successor was started with the old doors.
                    self.restart.request(false);
                }
                if self.running.is_some() {
                    *stage = ReloadStage::Asked;
                    let message = ToReader::Reload(Doors::of(config, secrets));
                    self.send(&message);
                }
                if self.running.is_none() {
                    self.replace_doors();
                }
            }
            ReloadStage::Asked if self.running.is_none() => self.replace_doors(),
            ReloadStage::Asked => {}
            ReloadStage::Replaced => {
                let is_listening =
                    self.running.is_some() && self.successor.is_none() && !self.restart.is_requested(now);
                if is_over || is_listening {
                    self.reload = None;
                }
            }
        }
    }

    /// Handles the answer to [`ToReader::Reload`].
    pub(super) fn take_reloaded(&mut self) -> io::Result<()> {
        match &self.reload {
            Some(Reload { stage: ReloadStage::Asked, .. }) => self.replace_doors(),
            _ => return Err(out_of_turn()),
        }
        Ok(())
    }

    /// Uses the new doors. Later reports are about them.
    fn replace_doors(&mut self) {
        let Some(Reload { config, secrets, interfaces, stage, .. }) = &mut self.reload else { return };
        *stage = ReloadStage::Replaced;
        // A process that has limited its memory cannot raise the limit.
        let is_outgrown = memory_for(config) > memory_for(self.validator.config())
            // A capture keeps the number of bytes of a frame that it was opened with.
            || snap_lengths(config) != snap_lengths(self.validator.config());
        self.validator.replace(config, secrets, interfaces);
        self.reports_after_reload = Some(VecDeque::new());
        if is_outgrown || self.start.interfaces != *interfaces {
            self.start.interfaces.clone_from(interfaces);
            self.restart.request(false);
        }
        self.has_unhandled = true;
    }

    /// Returns the counters of all readers: the current ones if the running reader answers within
    /// [`COUNT_TIMEOUT`], otherwise its last ones.
    pub(crate) fn counts(&mut self) -> Counts {
        if self.request_counts() {
            let deadline = Instant::now() + COUNT_TIMEOUT;
            while self.running.as_ref().is_some_and(|running| running.count_asked.is_some())
                && self.reports.len() < MAX_REPORTS
            {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || self.wait(left).is_err() {
                    break;
                }
            }
        }
        self.counts.after(self.earlier)
    }

    /// Requests the counters of the running reader. Returns false if there is no such reader, if a
    /// request is unanswered, or during a hand-over.
    pub(super) fn request_counts(&mut self) -> bool {
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            return false;
        }
        let Some(running) = self.running.as_mut().filter(|running| running.count_asked.is_none()) else { return false };
        running.count_asked = Some(Instant::now());
        self.send(&ToReader::Count);
        true
    }
}
