//! Signals as descriptors: the handlers only write a byte.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

/// The action that a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    Status,
}

/// The signals of this process.
#[derive(Debug)]
pub(crate) struct Signals([(Action, UnixStream); Self::COUNT]);

impl Signals {
    /// Number of descriptors.
    pub(crate) const COUNT: usize = 4;

    /// Handles the signals from now on.
    pub(crate) fn register() -> io::Result<Self> {
        let handle = |signal, action| {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            pipe::register(signal, write)?;
            io::Result::Ok((action, read))
        };
        Ok(Self([
            handle(SIGTERM, Action::Stop)?,
            handle(SIGINT, Action::Stop)?,
            handle(SIGHUP, Action::Reload)?,
            handle(SIGUSR1, Action::Status)?,
        ]))
    }

    /// The descriptors to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, stream)| stream.as_fd())
    }

    /// Returns the actions requested since the last call. Repetitions of a signal in a row count
    /// once.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        let mut bytes = [0; 64];
        let mut actions = Vec::new();
        for (action, stream) in &mut self.0 {
            while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                if actions.last() != Some(action) {
                    actions.push(*action);
                }
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_one_action() {
        let mut signals = Signals::register().unwrap();
        assert_eq!(signals.take(), []);
        for signal in [SIGUSR1, SIGHUP, SIGHUP] {
            signal_hook::low_level::raise(signal).unwrap();
        }
        assert_eq!(signals.take(), [Action::Reload, Action::Status]);
        assert_eq!(signals.take(), []);
    }
}
