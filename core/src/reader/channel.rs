//! Messages over a stream socket, each after its length.
//!
//! The daemon never waits for the reader: it uses [`Channel::send`], [`Channel::receive`] and [`Channel::next`]. The reader
//! waits for the daemon, with [`Channel::flush`] and [`Channel::wait`].

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::poll::{self, Interest};

/// The bytes of a message's length.
const LENGTH: usize = 4;
/// So much is received at once.
pub(super) const RECEIVE_BYTES: usize = 64 << 10;
/// So much of what was received may wait while a message cannot be sent.
const KEPT: usize = 64 << 20;

/// One end of the connection between the daemon and its reader. Neither end ever waits for the other without reading.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    /// Maximum size of a received message, in bytes.
    limit: usize,
    received: Vec<u8>,
    /// Where what is received comes in.
    room: Box<[u8]>,
    /// Where in `received` the next message begins.
    start: usize,
    to_send: Vec<u8>,
    /// Number of bytes at the beginning of `to_send` that were sent already.
    sent: usize,
    /// Something came that [`Channel::next`] was not asked for since, and no descriptor tells of.
    unseen: bool,
    ended: bool,
}

impl Channel {
    /// A connection on which a received message has at most `limit` bytes.
    pub(super) fn new(stream: UnixStream, limit: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            limit,
            received: Vec::new(),
            room: vec![0; RECEIVE_BYTES].into(),
            start: 0,
            to_send: Vec::new(),
            sent: 0,
            unseen: false,
            ended: false,
        })
    }

    /// Puts a message behind those that [`Channel::flush`] will send.
    pub(super) fn put(&mut self, message: &impl Serialize) -> io::Result<()> {
        let begin = self.to_send.len();
        self.to_send.extend_from_slice(&[0; LENGTH]);
        self.to_send = postcard::to_extend(message, std::mem::take(&mut self.to_send)).map_err(io::Error::other)?;
        let length = self.to_send.len() - begin - LENGTH;
        let length = u32::try_from(length).map_err(io::Error::other)?;
        self.to_send[begin..begin + LENGTH].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// How many bytes wait for [`Channel::flush`].
    pub(super) fn waiting(&self) -> usize {
        self.to_send.len() - self.sent
    }

    /// Sends as much as the socket takes without waiting.
    pub(super) fn send(&mut self) -> io::Result<()> {
        while self.sent < self.to_send.len() {
            match self.stream.write(&self.to_send[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Moving what is left costs no more than sending what was in front of it.
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

    /// Sends what was put, and goes on receiving meanwhile, however long the other end takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        loop {
            self.send()?;
            if self.waiting() == 0 {
                return Ok(());
            }
            self.poll(Interest::ReadOrWrite)?;
            self.unseen |= self.receive()? > 0;
            if self.received() > KEPT {
                return Err(io::Error::other("the other end says much and takes nothing"));
            }
        }
    }

    /// The next message that was received whole; an error where it is none.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let waiting = &self.received[self.start..];
        let Some((length, rest)) = waiting.split_first_chunk::<LENGTH>() else { return self.nothing() };
        let length = u32::from_le_bytes(*length) as usize;
        let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        if length > self.limit {
            return Err(invalid("it sent a message that is too long"));
        }
        let Some(message) = rest.get(..length) else { return self.nothing() };
        let (message, unread) =
            postcard::take_from_bytes(message).map_err(|_| invalid("it sent a message that cannot be decoded"))?;
        if !unread.is_empty() {
            return Err(invalid("it sent a message with more bytes than it needs"));
        }
        self.start += LENGTH + length;
        Ok(Some(message))
    }

    /// True where sending has received something that [`Channel::next`] was not asked for yet: a wait for the descriptor
    /// would miss it.
    pub(super) fn has_unseen(&self) -> bool {
        self.unseen
    }

    /// How many bytes were received that [`Channel::next`] was not asked for.
    pub(super) fn received(&self) -> usize {
        self.received.len() - self.start
    }

    /// True if the other end has closed the connection and everything was received.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn nothing<T>(&mut self) -> io::Result<Option<T>> {
        self.unseen = false;
        if self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.drain(..self.start);
        self.start = 0;
        Ok(None)
    }

    /// Receives some of what is there, and says how many bytes: 0 where nothing is, [`RECEIVE_BYTES`] where there may be more. The
    /// end of the connection is told by [`Channel::next`], after the last message.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        match self.stream.read(&mut self.room) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(count) => {
                self.received.extend_from_slice(&self.room[..count]);
                Ok(count)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            // The other process is gone, as at an end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.ended = true;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// The next message, however long it takes.
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
