//! Packet sockets (packet(7)): the right to have one, and their options.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::socket::set_option;

/// Tries whether this process may capture packets now.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_RAW, and what else socket(2) may say: no descriptors left, no packet sockets in
/// this kernel.
pub fn may_capture() -> io::Result<()> {
    // SAFETY: no pointers are passed. Protocol 0 captures nothing.
    super::owned(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }).map(drop)
}

/// Spares a packet socket the packets that this machine sends (packet(7), `PACKET_IGNORE_OUTGOING`).
///
/// # Errors
/// See setsockopt(2); kernels before Linux 4.20 do not know it.
pub fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
}

/// Keeps a descriptor that another library opened from the programs that this one starts.
///
/// # Errors
/// See fcntl(2).
pub fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(drop)
}
