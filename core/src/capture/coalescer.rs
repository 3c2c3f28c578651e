//! Coalescing of wake-ups: immediate polls while few packets arrive, one poll per millisecond while
//! many arrive.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::sys::timer::TimerFd;

/// Delay between two polls while many packets arrive. A wake-up costs as much as a hundred packets;
/// the ring holds the packets that arrive meanwhile.
const COALESCING_DELAY: Duration = Duration::from_millis(1);

/// Number of consecutive polls, each within [`COALESCING_DELAY`] of the previous one, that start
/// coalescing. Fewer polls may be the knocks of one client, which a delay would keep waiting.
const COALESCING_THRESHOLD: u32 = 8;

/// Decides when the set polls its captures. While coalescing, the set does not wait for the
/// captures' descriptors.
#[derive(Debug)]
pub(super) struct Coalescer {
    /// Readable when a delay is over. `None` if the caller limits its waits to
    /// [`Coalescer::delay_left`].
    timer: Option<TimerFd>,
    /// End of the current delay; `None` while not coalescing.
    delayed_until: Option<Instant>,
    /// Number of consecutive polls that found frames soon after the previous poll.
    close_polls: u32,
    /// Time of the last poll that found frames.
    last_frames: Option<Instant>,
}

/// The change that a turn requires in the descriptors that the set waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// No change.
    None,
    /// Stop waiting for the captures' descriptors: coalescing starts.
    Start,
    /// Wait for them again: coalescing ends.
    End,
}

impl Coalescer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { timer: Some(TimerFd::new()?), delayed_until: None, close_polls: 0, last_frames: None })
    }

    /// Returns the descriptor that is readable when a delay is over.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().map(TimerFd::as_fd)
    }

    /// Removes the timer. The caller must limit its waits to [`Coalescer::delay_left`].
    pub(super) fn drop_timer(&mut self) {
        self.timer = None;
    }

    /// Returns true while coalescing: every turn must poll the captures itself.
    pub(super) fn is_coalescing(&self) -> bool {
        self.delayed_until.is_some()
    }

    /// Returns the rest of the current delay.
    pub(super) fn delay_left(&self) -> Option<Duration> {
        self.delayed_until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Records a turn that began at `start` and found this many frames; `more` if it left some in
    /// the buffers.
    pub(super) fn record_turn(&mut self, start: Instant, frames: usize, more: bool) -> io::Result<Change> {
        let is_close = self.last_frames.is_some_and(|last| start.saturating_duration_since(last) < COALESCING_DELAY);
        let now = Instant::now();
        if frames > 0 {
            self.last_frames = Some(now);
            self.close_polls = if is_close { self.close_polls.saturating_add(1) } else { 0 };
        }
        match (self.delayed_until, frames > 0) {
            (Some(_), true) => {
                self.delay(now, if more { Duration::ZERO } else { COALESCING_DELAY })?;
                Ok(Change::None)
            }
            (Some(until), false) if self.is_over(until, now) => {
                self.delayed_until = None;
                self.close_polls = 0;
                Ok(Change::End)
            }
            (None, true) if self.close_polls >= COALESCING_THRESHOLD && !more => {
                self.delay(now, COALESCING_DELAY)?;
                Ok(Change::Start)
            }
            _ => Ok(Change::None),
        }
    }

    /// Starts a delay of `span`.
    fn delay(&mut self, now: Instant, span: Duration) -> io::Result<()> {
        self.delayed_until = Some(now + span);
        self.timer.as_mut().map_or(Ok(()), |timer| timer.arm(Some(span)))
    }

    /// Returns true if the delay is over: by the timer if there is one, which would otherwise still
    /// wake the caller.
    fn is_over(&mut self, until: Instant, now: Instant) -> bool {
        self.timer.as_mut().map_or(until <= now, TimerFd::acknowledge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::Epoll;

    fn wait_for_the_timer(coalescer: &Coalescer) {
        let epoll = Epoll::new().unwrap();
        epoll.add(coalescer.fd().unwrap(), 0).unwrap();
        epoll.wait(&mut Vec::new(), None).unwrap();
    }

    #[test]
    fn a_single_packet_starts_no_coalescing() {
        let mut coalescer = Coalescer::new().unwrap();
        assert_eq!(coalescer.record_turn(Instant::now(), 1, false).unwrap(), Change::None);
        std::thread::sleep(2 * COALESCING_DELAY);
        assert_eq!(coalescer.record_turn(Instant::now(), 1, false).unwrap(), Change::None);
        assert!(!coalescer.is_coalescing());
    }

    #[test]
    fn coalescing_ends_when_a_poll_finds_nothing() {
        let mut coalescer = Coalescer::new().unwrap();
        for _ in 0..COALESCING_THRESHOLD {
            assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::None);
        }
        assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::Start);
        wait_for_the_timer(&coalescer);
        assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::None);
        assert!(coalescer.is_coalescing());
        // A poll before the delay is over.
        assert_eq!(coalescer.record_turn(Instant::now(), 0, false).unwrap(), Change::None);
        wait_for_the_timer(&coalescer);
        assert_eq!(coalescer.record_turn(Instant::now(), 0, false).unwrap(), Change::End);
        assert!(!coalescer.is_coalescing());
    }

    #[test]
    fn without_a_timer_a_delay_ends_by_the_clock() {
        let mut coalescer = Coalescer::new().unwrap();
        coalescer.drop_timer();
        for _ in 0..COALESCING_THRESHOLD {
            assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::None);
        }
        assert!(coalescer.fd().is_none() && coalescer.delay_left().is_none());
        assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::Start);
        let left = coalescer.delay_left().unwrap();
        assert!(left <= COALESCING_DELAY);
        std::thread::sleep(left);
        assert_eq!(coalescer.record_turn(Instant::now(), 0, false).unwrap(), Change::End);
        assert_eq!(coalescer.delay_left(), None);
    }

    #[test]
    fn frames_left_in_the_buffers_are_read_without_a_delay() {
        let mut coalescer = Coalescer::new().unwrap();
        for _ in 0..=COALESCING_THRESHOLD {
            assert_eq!(coalescer.record_turn(Instant::now(), 5, true).unwrap(), Change::None);
        }
        assert_eq!(coalescer.record_turn(Instant::now(), 5, false).unwrap(), Change::Start);
        assert_eq!(coalescer.record_turn(Instant::now(), 5, true).unwrap(), Change::None);
        wait_for_the_timer(&coalescer);
    }
}
