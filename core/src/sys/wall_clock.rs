//! The state of the wall clock: whether it was set, and whether it is synchronised.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// A time that no clock shows and that the kernel can represent, in seconds since 1970: the year
/// 2223, or 2038 with 32 bits.
const FAR_FUTURE: libc::time_t = if libc::time_t::BITS > 32 { 8_000_000_000 } else { libc::time_t::MAX };

/// A descriptor that becomes readable when the wall clock is set (`TFD_TIMER_CANCEL_ON_SET`,
/// timerfd_create(2)). Slow corrections do not make it readable.
#[derive(Debug)]
pub(crate) struct ClockWatch(OwnedFd);

impl ClockWatch {
    /// Watches the wall clock from now on.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        let watch = Self(super::owned(fd)?);
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> io::Result<()> {
        let value = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: FAR_FUTURE, tv_nsec: 0 },
        };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `value` is a valid itimerspec that outlives the call; the call does not return the
        // old value.
        let result = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const value, ptr::null_mut()) };
        match super::check(result) {
            // The clock was set since the last read. The timer is armed all the same.
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Acknowledges that the clock was set, so that the descriptor is readable again only after the
    /// next time.
    ///
    /// # Errors
    /// Fails if the timer cannot be set.
    pub(crate) fn acknowledge(&self) -> io::Result<()> {
        let mut expirations = [0_u8; 8];
        // The result does not matter: ECANCELED, or an expiry in the far future.
        // SAFETY: the buffer has the eight bytes that a timerfd writes and outlives the call.
        unsafe { libc::read(self.0.as_raw_fd(), expirations.as_mut_ptr().cast(), expirations.len()) };
        self.arm()
    }
}

impl AsFd for ClockWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Returns false if the kernel reports that no program synchronises the wall clock (`STA_UNSYNC`,
/// adjtimex(2)). True if the process may not ask.
pub(crate) fn is_synchronised() -> bool {
    // SAFETY: a timex is plain integers, for which zeros are valid. Without modes the call changes
    // nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid timex that outlives the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    result == -1 || state.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::epoll::Epoll;

    #[test]
    fn a_clock_that_is_not_set_makes_nothing_readable() {
        let watch = ClockWatch::new().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(watch.as_fd(), 1).unwrap();
        let mut tokens = Vec::new();
        for _ in 0..2 {
            epoll.wait(&mut tokens, Some(Duration::from_millis(10))).unwrap();
            assert_eq!(tokens, [0; 0]);
            watch.acknowledge().unwrap();
        }
    }

    #[test]
    fn the_state_of_the_clock_can_be_asked() {
        // Either answer is right; the call must not change anything.
        assert_eq!(is_synchronised(), is_synchronised());
    }
}
