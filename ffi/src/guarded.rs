//! The state of a handle, protected by a lock that remembers panics.

use parking_lot::Mutex;

use crate::error::Failure;
use crate::status::portknock_status::PORTKNOCK_ERR_PANICKED;

/// A state that one thread at a time can use. After a panic during such use every further use
/// fails.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T>(Mutex<Inside<T>>);

#[derive(Debug, Default)]
struct Inside<T> {
    state: T,
    /// Set during each use of the state, and so permanently after a panic.
    unfinished: bool,
}

impl<T> Guarded<T> {
    pub(crate) fn new(state: T) -> Self {
        Self(Mutex::new(Inside { state, unfinished: false }))
    }

    /// Runs `work` with exclusive access to the state, after waiting for other threads. Always
    /// fails after a panic.
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
