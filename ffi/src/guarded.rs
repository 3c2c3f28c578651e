//! The state of a handle, behind a lock that remembers panics.

use parking_lot::Mutex;

use crate::error::Failure;
use crate::status::portknock_status::PORTKNOCK_ERR_PANICKED;

/// What one thread at a time may work with. After a panic in the middle of such work nobody may any more.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T>(Mutex<Inside<T>>);

#[derive(Debug, Default)]
struct Inside<T> {
    state: T,
    /// Set while somebody works with the state, and so for ever after a panic.
    unfinished: bool,
}

impl<T> Guarded<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(Mutex::new(Inside { state, unfinished: false }))
    }

    /// Works with the state once the others are done with it. Fails for ever after a panic.
    #[inline]
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Result<R, Failure> {
        let mut inside = self.0.lock();
        if inside.unfinished {
            return Err(broken());
        }
        inside.unfinished = true;
        let result = work(&mut inside.state);
        inside.unfinished = false;
        Ok(result)
    }
}

#[cold]
fn broken() -> Failure {
    Failure::new(PORTKNOCK_ERR_PANICKED, "an earlier call on this handle panicked: it can only be freed")
}
