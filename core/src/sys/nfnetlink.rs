//! The socket over which nftables is asked and changed, and word of others' changes (netlink(7), `NETLINK_NETFILTER`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Instruction, attach_filter, code};
use super::netlink_socket;
use super::socket::set_option;

/// Room for what waits in the socket: a thousand changes, and an answer to each of them.
const BUFFER: libc::c_int = 4 << 20;

/// A netlink socket to netfilter. The kernel does what it is told before [`NfSocket::send`] returns.
#[derive(Debug)]
pub struct NfSocket(OwnedFd);

impl NfSocket {
    /// Opens one. No right is needed for this, but for what is sent then.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel has no netfilter, and what else socket(2) may say.
    pub fn open() -> io::Result<Self> {
        let socket = netlink_socket::open(libc::NETLINK_NETFILTER, 0)?;
        let fd = socket.as_fd();
        // Beyond the system's limit where that is allowed, up to it elsewhere.
        for (option, forced) in [(libc::SO_SNDBUF, libc::SO_SNDBUFFORCE), (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE)] {
            if set_option(fd, libc::SOL_SOCKET, forced, &BUFFER).is_err() {
                set_option(fd, libc::SOL_SOCKET, option, &BUFFER)?;
            }
        }
        // Errors without a copy of what was sent; kernels before 4.3 do not know it and lack more than this.
        let _ = set_option(fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1_i32);
        Ok(Self(socket))
    }

    /// The number that the kernel knows this socket by, among all of this network namespace (netlink(7), `nl_pid`).
    fn number(&self) -> io::Result<u32> {
        let mut address = netlink_socket::no_address();
        let mut length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
        // SAFETY: both pointers are to variables that outlive the call, and `length` is that of `address`.
        let result = unsafe { libc::getsockname(self.0.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
        super::check(result)?;
        Ok(address.nl_pid)
    }

    /// Sends messages to the kernel.
    ///
    /// # Errors
    /// See send(2); `EMSGSIZE` where it is too much at once.
    pub fn send(&self, messages: &[u8]) -> io::Result<()> {
        loop {
            // SAFETY: the buffer is as long as said and outlives the call.
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

    /// Receives what the kernel answered into `buffer`: one or more whole messages. `None` where nothing is left.
    ///
    /// # Errors
    /// See recv(2); `ENOBUFS` where answers were lost.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            // SAFETY: the buffer is as long as said and outlives the call.
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

/// A descriptor that becomes readable when others change what nftables has, rules or elements, in this network namespace.
#[derive(Debug)]
pub struct NfWatch(OwnedFd);

impl NfWatch {
    /// Watches from now on, and is silent about the changes that `ours` makes.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN, and what else socket(2) may say.
    pub fn new(ours: &NfSocket) -> io::Result<Self> {
        // The kernel packs what a transaction did into few messages, so that a removal may stand behind any number of
        // openings. But each transaction ends with a message of its own, NFT_MSG_NEWGEN, with its author's number.
        const NEW_GENERATION: libc::c_int = libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_NEWGEN;
        // Where the header has the type and the number (`nlmsg_type`, `nlmsg_pid`).
        const TYPE: u32 = 4;
        const NUMBER: u32 = 12;
        let socket = netlink_socket::open(libc::NETLINK_NETFILTER, 0)?;
        // A filter reads numbers as if they were in the network's order.
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

    /// Watches no more. Where nobody does, an element costs the kernel half.
    ///
    /// # Errors
    /// See setsockopt(2).
    pub fn pause(&self) -> io::Result<()> {
        self.set(libc::NETLINK_DROP_MEMBERSHIP)
    }

    /// Watches again. What happened meanwhile is to be asked for.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_ADMIN, and what else setsockopt(2) may say.
    pub fn resume(&self) -> io::Result<()> {
        self.set(libc::NETLINK_ADD_MEMBERSHIP)
    }

    fn set(&self, option: libc::c_int) -> io::Result<()> {
        set_option(self.0.as_fd(), libc::SOL_NETLINK, option, &libc::NFNLGRP_NFTABLES)
    }

    /// Takes note of all changes so far; true where there was one. What it was is to be asked for.
    ///
    /// # Errors
    /// See recv(2).
    pub fn acknowledge(&self) -> io::Result<bool> {
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
    fn there_is_no_answer_without_a_question() {
        let socket = NfSocket::open().unwrap();
        assert!(socket.receive(&mut [0; 64]).unwrap().is_none());
    }
}
