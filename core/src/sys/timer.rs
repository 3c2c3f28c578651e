//! timerfd_create(2): a descriptor that becomes readable after a given time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// A one-shot timer that a thread can wait for like a socket. It runs on `CLOCK_BOOTTIME`: steps of
/// the wall clock do not affect it, and the time that the machine sleeps counts.
#[derive(Debug)]
pub(crate) struct TimerFd {
    fd: OwnedFd,
    /// True if it was armed and its expiry was not acknowledged.
    armed: bool,
}

impl TimerFd {
    /// Creates a timer that is not armed.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        super::owned(fd).map(|fd| Self { fd, armed: false })
    }

    /// Makes the descriptor readable once, `after` from now, replacing an earlier setting (`None`:
    /// never). A readable descriptor becomes unreadable. Zero means immediately.
    ///
    /// # Errors
    /// See timerfd_settime(2); a time that the kernel cannot represent is cut to 68 years.
    pub(crate) fn arm(&mut self, after: Option<Duration>) -> io::Result<()> {
        // A value of zero disarms the timer, so "immediately" is a nanosecond.
        let span = after.map_or(Duration::ZERO, |span| span.max(Duration::from_nanos(1)));
        let seconds = i32::try_from(span.as_secs()).unwrap_or(i32::MAX);
        let value = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec { tv_sec: seconds.into(), tv_nsec: span.subsec_nanos() as libc::c_long },
        };
        // SAFETY: `value` is a valid itimerspec that outlives the call; the call does not return
        // the old value.
        let result = unsafe { libc::timerfd_settime(self.fd.as_raw_fd(), 0, &raw const value, ptr::null_mut()) };
        super::check(result)?;
        self.armed = after.is_some();
        Ok(())
    }

    /// Returns true from [`TimerFd::arm`] until [`TimerFd::acknowledge`] acknowledges the expiry.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Acknowledges the expiry: the descriptor is not readable until the timer is armed again.
    /// Returns true if the timer had expired.
    pub(crate) fn acknowledge(&mut self) -> bool {
        if !self.armed {
            return false;
        }
        let mut expirations = [0_u8; 8];
        // SAFETY: the buffer has the eight bytes that a timerfd writes and outlives the call.
        let result = unsafe { libc::read(self.fd.as_raw_fd(), expirations.as_mut_ptr().cast(), expirations.len()) };
        self.armed = result <= 0;
        !self.armed
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::Epoll;

    fn readable(timer: &TimerFd, wait: Duration) -> bool {
        let epoll = Epoll::new().unwrap();
        epoll.add(timer.as_fd(), 1).unwrap();
        let mut tokens = Vec::new();
        epoll.wait(&mut tokens, Some(wait)).unwrap();
        !tokens.is_empty()
    }

    #[test]
    fn fires_once_and_not_before_its_time() {
        let mut timer = TimerFd::new().unwrap();
        assert!(!readable(&timer, Duration::ZERO));
        let start = std::time::Instant::now();
        timer.arm(Some(Duration::from_millis(20))).unwrap();
        assert!(!timer.acknowledge());
        assert!(readable(&timer, Duration::from_secs(10)));
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(timer.acknowledge());
        assert!(!readable(&timer, Duration::ZERO));
    }

    #[test]
    fn arming_again_replaces_and_none_disarms() {
        let mut timer = TimerFd::new().unwrap();
        timer.arm(Some(Duration::ZERO)).unwrap();
        assert!(readable(&timer, Duration::from_secs(10)));
        timer.arm(Some(Duration::MAX)).unwrap();
        assert!(!readable(&timer, Duration::ZERO));
        timer.arm(Some(Duration::ZERO)).unwrap();
        assert!(readable(&timer, Duration::from_secs(10)));
        timer.arm(None).unwrap();
        assert!(!timer.acknowledge());
    }
}
