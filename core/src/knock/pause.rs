//! The delay between two knocks.

use std::time::{Duration, Instant};

use super::{KnockError, Observer};
use crate::sys::poll;
use crate::tick::TICK;

/// Waits for `span`, unless the observer stops the wait. After a signal the observer is called
/// immediately.
pub(super) fn pause(span: Duration, observer: &mut Observer<'_>) -> Result<(), KnockError> {
    let start = Instant::now();
    loop {
        let left = span.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        if observer(None).is_break() {
            return Err(KnockError::Stopped);
        }
        // Without descriptors, only a signal makes this fail.
        let _ = poll::wait([], left.min(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    #[test]
    fn the_delay_is_kept_unless_the_observer_stops_it() {
        let start = Instant::now();
        pause(Duration::from_millis(20), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
        let mut calls = 0;
        let mut observer = |_| {
            calls += 1;
            if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(pause(Duration::MAX, &mut observer), Err(KnockError::Stopped)));
        pause(Duration::ZERO, &mut |_| ControlFlow::Break(())).unwrap();
    }
}
