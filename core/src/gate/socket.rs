//! Questions to the kernel, and transactions.

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

/// A message of a transaction that failed; nothing of the transaction happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) number: u32,
    pub(super) errno: i32,
}

impl NftSocket {
    pub(super) fn open() -> Result<Self, GateError> {
        Ok(Self { socket: NfSocket::open()?, buffer: vec![0; REPLY_BUFFER].into() })
    }

    /// Watches for changes that others make.
    pub(super) fn watch(&self) -> Result<NfWatch, GateError> {
        Ok(NfWatch::new(&self.socket)?)
    }

    /// Sends a transaction. What comes back are the messages that failed, all of them; nothing where all is done.
    ///
    /// # Errors
    /// Fails where the transaction as a whole was refused.
    pub(super) fn transact(&mut self, messages: Messages) -> Result<Vec<Failure>, GateError> {
        self.transact_and(messages, |_| {})
    }

    /// The same, with the attributes of each change that is to be told, where all is done.
    ///
    /// # Errors
    /// See [`NftSocket::transact`].
    pub(super) fn transact_and(
        &mut self,
        messages: Messages,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Vec<Failure>, GateError> {
        let last = messages.next() - 1;
        let (mut failures, mut done) = (Vec::new(), false);
        self.talk(&messages.commit(), |answer| match answer {
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

    /// Asks for things, or for a list, and hands each one's attributes to `take`.
    ///
    /// # Errors
    /// [`GateError::Kernel`] with `ENOENT` where one does not exist.
    pub(super) fn ask(&mut self, question: Messages, mut take: impl FnMut(&[u8])) -> Result<(), GateError> {
        let mut failed = 0;
        self.talk(&question.question(), |answer| match answer {
            Reply::Ack { errno, .. } if errno != 0 => failed = errno,
            Reply::Ack { .. } | Reply::Done => {}
            Reply::Object(attributes) => take(attributes),
        })?;
        if failed == 0 { Ok(()) } else { Err(GateError::of(failed)) }
    }

    fn talk(&mut self, messages: &[u8], mut take: impl FnMut(Reply<'_>)) -> Result<(), GateError> {
        self.socket.send(messages)?;
        while let Some(received) = self.socket.receive(&mut self.buffer)? {
            replies(received).for_each(&mut take);
        }
        Ok(())
    }
}
