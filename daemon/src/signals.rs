//! Signals as descriptors: handlers only write a byte.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Status,
}

/// The signals that were sent to this process.
#[derive(Debug)]
pub(crate) struct Signals([(Request, UnixStream); Self::COUNT]);

impl Signals {
    /// How many descriptors there are.
    pub(crate) const COUNT: usize = 4;

    /// Takes the signals from now on.
    pub(crate) fn register() -> io::Result<Self> {
        let take = |signal, request| {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            pipe::register(signal, write)?;
            io::Result::Ok((request, read))
        };
        Ok(Self([
            take(SIGTERM, Request::Stop)?,
            take(SIGINT, Request::Stop)?,
            take(SIGHUP, Request::Reload)?,
            take(SIGUSR1, Request::Status)?,
        ]))
    }

    /// The descriptors to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, stream)| stream.as_fd())
    }

    /// What was asked for since; the same signal in a row counts once.
    pub(crate) fn take(&mut self) -> Vec<Request> {
        let mut bytes = [0; 64];
        let mut asked = Vec::new();
        for (request, stream) in &mut self.0 {
            while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                if asked.last() != Some(request) {
                    asked.push(*request);
                }
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_one_request() {
        let mut signals = Signals::register().unwrap();
        assert_eq!(signals.take(), []);
        for signal in [SIGUSR1, SIGHUP, SIGHUP] {
            signal_hook::low_level::raise(signal).unwrap();
        }
        assert_eq!(signals.take(), [Request::Reload, Request::Status]);
        assert_eq!(signals.take(), []);
    }
}
