//! TCP connections in the making (connect(2), tcp(7)), and the ICMP errors that end them (ip(7) and ipv6(7), on
//! `IP_RECVERR`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::error_queue::{self, Origin, QueuedError};
use super::socket::{self, RawAddress};

/// linux/tcp_states.h
const TCP_SYN_SENT: u8 = 2;

/// A non-blocking TCP connection that nobody has waited for yet. It ends when this is dropped, without a further SYN.
#[derive(Debug)]
pub struct Connecting(TcpStream);

/// Why no connection could be begun. Nothing was sent.
#[derive(Debug)]
pub enum NotBegun {
    /// There is no socket: no descriptors or no memory left, or no such address family. See socket(2).
    Socket(io::Error),
    /// The source is no address of this machine. See bind(2).
    Source(io::Error),
    /// The connection is refused by this machine: no route, no port left to connect from, not allowed. See connect(2).
    Connect(io::Error),
}

/// How far a connection has come.
#[derive(Debug)]
pub enum Progress {
    /// There is no answer yet.
    Waiting,
    /// It was made. It may have ended since, but not by an RST.
    Connected,
    /// This ICMP error came in answer to the SYN. The kernel keeps no others.
    Icmp(QueuedError),
    /// It has ended by this error, as `SO_ERROR` has it.
    Failed(io::Error),
    /// There is no answer yet, and this machine could not send the SYN again, as after the loss of a route.
    Unsent(io::Error),
}

impl Connecting {
    /// Begins a connection to `to`, from that address of this machine where one is given: the SYN is on its way when this
    /// returns. Each connection to one port comes from a port of its own.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub fn begin(to: SocketAddr, source: Option<IpAddr>) -> Result<Self, NotBegun> {
        let socket = socket::new_socket(to, libc::SOCK_STREAM, 0).map_err(NotBegun::Socket)?;
        // Before the SYN leaves: else the kernel keeps to itself which ICMP error came, and IPv6 takes a second to tell
        // of one that comes while connect(2) still runs.
        error_queue::enable(socket.as_fd(), to).map_err(NotBegun::Socket)?;
        if let Some(source) = source {
            // The port is chosen by connect(2), which gives one port to connections to different places; bind(2) would
            // run out of ports.
            let late_port = socket::set_option(socket.as_fd(), libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1);
            late_port.map_err(NotBegun::Socket)?;
            socket::bind(&socket, socket::with_scope_of(source, to)).map_err(NotBegun::Source)?;
        }
        let address = RawAddress::from(to);
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let result = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.len()) };
        match super::check(result) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(NotBegun::Connect(error)),
            _ => Ok(Self(TcpStream::from(socket))),
        }
    }

    /// How far it has come. An error is told once; the descriptor is not ready after that.
    ///
    /// # Errors
    /// None that is known; see recvmsg(2) and getsockopt(2).
    pub fn progress(&self) -> io::Result<Progress> {
        // Only what is connected has a peer.
        if self.0.peer_addr().is_ok() {
            return Ok(Progress::Connected);
        }
        // First the queue: to read it clears the error that it goes with.
        while let Some(error) = error_queue::next(self.as_fd())? {
            if error.origin != Origin::Local {
                return Ok(Progress::Icmp(error));
            }
        }
        Ok(match self.0.take_error()? {
            None => Progress::Waiting,
            Some(error) if self.is_waiting() => Progress::Unsent(error),
            Some(error) => Progress::Failed(error),
        })
    }

    /// True where its SYN is not answered yet (tcp(7), `TCP_INFO`).
    fn is_waiting(&self) -> bool {
        // The first byte of the tcp_info.
        let mut state = 0_u8;
        let mut length: libc::socklen_t = 1;
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        let place = (&raw mut state).cast();
        // SAFETY: `state` has the one byte that `length` says, and both outlive the call.
        let result = unsafe { libc::getsockopt(self.0.as_raw_fd(), level, option, place, &raw mut length) };
        result == 0 && state == TCP_SYN_SENT
    }

    /// Where it comes from.
    ///
    /// # Errors
    /// None that is known; see getsockname(2).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Ends it by an RST, which leaves nothing behind on either side; an orderly end takes up the port for a minute
    /// (tcp(7), TIME_WAIT).
    pub fn reset(self) {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        // Where it fails, the port is taken up for a minute.
        let _ = socket::set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &at_once);
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{self, Interest};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    fn settled(connection: &Connecting) -> Progress {
        poll::wait([(connection.as_fd(), Interest::ReadOrWrite)], Duration::from_secs(5)).unwrap();
        connection.progress().unwrap()
    }

    #[test]
    fn a_connection_is_reported_when_it_is_made() {
        for listening in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listening) else { continue };
            let connection = Connecting::begin(listener.local_addr().unwrap(), None).unwrap();
            assert!(matches!(settled(&connection), Progress::Connected));
            assert_eq!(listener.accept().unwrap().1, connection.local_address().unwrap());
            connection.reset();
        }
    }

    #[test]
    fn the_source_is_the_one_that_was_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let source = IpAddr::from([127, 0, 0, 9]);
        let connection = Connecting::begin(listener.local_addr().unwrap(), Some(source)).unwrap();
        assert!(matches!(settled(&connection), Progress::Connected));
        assert_eq!(listener.accept().unwrap().1.ip(), source);
        let not_ours = Some([192, 0, 2, 1].into());
        let error = Connecting::begin(listener.local_addr().unwrap(), not_ours).unwrap_err();
        assert!(
            matches!(&error, NotBegun::Source(error) if error.kind() == io::ErrorKind::AddrNotAvailable),
            "{error:?}"
        );
    }

    #[test]
    fn a_refusal_is_reported_once() {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let connection = Connecting::begin(closed, None).unwrap();
        let progress = settled(&connection);
        assert!(
            matches!(&progress, Progress::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused),
            "{progress:?}"
        );
        assert!(matches!(connection.progress().unwrap(), Progress::Waiting));
    }
}
