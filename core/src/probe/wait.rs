//! Waiting for a port to open.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::connect::verdict;
use super::state::{PortState, Reason};
use crate::sys::connecting::{Connecting, NotBegun};
use crate::sys::poll::{self, Interest};
use crate::tick::TICK;

/// Delay between the first and the second try. A daemon on the same network takes a few
/// milliseconds to open a port.
const FIRST_DELAY: Duration = Duration::from_millis(2);

/// Maximum delay between two tries, so that a port that opens late is noticed soon.
const MAX_DELAY: Duration = Duration::from_millis(500);

/// Timeout of the first tries, about a dozen, before the delays have their full length. It is
/// shorter than a second, after which the kernel would retransmit the SYN of each.
const EARLY_TRY_TIMEOUT: Duration = Duration::from_millis(950);

/// Minimum time without an answer after which a try shows that the port is filtered.
const MIN_TRY_TIMEOUT: Duration = Duration::from_millis(100);

/// A port that has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The address and port.
    pub address: SocketAddr,
    /// Time from the call until the port was open.
    pub after: Duration,
    /// Number of connections that were tried.
    pub tries: u32,
}

/// The reason why no port was found open.
#[derive(Debug, thiserror::Error)]
pub enum NotOpen {
    /// The deadline has passed.
    #[error("the port is still {last} after {tries} tries")]
    Deadline {
        /// The state that the latest try shows which was answered or was silent for long enough.
        last: PortState,
        /// Number of connections that were tried.
        tries: u32,
    },
    /// The observer stopped the wait.
    #[error("stopped before the end")]
    Stopped,
    /// No connection can be tried.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The state of the port as shown by the latest try that was answered or was silent for long
/// enough.
struct LastState {
    state: PortState,
    /// The number of that try.
    number: u32,
    /// Longest time until an answer.
    slowest: Option<Duration>,
}

impl LastState {
    fn answered(&mut self, number: u32, state: PortState, took: Duration) {
        self.slowest = self.slowest.max(Some(took));
        if number >= self.number {
            (self.number, self.state) = (number, state);
        }
    }

