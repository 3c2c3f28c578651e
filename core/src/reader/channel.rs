//! Messages over a stream socket, each preceded by its length (32 bits, little-endian) and encoded
//! with postcard.
//!
//! The daemon never waits for the reader: it uses [`Channel::send`], [`Channel::receive`] and
//! [`Channel::next`]. The reader waits for the daemon, with [`Channel::flush`] and
//! [`Channel::wait`].

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::poll::{self, Interest};

/// Size of a message's length, in bytes.
const LENGTH_BYTES: usize = 4;
/// Maximum number of bytes received by one call of [`Channel::receive`].
pub(super) const RECEIVE_BYTES: usize = 64 << 10;
/// Maximum number of unhandled received bytes while a message cannot be sent.
const MAX_UNHANDLED_BYTES: usize = 64 << 20;

/// One end of the connection between the daemon and its reader. Neither end waits until it can send
/// without receiving meanwhile.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    /// Maximum size of a received message, in bytes.
    limit: usize,
    /// Received bytes that [`Channel::next`] has not removed yet.
    received: Vec<u8>,
    /// The buffer of the read calls.
    buffer: Box<[u8]>,
    /// Offset of the next message in `received`.
    start: usize,
    /// Messages with their lengths that were queued.
    to_send: Vec<u8>,
    /// Number of bytes at the beginning of `to_send` that were sent already.
    sent: usize,
    /// [`Channel::flush`] has received bytes, and [`Channel::next`] has not returned all messages
    /// since. The descriptor does not report them.
    unhandled: bool,
    /// The other end has closed the connection.
    ended: bool,
}

impl Channel {
    /// Returns an end of a connection that accepts messages of at most `limit` bytes.
    ///
    /// # Errors
    /// Fails if the socket cannot be made non-blocking.
    pub(super) fn new(stream: UnixStream, limit: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            limit,
            received: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES].into(),
            start: 0,
            to_send: Vec::new(),
            sent: 0,
            unhandled: false,
            ended: false,
        })
    }

    /// Queues a message for [`Channel::send`] and [`Channel::flush`].
    pub(super) fn put(&mut self, message: &impl Serialize) -> io::Result<()> {
        let begin = self.to_send.len();
        self.to_send.extend_from_slice(&[0; LENGTH_BYTES]);
        self.to_send = postcard::to_extend(message, std::mem::take(&mut self.to_send)).map_err(io::Error::other)?;
        let length = self.to_send.len() - begin - LENGTH_BYTES;
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.to_send[begin..begin + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Returns the number of queued bytes that are not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.to_send.len() - self.sent
    }

    /// Sends as many queued bytes as the socket accepts without waiting.
    pub(super) fn send(&mut self) -> io::Result<()> {
        while self.sent < self.to_send.len() {
            match self.stream.write(&self.to_send[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Moving the rest costs no more than sending the bytes before it.
                    if self.sent >= self.to_send.len() / 2 {
                        self.to_send.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.to_send.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends all queued messages, however long the other end takes to read them, and receives
    /// meanwhile.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        loop {
            self.send()?;
            if self.unsent() == 0 {
                return Ok(());
            }
            self.poll(Interest::ReadOrWrite)?;
            self.unhandled |= self.receive()? > 0;
            if self.received() > MAX_UNHANDLED_BYTES {
                return Err(io::Error::other("the other end sends messages and reads none"));
            }
        }
    }

    /// Returns the next message that was received completely; `None` if there is none yet.
    ///
    /// # Errors
    /// Fails with `InvalidData` if the bytes are no message, and with `UnexpectedEof` after the
    /// last message if the other end has closed the connection.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let unread = &self.received[self.start..];
        let Some((length, rest)) = unread.split_first_chunk::<LENGTH_BYTES>() else { return self.no_message() };
        let length = u32::from_le_bytes(*length) as usize;
        let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        if length > self.limit {
            return Err(invalid("it sent a message that is too long"));
        }
        let Some(message) = rest.get(..length) else { return self.no_message() };
        let (message, padding) =
            postcard::take_from_bytes(message).map_err(|_| invalid("it sent a message that cannot be decoded"))?;
        if !padding.is_empty() {
            return Err(invalid("it sent a message with more bytes than it needs"));
        }
        self.start += LENGTH_BYTES + length;
        Ok(Some(message))
    }

    /// Returns true if [`Channel::flush`] has received bytes and [`Channel::next`] has not returned
    /// all messages since. A wait for the descriptor would miss them.
    pub(super) fn has_unhandled(&self) -> bool {
        self.unhandled
    }

    /// Returns the number of received bytes of messages that [`Channel::next`] has not returned.
    pub(super) fn received(&self) -> usize {
        self.received.len() - self.start
    }

    /// Returns true if the other end has closed the connection and all its bytes were received.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The result of [`Channel::next`] without a complete message.
    fn no_message<T>(&mut self) -> io::Result<Option<T>> {
        self.unhandled = false;
        if self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.drain(..self.start);
        self.start = 0;
        Ok(None)
    }

    /// Receives waiting bytes and returns their number: 0 if none wait, [`RECEIVE_BYTES`] if there
    /// may be more. Never waits. [`Channel::next`] reports the end of the connection, after the
    /// last message.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                self.received.extend_from_slice(&self.buffer[..count]);
                Ok(count)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            // The other process has ended, which is handled like a closed connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.ended = true;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the next message, however long it takes to arrive.
    pub(super) fn wait<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            self.poll(Interest::Read)?;
            self.receive()?;
        }
    }

    fn poll(&self, interest: Interest) -> io::Result<()> {
        match poll::wait([(self.stream.as_fd(), interest)], Duration::MAX) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
