//! epoll(7): one descriptor that is readable when any of a set is ready.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

/// Maximum number of descriptors reported by one [`Epoll::wait`]; the next call reports the others.
const BATCH: libc::c_int = 64;

/// A set of descriptors that a thread waits for together. The set is itself a descriptor and can be
/// a member of another set.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Creates an empty set.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        super::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    /// Reports `token` while `fd` is readable or has hung up (level-triggered).
    ///
    /// # Errors
    /// See epoll_ctl(2).
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, token)
    }

    /// Reports `token` while `fd` has room to write, has an error or has hung up (level-triggered).
    /// This covers every state change of a connection that is being established.
    ///
    /// # Errors
    /// See epoll_ctl(2).
    pub fn add_writable(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLOUT as u32, token)
    }

    /// Pauses (`false`) or resumes (`true`) the reports of a descriptor that is in the set.
    /// Hang-ups and errors are reported even while paused.
    ///
    /// # Errors
    /// See epoll_ctl(2).
    pub fn set_enabled(&self, fd: BorrowedFd<'_>, token: u64, enabled: bool) -> io::Result<()> {
        self.set_interest(fd, token, enabled, false)
    }

    /// Sets which events of a descriptor in the set are reported from now on: that it is readable,
    /// that it has room to write, both or neither. Hang-ups and errors are always reported.
    ///
    /// # Errors
    /// See epoll_ctl(2).
    pub fn set_interest(&self, fd: BorrowedFd<'_>, token: u64, read: bool, write: bool) -> io::Result<()> {
        let read = if read { libc::EPOLLIN as u32 } else { 0 };
        let write = if write { libc::EPOLLOUT as u32 } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, fd, read | write, token)
    }

    /// Removes a descriptor from the set. This is necessary before it is closed if a duplicate of
    /// it remains open.
    ///
    /// # Errors
    /// See epoll_ctl(2).
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits until a descriptor is ready or `timeout` has passed (`None`: without a limit), and
    /// replaces the content of `tokens` with the tokens of the ready descriptors. A timeout is
    /// rounded up to a millisecond. A signal ends the wait early, without a token.
    ///
    /// # Errors
    /// See epoll_wait(2).
    pub fn wait(&self, tokens: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        tokens.clear();
        let millis = timeout.map_or(-1, |span| {
            let rounded_up = span.as_nanos().div_ceil(1_000_000);
            libc::c_int::try_from(rounded_up).unwrap_or(libc::c_int::MAX)
        });
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; BATCH as usize];
        // SAFETY: `events` has room for BATCH entries and outlives the call.
        let result = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), BATCH, millis) };
        let count = match super::check(result) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written `count` entries.
        tokens.extend(events[..count].iter().map(|event| unsafe { event.assume_init_ref() }.u64));
        Ok(())
    }

    fn control(&self, operation: libc::c_int, fd: BorrowedFd<'_>, interest: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` is a valid epoll_event that outlives the call.
        let result =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), ptr::from_mut(&mut event)) };
        super::check(result).map(drop)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reports_room_to_write() {
        let (reader, writer) = io::pipe().unwrap();
        let epoll = Epoll::new().unwrap();
        let mut tokens = Vec::new();
        epoll.add_writable(reader.as_fd(), 6).unwrap();
        epoll.add_writable(writer.as_fd(), 7).unwrap();
        epoll.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [7]);
    }

    #[test]
    fn reports_ready_descriptors_unless_paused() {
        let (reader, mut writer) = io::pipe().unwrap();
        let epoll = Epoll::new().unwrap();
        let mut tokens = Vec::new();
        epoll.add(reader.as_fd(), 7).unwrap();
        epoll.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
        assert!(tokens.is_empty());
        writer.write_all(b"x").unwrap();
        epoll.wait(&mut tokens, None).unwrap();
        assert_eq!(tokens, [7]);
        epoll.set_enabled(reader.as_fd(), 7, false).unwrap();
        epoll.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
        assert!(tokens.is_empty());
        epoll.set_enabled(reader.as_fd(), 7, true).unwrap();
        epoll.remove(reader.as_fd()).unwrap();
        epoll.wait(&mut tokens, Some(Duration::ZERO)).unwrap();
        assert!(tokens.is_empty());
    }
}