    /// Records that a try has had no answer for `elapsed`. If others were answered much sooner, it
    /// will not be answered.
    fn silent(&mut self, number: u32, elapsed: Duration) {
        let timeout =
            self.slowest.map_or(EARLY_TRY_TIMEOUT, |slowest| EARLY_TRY_TIMEOUT.min(MIN_TRY_TIMEOUT.max(slowest * 4)));
        if number > self.number && elapsed >= timeout {
            (self.number, self.state) = (number, PortState::Filtered);
        }
    }
}

/// A connection whose answer is outstanding.
struct PendingConnection {
    /// The number of the try, from 1.
    number: u32,
    begun: Instant,
    connection: Connecting,
    target: SocketAddr,
    /// The time at which the try ends without an answer.
    until: Instant,
}

/// Waits until one of `addresses` accepts TCP connections, from `source` if given, and no longer
/// than until `deadline`. A closed or filtered port counts as not open yet.
///
/// Connections are tried after 0, 2, 5, 9.5, 16, 26, 42, 64, 99 … milliseconds, and later every
/// half second. Each try is a new connection while the older ones still wait for their answers, so
/// an open port is noticed one round trip after the first try that finds it open. The delay between
/// the opening and that try is at most half of the time that the port took to open, and usually a
/// quarter. The established connection is closed immediately.
///
/// The observer is called at least every tenth of a second and can stop the wait.
///
/// # Errors
/// [`NotOpen::Deadline`] after the deadline. [`NotOpen::Stopped`] if the observer stops the wait.
/// [`NotOpen::Io`] if no connection can be tried at all, for example without a route or with a
/// `source` that is not an address of this machine. An address that cannot be tried does not affect
/// the others.
pub fn wait_open(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    deadline: Instant,
    observer: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Opened, NotOpen> {
    let start = Instant::now();
    let mut next_try = start;
    let mut delay = FIRST_DELAY;
    let mut tries = 0;
    let mut last = LastState { state: PortState::Filtered, number: 0, slowest: None };
    let mut pending: Vec<PendingConnection> = Vec::new();
    let mut targets = addresses.to_vec();
    let mut failure = None;
    loop {
        let now = Instant::now();
        if now >= deadline && tries > 0 {
            pending.iter().for_each(|one| last.silent(one.number, now.saturating_duration_since(one.begun)));
            return Err(NotOpen::Deadline { last: last.state, tries });
        }
        if observer().is_break() {
            return Err(NotOpen::Stopped);
        }
        pending.retain(|one| {
            let is_pending = now < one.until;
            if !is_pending {
                last.silent(one.number, now.saturating_duration_since(one.begun));
            }
            is_pending
        });
        if now >= next_try {
            tries += 1;
            let until = if delay < MAX_DELAY { deadline.min(now + EARLY_TRY_TIMEOUT) } else { deadline };
            targets.retain(|&target| match Connecting::begin(target, source) {
                Ok(connection) => {
                    pending.push(PendingConnection { number: tries, begun: now, connection, target, until });
                    true
                }
                Err(NotBegun::Connect(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    last.answered(tries, PortState::Closed, Duration::ZERO);
                    true
                }
                Err(NotBegun::Socket(error) | NotBegun::Source(error) | NotBegun::Connect(error)) => {
                    failure = Some(error);
                    false
                }
            });
            next_try = now + delay;
            delay = MAX_DELAY.min(delay * 3 / 2);
        }
        if let Some(error) = failure.take_if(|_| targets.is_empty()) {
            return Err(error.into());
        }
        let wake =
            pending.iter().map(|one| one.until).chain([next_try, deadline, now + TICK]).min().unwrap_or(deadline);
        let entries = pending.iter().map(|one| (one.connection.as_fd(), Interest::ReadOrWrite));
        match poll::wait(entries, wake.saturating_duration_since(Instant::now())) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        // In reverse order, so that removing an entry does not move those that are still to be
        // checked.
        for i in (0..pending.len()).rev() {
            let PendingConnection { connection, target, number, begun, .. } = &pending[i];
            match verdict(connection, *target) {
                Ok(None) => continue,
                Ok(Some((PortState::Open, _))) => {
                    return Ok(Opened { address: *target, after: start.elapsed(), tries });
                }
                Ok(Some((_, Reason::PermDenied))) => {
                    targets.retain(|other| other != target);
                    let reason = "this machine's firewall blocks the connection";
                    failure = Some(io::Error::new(ErrorKind::PermissionDenied, reason));
                }
                Ok(Some((state, _))) => last.answered(*number, state, begun.elapsed()),
                Err(error) => {
                    targets.retain(|other| other != target);
                    failure = Some(error);
                }
            }
            pending.swap_remove(i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn wait(addresses: &[SocketAddr], source: Option<IpAddr>, deadline: Instant) -> Result<Opened, NotOpen> {
        wait_open(addresses, source, deadline, &mut || ControlFlow::Continue(()))
    }

    fn in_time(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn an_open_port_is_found_at_the_first_try() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let opened = wait(&[address], None, in_time(5_000)).unwrap();
        assert_eq!((opened.address, opened.tries), (address, 1));
    }

    #[test]
    fn a_closed_port_is_tried_again_until_it_opens() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(60));
            TcpListener::bind(address).unwrap()
        });
        let opened = wait(&[address], None, in_time(5_000)).unwrap();
        let _listener = opener.join().unwrap();
        // Tries at 0, 2, 5, 9.5, 16, 26, 42 and 64 ms; fewer if the machine is busy.
        assert!((3..=12).contains(&opened.tries) && opened.after >= Duration::from_millis(60), "{opened:?}");
    }

    #[test]
    fn the_latest_try_decides_the_state_even_by_its_silence() {
        let millis = Duration::from_millis;
        let mut last = LastState { state: PortState::Filtered, number: 0, slowest: None };
        last.answered(2, PortState::Closed, millis(30));
        last.answered(1, PortState::Filtered, millis(1));
        assert_eq!(last.state, PortState::Closed, "an older try");
        last.silent(3, millis(119));
        assert_eq!(last.state, PortState::Closed, "the answer may still come");
        last.silent(4, millis(120));
        assert_eq!(last.state, PortState::Filtered);
        last.answered(5, PortState::Closed, millis(30));
        assert_eq!(last.state, PortState::Closed);
        last.silent(4, millis(5_000));
        assert_eq!(last.state, PortState::Closed, "an older try");
    }

    #[test]
    fn the_deadline_is_kept() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let start = Instant::now();
        let error = wait(&[address], None, in_time(100)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(100) && start.elapsed() < Duration::from_secs(1));
        assert!(matches!(error, NotOpen::Deadline { last: PortState::Closed, tries: 2..=10 }), "{error:?}");
    }

    #[test]
    fn a_source_that_is_not_ours_fails_immediately() {
        let source = Some("192.0.2.1".parse().unwrap());
        let error = wait(&["127.0.0.1:9".parse().unwrap()], source, in_time(5_000)).unwrap_err();
        assert!(matches!(&error, NotOpen::Io(error) if error.kind() == ErrorKind::AddrNotAvailable), "{error:?}");
    }

    #[test]
    fn without_a_route_the_wait_fails_unless_another_address_has_one() {
        let nowhere = "192.0.2.1:9".parse().unwrap();
        // From this source no route leads out of the machine.
        let source = Some("127.0.0.1".parse().unwrap());
        let error = wait(&[nowhere], source, in_time(5_000)).unwrap_err();
        assert!(matches!(error, NotOpen::Io(_)), "{error:?}");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(wait(&[nowhere, address], source, in_time(5_000)).unwrap().address, address);
    }

    #[test]
    fn the_observer_can_stop_the_wait() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut calls = 0;
        let mut observer = || {
            calls += 1;
            if calls == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = wait_open(&[address], None, in_time(3_600_000), &mut observer).unwrap_err();
        assert!(matches!(error, NotOpen::Stopped), "{error:?}");
    }
}
