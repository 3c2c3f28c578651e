//! flock(2): exclusive access for one process.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Takes the exclusive lock of an open file without waiting. Returns true if it was free. The lock
/// is held until this process and every child that inherited the file have closed it. The kernel
/// releases it even after a crash.
///
/// # Errors
/// See flock(2), for example `ENOLCK`, and file systems that do not support locks.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and no memory is passed.
    let result = unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match super::check(result) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
