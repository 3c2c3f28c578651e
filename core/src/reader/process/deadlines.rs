//! When a reader is too late, and when the next turn is due.

use std::time::{Duration, Instant};

use super::ReaderProcess;
use super::exchange::{Reload, Successor};
use super::restart;
use crate::reader::wire::ALIVE_INTERVAL;

/// A reader that is silent for this long after a question, or after it should have said that it works, is replaced.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay of the next look whether a question about the network may be answered.
const NETWORK_ANSWER_DELAY: Duration = Duration::from_millis(50);
/// Without a message for this long, no reader makes progress: the longest silence of one that works, the timeouts of one
/// that hangs and of one that does not start, and the longest delay of the next.
pub(super) const PROGRESS_TIMEOUT: Duration =
    Duration::from_secs(ALIVE_INTERVAL.as_secs() + 2 * ANSWER_TIMEOUT.as_secs() + restart::MAX_DELAY.as_secs());

impl ReaderProcess {
    /// When the running reader has been silent for too long.
    pub(super) fn answer_due(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            // The hand-over has a deadline of its own.
            return None;
        }
        let question = running.oldest_question().filter(|asked| running.heard < *asked);
        Some(question.unwrap_or(running.heard + ALIVE_INTERVAL) + ANSWER_TIMEOUT)
    }

    /// When to start a reader, if at all.
    pub(super) fn start_due(&self) -> Option<Instant> {
        if self.successor.is_some() || self.reload.as_ref().is_some_and(Reload::is_waiting) {
            return None;
        }
        self.restart.due(self.running.is_some())
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let unhandled = self.has_unhandled.then_some(now);
        let asks_network = self.running.as_ref().is_some_and(|running| running.asks_network);
        let network = asks_network.then_some(now + NETWORK_ANSWER_DELAY);
        let successor = self.successor.as_ref().map(|successor| successor.deadline);
        let reload = self.reload.as_ref().map(|reload| reload.deadline);
        [unhandled, network, successor, reload, self.answer_due(), self.start_due()].into_iter().flatten().min()
    }
}
