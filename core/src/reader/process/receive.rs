//! Receives the messages of the running reader, and handles each after its validation.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::exchange::Successor;
use super::validate::{DoorVerdict, Validator, out_of_turn};
use super::{MAX_REPORTS, ReaderProcess, ReaderReport, ReportedPacket};
use crate::capture::CaptureNotice;
use crate::clock_search::UnknownPacket;
use crate::config::DoorId;
use crate::reader::channel::RECEIVE_BYTES;
use crate::reader::notice::ReaderNotice;
use crate::reader::wire::{DoorEvent, FromReader};
use crate::weak_search::UnauthenticPacket;

/// Maximum number of reads from the socket in one turn, so that other work gets its time.
const MAX_READS_PER_TURN: usize = 4;

impl ReaderProcess {
    /// Handles messages of the running reader.
    ///
    /// # Errors
    /// Fails if the connection is closed or the reader violates the protocol. The caller must end
    /// the reader.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        for _ in 0..MAX_READS_PER_TURN {
            let has_room = self.has_room();
            let Some(running) = &mut self.running else { return Ok(()) };
            running.set_reading(has_room, &self.epoll)?;
            running.send_rest(&self.epoll)?;
            if !has_room {
                return Ok(());
            }
            let more = running.channel.receive()? == RECEIVE_BYTES;
            let mut has_message = false;
            // A hand-over may replace the running reader.
            while let Some(running) = &mut self.running {
                let Some(message) = running.channel.next()? else { break };
                self.handle(message)?;
                has_message = true;
            }
            if let (true, Some(running)) = (has_message, &mut self.running) {
                self.progress = Instant::now();
                running.last_message = self.progress;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Returns false if no more messages can be stored: reports until they are polled, or attempts
    /// until the successor reads them.
    fn has_room(&mut self) -> bool {
        if self.reports.len() + self.reports_after_reload.as_ref().map_or(0, VecDeque::len) >= MAX_REPORTS {
            self.has_unhandled = true;
            return false;
        }
        self.successor.as_ref().is_none_or(Successor::has_room)
    }

    /// Handles a message of the running reader.
    pub(super) fn handle(&mut self, message: FromReader) -> io::Result<()> {
        match message {
            FromReader::DoorEvent(event) => self.take_door_event(&event)?,
            FromReader::Packet(packet) => {
                if let Some((knock, packet)) = self.validator.packet(packet)? {
                    self.report(ReaderReport::Packet { knock, packet });
                }
            }
            FromReader::UnknownPacket(packet) => {
                self.validator.take_notice()?;
                match self.validator.packet(packet)? {
                    Some((knock, ReportedPacket::Own(bytes))) => {
                        self.report(ReaderReport::UnknownPacket(UnknownPacket { knock, bytes }));
                    }
                    Some((knock, ReportedPacket::Fwknop(bytes))) => {
                        self.report(ReaderReport::UnauthenticPacket(UnauthenticPacket { knock, bytes }));
                    }
                    None => {}
                }
            }
            FromReader::Knock(knock) => {
                let knock = self.validator.knock(knock)?;
                self.report(ReaderReport::Knock(knock));
            }
            FromReader::Capture(notice) => {
                let Some(running) = &self.running else { return Ok(()) };
                if let Some(notice) = self.validator.notice(notice, &running.interfaces)? {
                    if !matches!(notice, CaptureNotice::Dropped { .. } | CaptureNotice::CoarseFilter { .. }) {
                        self.restart.forget_failures();
                    }
                    self.report(ReaderReport::Capture(notice));
                }
            }
            FromReader::CaughtUp { time } => {
                let asked = self.running.as_mut().and_then(|running| running.catch_up_asked.take());
                let (_, asked) = asked.ok_or_else(out_of_turn)?;
                let time = self.validator.caught_up(time, asked)?;
                self.report(ReaderReport::CaughtUp(time));
            }
            FromReader::AskNetwork => {
                let Some(running) = &mut self.running else { return Ok(()) };
                if std::mem::replace(&mut running.asks_network, true) {
                    return Err(out_of_turn());
                }
            }
            FromReader::AskRestart { failed } => {
                self.validator.take_notice()?;
                self.restart.request(failed);
            }
            FromReader::Suppressed { time, counted } => {
                let suppressed = self.validator.suppressed(time, counted)?;
                self.report(ReaderReport::Suppressed(suppressed));
            }
            FromReader::Counts(counts) => {
                let asked = self.running.as_mut().and_then(|running| running.count_asked.take());
                asked.ok_or_else(out_of_turn)?;
                self.counts = self.validator.counts(counts);
            }
            FromReader::Alive { captures } => {
                self.validator.take_notice()?;
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

    /// Handles an event at a door.
    fn take_door_event(&mut self, event: &DoorEvent) -> io::Result<()> {
        let door_id = DoorId(event.door);
        match self.validator.door_event(event)? {
            DoorVerdict::Accepted(time, kind) => {
                self.report(ReaderReport::DoorEvent { time, door_id, ip: event.ip, kind })
            }
            DoorVerdict::Window { time, number } => {
                self.report(ReaderReport::Window { time, id: door_id, number, ip: event.ip })
            }
            DoorVerdict::Ignored => {}
            DoorVerdict::TooSoon { is_first } => {
                if is_first {
                    let door = self.validator.config().doors[usize::from(event.door)].name.clone();
                    self.report(ReaderReport::Notice(ReaderNotice::UsedTooSoon { door, ip: event.ip }));
                }
                // The reader accepts no knock at the door until it receives a sequence, which is
                // the same one.
                self.send_sequence(door_id);
            }
        }
        Ok(())
    }
}
