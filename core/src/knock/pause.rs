//! The pause between two knocks.

use std::time::{Duration, Instant};

use super::{KnockError, Observer};
use crate::sys::poll;
use crate::tick::TICK;

/// Waits for `span`, unless the observer breaks off. A signal makes that it is asked at once.
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
        // Without descriptors it fails for a signal alone.
        let _ = poll::wait([], left.min(TICK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    #[test]
    fn it_takes_its_time_unless_it_is_broken_off() {
        let start = Instant::now();
        pause(Duration::from_millis(20), &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(20));
        let mut asked = 0;
        let mut observer = |_| {
            asked += 1;
            if asked == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(pause(Duration::MAX, &mut observer), Err(KnockError::Stopped)));
        pause(Duration::ZERO, &mut |_| ControlFlow::Break(())).unwrap();
    }
}
