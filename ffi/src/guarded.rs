//! The state of a handle, behind a lock that remembers panics.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::{Mutex, MutexGuard};

use crate::error::Failure;
use crate::status::portknock_status::PORTKNOCK_ERR_PANICKED;

/// What one thread at a time may work with. After a panic in the middle of such work nobody may any more.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T> {
    state: Mutex<T>,
    broken: AtomicBool,
}

impl<T> Guarded<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), broken: AtomicBool::new(false) }
    }

    /// The state, for this thread alone, once the others are done with it. Fails for ever after a panic.
    pub(crate) fn lock(&self) -> Result<Guard<'_, T>, Failure> {
        // First the lock: who held it may have panicked meanwhile.
        let guard = Guard { state: self.state.lock(), broken: &self.broken };
        if self.broken.load(Ordering::Relaxed) {
            return Err(Failure::new(
                PORTKNOCK_ERR_PANICKED,
                "an earlier call on this handle panicked: it can only be freed",
            ));
        }
        Ok(guard)
    }
}

/// The state while it is locked.
pub(crate) struct Guard<'a, T> {
    state: MutexGuard<'a, T>,
    broken: &'a AtomicBool,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.state
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // The lock orders this before the next one's look at it.
        if thread::panicking() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}
