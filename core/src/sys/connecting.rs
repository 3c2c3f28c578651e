//! TCP connections in the making (connect(2), tcp(7)), and the ICMP errors that end them (ip(7) and ipv6(7), on
//! `IP_RECVERR`).

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::socket::{self, RawAddress};

/// The place for what comes with an error: more than a cmsghdr, a sock_extended_err and a sockaddr_in6 take.
const CONTROL: usize = 128;
/// How long a cmsghdr is: a length, a level and a type.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

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
    Icmp(IcmpReport),
    /// It has ended by this error, as `SO_ERROR` has it.
    Failed(io::Error),
    /// There is no answer yet, and this machine could not send the SYN again, as after the loss of a route.
    Unsent(io::Error),
}

/// An ICMP error, and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// True for ICMPv6.
    pub v6: bool,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Who sent it.
    pub from: IpAddr,
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
        let (level, option) =
            if to.is_ipv4() { (libc::SOL_IP, libc::IP_RECVERR) } else { (libc::SOL_IPV6, libc::IPV6_RECVERR) };
        socket::set_option(socket.as_fd(), level, option, &1).map_err(NotBegun::Socket)?;
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
        if let Some(report) = self.next_icmp()? {
            return Ok(Progress::Icmp(report));
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

    /// Takes the next ICMP error from the queue.
    fn next_icmp(&self) -> io::Result<Option<IcmpReport>> {
        loop {
            let mut control = [0_u8; CONTROL];
            // SAFETY: a msghdr is plain integers and pointers, for which zeros are valid.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = CONTROL as _;
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            // SAFETY: `message` has no place for data, and one for control messages with its length; both outlive the
            // call.
            let received = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) };
            if received == -1 {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
            }
            // What is left of the buffer is zeros, which is no control message.
            if let Some(report) = icmp_report(&control) {
                return Ok(Some(report));
            }
        }
    }
}

impl AsFd for Connecting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The ICMP error among control messages (cmsg(3)), in the layout of linux/errqueue.h: a sock_extended_err, and then the
/// address of who sent the error.
fn icmp_report(mut control: &[u8]) -> Option<IcmpReport> {
    while let Some((header, rest)) = control.split_first_chunk::<CONTROL_HEADER>() {
        // A size_t, whatever the C library says: the kernel writes it.
        let length = usize::from_ne_bytes(*header.first_chunk()?);
        let level = libc::c_int::from_ne_bytes(*header[size_of::<usize>()..].first_chunk()?);
        let kind = libc::c_int::from_ne_bytes(*header.last_chunk()?);
        let data = rest.get(..length.checked_sub(CONTROL_HEADER)?)?;
        if matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)) {
            let (&[_, _, _, _, origin, kind, code, _], _) = data.split_first_chunk()?;
            let v6 = origin == libc::SO_EE_ORIGIN_ICMP6;
            if v6 || origin == libc::SO_EE_ORIGIN_ICMP {
                let from = sender(data.get(16..)?)?;
                return Some(IcmpReport { v6, kind, code, from });
            }
        }
        control = control.get(length.next_multiple_of(size_of::<usize>())..)?;
    }
    None
}

/// The address in a sockaddr_in or sockaddr_in6.
fn sender(address: &[u8]) -> Option<IpAddr> {
    let (family, rest) = address.split_first_chunk()?;
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        // After the port.
        libc::AF_INET => Some(IpAddr::from(*rest.get(2..)?.first_chunk::<4>()?)),
        // After the port and the flow label.
        libc::AF_INET6 => Some(IpAddr::from(*rest.get(6..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{self, Interest};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    fn settled(connection: &Connecting) -> Progress {
        poll::wait(&[(connection.as_fd(), Interest::ReadOrWrite)], Duration::from_secs(5)).unwrap();
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

    /// What the kernel gave for an ICMP 3/13 of 10.0.0.1 and an ICMPv6 1/4 of fd00::1, on a 64-bit machine.
    #[test]
    #[cfg(all(target_pointer_width = "64", target_endian = "little"))]
    fn errors_are_read_with_their_senders() {
        let v4 = [
            &[48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0][..],
            &[113, 0, 0, 0, 2, 3, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let report = IcmpReport { v6: false, kind: 3, code: 13, from: [10, 0, 0, 1].into() };
        assert_eq!(icmp_report(&v4), Some(report));
        let v6 = [
            &[60, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 25, 0, 0, 0][..],
            &[111, 0, 0, 0, 3, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[10, 0, 0, 0, 0, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        ]
        .concat();
        let report = IcmpReport { v6: true, kind: 1, code: 4, from: "fd00::1".parse().unwrap() };
        assert_eq!(icmp_report(&v6), Some(report));
        // After another message, and with what is left of a buffer.
        let other = [24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 29, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(icmp_report(&[&other, v6.as_slice(), &[0; 32]].concat()), Some(report));
        assert_eq!(icmp_report(&[0; CONTROL]), None);
        for length in 0..v4.len() - 8 {
            assert_eq!(icmp_report(&v4[..length]), None, "{length}");
        }
    }
}
