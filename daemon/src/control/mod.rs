//! The control socket. The daemon answers requests in its main loop. Nothing here waits, so a slow
//! or silent peer delays neither the daemon nor other peers.

mod peer;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use portknock_core::control::{Request, Response};
use portknock_core::json::{event_line, suppressed_lines};
use portknock_core::sys::epoll::Epoll;
use portknock_core::{Event, Suppressed};

use peer::Peer;
use socket::Socket;

/// Maximum number of open connections.
const MAX_PEERS: usize = 16;
/// Maximum number of connections accepted per iteration of the main loop; further ones wait for the
/// next iteration.
const ACCEPT_BATCH: usize = 32;
/// Time without accepting connections after an error of accept(2).
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Epoll token of the listening socket; the tokens of peers are their numbers, from 1 on.
const SOCKET: u64 = 0;

/// The socket and the connections to it.
#[derive(Debug)]
pub(crate) struct Control {
    socket: Socket,
    peers: BTreeMap<u64, Peer>,
    last: u64,
    epoll: Epoll,
    tokens: Vec<u64>,
    /// After an error of accept(2): when to accept connections again.
    paused_until: Option<Instant>,
}

impl Control {
    /// Creates the socket at `path` and listens on it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let socket = Socket::create(path)?;
        epoll.add(socket.as_fd(), SOCKET)?;
        Ok(Self { socket, peers: BTreeMap::new(), last: SOCKET, epoll, tokens: Vec::new(), paused_until: None })
    }

    /// Accepts connections and reads from peers, without waiting. Returns the complete requests,
    /// each with its peer. Each request needs a call of [`Control::answer`] or [`Control::follow`],
    /// and then one call of [`Control::flush`] sends all answers.
    pub(crate) fn take_requests(&mut self) -> io::Result<Vec<(u64, Request)>> {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.epoll.set_enabled(self.socket.as_fd(), SOCKET, true)?;
        }
        self.epoll.wait(&mut self.tokens, Some(Duration::ZERO))?;
        let mut requests = Vec::new();
        for token in std::mem::take(&mut self.tokens) {
            if token == SOCKET {
                self.accept(now)?;
            } else if let Some(peer) = self.peers.get_mut(&token) {
                requests.extend(peer.read_request(now).map(|request| (token, request)));
            }
        }
        Ok(requests)
    }

    /// Accepts connections. A connection above the maximum, or of a user without permission, gets
    /// an error and is closed.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPT_BATCH {
            let stream = match self.socket.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                // Usually the process is out of descriptors. Without the pause, epoll would report
                // the socket again and again.
                Err(_) => {
                    self.paused_until = Some(now + ACCEPT_RETRY_DELAY);
                    return self.epoll.set_enabled(self.socket.as_fd(), SOCKET, false);
                }
            };
            let mut peer = Peer::new(stream, now);
            let too_many = || format!("{MAX_PEERS} connections are open already; try again later");
            let refusal = peer.refusal().or_else(|| (self.peers.len() >= MAX_PEERS).then(too_many));
            if let Some(refusal) = refusal {
                peer.end(&Response::Error(refusal), now);
                peer.write(now);
                continue;
            }
            self.last += 1;
            self.epoll.add(peer.as_fd(), self.last)?;
            self.peers.insert(self.last, peer);
        }
        Ok(())
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, peer: u64, answer: &Response) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.end(answer, Instant::now());
        }
    }

    /// Sends a peer the events from now on.
    pub(crate) fn follow(&mut self, peer: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.follow();
        }
    }

    /// Number of peers that follow the events.
    pub(crate) fn followers(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_following()).count()
    }

    /// Sends an event to the followers.
    pub(crate) fn send_event(&mut self, event: &Event) {
        if self.followers() == 0 {
            return;
        }
        // `event_line` never fails, as its documentation states.
        self.send_line(&(event_line(event).unwrap_or_default() + "\n"));
    }

    /// Sends the followers the number of events that they do not get one by one.
    pub(crate) fn send_suppressed(&mut self, suppressed: &Suppressed) {
        if self.followers() > 0 {
            self.send_line(&suppressed_lines(suppressed).unwrap_or_default());
        }
    }

    fn send_line(&mut self, line: &str) {
        let now = Instant::now();
        self.peers.values_mut().for_each(|peer| peer.send_line(line, now));
    }

    /// Writes as much as possible to the peers, and closes finished, closed and timed-out
    /// connections.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.peers.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for (&token, peer) in &mut self.peers {
            if peer.has_output() {
                peer.write(now);
            }
            peer.update_interest(&self.epoll, token)?;
        }
        self.peers.retain(|_, peer| !peer.is_over(now));
        Ok(())
    }

    /// True if [`Control::deadline`] has passed.
    pub(crate) fn is_due(&self) -> bool {
        self.deadline().is_some_and(|due| due <= Instant::now())
    }

    /// When to call [`Control::take_requests`], even without an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::deadline).chain(self.paused_until).min()
    }
}

/// Readable when a connection or a request arrives, or a peer has room for output.
impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
