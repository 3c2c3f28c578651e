//! eventfd(2): waking a thread that waits for descriptors.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A descriptor that is readable from [`WakeFd::wake`] to [`WakeFd::acknowledge`].
#[derive(Debug)]
pub struct WakeFd(OwnedFd);

impl WakeFd {
    /// Creates a descriptor that is not readable.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        super::owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) }).map(Self)
    }

    /// Makes the descriptor readable. Callable from any thread, and from a signal handler. It can
    /// fail only if the descriptor is already readable.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the buffer has the eight bytes that an eventfd reads and outlives the call.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable. Returns true if it was readable.
    pub fn acknowledge(&self) -> bool {
        let mut count = [0_u8; 8];
        // SAFETY: the buffer has the eight bytes that an eventfd writes and outlives the call.
        let result = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        result > 0
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_wakes_is_acknowledged_once() {
        let waker = WakeFd::new().unwrap();
        assert!(!waker.acknowledge());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..3).for_each(|_| waker.wake()));
        });
        assert!(waker.acknowledge());
        assert!(!waker.acknowledge());
    }
}
