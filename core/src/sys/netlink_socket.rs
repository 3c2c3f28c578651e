//! Netlink sockets (netlink(7)): opening one, and acknowledging its messages.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Opens a non-blocking netlink socket that is a member of `groups`, a mask of the first 32
/// multicast groups.
pub(super) fn open(protocol: libc::c_int, groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let socket = super::owned(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
    let mut address = no_address();
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).map_err(io::Error::other)?;
    address.nl_groups = groups;
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: `address` is a sockaddr_nl of this length and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    super::check(result)?;
    Ok(socket)
}

/// Returns the address of the kernel.
pub(super) fn no_address() -> libc::sockaddr_nl {
    // SAFETY: all zeros is a valid sockaddr_nl.
    unsafe { std::mem::zeroed() }
}

/// Discards the messages received so far; true if there was one, or if the kernel dropped some.
pub(super) fn acknowledge(socket: &OwnedFd) -> io::Result<bool> {
    let mut received = false;
    let mut ignored = [0_u8; 16];
    loop {
        // SAFETY: the buffer has the stated length and outlives the call.
        let result = unsafe { libc::recv(socket.as_raw_fd(), ignored.as_mut_ptr().cast(), ignored.len(), 0) };
        if result >= 0 {
            received = true;
            continue;
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Ok(received),
            Some(libc::EINTR) => {}
            // Messages were lost.
            Some(libc::ENOBUFS) => received = true,
            _ => return Err(error),
        }
    }
}
