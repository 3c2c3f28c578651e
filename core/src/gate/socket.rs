//! Queries of the kernel's nftables, and transactions that change them.

use super::error::GateError;
use super::message::{Messages, Reply, replies};
use crate::sys::nfnetlink::{NfSocket, NfWatch};

/// Size of the buffer for replies, in bytes: twice the maximum size of a part of a list (netlink's `NLMSG_GOODSIZE`).
const REPLY_BUFFER: usize = 64 * 1024;

/// The connection to nftables.
#[derive(Debug)]
pub(super) struct NftSocket {
    socket: NfSocket,
    buffer: Box<[u8]>,
}

/// A message that failed. The kernel made no change of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The number of the message in its transaction.
    pub(super) number: u32,
    pub(super) errno: i32,
}

impl NftSocket {
    pub(super) fn open() -> Result<Self, GateError> {
        Ok(Self { socket: NfSocket::open()?, buffer: vec![0; REPLY_BUFFER].into() })
    }

    /// Returns a watch that reports the changes of other programs.
    pub(super) fn watch(&self) -> Result<NfWatch, GateError> {
        Ok(NfWatch::new(&self.socket)?)
    }

    /// Sends a transaction. Returns all messages that failed; none if the kernel made all changes.
    ///
    /// # Errors
    /// Fails if the kernel refused the transaction as a whole.
    pub(super) fn transact(&mut self, messages: Messages) -> Result<Vec<Failure>, GateError> {
        self.transact_with_echo(messages, |_| {})
    }

    /// Like [`NftSocket::transact`]. Passes the attributes of each change that has `NLM_F_ECHO` to
    /// `take` if the kernel made all changes.
    ///
    /// # Errors
    /// See [`NftSocket::transact`].
    pub(super) fn transact_with_echo(
        &mut self,
        messages: Messages,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Vec<Failure>, GateError> {
        let last = messages.next() - 1;
        let (mut failures, mut done) = (Vec::new(), false);
        self.exchange(&messages.commit(), |reply| match reply {
            Reply::Ack { number, errno: 0 } => done |= number == last,
            Reply::Ack { number, errno } => failures.push(Failure { number, errno }),
            Reply::Object(attributes) => take(attributes),
            Reply::Done => {}
        })?;
        match failures.iter().find(|failure| failure.number == 0 || failure.number > last) {
            Some(whole) => Err(GateError::of(whole.errno)),
            None if failures.is_empty() && !done => Err(GateError::Kernel(libc::EIO)),
            None => Ok(failures),
        }
    }

    /// Queries objects, or a list of objects, and passes the attributes of each to `take`.
    ///
    /// # Errors
    /// [`GateError::Kernel`] with `ENOENT` if one of the objects does not exist.
    pub(super) fn query(&mut self, query: Messages, mut take: impl FnMut(&[u8])) -> Result<(), GateError> {
        let mut failed = 0;
        self.exchange(&query.into_bytes(), |reply| match reply {
            Reply::Ack { errno, .. } if errno != 0 => failed = errno,
            Reply::Ack { .. } | Reply::Done => {}
            Reply::Object(attributes) => take(attributes),
        })?;
        if failed == 0 { Ok(()) } else { Err(GateError::of(failed)) }
    }

    /// Sends messages and passes all replies to `take`.
    fn exchange(&mut self, messages: &[u8], mut take: impl FnMut(Reply<'_>)) -> Result<(), GateError> {
        self.socket.send(messages)?;
        while let Some(received) = self.socket.receive(&mut self.buffer)? {
            replies(received).for_each(&mut take);
        }
        Ok(())
    }
}
