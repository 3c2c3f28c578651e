//! TCP connections that are being established (connect(2), tcp(7)), and the ICMP errors that end
//! them (`IP_RECVERR` in ip(7) and ipv6(7)).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::error_queue::{self, Origin, QueuedError};
use super::socket::{self, RawAddress};

/// The state before the answer to the SYN (linux/tcp_states.h).
const TCP_SYN_SENT: u8 = 2;

/// A non-blocking TCP connection that is being established. Dropping it ends the connection without
/// a further SYN.
#[derive(Debug)]
pub(crate) struct Connecting(TcpStream);

/// The reason why no connection could be begun. Nothing was sent.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// The socket could not be created: no descriptor or memory is free, or the address family is
    /// not supported. See socket(2).
    Socket(io::Error),
    /// The source is not an address of this machine. See bind(2).
    Source(io::Error),
    /// This machine refuses the connection: there is no route or no free local port, or it is not
    /// permitted. See connect(2).
    Connect(io::Error),
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) enum ConnectionState {
    /// There is no answer yet.
    Waiting,
    /// The connection was established. It may have ended since, but not by an RST.
    Connected,
    /// The SYN was answered by this ICMP error. The kernel reports no others.
    Icmp(QueuedError),
    /// The connection ended with this error, as reported by `SO_ERROR`.
    Failed(io::Error),
    /// There is no answer yet, and this machine could not retransmit the SYN, for example because
    /// the route was lost.
    Unsent(io::Error),
}

impl Connecting {
    /// Begins a connection to `to`, from this machine's address `source` if given. When it returns,
    /// the SYN has been sent. Each connection to the same port has its own local port.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub(crate) fn begin(to: SocketAddr, source: Option<IpAddr>) -> Result<Self, NotBegun> {
        let socket = socket::new_socket(to, libc::SOCK_STREAM, 0).map_err(NotBegun::Socket)?;
        // This must precede the SYN. Otherwise the kernel does not report which ICMP error arrived,
        // and with IPv6 it reports an error that arrives during connect(2) only after a second.
        error_queue::enable(socket.as_fd(), to).map_err(NotBegun::Socket)?;
        if let Some(source) = source {
            // connect(2) chooses the port, and can use one port for connections to different
            // destinations; bind(2) would run out of ports.
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

    /// Returns the state of the connection. An error is returned only once; the descriptor is not
    /// ready after that.
    ///
    /// # Errors
    /// None known; see recvmsg(2) and getsockopt(2).
    pub(crate) fn state(&self) -> io::Result<ConnectionState> {
        // Only an established connection has a peer.
        if self.0.peer_addr().is_ok() {
            return Ok(ConnectionState::Connected);
        }
        // The queue is read first, because reading it clears the error that belongs to it.
        while let Some(error) = error_queue::next(self.as_fd())? {
            if error.origin != Origin::Local {
                return Ok(ConnectionState::Icmp(error));
            }
        }
        Ok(match self.0.take_error()? {
            None => ConnectionState::Waiting,
            Some(error) if self.is_unanswered() => ConnectionState::Unsent(error),
            Some(error) => ConnectionState::Failed(error),
        })
    }

    /// Returns true if the SYN has not been answered yet (tcp(7), `TCP_INFO`).
    fn is_unanswered(&self) -> bool {
        // The first byte of the tcp_info.
        let mut state = 0_u8;
        let mut length: libc::socklen_t = 1;
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        let value = (&raw mut state).cast();
        // SAFETY: `state` has the one byte that `length` states, and both outlive the call.
        let result = unsafe { libc::getsockopt(self.0.as_raw_fd(), level, option, value, &raw mut length) };
        result == 0 && state == TCP_SYN_SENT
    }

    /// Returns the local address.
    ///
    /// # Errors
    /// None known; see getsockname(2).
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Ends the connection by an RST, so that no state remains on either side. An orderly end would
    /// occupy the port for a minute (tcp(7), TIME_WAIT).
    pub(crate) fn reset(self) {
        let immediately = libc::linger { l_onoff: 1, l_linger: 0 };
        // If this fails, the port is occupied for a minute.
        let _ = socket::set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &immediately);
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

    fn settled(connection: &Connecting) -> ConnectionState {
        poll::wait([(connection.as_fd(), Interest::ReadOrWrite)], Duration::from_secs(5)).unwrap();
        connection.state().unwrap()
    }

    #[test]
    fn an_established_connection_is_reported() {
        for listening in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(listening) else { continue };
            let connection = Connecting::begin(listener.local_addr().unwrap(), None).unwrap();
            assert!(matches!(settled(&connection), ConnectionState::Connected));
            assert_eq!(listener.accept().unwrap().1, connection.local_address().unwrap());
            connection.reset();
        }
    }

    #[test]
    fn a_connection_comes_from_the_requested_source() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let source = IpAddr::from([127, 0, 0, 9]);
        let connection = Connecting::begin(listener.local_addr().unwrap(), Some(source)).unwrap();
        assert!(matches!(settled(&connection), ConnectionState::Connected));
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
        let state = settled(&connection);
        assert!(
            matches!(&state, ConnectionState::Failed(error) if error.kind() == io::ErrorKind::ConnectionRefused),
            "{state:?}"
        );
        assert!(matches!(connection.state().unwrap(), ConnectionState::Waiting));
    }
}
