//! The socket for queries and changes of nftables, and notifications of changes by other processes
//! (netlink(7), `NETLINK_NETFILTER`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Instruction, attach_filter, code};
use super::netlink_socket;
use super::socket::set_option;

/// Size of the socket buffers in bytes: room for 1,000 changes and the answer to each.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// A netlink socket to netfilter. The kernel processes the messages before [`NfSocket::send`]
/// returns.
#[derive(Debug)]
pub(crate) struct NfSocket(OwnedFd);

impl NfSocket {
    /// Opens a socket. This needs no privilege; sending most messages does.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel has no netfilter; see also socket(2).
    pub(crate) fn open() -> io::Result<Self> {
        let socket = netlink_socket::open(libc::NETLINK_NETFILTER, 0)?;
        let fd = socket.as_fd();
        // The first option exceeds the system's limit, but needs a privilege; the second one is
        // subject to the limit.
        for (option, forced) in [(libc::SO_SNDBUF, libc::SO_SNDBUFFORCE), (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE)] {
            if set_option(fd, libc::SOL_SOCKET, forced, &BUFFER_BYTES).is_err() {
                set_option(fd, libc::SOL_SOCKET, option, &BUFFER_BYTES)?;
            }
        }
        // Errors without a copy of the message sent. Kernels before 4.3 do not support the option,
        // and lack more than this.
        let _ = set_option(fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1_i32);
        Ok(Self(socket))
    }

    /// Returns the number that identifies this socket in its network namespace (netlink(7),
    /// `nl_pid`).
    fn number(&self) -> io::Result<u32> {
        let mut address = netlink_socket::no_address();
        let mut length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
        // SAFETY: both pointers refer to variables that outlive the call, and `length` is the size
        // of `address`.
        let result = unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        super::check(result)?;
        Ok(address.nl_pid)
    }

    /// Sends messages to the kernel.
    ///
    /// # Errors
    /// See send(2); `EMSGSIZE` if the messages are too long for one call.
    pub(crate) fn send(&self, messages: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: the buffer has the stated length and outlives the call.
            let sent = unsafe { libc::send(self.0.as_raw_fd(), messages.as_ptr().cast(), messages.len(), 0) };
            match sent {
                -1 => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
                _ => return Ok(()),
            }
        }
    }

    /// Receives the kernel's answer into `buffer`: one or more whole messages. Returns `None` if
    /// there are no more.
    ///
    /// # Errors
    /// See recv(2); `ENOBUFS` if answers were lost.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            // SAFETY: the buffer has the stated length and outlives the call.
            let received = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if let Ok(length) = usize::try_from(received) {
                return Ok(buffer.get(..length));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                error => return Err(error),
            }
        }
    }
}

/// A descriptor that becomes readable when other processes change rules or elements of nftables in
/// this network namespace.
#[derive(Debug)]
pub(crate) struct NfWatch(OwnedFd);

impl NfWatch {
    /// Starts watching, except for changes made through `ours`.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN; see also socket(2).
    pub(crate) fn new(ours: &NfSocket) -> io::Result<Self> {
        // The kernel packs the changes of a transaction into few messages, so a removal may follow
        // any number of openings. Each transaction ends with a separate message, NFT_MSG_NEWGEN,
        // that contains its author's number.
        /// The type of the message that ends a transaction.
        const NEW_GENERATION: libc::c_int = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN;
        // Offsets of the type and the number in the header (`nlmsg_type`, `nlmsg_pid`).
        const TYPE: u32 = 4;
        const NUMBER: u32 = 12;
        let socket = netlink_socket::open(libc::NETLINK_NETFILTER, 0)?;
        // A filter reads numbers in network byte order.
        let kind = u16::try_from(NEW_GENERATION).map_err(io::Error::other)?;
        let (kind, ours) = (kind.to_be().into(), ours.number()?.to_be());
        let program = [
            Instruction::new(code::LOAD_HALF, TYPE),
            Instruction::compare(code::IF_EQUAL, kind, 0, 2),
            Instruction::new(code::LOAD_WORD, NUMBER),
            Instruction::compare(code::IF_EQUAL, ours, 0, 1),
            Instruction::new(code::RETURN, bpf::DROP),
            Instruction::new(code::RETURN, bpf::KEEP),
        ];
        attach_filter(socket.as_fd(), &program)?;
        let watch = Self(socket);
        watch.resume()?;
        Ok(watch)
    }

    /// Stops watching. Adding an element costs the kernel half as much if no process watches.
    ///
    /// # Errors
    /// See setsockopt(2).
    pub(crate) fn pause(&self) -> io::Result<()> {
        self.set(libc::NETLINK_DROP_MEMBERSHIP)
    }

    /// Resumes watching. The caller must query the changes made in the meantime.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN; see also setsockopt(2).
    pub(crate) fn resume(&self) -> io::Result<()> {
        self.set(libc::NETLINK_ADD_MEMBERSHIP)
    }

    fn set(&self, option: libc::c_int) -> io::Result<()> {
        set_option(self.0.as_fd(), libc::SOL_NETLINK, option, &libc::NFNLGRP_NFTABLES)
    }

    /// Acknowledges all changes so far. Returns true if there was one. The caller must query what
    /// changed.
    ///
    /// # Errors
    /// See recv(2).
    pub(crate) fn acknowledge(&self) -> io::Result<bool> {
        netlink_socket::acknowledge(&self.0)
    }
}

impl AsFd for NfWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_answer_without_a_request() {
        let socket = NfSocket::open().unwrap();
        assert!(socket.receive(&mut [0; 64]).unwrap().is_none());
    }
}
