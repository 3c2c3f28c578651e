//! One connection: reads its request and writes its answer, without waiting.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use portknock_core::control::{MAX_REQUEST, Request, Response};
use portknock_core::sys::epoll::Epoll;
use portknock_core::sys::process::{effective_user, peer_user};

/// Maximum time until a peer has sent its request, or has read the next piece of its answer.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes that wait for a peer that follows events.
pub(super) const MAX_BACKLOG: usize = 1024 * 1024;
/// Maximum number of bytes per write.
const WRITE_BATCH: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    /// Its request is not complete.
    Requesting,
    /// It gets events until it closes the connection.
    Following,
    /// It gets the rest of its output, and then the connection is closed.
    Ending,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    state: PeerState,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Number of bytes of `output` that are written.
    written: usize,
    is_gone: bool,
    /// Whether epoll reports that the connection is readable, and that it is writable.
    interest: (bool, bool),
    deadline: Option<Instant>,
}

impl Peer {
    /// A new connection, which has [`PEER_TIMEOUT`] to send its request. The caller must add it to
    /// an epoll set, for reading.
    pub(super) fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            state: PeerState::Requesting,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            is_gone: false,
            interest: (true, false),
            deadline: Some(now + PEER_TIMEOUT),
        }
    }

    /// The error for a peer whose user is neither root nor the user of this process.
    pub(super) fn refusal(&self) -> Option<String> {
        match peer_user(self.stream.as_fd()) {
            Ok(user) if user == 0 || user == effective_user() => None,
            Ok(user) => {
                Some(format!("user {user} cannot control this daemon; only root and user {} can", effective_user()))
            }
            Err(error) => Some(format!("cannot determine the user of this connection: {error}")),
        }
    }

    /// Reads from a peer whose descriptor epoll reported. Returns its request if that is complete.
    pub(super) fn read_request(&mut self, now: Instant) -> Option<Request> {
        if self.state != PeerState::Requesting {
            // If there is nothing to write, epoll reports only a hang-up.
            self.is_gone |= !self.has_output();
            return None;
        }
        let mut is_at_end = false;
        let mut bytes = [0; MAX_REQUEST];
        match self.stream.read(&mut bytes) {
            Ok(0) => is_at_end = true,
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(error) if is_temporary(&error) => {}
            Err(_) => {
                self.is_gone = true;
                return None;
            }
        }
        match self.input.iter().position(|&byte| byte == b'\n') {
            Some(end) if end < MAX_REQUEST => match Request::parse(&self.input[..end]) {
                Ok(request) => return Some(request),
                Err(error) => self.end(&Response::Error(error), now),
            },
            None if is_at_end && self.input.is_empty() => self.is_gone = true,
            None if is_at_end => self.end(&Response::Error("the request has no line end".into()), now),
            None if self.input.len() < MAX_REQUEST => {}
            _ => self.end(&Response::Error(format!("the request is longer than {MAX_REQUEST} bytes")), now),
        }
        None
    }

    /// Sends the answer, after which the connection is closed.
    pub(super) fn end(&mut self, answer: &Response, now: Instant) {
        self.output.extend_from_slice(answer.to_line().as_bytes());
        self.state = PeerState::Ending;
        self.deadline = Some(now + PEER_TIMEOUT);
    }

    /// Sends events from now on.
    pub(super) fn follow(&mut self) {
        self.state = PeerState::Following;
        self.deadline = None;
    }

    pub(super) fn is_following(&self) -> bool {
        self.state == PeerState::Following
    }

    /// Sends an event to a follower. If its backlog is full, it gets an error after the events in
    /// the backlog, and the connection is closed.
    pub(super) fn send_line(&mut self, line: &str, now: Instant) {
        if self.state != PeerState::Following {
            return;
        }
        if self.output.len() - self.written + line.len() > MAX_BACKLOG {
            self.write(now);
        }
        if self.output.len() - self.written + line.len() > MAX_BACKLOG {
            let error = "too slow: the events after this line are lost".to_owned();
            return self.end(&Response::Error(error), now);
        }
        if self.deadline.is_none() {
            self.deadline = Some(now + PEER_TIMEOUT);
        }
        self.output.extend_from_slice(line.as_bytes());
    }

    /// Writes as much as possible, without waiting.
    pub(super) fn write(&mut self, now: Instant) {
        while self.written < self.output.len() && !self.is_gone {
            let end = self.output.len().min(self.written + WRITE_BATCH);
            match self.stream.write(&self.output[self.written..end]) {
                Ok(count) => {
                    self.written += count;
                    self.deadline = Some(now + PEER_TIMEOUT);
                }
                Err(error) if is_temporary(&error) => break,
                Err(_) => self.is_gone = true,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            if self.state == PeerState::Following {
                self.deadline = None;
            }
        } else {
            self.output.drain(..self.written);
        }
        self.written = 0;
    }

    /// True if the connection is finished or has exceeded its deadline.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_answered = self.state == PeerState::Ending && !self.has_output();
        self.is_gone || is_answered || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When the connection times out.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Makes `epoll` report what this peer waits for as `token`: its request, or room for its
    /// output. After the request, only a hang-up counts, and further input is not read.
    pub(super) fn update_interest(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let interest = (self.state == PeerState::Requesting, self.has_output());
        if self.interest != interest {
            epoll.set_interest(self.stream.as_fd(), token, interest.0, interest.1)?;
            self.interest = interest;
        }
        Ok(())
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
