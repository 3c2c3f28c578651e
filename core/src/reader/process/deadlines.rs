//! The deadlines of a reader's messages, and the time of the next turn.

use std::time::{Duration, Instant};

use super::ReaderProcess;
use super::exchange::{Reload, Successor};
use super::restart;
use crate::reader::wire::ALIVE_INTERVAL;

/// Maximum time for which a reader may be silent after a request, or after its next
/// [`FromReader::Alive`] was due. The daemon replaces it then.
///
/// [`FromReader::Alive`]: crate::reader::wire::FromReader::Alive
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay of the next check whether the daemon may answer a request for the state of the network.
const NETWORK_ANSWER_DELAY: Duration = Duration::from_millis(50);
/// Maximum time without progress of any reader: the longest silence of a reader that works, the
/// timeouts of a reader that hangs and of one that does not start, and the longest start delay.
pub(super) const PROGRESS_TIMEOUT: Duration =
    Duration::from_secs(ALIVE_INTERVAL.as_secs() + 2 * ANSWER_TIMEOUT.as_secs() + restart::MAX_DELAY.as_secs());

impl ReaderProcess {
    /// Returns the time until which the running reader must send a message; `None` if there is no
    /// such deadline.
    pub(super) fn answer_due(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        if self.successor.as_ref().is_some_and(Successor::is_receiving) {
            // The hand-over has its own deadline.
            return None;
        }
        let request = running.oldest_request().filter(|asked| running.last_message < *asked);
        Some(request.unwrap_or(running.last_message + ALIVE_INTERVAL) + ANSWER_TIMEOUT)
    }

    /// Returns the time at which to start a reader; `None` if none is to start.
    pub(super) fn start_due(&self) -> Option<Instant> {
        if self.successor.is_some() || self.reload.as_ref().is_some_and(Reload::is_waiting) {
            return None;
        }
        self.restart.due(self.running.is_some())
    }

    /// Returns the time of the next turn; `None` if only a message makes one due.
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
