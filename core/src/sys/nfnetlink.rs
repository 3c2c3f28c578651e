//! The socket over which nftables is asked and changed (netlink(7), `NETLINK_NETFILTER`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers are passed.
        let socket = super::owned(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_answer_without_a_question() {
        let socket = NfSocket::open().unwrap();
        assert!(socket.receive(&mut [0; 64]).unwrap().is_none());
    }
}
