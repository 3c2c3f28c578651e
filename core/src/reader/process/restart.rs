//! The time of the next reader's start.

use std::time::{Duration, Instant};

/// Minimum time between two starts.
const MIN_START_INTERVAL: Duration = Duration::from_millis(200);
/// Delay of the next start after two consecutive readers have ended. After the first end there is
/// no delay.
const ENDED_DELAY: Duration = Duration::from_millis(200);
/// Delay of the next start after a reader has violated the protocol. No packet makes an intact
/// reader violate it.
const VIOLATION_DELAY: Duration = Duration::from_secs(5);
/// Maximum delay of the next start after a reader has ended. Each consecutive end doubles the
/// delay.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(10);
/// Time after which a reader counts as stable. The end of a stable reader is not consecutive to
/// earlier ends.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Maximum delay of a successor if the previous readers could not listen on an interface that is
/// up.
pub(super) const MAX_SUCCESSOR_DELAY: Duration = Duration::from_secs(60);
/// Delay of the next start if a reader could not be started.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Decides when the next reader starts.
#[derive(Debug)]
pub(super) struct Restart {
    /// Earliest time of the next start.
    earliest: Instant,
    /// Time at which a successor of the running reader is to start; `None` if no successor is
    /// requested.
    requested: Option<Instant>,
    /// Delay after the next consecutive end.
    delay: Duration,
    /// Delay of the next successor of a reader that has failed to listen.
    successor_delay: Duration,
}

impl Restart {
    pub(super) fn new() -> Self {
        Self { earliest: Instant::now(), requested: None, delay: Duration::ZERO, successor_delay: Duration::ZERO }
    }

    /// Returns the time at which to start a reader; `None` if none is to start.
    pub(super) fn due(&self, is_one_running: bool) -> Option<Instant> {
        if is_one_running { self.requested.map(|requested| requested.max(self.earliest)) } else { Some(self.earliest) }
    }

    /// Returns true if a successor is due at the time `now`, even if it must wait for the minimum
    /// interval.
    pub(super) fn is_requested(&self, now: Instant) -> bool {
        self.requested.is_some_and(|requested| requested <= now)
    }

    /// Records the start of a reader.
    pub(super) fn record_start(&mut self) {
        self.requested = None;
        self.earliest = Instant::now() + MIN_START_INTERVAL;
    }

    /// Records that a reader could not be started.
    pub(super) fn record_failure(&mut self) {
        self.requested = Some(Instant::now());
        self.earliest = Instant::now() + RETRY_DELAY;
    }

    /// Records the end of a reader that has worked for this time.
    pub(super) fn record_end(&mut self, worked: Duration, is_violation: bool) {
        if worked >= STABLE_AFTER {
            self.delay = Duration::ZERO;
        }
        let delay = if is_violation { self.delay.max(VIOLATION_DELAY) } else { self.delay };
        self.earliest = self.earliest.max(Instant::now() + delay);
        self.delay = (delay * 2).clamp(ENDED_DELAY, MAX_DELAY);
    }

    /// Requests a successor: immediately, or with a delay that grows with each request if this
    /// reader has `failed` to listen, because the next reader may fail as well.
    pub(super) fn request(&mut self, failed: bool) {
        if !failed {
            self.successor_delay = Duration::ZERO;
            self.requested = Some(Instant::now());
        } else if self.requested.is_none() {
            self.requested = Some(Instant::now() + self.successor_delay);
            self.successor_delay = (self.successor_delay * 2).clamp(MIN_START_INTERVAL, MAX_SUCCESSOR_DELAY);
        }
    }

    /// Resets the delay of a successor, because something has changed and the next reader may
    /// succeed.
    pub(super) fn forget_failures(&mut self) {
        self.successor_delay = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_of_readers_that_failed_to_listen_start_ever_later() {
        let wait = |restart: &mut Restart, failed| {
            for _ in 0..20 {
                restart.request(failed);
            }
            restart.requested.take().unwrap().saturating_duration_since(Instant::now())
        };
        let mut restart = Restart::new();
        assert_eq!(wait(&mut restart, true), Duration::ZERO);
        let mut before = Duration::ZERO;
        for _ in 0..20 {
            let now = wait(&mut restart, true);
            assert!(before < now || now > MAX_SUCCESSOR_DELAY - MIN_START_INTERVAL, "{before:?}, then {now:?}");
            before = now;
        }
        assert!(before <= MAX_SUCCESSOR_DELAY);
        assert!(wait(&mut restart, true) > MIN_START_INTERVAL);
        assert_eq!(wait(&mut restart, false), Duration::ZERO);
        wait(&mut restart, true);
        assert!(wait(&mut restart, true) > Duration::ZERO);
        restart.forget_failures();
        assert_eq!(wait(&mut restart, true), Duration::ZERO);
    }

    #[test]
    fn restarts_back_off_until_a_reader_has_worked_for_a_while() {
        let delay = |restart: &Restart| restart.due(false).unwrap().saturating_duration_since(Instant::now());
        let mut restart = Restart::new();
        restart.record_end(Duration::ZERO, false);
        assert_eq!(delay(&restart), Duration::ZERO);
        let mut before = Duration::ZERO;
        for _ in 0..8 {
            restart.record_end(Duration::ZERO, false);
            let now = delay(&restart);
            assert!(before < now || now > MAX_DELAY - ENDED_DELAY, "{before:?}, then {now:?}");
            before = now;
        }
        assert!(before <= MAX_DELAY);
        let mut restart = Restart { delay: MAX_DELAY, ..Restart::new() };
        restart.record_end(STABLE_AFTER, false);
        assert_eq!(delay(&restart), Duration::ZERO);
        restart.record_end(Duration::ZERO, true);
        assert!(delay(&restart) > ENDED_DELAY * 2, "a violation");
    }
}
