//! Messages to the running reader: requests, the sequences of one-time doors, and the state of the
//! network.

use std::time::{Duration, Instant};

use super::ReaderProcess;
use crate::config::{Door, DoorId};
use crate::live_windows::LiveWindows;
use crate::packet_keys::HintTable;
use crate::reader::wire::{ToReader, WireSequence, WireWindow};
use crate::sys::netlink::Network;

impl ReaderProcess {
    /// Requests [`ReaderReport::CaughtUp`], unless a request is unanswered. Returns false if there
    /// is no reader to answer, or if the request has been unanswered for `timeout`.
    ///
    /// [`ReaderReport::CaughtUp`]: super::ReaderReport::CaughtUp
    pub(crate) fn catch_up(&mut self, timeout: Duration) -> bool {
        let Some(running) = &mut self.running else { return false };
        if let Some((asked, _)) = running.catch_up_asked {
            return asked.elapsed() < timeout;
        }
        running.catch_up_asked = Some((Instant::now(), self.validator.now()));
        self.send(&ToReader::CatchUp);
        self.running.is_some()
    }

    /// Returns the time since the unanswered request of [`ReaderProcess::catch_up`]; `None` if
    /// there is none.
    pub(crate) fn waits_since(&self) -> Option<Duration> {
        let (asked, _) = self.running.as_ref()?.catch_up_asked?;
        Some(asked.elapsed())
    }

    /// Sets the current sequence of a one-time door. Does nothing if another door has this index.
    /// That is possible after a reload, while the caller handles reports about the old doors.
    pub(crate) fn set_sequence(&mut self, id: DoorId, door: &Door) {
        if self.validator.set_sequence(id, door) {
            self.send_sequence(id);
        }
    }

    /// Sends the readers the current sequence of a one-time door.
    pub(super) fn send_sequence(&mut self, id: DoorId) {
        let Some(door) = self.validator.config().doors.get(usize::from(id.0)) else { return };
        self.send_to_all(&ToReader::Sequence { door: id.0, sequence: door.sequence.as_ref().map(WireSequence::of) });
    }

    /// Sends the readers the live windows that differ from those they have. Does nothing during a
    /// reload, because the windows may be those of other doors.
    pub(crate) fn set_windows(&mut self, windows: &LiveWindows) {
        if self.is_reloading() {
            return;
        }
        let changed = self.validator.set_windows(windows);
        if changed.is_empty() {
            return;
        }
        let windows = changed.into_iter().filter_map(|id| Some(WireWindow::of(id, windows.get(id)?)));
        self.send_to_all(&ToReader::Windows(windows.collect()));
    }

    /// Sends the readers the hints that they do not have. Does nothing during a reload.
    pub(crate) fn set_hints(&mut self, hints: &HintTable) {
        if self.is_reloading() {
            return;
        }
        let new = self.validator.set_hints(hints);
        self.send_to_all(&ToReader::Hints(new));
    }

    /// Answers a request for the state of the network, unless the limit of answers is reached.
    pub(super) fn answer_network(&mut self) {
        let Some(running) = &mut self.running else { return };
        if running.asks_network && self.validator.may_answer_network() {
            running.asks_network = false;
            self.send(&ToReader::Network(Network::read().ok()));
        }
    }

    /// Sends a message to the running reader and its successor, as far as there are such.
    fn send_to_all(&mut self, message: &ToReader) {
        self.send(message);
        self.send_to_successor(message);
    }

    /// Sends the running reader a message, if there is one.
    pub(super) fn send(&mut self, message: &ToReader) {
        let Some(running) = &mut self.running else { return };
        if let Err(error) = running.send(message, &self.epoll) {
            self.lose(&error);
        }
    }
}
