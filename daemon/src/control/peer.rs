//! One connection: its request in, its answer out, and nobody waits for it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use portknock_core::control::{Answer, MAX_REQUEST, Request};
use portknock_core::sys::epoll::Epoll;
use portknock_core::sys::process::{effective_user, peer_user};

/// How long a peer may take for its request, or for the next piece of its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// So many bytes wait at most for a peer that follows events.
pub(super) const MAX_BACKLOG: usize = 1024 * 1024;
/// So much is written at once.
const AT_ONCE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its request is not complete.
    Asking,
    /// It has asked, and gets events until it goes.
    Following,
    /// What waits is the last that it gets.
    Ending,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    stage: Stage,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written.
    written: usize,
    is_gone: bool,
    /// What is reported of it: that it can be read, that it can be written.
    watched: (bool, bool),
    deadline: Option<Instant>,
}

impl Peer {
    /// Takes up a connection, which has [`PATIENCE`] to ask. It is to be put into an epoll set, to be read.
    pub(super) fn new(stream: UnixStream, now: Instant) -> Self {
        Self {
            stream,
            stage: Stage::Asking,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            is_gone: false,
            watched: (true, false),
            deadline: Some(now + PATIENCE),
        }
    }

    /// Why this peer gets nothing, where it is not root's or this process's user's.
    pub(super) fn objection(&self) -> Option<String> {
        match peer_user(self.stream.as_fd()) {
            Ok(user) if user == 0 || user == effective_user() => None,
            Ok(user) => {
                Some(format!("user {user} may not control this daemon; root and user {} may", effective_user()))
            }
            Err(error) => Some(format!("cannot tell whose connection this is: {error}")),
        }
    }

    /// Looks at a peer whose descriptor was reported, and gives its request where that is complete now.
    pub(super) fn look(&mut self, now: Instant) -> Option<Request> {
        if self.stage != Stage::Asking {
            // With nothing to write either, only a hang-up is reported.
            self.is_gone |= !self.has_output();
            return None;
        }
        let mut is_silent = false;
        let mut bytes = [0; MAX_REQUEST];
        match self.stream.read(&mut bytes) {
            Ok(0) => is_silent = true,
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
                Err(error) => self.end(&Answer::Error(error), now),
            },
            None if is_silent && self.input.is_empty() => self.is_gone = true,
            None if is_silent => self.end(&Answer::Error("the request has no line end".into()), now),
            None if self.input.len() < MAX_REQUEST => {}
            _ => self.end(&Answer::Error(format!("the request is longer than {MAX_REQUEST} bytes")), now),
        }
        None
    }

    /// Gives it its answer, after which it is let go.
    pub(super) fn end(&mut self, answer: &Answer, now: Instant) {
        self.output.extend_from_slice(answer.to_line().as_bytes());
        self.stage = Stage::Ending;
        self.deadline = Some(now + PATIENCE);
    }

    /// Gives it events from now on.
    pub(super) fn follow(&mut self) {
        self.stage = Stage::Following;
        self.deadline = None;
    }

    pub(super) fn is_following(&self) -> bool {
        self.stage == Stage::Following
    }

    /// Gives an event to a follower. One that does not keep up is told so behind the events that it can still have.
    pub(super) fn tell(&mut self, line: &str, now: Instant) {
        if self.stage != Stage::Following {
            return;
        }
        if self.output.len() - self.written + line.len() > MAX_BACKLOG {
            self.write(now);
        }
        if self.output.len() - self.written + line.len() > MAX_BACKLOG {
            let error = "too slow: the events from here on are lost".to_owned();
            return self.end(&Answer::Error(error), now);
        }
        if self.deadline.is_none() {
            self.deadline = Some(now + PATIENCE);
        }
        self.output.extend_from_slice(line.as_bytes());
    }

    /// Writes what it takes, without waiting.
    pub(super) fn write(&mut self, now: Instant) {
        while self.written < self.output.len() && !self.is_gone {
            let end = self.output.len().min(self.written + AT_ONCE);
            match self.stream.write(&self.output[self.written..end]) {
                Ok(count) => {
                    self.written += count;
                    self.deadline = Some(now + PATIENCE);
                }
                Err(error) if is_temporary(&error) => break,
                Err(_) => self.is_gone = true,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            if self.stage == Stage::Following {
                self.deadline = None;
            }
        } else {
            self.output.drain(..self.written);
        }
        self.written = 0;
    }

    /// True where it waits for nothing any more, or took too long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_answered = self.stage == Stage::Ending && !self.has_output();
        self.is_gone || is_answered || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When it has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Has what it waits for reported to `epoll` as `token`: its request, or room for what it is to get. Afterwards only its
    /// hang-up counts, and whatever else it sends is not even read.
    pub(super) fn watch(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let interest = (self.stage == Stage::Asking, self.has_output());
        if self.watched != interest {
            epoll.set_interest(self.stream.as_fd(), token, interest.0, interest.1)?;
            self.watched = interest;
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
