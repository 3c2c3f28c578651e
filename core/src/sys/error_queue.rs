//! The error queue of a socket (`IP_RECVERR` in ip(7), `IPV6_RECVERR` in ipv6(7)): each entry has
//! the ICMP error, its sender and the destination of the packet that it is about. Reading the queue
//! needs no privilege.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::socket;

/// The origin of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An ICMP message of this type and code.
    Icmp(u8, u8),
    /// An ICMPv6 message of this type and code.
    Icmp6(u8, u8),
    /// This machine.
    Local,
}

/// An error about a packet that the socket sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuedError {
    /// The origin.
    pub origin: Origin,
    /// The sender of the ICMP message.
    pub from: Option<IpAddr>,
    /// The destination of the packet.
    pub destination: Option<SocketAddr>,
}

/// Enables the error queue of the socket, whose address family is that of `family_of`.
///
/// # Errors
/// See setsockopt(2).
pub(crate) fn enable(socket: BorrowedFd<'_>, family_of: SocketAddr) -> io::Result<()> {
    let (level, option) = match family_of {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    socket::set_option(socket, level, option, &1)
}

/// Removes and returns the oldest error in the queue; `None` if the queue is empty.
///
/// # Errors
/// See recvmsg(2).
pub(crate) fn next(socket: BorrowedFd<'_>) -> io::Result<Option<QueuedError>> {
    // Room for the error with its sender's address and for other control messages, aligned as they
    // are.
    let mut control = [0_u64; 64];
    // SAFETY: a sockaddr_storage is plain integers, for which zeros are valid.
    let mut destination: libc::sockaddr_storage = unsafe { mem::zeroed() };
    // SAFETY: a msghdr is plain integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut destination).cast();
    #[allow(clippy::cast_possible_truncation, reason = "a few dozen bytes")]
    {
        message.msg_namelen = size_of_val(&destination) as libc::socklen_t;
    }
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the message points to buffers for an address and for control messages, with their
    // lengths, which outlive the call. It requests no data.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    if received == -1 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    let (origin, from) = extended_error(&message).unwrap_or((Origin::Local, None));
    Ok(Some(QueuedError { origin, from, destination: socket::address_of(&destination) }))
}

/// The control message of an error (`SO_EE_OFFENDER` in ip(7)).
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct WithOffender {
    error: libc::sock_extended_err,
    offender: libc::sockaddr_storage,
}

/// Returns the error in the control messages of a message, and its sender.
fn extended_error(message: &libc::msghdr) -> Option<(Origin, Option<IpAddr>)> {
    // SAFETY: the kernel has filled the message, whose control messages are still where it points.
    let mut entry = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: the pointer is null or points to a control message.
    while let Some(header) = unsafe { entry.as_ref() } {
        let kind = (header.cmsg_level, header.cmsg_type);
        if [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)].contains(&kind) {
            // SAFETY: `header` is a control message with data.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: the data of this kind begins with such an error, followed by the address of
            // its sender, in the length of its family. Both may have a lower alignment. Bytes that
            // are read after a short address are still inside the control buffer, of which the
            // kernel uses only the first part.
            let WithOffender { error, offender } = unsafe { data.cast::<WithOffender>().read_unaligned() };
            let origin = match error.ee_origin {
                libc::SO_EE_ORIGIN_ICMP => Origin::Icmp(error.ee_type, error.ee_code),
                libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp6(error.ee_type, error.ee_code),
                _ => Origin::Local,
            };
            return Some((origin, socket::address_of(&offender).map(|address| address.ip())));
        }
        // SAFETY: `message` and `header` are as above.
        entry = unsafe { libc::CMSG_NXTHDR(ptr::from_ref(message), header) };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn a_closed_port_is_reported_with_its_address_and_the_sender() {
        for (host, origin) in [("127.0.0.1", Origin::Icmp(3, 3)), ("[::1]", Origin::Icmp6(1, 4))] {
            let Ok(closed) = UdpSocket::bind(format!("{host}:0")) else { continue };
            let address = closed.local_addr().unwrap();
            drop(closed);
            let socket = UdpSocket::bind(format!("{host}:0")).unwrap();
            enable(socket.as_fd(), address).unwrap();
            assert_eq!(next(socket.as_fd()).unwrap(), None);
            socket.send_to(&[], address).unwrap();
            let start = Instant::now();
            let error = loop {
                if let Some(error) = next(socket.as_fd()).unwrap() {
                    break error;
                }
                assert!(start.elapsed() < Duration::from_secs(5));
            };
            assert_eq!(error, QueuedError { origin, from: Some(address.ip()), destination: Some(address) });
            assert_eq!(next(socket.as_fd()).unwrap(), None);
        }
    }
}
