//! Waiting for a port to open.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::connect::outcome;
use super::state::{PortState, Reason};
use crate::sys::connecting::{Connecting, NotBegun};
use crate::sys::poll::{self, Interest};
use crate::tick::TICK;

/// The pause after the first try: a daemon on the next desk takes some milliseconds to open.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// A port that opens late is still noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// So long the first tries wait for an answer, the dozen before the pauses have their full length: the kernel would send
/// the SYN of each again after a second.
const EARLY_PATIENCE: Duration = Duration::from_millis(950);

/// A try without an answer for a shorter time than this says nothing.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// A port that has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where.
    pub address: SocketAddr,
    /// How long it took, counted from the call.
    pub after: Duration,
    /// How many times a connection was tried.
    pub tries: u32,
}

/// Why no port was found open.
#[derive(Debug, thiserror::Error)]
pub enum NotOpen {
    /// The deadline is over.
    #[error("it is still {last} after {tries} tries")]
    Deadline {
        /// What the youngest try said that had its answer, or had none for long enough.
        last: PortState,
        /// How many times a connection was tried.
        tries: u32,
    },
    /// The observer broke off.
    #[error("stopped before the end")]
    Stopped,
    /// No connection can even be tried.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The state of the port by the youngest try that has told it, by its answer or by its silence.
struct LastState {
    state: PortState,
    /// The number of that try.
    number: u32,
    /// The longest that an answer took.
    slowest: Option<Duration>,
}

impl LastState {
    fn answered(&mut self, number: u32, state: PortState, took: Duration) {
        self.slowest = self.slowest.max(Some(took));
        if number >= self.number {
            (self.number, self.state) = (number, state);
        }
    }

    /// A try had no answer for this long. If others were answered much sooner, it will have none.
    fn silent(&mut self, number: u32, since: Duration) {
        let patience =
            self.slowest.map_or(EARLY_PATIENCE, |slowest| EARLY_PATIENCE.min(LEAST_PATIENCE.max(slowest * 4)));
        if number > self.number && since >= patience {
            (self.number, self.state) = (number, PortState::Filtered);
        }
    }
}

/// A try that waits for its answer.
struct Try {
    /// Counted from 1.
    number: u32,
    begun: Instant,
    connection: Connecting,
    target: SocketAddr,
    /// No answer is waited for after this.
    until: Instant,
}

/// Waits until one of `addresses` accepts TCP connections, from `source` where it is given, and no longer than to
/// `deadline`. Closed and filtered both mean "not yet".
///
/// Connections are tried after 0, 2, 5, 9.5, 16, 26, 42, 64, 99 … milliseconds, later every half second; each try is a new
/// connection while the older ones still wait for their answers, so that an open port is noticed one round trip after
/// the first try that finds it open. What passes between is half of the time that it took to open at the most, a
/// quarter as a rule. The connection that is made is closed at once.
///
/// The observer is asked at least every tenth of a second whether to go on.
///
/// # Errors
/// [`NotOpen::Deadline`] when the time is over; [`NotOpen::Stopped`] when the observer breaks off; [`NotOpen::Io`] where no connection can be tried at all, as without a
/// route or with a `source` that is not this machine's. An address that cannot be tried does not keep the others.
pub fn wait_open(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    deadline: Instant,
    observer: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Opened, NotOpen> {
    let start = Instant::now();
    let mut next_try = start;
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    let mut last = LastState { state: PortState::Filtered, number: 0, slowest: None };
    let mut waiting: Vec<Try> = Vec::new();
    let mut targets = addresses.to_vec();
    let mut failure = None;
    loop {
        let now = Instant::now();
        if now >= deadline && tries > 0 {
            waiting.iter().for_each(|one| last.silent(one.number, now.saturating_duration_since(one.begun)));
            return Err(NotOpen::Deadline { last: last.state, tries });
        }
        if observer().is_break() {
            return Err(NotOpen::Stopped);
        }
        waiting.retain(|one| {
            let waits = now < one.until;
            if !waits {
                last.silent(one.number, now.saturating_duration_since(one.begun));
            }
            waits
        });
        if now >= next_try {
            tries += 1;
            let until = if pause < LONGEST_PAUSE { deadline.min(now + EARLY_PATIENCE) } else { deadline };
            targets.retain(|&target| match Connecting::begin(target, source) {
                Ok(connection) => {
                    waiting.push(Try { number: tries, begun: now, connection, target, until });
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
            next_try = now + pause;
            pause = LONGEST_PAUSE.min(pause * 3 / 2);
        }
        if let Some(error) = failure.take_if(|_| targets.is_empty()) {
            return Err(error.into());
        }
        let wake =
            waiting.iter().map(|one| one.until).chain([next_try, deadline, now + TICK]).min().unwrap_or(deadline);
        let entries = waiting.iter().map(|one| (one.connection.as_fd(), Interest::ReadOrWrite));
        match poll::wait(entries, wake.saturating_duration_since(Instant::now())) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        // From the back, so that the places of those still to look at do not change.
        for i in (0..waiting.len()).rev() {
            let Try { connection, target, number, begun, .. } = &waiting[i];
            match outcome(connection, *target) {
                Ok(None) => continue,
                Ok(Some((PortState::Open, _))) => {
                    return Ok(Opened { address: *target, after: start.elapsed(), tries });
                }
                Ok(Some((_, Reason::PermDenied))) => {
                    targets.retain(|other| other != target);
                    let denied = "this machine's firewall does not let the connection out";
                    failure = Some(io::Error::new(ErrorKind::PermissionDenied, denied));
                }
                Ok(Some((state, _))) => last.answered(*number, state, begun.elapsed()),
                Err(error) => {
                    targets.retain(|other| other != target);
                    failure = Some(error);
                }
            }
            waiting.swap_remove(i);
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
        // Tries at 0, 2, 5, 9.5, 16, 26, 42 and 64 ms; fewer where the machine is busy.
        assert!((3..=12).contains(&opened.tries) && opened.after >= Duration::from_millis(60), "{opened:?}");
    }

    #[test]
    fn the_youngest_try_says_the_state_even_by_its_silence() {
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
    fn a_source_that_is_not_ours_is_an_error_and_no_wait() {
        let source = Some("192.0.2.1".parse().unwrap());
        let error = wait(&["127.0.0.1:9".parse().unwrap()], source, in_time(5_000)).unwrap_err();
        assert!(matches!(&error, NotOpen::Io(error) if error.kind() == ErrorKind::AddrNotAvailable), "{error:?}");
    }

    #[test]
    fn without_a_route_there_is_no_wait_unless_another_address_has_one() {
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
    fn the_observer_can_break_off_while_it_waits() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut asked = 0;
        let mut observer = || {
            asked += 1;
            if asked == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = wait_open(&[address], None, in_time(3_600_000), &mut observer).unwrap_err();
        assert!(matches!(error, NotOpen::Stopped), "{error:?}");
    }
}
