//! What takes several messages: starting a reader, handing attempts over to it, a reload, and the counts. Each has one
//! deadline for all of it.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::child::ReaderChild;
use super::validate::{Validator, out_of_turn, violation};
use super::{MAX_SEEN, ReaderProcess, Seen};
use crate::config::Config;
use crate::matcher::SavedAttempt;
use crate::reader::memory::memory_for;
use crate::reader::notice::ReaderNotice;
use crate::reader::wire::{Counts, Doors, FromReader, Start, ToReader};
use crate::time::Timestamp;

/// A reader that is not ready after this time is killed.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time of a whole hand-over, be it of a million attempts.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time of a reload: until the reader uses the new doors and listens on the new interfaces.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time for which a status waits for the counts. Later ones are for the next status.
const COUNT_TIMEOUT: Duration = Duration::from_millis(150);
/// Maximum number of bytes that wait for the successor while it is handed attempts.
const MAX_ATTEMPT_BYTES: usize = 256 << 10;
/// Maximum number of bytes that a reader may send before it works: its notices about its captures.
const MAX_NOTICE_BYTES: usize = 256 << 10;

/// A reader that does not work yet.
#[derive(Debug)]
pub(super) struct Successor {
    reader: ReaderChild,
    stage: Stage,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
enum Stage {
    /// It opens its captures.
    Starting,
    /// It is handed the attempts of the running reader: so many until now.
    Receiving(usize),
}

impl Successor {
    pub(super) fn new(reader: ReaderChild) -> Self {
        Self { reader, stage: Stage::Starting, deadline: Instant::now() + START_TIMEOUT }
    }

    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.stage, Stage::Receiving(_))
    }

    /// False while it has to read before it is sent more.
    pub(super) fn has_room(&self) -> bool {
        self.reader.channel.waiting() < MAX_ATTEMPT_BYTES
    }
}

/// A reload under way.
#[derive(Debug)]
pub(super) struct Reload {
    config: Config,
    interfaces: Vec<String>,
    stage: ReloadStage,
    pub(super) deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReloadStage {
    /// A hand-over has to end first.
    Waiting,
    /// The running reader was sent the new doors.
    Asked,
    /// The new doors are in use; a successor begins to listen on the new interfaces.
    Replaced,
}

impl Reload {
    /// True while no other reader may start.
    pub(super) fn is_waiting(&self) -> bool {
        self.stage != ReloadStage::Replaced
    }
}

impl ReaderProcess {
    /// Starts a reader that is to replace the running one, if there is one.
    pub(super) fn start_successor(&mut self) {
        self.restart.starts();
        // The doors as they are now, one-time doors with the sequences that are not used yet.
        let start = Start { doors: Doors::of(self.validator.config()), ..self.start.clone() };
        match ReaderChild::spawn(&self.program, start, &self.epoll) {
            Ok(reader) => self.successor = Some(Successor::new(reader)),
            Err(error) => self.report_failure(error.to_string()),
        }
    }

