//! Packet sockets (packet(7)): the permission to open one, and their options.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::set_option;

/// Checks whether this process may capture packets now.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_RAW; see also socket(2): no descriptor is free, or the kernel
/// does not support packet sockets.
pub(crate) fn may_capture() -> io::Result<()> {
    // SAFETY: no pointers are passed. Protocol 0 captures nothing.
    super::owned(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }).map(drop)
}

/// Excludes the packets that this machine sends from a packet socket (packet(7),
/// `PACKET_IGNORE_OUTGOING`).
///
/// # Errors
/// See setsockopt(2); kernels before Linux 4.20 do not support the option.
pub(crate) fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
}

/// Marks a descriptor that another library opened close-on-exec, so that no program that this one
/// starts inherits it.
///
/// # Errors
/// See fcntl(2).
pub(crate) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}
