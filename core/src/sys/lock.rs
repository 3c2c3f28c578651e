//! flock(2): one process at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Takes the exclusive lock of an open file without waiting; true where it was free. It is held until the file is
/// closed by this process and every child that inherited it, so by the kernel's hand even after a crash.
///
/// # Errors
/// See flock(2), for instance `ENOLCK`, and file systems that know no locks.
pub fn try_lock(file: impl AsFd) -> io::Result<bool> {
    // SAFETY: the descriptor is open for as long as it is borrowed, and no memory is passed.
    let result = unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match super::check(result) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
