//! The control socket: whoever asks by it is answered from the daemon's loop, and whoever is slow or silent holds up
//! nobody. Nothing here waits.

mod peer;
mod socket;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use portknock_core::control::{Answer, Request};
use portknock_core::json::{event_line, suppressed_lines};
use portknock_core::sys::epoll::Epoll;
use portknock_core::{Event, Suppressed};

use peer::Peer;
use socket::Socket;

/// So many connections are served at a time.
const MAX_PEERS: usize = 16;
/// So many are taken up at once; the others have to wait for the next turn of the loop.
const ACCEPT_AT_ONCE: usize = 32;
/// How long no connection is taken up after one could not be.
const RECOVERY: Duration = Duration::from_secs(1);
/// The listening socket among what is waited for; peers have their numbers, from 1 on.
const SOCKET: u64 = 0;

/// The socket and the connections to it.
#[derive(Debug)]
pub(crate) struct Control {
    socket: Socket,
    peers: BTreeMap<u64, Peer>,
    last: u64,
    epoll: Epoll,
    tokens: Vec<u64>,
    /// Taking up connections failed; until then none is.
    paused_until: Option<Instant>,
}

impl Control {
    /// Makes the socket at `path` and listens.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let socket = Socket::make(path)?;
        epoll.add(socket.as_fd(), SOCKET)?;
        Ok(Self { socket, peers: BTreeMap::new(), last: SOCKET, epoll, tokens: Vec::new(), paused_until: None })
    }

    /// Looks at everything once, and gives the requests that are complete, each with its peer. Each needs
    /// [`Control::answer`] or [`Control::follow`], and then all need [`Control::flush`].
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
                requests.extend(peer.look(now).map(|request| (token, request)));
            }
        }
        Ok(requests)
    }

    /// Takes up connections. Where too many are there, and to those that may not, it says why not and lets them go.
    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..ACCEPT_AT_ONCE {
            let stream = match self.socket.accept() {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                // Mostly for want of descriptors, and then this would be tried for ever.
                Err(_) => {
                    self.paused_until = Some(now + RECOVERY);
                    return self.epoll.set_enabled(self.socket.as_fd(), SOCKET, false);
                }
            };
            let mut peer = Peer::new(stream, now);
            let too_many = || format!("{MAX_PEERS} connections are served already; try again later");
            let refusal = peer.objection().or_else(|| (self.peers.len() >= MAX_PEERS).then(too_many));
            if let Some(refusal) = refusal {
                peer.end(&Answer::Error(refusal), now);
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
    pub(crate) fn answer(&mut self, peer: u64, answer: &Answer) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.end(answer, Instant::now());
        }
    }

    /// Gives a peer the events from now on.
    pub(crate) fn follow(&mut self, peer: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.follow();
        }
    }

    /// How many follow the events.
    pub(crate) fn followers(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_following()).count()
    }

    /// Tells those who follow of an event.
    pub(crate) fn tell(&mut self, event: &Event) {
        if self.followers() == 0 {
            return;
        }
        // Never fails, as `event_line` says.
        self.tell_line(&(event_line(event).unwrap_or_default() + "\n"));
    }

    /// Tells those who follow of events that they are not told of one by one.
    pub(crate) fn tell_suppressed(&mut self, suppressed: &Suppressed) {
        if self.followers() > 0 {
            self.tell_line(&suppressed_lines(suppressed).unwrap_or_default());
        }
    }

    fn tell_line(&mut self, line: &str) {
        let now = Instant::now();
        self.peers.values_mut().for_each(|peer| peer.tell(line, now));
    }

    /// Writes what peers take, and lets go of those that are done, gone, or took too long.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.peers.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for (&token, peer) in &mut self.peers {
            if peer.has_output() {
                peer.write(now);
            }
            peer.watch(&self.epoll, token)?;
        }
        self.peers.retain(|_, peer| !peer.is_over(now));
        Ok(())
    }

    /// True where that time has come.
    pub(crate) fn is_due(&self) -> bool {
        self.deadline().is_some_and(|due| due <= Instant::now())
    }

    /// When to look without having been woken.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::deadline).chain(self.paused_until).min()
    }
}

/// Readable when there is something to do.
impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
