//! Waiting for a port to open.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::state::PortState;
use crate::sys::socket;

/// The pause after the first try; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A port that opens late is still noticed soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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
        /// What the network said last.
        last: PortState,
        /// How many times a connection was tried.
        tries: u32,
    },
    /// No connection can even be tried.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Waits until one of `addresses` accepts TCP connections, from `source` where it is given, and no longer than to
/// `deadline`. Closed and filtered both mean "not yet".
///
/// Connections are tried after 0, 10, 30, 70, 150, 310 … milliseconds, later every half second; each try is a new
/// connection while the older ones still wait for their answers, so that an open port is noticed one round trip after
/// it opens. The connection that is made is closed at once.
///
/// # Errors
/// [`NotOpen::Deadline`] when the time is over; [`NotOpen::Io`] where no connection can be tried at all, as with a
/// `source` that is not this machine's.
pub fn wait_open(addresses: &[SocketAddr], source: Option<IpAddr>, deadline: Instant) -> Result<Opened, NotOpen> {
    let start = Instant::now();
    let mut next_try = start;
    let mut pause = FIRST_PAUSE;
    let mut tries = 0;
    let mut last = PortState::Filtered;
    let mut waiting: Vec<TcpStream> = Vec::new();
    let mut targets: Vec<SocketAddr> = Vec::new();
    loop {
        let now = Instant::now();
        if now >= deadline && tries > 0 {
            return Err(NotOpen::Deadline { last, tries });
        }
        if now >= next_try {
            tries += 1;
            for &address in addresses {
                match socket::start_connect(address, source) {
                    Ok(stream) => {
                        waiting.push(stream);
                        targets.push(address);
                    }
                    Err(error) => last = not_yet(error)?,
                }
            }
            next_try = now + pause;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        let wait = next_try.min(deadline).saturating_duration_since(Instant::now());
        let done = socket::wait_connected(&waiting, wait)?;
        // From the back, so that the places of those still to look at do not change.
        for i in (0..waiting.len()).rev().filter(|&i| done[i]) {
            let stream = waiting.swap_remove(i);
            let address = targets.swap_remove(i);
            match stream.take_error()? {
                // A port of this machine can be connected to itself when the kernel happens to choose it as the source.
                None if stream.local_addr().is_ok_and(|local| local == address) => last = PortState::Closed,
                None => return Ok(Opened { address, after: start.elapsed(), tries }),
                Some(error) => last = not_yet(error)?,
            }
        }
    }
}

/// What a failed connection says about the port; an error that says nothing about it is given back.
fn not_yet(error: io::Error) -> io::Result<PortState> {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Ok(PortState::Closed),
        // PermissionDenied: ICMPv6 "administratively prohibited", or a firewall on this side.
        ErrorKind::TimedOut
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::PermissionDenied => Ok(PortState::Filtered),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn in_time(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    #[test]
    fn an_open_port_is_found_at_the_first_try() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let opened = wait_open(&[address], None, in_time(5_000)).unwrap();
        assert_eq!((opened.address, opened.tries), (address, 1));
    }

    #[test]
    fn a_closed_port_is_tried_again_until_it_opens() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(60));
            TcpListener::bind(address).unwrap()
        });
        let opened = wait_open(&[address], None, in_time(5_000)).unwrap();
        let _listener = opener.join().unwrap();
        // Tries at 0, 10, 30 and 70 ms.
        assert!(opened.tries >= 4 && opened.after >= Duration::from_millis(60), "{opened:?}");
    }

    #[test]
    fn the_deadline_is_kept() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let start = Instant::now();
        let error = wait_open(&[address], None, in_time(100)).unwrap_err();
        assert!(start.elapsed() >= Duration::from_millis(100) && start.elapsed() < Duration::from_secs(1));
        assert!(matches!(error, NotOpen::Deadline { last: PortState::Closed, tries: 4 | 5 }), "{error:?}");
    }

    #[test]
    fn a_source_that_is_not_ours_is_an_error_and_no_wait() {
        let source = Some("192.0.2.1".parse().unwrap());
        let error = wait_open(&["127.0.0.1:9".parse().unwrap()], source, in_time(5_000)).unwrap_err();
        assert!(matches!(&error, NotOpen::Io(error) if error.kind() == ErrorKind::AddrNotAvailable), "{error:?}");
    }
}
