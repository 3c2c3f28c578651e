//! When the next reader starts.

use std::time::{Duration, Instant};

/// Shortest time from one start to the next.
const MIN_START_INTERVAL: Duration = Duration::from_millis(200);
/// Delay of the next start after two readers in a row have ended. After the first one there is none.
const ENDED_DELAY: Duration = Duration::from_millis(200);
/// Delay of the next start after a reader has violated the protocol, which no packet makes an intact reader do.
const VIOLATION_DELAY: Duration = Duration::from_secs(5);
/// Longest delay of the next start after a reader has ended. Each end in a row doubles the delay.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(10);
/// A reader that has worked for this long ends the row.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for a successor if the readers before could not listen on an interface that is up.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Delay of the next attempt if a reader could not be started.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// When the next reader starts.
#[derive(Debug)]
pub(super) struct Restart {
    /// No reader starts before this time.
    earliest: Instant,
    /// When a successor of the reader that works is to start.
    wanted: Option<Instant>,
    /// The delay after the next end in a row.
    delay: Duration,
    /// The wait for the next successor of a reader that cannot do what it was started for.
    pause: Duration,
}

impl Restart {
    pub(super) fn new() -> Self {
        Self { earliest: Instant::now(), wanted: None, delay: Duration::ZERO, pause: Duration::ZERO }
    }

    /// When to start a reader, if at all.
    pub(super) fn due(&self, is_one_running: bool) -> Option<Instant> {
        if is_one_running { self.wanted.map(|wanted| wanted.max(self.earliest)) } else { Some(self.earliest) }
    }

    /// True if a successor is wanted, even if it has to wait for its turn.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.wanted.is_some_and(|wanted| wanted <= now)
    }

    /// A reader starts now.
    pub(super) fn starts(&mut self) {
        self.wanted = None;
        self.earliest = Instant::now() + MIN_START_INTERVAL;
    }

    /// A reader could not be started.
    pub(super) fn failed(&mut self) {
        self.wanted = Some(Instant::now());
        self.earliest = Instant::now() + RETRY_DELAY;
    }

    /// A reader has ended after it has worked for this long.
    pub(super) fn ended(&mut self, worked: Duration, is_violation: bool) {
        if worked >= STABLE_AFTER {
            self.delay = Duration::ZERO;
        }
        let delay = if is_violation { self.delay.max(VIOLATION_DELAY) } else { self.delay };
        self.earliest = self.earliest.max(Instant::now() + delay);
        self.delay = (delay * 2).clamp(ENDED_DELAY, MAX_DELAY);
    }

    /// A successor is wanted: immediately, or each time later if this reader `failed` as the next one may.
    pub(super) fn want(&mut self, failed: bool) {
        if !failed {
            self.pause = Duration::ZERO;
            self.wanted = Some(Instant::now());
        } else if self.wanted.is_none() {
            self.wanted = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).clamp(MIN_START_INTERVAL, MAX_PAUSE);
        }
    }

    /// Something changed, so that the next reader may succeed.
    pub(super) fn forget_failures(&mut self) {
        self.pause = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_for_what_none_could_listen_on_come_ever_later() {
        let wait = |restart: &mut Restart, failed| {
            for _ in 0..20 {
                restart.want(failed);
            }
            restart.wanted.take().unwrap().saturating_duration_since(Instant::now())
        };
        let mut restart = Restart::new();
        assert_eq!(wait(&mut restart, true), Duration::ZERO);
        let mut before = Duration::ZERO;
        for _ in 0..20 {
            let now = wait(&mut restart, true);
            assert!(before < now || now > MAX_PAUSE - MIN_START_INTERVAL, "{before:?}, then {now:?}");
            before = now;
        }
        assert!(before <= MAX_PAUSE);
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
        restart.ended(Duration::ZERO, false);
        assert_eq!(delay(&restart), Duration::ZERO);
        let mut before = Duration::ZERO;
        for _ in 0..8 {
            restart.ended(Duration::ZERO, false);
            let now = delay(&restart);
            assert!(before < now || now > MAX_DELAY - ENDED_DELAY, "{before:?}, then {now:?}");
            before = now;
        }
        assert!(before <= MAX_DELAY);
        let mut restart = Restart { delay: MAX_DELAY, ..Restart::new() };
        restart.ended(STABLE_AFTER, false);
        assert_eq!(delay(&restart), Duration::ZERO);
        restart.ended(Duration::ZERO, true);
        assert!(delay(&restart) > ENDED_DELAY * 2, "a violation");
    }
}