    /// Moves the successor on, and gives up on what takes too long.
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
            // Its notices about its captures stay in the channel until it works.
            if reader.channel.has_ended() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if reader.channel.received() > MAX_NOTICE_BYTES {
                return Err(violation("it sends too much before it works"));
            }
            return Ok(());
        }
        match reader.channel.next()? {
            None => Ok(()),
            Some(FromReader::Ready { kept }) => {
                let kept = Validator::kept(kept)?;
                if !kept.is_empty() && kept != self.reported_kept {
                    self.reported_kept.clone_from(&kept);
                    self.report(Seen::Notice(ReaderNotice::Keeps(kept)));
                }
                self.hand_over();
                Ok(())
            }
            Some(FromReader::Failed(reason)) => Err(Validator::failure(reason)),
            Some(_) => Err(out_of_turn()),
        }
    }

    /// Has the running reader hand its attempts over to the successor, which is ready.
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

    pub(super) fn take_attempts(&mut self, attempts: Vec<SavedAttempt>) -> io::Result<()> {
        let Some(Successor { reader, stage: Stage::Receiving(count), .. }) = &mut self.successor else {
            return Err(out_of_turn());
        };
        let received = attempts.len();
        let attempts = self.validator.attempts(attempts, *count)?;
        *count += received;
        // Sent together with those that come in the same turn.
        reader.channel.put(&ToReader::Attempts(attempts))
    }

    pub(super) fn take_handed_over(&mut self, last: u64, counts: Counts) -> io::Result<()> {
        if !self.successor.as_ref().is_some_and(Successor::is_receiving) {
            return Err(out_of_turn());
        }
        self.counts = self.validator.counts(counts);
        self.promote(self.validator.last_stamp(last));
        Ok(())
    }

    /// Puts the successor in the place of the running reader.
    pub(super) fn promote(&mut self, after: Timestamp) {
        let Some(Successor { mut reader, .. }) = self.successor.take() else { return };
        self.running = None;
        self.forget_attempts();
        (self.progress, self.reported_failure) = (Instant::now(), None);
        reader.heard = self.progress;
        self.running = Some(reader);
        // Its messages may have come already.
        self.has_unhandled = true;
        // The one before may have seen sequences being used up that this one was started with.
        for index in 0..self.validator.config().doors.len() {
            let door = &self.validator.config().doors[index];
            if let (true, None, Ok(door)) = (door.one_time_sequences.is_some(), &door.sequence, u16::try_from(index)) {
                self.send(&ToReader::Sequence { door, sequence: None });
            }
        }
        self.send(&ToReader::Begin { after: after.as_nanos() });
    }

    /// Ends the reader that this happened to.
    pub(super) fn lose(&mut self, error: &io::Error) {
        let Some(running) = self.running.take() else { return };
        let is_violation = error.kind() == io::ErrorKind::InvalidData;
        if is_violation {
            // What it reported is worth nothing.
            let is_of_daemon = |seen: &Seen| matches!(seen, Seen::Notice(_));
            self.seen.retain(is_of_daemon);
            self.seen_after_reload.iter_mut().for_each(|seen| seen.retain(is_of_daemon));
        }
        self.restart.ended(running.started.elapsed(), is_violation);
        self.report(Seen::Notice(ReaderNotice::Ended(running.end(error))));
        self.forget_attempts();
        self.earlier.attempts = 0;
        self.has_unhandled = true;
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            // Without the attempts that were not handed over yet.
            self.promote(Timestamp::default());
        }
        self.wake();
    }

    fn lose_successor(&mut self, error: &io::Error) {
        let Some(Successor { reader, stage, .. }) = self.successor.take() else { return };
        let reason = reader.end(error);
        if matches!(stage, Stage::Receiving(_)) {
            // The running one has given its attempts away and has nothing left to do.
            self.lose(&io::Error::other("its successor ended"));
        }
        self.report_failure(reason);
    }

    pub(super) fn send_to_successor(&mut self, message: &ToReader) {
        let Some(successor) = &mut self.successor else { return };
        if let Err(error) = successor.reader.send(message, &self.epoll) {
            self.lose_successor(&error);
        }
    }

    fn report_failure(&mut self, reason: String) {
        self.restart.failed();
        if self.reported_failure.as_ref() != Some(&reason) {
            self.report(Seen::Notice(ReaderNotice::NotStarted(reason.clone())));
            self.reported_failure = Some(reason);
        }
        self.wake();
    }

    /// Has the descriptor report that a turn is due: the caller may wait for it next.
    fn wake(&mut self) {
        // It fails for no timer that is open.
        let _ = self.alarm.set(Instant::now());
    }

    fn forget_attempts(&mut self) {
        self.earlier = std::mem::take(&mut self.counts).after(self.earlier);
    }

    /// Begins to use other doors and interfaces. Call [`ReaderProcess::wait`] while [`ReaderProcess::is_reloading`] is true;
    /// everything that is polled until then is about the old doors.
    pub(crate) fn begin_reload(&mut self, config: &Config, interfaces: Vec<String>) {
        self.reload = Some(Reload {
            config: config.clone(),
            interfaces,
            stage: ReloadStage::Waiting,
            deadline: Instant::now() + RELOAD_TIMEOUT,
        });
        self.advance_reload(Instant::now());
        self.wake();
    }

    /// True until the new doors are in use and the new interfaces are listened on, or until that took too long.
    pub(crate) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// From here on [`ReaderProcess::poll_seen`] returns what was seen of the new doors, too.
    pub(crate) fn end_reload(&mut self) {
        self.seen.extend(self.seen_after_reload.take().into_iter().flatten());
        self.wake();
    }

    pub(super) fn advance_reload(&mut self, now: Instant) {
        let Some(Reload { config, stage, deadline, .. }) = &mut self.reload else { return };
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
                    // It was started with the old doors.
                    self.restart.want(false);
                }
                if self.running.is_some() {
                    *stage = ReloadStage::Asked;
                    let message = ToReader::Reload(Doors::of(config));
                    self.send(&message);
                }
                if self.running.is_none() {
                    self.replace_doors();
                }
            }
            ReloadStage::Asked if self.running.is_none() => self.replace_doors(),
            ReloadStage::Asked => {}
            ReloadStage::Replaced => {
                let is_listening = self.running.is_some() && self.successor.is_none() && !self.restart.is_wanted(now);
                if is_over || is_listening {
                    self.reload = None;
                }
            }
        }
    }

    pub(super) fn take_reloaded(&mut self) -> io::Result<()> {
        match &self.reload {
            Some(Reload { stage: ReloadStage::Asked, .. }) => self.replace_doors(),
            _ => return Err(out_of_turn()),
        }
        Ok(())
    }

    /// Uses the new doors. What is seen from here on is about them.
    fn replace_doors(&mut self) {
        let Some(Reload { config, interfaces, stage, .. }) = &mut self.reload else { return };
        *stage = ReloadStage::Replaced;
        // A process that has limited its memory cannot raise the limit.
        let is_outgrown = memory_for(config) > memory_for(self.validator.config());
        self.validator.replace(config, interfaces);
        self.seen_after_reload = Some(VecDeque::new());
        if is_outgrown || self.start.interfaces != *interfaces {
            self.start.interfaces.clone_from(interfaces);
            self.restart.want(false);
        }
        self.has_unhandled = true;
    }

    /// What the readers hold and have counted, as of now if the running one answers soon, else as it answered last.
    pub(crate) fn counts(&mut self) -> Counts {
        if self.ask_for_counts() {
            let deadline = Instant::now() + COUNT_TIMEOUT;
            while self.running.as_ref().is_some_and(|running| running.count_asked.is_some())
                && self.seen.len() < MAX_SEEN
            {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || self.wait(left).is_err() {
                    break;
                }
            }
        }
        self.counts.after(self.earlier)
    }

    /// Asks the running reader for its counts. False if it was asked before and has not answered, or has nothing to count.
    pub(super) fn ask_for_counts(&mut self) -> bool {
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            return false;
        }
        let Some(running) = self.running.as_mut().filter(|running| running.count_asked.is_none()) else { return false };
        running.count_asked = Some(Instant::now());
        self.send(&ToReader::Count);
        true
    }
}
