//! The messages of the running reader: receiving them, and handling each after it was validated.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::exchange::Successor;
use super::validate::{DoorReport, Validator, out_of_turn};
use super::{MAX_SEEN, ReaderProcess, Seen};
use crate::capture::CaptureNotice;
use crate::config::DoorId;
use crate::reader::channel::RECEIVE_BYTES;
use crate::reader::notice::ReaderNotice;
use crate::reader::wire::{DoorEvent, FromReader};

/// Maximum number of times that the socket is read in one turn, so that other work gets its time.
const RECEIVED_A_TURN: usize = 4;

impl ReaderProcess {
    /// Handles what the running reader has sent.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVED_A_TURN {
            let has_room = self.has_room();
            let Some(running) = &mut self.running else { return Ok(()) };
            running.set_reading(has_room, &self.epoll)?;
            running.send_rest(&self.epoll)?;
            if !has_room {
                return Ok(());
            }
            let more = running.channel.receive()? == RECEIVE_BYTES;
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
    pub(super) fn take(&mut self, message: FromReader) -> io::Result<()> {
        match message {
            FromReader::DoorEvent(found) => self.take_door_report(&found)?,
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
            FromReader::AskRestart { failed } => {
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

    fn take_door_report(&mut self, found: &DoorEvent) -> io::Result<()> {
        let door_id = DoorId(found.door);
        match self.validator.door_report(found)? {
            DoorReport::Accepted(time, kind) => self.report(Seen::DoorEvent { time, door_id, ip: found.ip, kind }),
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
}
