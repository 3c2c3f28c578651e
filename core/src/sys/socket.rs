//! Sockets that std cannot create: TCP connections whose answers are not awaited.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// Begins a TCP connection to `to` and returns immediately: the SYN is sent, the answer is not
/// awaited. With `source` the connection comes from that address of this machine. The stream is
/// non-blocking.
///
/// # Errors
/// See socket(2), bind(2) and connect(2). `ConnectionRefused` means that the answer of a closed
/// port has already arrived: the SYN was sent.
pub(crate) fn start_connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = new_socket(to, libc::SOCK_STREAM, 0)?;
    if let Some(source) = source {
        bind(&socket, with_scope_of(source, to))?;
    }
    let address = RawAddress::from(to);
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr(), address.len()) };
    match super::check(result) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// Reserves a TCP port of `local`, whose own port is not used, for as long as the returned socket
/// is open, and returns the port. No program listens there, so the kernel answers as for a closed
/// port.
///
/// # Errors
/// `AddrNotAvailable` if `local` is not an address of this machine; `AddrInUse` if all ports are in
/// use. See bind(2).
pub(crate) fn reserve_port(local: SocketAddr) -> io::Result<(TcpStream, u16)> {
    let socket = new_socket(local, libc::SOCK_STREAM, 0)?;
    let mut any_port = local;
    any_port.set_port(0);
    bind(&socket, any_port)?;
    let socket = TcpStream::from(socket);
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Returns `address` as a socket address for communication with `peer`: a link-local address needs
/// the zone of the peer.
pub(crate) fn with_scope_of(address: IpAddr, peer: SocketAddr) -> SocketAddr {
    let mut result = SocketAddr::new(address, 0);
    if let (SocketAddr::V6(ours), SocketAddr::V6(theirs)) = (&mut result, peer)
        && ours.ip().is_unicast_link_local()
    {
        ours.set_scope_id(theirs.scope_id());
    }
    result
}

/// Opens a non-blocking, close-on-exec socket of the family of `family_of` (socket(2)).
pub(super) fn new_socket(family_of: SocketAddr, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    let family = if family_of.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers are passed.
    super::owned(unsafe { libc::socket(family, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) })
}

/// Binds a socket to `to` (bind(2)).
pub(super) fn bind(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    let address = RawAddress::from(to);
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr(), address.len()) };
    super::check(result).map(drop)
}

/// Sets an option (setsockopt(2)).
pub(super) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let value = ptr::from_ref(value).cast();
    // SAFETY: `value` points to `length` bytes that outlive the call. If the option's type contains
    // a pointer, the calling wrapper ensures that it is valid.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) };
    super::check(result).map(drop)
}

/// Converts the result of sendmmsg(2) or recvmmsg(2) to a count.
pub(super) fn check_count(result: libc::c_int) -> io::Result<usize> {
    super::check(result).map(|count| usize::try_from(count).unwrap_or(0))
}

/// Returns the address that the kernel stored; `None` if it is neither IPv4 nor IPv6.
pub(super) fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: a storage is large enough and aligned for each kind of address, and its
            // family identifies the kind.
            let address = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Some(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// A socket address in the kernel's form.
pub(super) enum RawAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<SocketAddr> for RawAddress {
    #[allow(clippy::cast_possible_truncation, reason = "both constants fit the type of the field")]
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }
}

impl RawAddress {
    /// Returns the address as a pointer for a system call.
    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        match self {
            Self::V4(address) => ptr::from_ref(address).cast(),
            Self::V6(address) => ptr::from_ref(address).cast(),
        }
    }

    /// Returns the address as a mutable pointer for a system call.
    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        match self {
            Self::V4(address) => ptr::from_mut(address).cast(),
            Self::V6(address) => ptr::from_mut(address).cast(),
        }
    }

    /// Returns the length of the address in bytes.
    #[allow(clippy::cast_possible_truncation, reason = "both are a few bytes long")]
    pub(super) fn len(&self) -> libc::socklen_t {
        match self {
            Self::V4(address) => mem::size_of_val(address) as libc::socklen_t,
            Self::V6(address) => mem::size_of_val(address) as libc::socklen_t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_link_local_addresses_get_a_scope() {
        let peer = "[fe80::1%7]:0".parse().unwrap();
        assert_eq!(with_scope_of("fe80::2".parse().unwrap(), peer), "[fe80::2%7]:0".parse().unwrap());
        assert_eq!(with_scope_of("fd00::2".parse().unwrap(), peer), "[fd00::2]:0".parse().unwrap());
    }
}
