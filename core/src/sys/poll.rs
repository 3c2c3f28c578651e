//! ppoll(2): waiting for a few descriptors, with a resolution of a microsecond.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// The events of a descriptor to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Data to read.
    Read,
    /// Data to read, or room to write.
    ReadOrWrite,
    /// Room to write.
    Write,
}

/// Waits until one of the descriptors is ready, has hung up or has an error, or until `timeout` has
/// passed.
///
/// # Errors
/// `Interrupted` if a signal arrived; see ppoll(2).
pub fn wait<'a>(entries: impl IntoIterator<Item = (BorrowedFd<'a>, Interest)>, timeout: Duration) -> io::Result<()> {
    let mut entries: Vec<libc::pollfd> = entries
        .into_iter()
        .map(|(fd, interest)| {
            let events = match interest {
                Interest::Read => libc::POLLIN,
                Interest::ReadOrWrite => libc::POLLIN | libc::POLLOUT,
                Interest::Write => libc::POLLOUT,
            };
            libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
        })
        .collect();
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: `entries` has the stated length and outlives the call, as `timeout` does; the signal
    // mask is not changed.
    let result =
        unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, &raw const timeout, ptr::null()) };
    super::check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Instant;

    #[test]
    fn waits_for_the_descriptor_or_the_time() {
        let (reader, writer) = io::pipe().unwrap();
        let start = Instant::now();
        wait([(reader.as_fd(), Interest::Read)], Duration::from_millis(10)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(10));
        wait([(reader.as_fd(), Interest::Read), (writer.as_fd(), Interest::ReadOrWrite)], Duration::MAX).unwrap();
    }
}
