//! What the running reader is sent: questions, the sequences of one-time doors, and the state of the network.

use std::time::{Duration, Instant};

use super::ReaderProcess;
use crate::config::{Door, DoorId};
use crate::reader::wire::{ToReader, WireSequence};
use crate::sys::netlink::Network;

impl ReaderProcess {
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
    pub(super) fn send_sequence(&mut self, id: DoorId) {
        let Some(door) = self.validator.config().doors.get(usize::from(id.0)) else { return };
        let message = || ToReader::Sequence { door: id.0, sequence: door.sequence.as_ref().map(WireSequence::of) };
        let (running, successor) = (message(), message());
        self.send(&running);
        self.send_to_successor(&successor);
    }

    /// Answers a question about the network, unless too many were answered a moment ago.
    pub(super) fn answer_network(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.asks_network && self.validator.may_answer_network() {
            running.asks_network = false;
            self.send(&ToReader::Network(Network::read().ok()));
        }
    }

    /// Sends the running reader a message, if there is one.
    pub(super) fn send(&mut self, message: &ToReader) {
        let Some(running) = &mut self.running else { return };
        if let Err(error) = running.send(message, &self.epoll) {
            self.lose(&error);
        }
    }
}
