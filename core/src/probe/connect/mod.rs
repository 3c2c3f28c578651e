//! The connect method: a connection to each port by connect(2), which needs no privilege.
//!
//! The kernel repeats the probes by retransmitting its SYNs: after one, three and seven seconds, or
//! since Linux 6.5 after each of the first five seconds (tcp(7), `tcp_syn_linear_timeouts`). The
//! socket's error queue shows which ICMP error ended a connection, so this method reports as much
//! as the SYN method.

mod allowance;
mod verdict;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use allowance::{Allowance, RETRANSMISSION_INTERVAL};
pub(super) use verdict::{Verdict, verdict};

use super::error::ProbeError;
use super::plan::{MAX_TIMEOUT, ProbePlan};
use super::result::ProbeResult;
use super::state::{PortState, Reason};
use crate::host::at_port;
use crate::packet::Protocol;
use crate::sys::connecting::{Connecting, NotBegun};
use crate::sys::epoll::Epoll;
use crate::sys::process::descriptors_left;
use crate::tick::TICK;

/// Maximum number of pending connections. The kernel uses a few kilobytes for each.
const MAX_PENDING: usize = 8_192;
/// Number of descriptors that are left to the rest of the process.
const RESERVED_DESCRIPTORS: usize = 32;
/// Number of connections begun before the pending ones are polled again.
const CONNECT_BATCH: usize = 16;
/// Time before the kernel would send one SYN too many at which a connection is given up.
const RETRANSMISSION_MARGIN: Duration = Duration::from_millis(50);

/// A connection whose answer is outstanding.
struct Connection {
    socket: Connecting,
    target: SocketAddr,
    begun: Instant,
}

/// A probe by connections in progress.
struct ConnectScan<'a> {
    plan: &'a ProbePlan,
    epoll: Epoll,
    /// The pending connections, in the order in which they began, which is also that of their
    /// deadlines. `None` is a connection that has ended.
    connections: VecDeque<Option<Connection>>,
    /// Number of entries removed from the front of `connections`, and so the `epoll` token of its
    /// first entry.
    removed: u64,
    pending: usize,
    max_pending: usize,
    allowance: Allowance,
    /// Time until a connection counts as unanswered.
    timeout: Duration,
    known: usize,
    /// Addresses, with port 0, that this machine cannot send to.
    given_up: Vec<(SocketAddr, ProbeError)>,
    on_result: &'a mut dyn FnMut(ProbeResult),
}

/// Probes the plan's ports at each of `addresses`, port by port, and passes each result to
/// `on_result` as soon as it is known. `tick` receives the number of ports with a result and
/// decides whether to continue. It is called at least every tenth of a second, and immediately
/// after a signal.
///
/// The limit of descriptors determines the number of pending connections, up to 8,192. The plan's
/// `rate` includes the SYNs that the kernel retransmits: if ports are silent, fewer ports than that
/// are probed per second. With `retries`, a port is given up when the kernel would send one more
/// SYN.
///
/// # Errors
/// If this machine cannot send to an address, that address has no further results, the other
/// addresses get theirs, and the first such error is returned at the end. Any other error ends the
/// probe immediately.
pub(super) fn scan(
    plan: &ProbePlan,
    addresses: &[SocketAddr],
    on_result: &mut dyn FnMut(ProbeResult),
    tick: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<(), ProbeError> {
    let mut scan = ConnectScan::new(plan, on_result)?;
    let mut tokens = Vec::new();
    let mut next_tick = Instant::now();
    let targets = plan.ports.iter().flat_map(|port| addresses.iter().map(move |address| at_port(*address, port.get())));
    let mut targets = targets.peekable();
    loop {
        for _ in 0..CONNECT_BATCH {
            let Some(&target) = targets.peek() else { break };
            if !scan.is_given_up(target) {
                let now = Instant::now();
                if !scan.may_begin(now) || !scan.begin(target, now)? {
                    break;
                }
            }
            targets.next();
        }
        if Instant::now() >= next_tick {
            if tick(scan.known).is_break() {
                return Ok(());
            }
            next_tick = Instant::now() + TICK;
        }
        let more = targets.peek().is_some();
        if !more && scan.pending == 0 {
            return scan.given_up.into_iter().next().map_or(Ok(()), |(_, error)| Err(error));
        }
        let (pause, begun) = (scan.pause(more), Instant::now());
        scan.epoll.wait(&mut tokens, Some(pause)).map_err(system("cannot wait for connections"))?;
        let now = Instant::now();
        if tokens.is_empty() && now - begun < pause {
            // A signal ended the wait and may be the reason to stop.
            next_tick = now;
        }
        for &token in &tokens {
            scan.check(token, now);
        }
        scan.expire(now);
    }
}

impl<'a> ConnectScan<'a> {
    fn new(plan: &'a ProbePlan, on_result: &'a mut dyn FnMut(ProbeResult)) -> Result<Self, ProbeError> {
        Ok(Self {
            plan,
            epoll: Epoll::new().map_err(system("cannot wait for connections"))?,
            connections: VecDeque::new(),
            removed: 0,
            pending: 0,
            max_pending: descriptors_left().saturating_sub(RESERVED_DESCRIPTORS).clamp(1, MAX_PENDING),
            allowance: Allowance::new(plan.rate, Instant::now()),
            timeout: answer_timeout(plan.timeout.min(MAX_TIMEOUT), plan.retries, linear_retransmissions()),
            known: 0,
            given_up: Vec::new(),
            on_result,
        })
    }

    fn may_begin(&mut self, now: Instant) -> bool {
        self.pending < self.max_pending && self.allowance.next(now).is_some_and(|next| next <= now)
    }

    /// Begins a connection to `target`. Returns false if a resource is exhausted that pending
    /// connections free when they end.
    fn begin(&mut self, target: SocketAddr, now: Instant) -> Result<bool, ProbeError> {
        let error = match Connecting::begin(target, self.plan.source) {
            Ok(socket) => {
                let token = self.removed + self.connections.len() as u64;
                let watched = self.epoll.add_writable(socket.as_fd(), token);
                watched.map_err(system("cannot wait for a connection"))?;
                self.connections.push_back(Some(Connection { socket, target, begun: now }));
                self.pending += 1;
                self.allowance.begun(now);
                return Ok(true);
            }
            Err(NotBegun::Socket(error) | NotBegun::Connect(error)) if self.pending > 0 && is_exhausted(&error) => {
                self.max_pending = self.pending;
                return Ok(false);
            }
            Err(NotBegun::Socket(error)) => return Err(system("cannot open a socket")(error)),
            Err(NotBegun::Source(error) | NotBegun::Connect(error)) => error,
        };
        match error.raw_os_error() {
            // The answer has already arrived.
            Some(libc::ECONNREFUSED) => self.report(target, verdict::REFUSED, None),
            Some(libc::EPERM) => self.report(target, (PortState::Filtered, Reason::PermDenied), None),
            _ => self.give_up(target, error, now),
        }
        Ok(true)
    }

    /// Returns the time to wait for the next event. `more` is true if more ports are to be probed.
    fn pause(&mut self, more: bool) -> Duration {
        let now = Instant::now();
        let deadline =
            self.connections.front().and_then(Option::as_ref).map(|connection| connection.begun + self.timeout);
        let begin = if more && self.pending < self.max_pending { self.allowance.next(now) } else { None };
        let next = deadline.into_iter().chain(begin).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    /// Checks the state of a connection that had an event.
    fn check(&mut self, token: u64, now: Instant) {
        let index = token.checked_sub(self.removed).and_then(|index| usize::try_from(index).ok());
        let connection = index.and_then(|index| self.connections.get_mut(index));
        if let Some(connection) = connection
            && let Some(Connection { socket, target, .. }) = connection
        {
            match verdict(socket, *target) {
                Ok(None) => {}
                Ok(Some(verdict)) => {
                    if let Some(connection) = connection.take() {
                        self.end(connection, verdict, now);
                    }
                }
                Err(error) => {
                    let target = *target;
                    self.give_up(target, error, now);
                }
            }
        }
    }

    /// Gives up connections that have been pending for too long.
    fn expire(&mut self, now: Instant) {
        while let Some(connection) = self.connections.front() {
            if let Some(Connection { begun, .. }) = connection {
                if *begun + self.timeout > now {
                    break;
                }
                // The last wait may not have reported all events.
                self.check(self.removed, now);
            }
            if let Some(Some(connection)) = self.connections.pop_front() {
                self.end(connection, (PortState::Filtered, Reason::NoResponse), now);
            }
            self.removed += 1;
        }
    }

    fn end(&mut self, connection: Connection, verdict: Verdict, now: Instant) {
        let Connection { socket, target, begun } = connection;
        self.pending -= 1;
        self.allowance.ended(begun, now);
        if verdict.0 == PortState::Open {
            socket.reset();
        }
        // For a later answer it is unknown which SYN it belongs to.
        let took = now.saturating_duration_since(begun);
        let answered = !matches!(verdict.1, Reason::NoResponse | Reason::PermDenied);
        self.report(target, verdict, Some(took).filter(|took| answered && *took < RETRANSMISSION_INTERVAL));
    }

    fn is_given_up(&self, target: SocketAddr) -> bool {
        self.given_up.iter().any(|(address, _)| *address == at_port(target, 0))
    }

    /// Ends the connections to the target's address, without results, because this machine cannot
    /// send to it.
    fn give_up(&mut self, target: SocketAddr, error: io::Error, now: Instant) {
        let address = at_port(target, 0);
        for connection in &mut self.connections {
            if let Some(Connection { begun, .. }) =
                connection.take_if(|connection| at_port(connection.target, 0) == address)
            {
                self.pending -= 1;
                self.allowance.ended(begun, now);
            }
        }
        self.given_up.push((address, ProbeError::route(target, self.plan.source, error)));
    }

    fn report(&mut self, address: SocketAddr, (state, reason): Verdict, rtt: Option<Duration>) {
        self.known += 1;
        (self.on_result)(ProbeResult { address, protocol: Protocol::Tcp, state, reason, rtt });
    }
}

/// Returns true for a lack of descriptors, memory, or local ports.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted =
        [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN, libc::EADDRNOTAVAIL, libc::EADDRINUSE];
    error.raw_os_error().is_some_and(|errno| exhausted.contains(&errno))
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |error| ProbeError::System { what, error }
}

/// Returns how many of the kernel's retransmissions follow at intervals of a second; after them the
/// interval doubles each time.
fn linear_retransmissions() -> u32 {
    // Before Linux 6.5 this file does not exist, and the interval doubles from the beginning.
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Returns the time to wait for an answer: at most `timeout`, and not so long that the kernel sends
/// more SYNs than `retries` allows. The kernel's intervals cannot be changed, and the limit that
/// TCP_SYNCNT sets does not count the linear ones.
fn answer_timeout(timeout: Duration, retries: Option<u8>, linear: u32) -> Duration {
    let Some(retries) = retries else { return timeout };
    let mut retransmission = Duration::ZERO;
    for before in 0..=u32::from(retries) {
        retransmission = retransmission.saturating_add(
            RETRANSMISSION_INTERVAL.saturating_mul(2_u32.saturating_pow(before.saturating_sub(linear))),
        );
    }
    timeout.min(retransmission - RETRANSMISSION_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port_list::PortList;
    use std::net::{Ipv4Addr, TcpListener};
    use std::num::{NonZeroU16, NonZeroU32};

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn plan(ports: &str) -> ProbePlan {
        ProbePlan::new("127.0.0.1", ports.parse().unwrap())
    }

    fn run(plan: &ProbePlan, addresses: &[SocketAddr]) -> (Vec<ProbeResult>, Result<(), ProbeError>) {
        let mut results = Vec::new();
        let mut reported = 0;
        let end = scan(plan, addresses, &mut |result| results.push(result), &mut |known| {
            assert!(known >= reported);
            reported = known;
            ControlFlow::Continue(())
        });
        results.sort_by_key(|result| (result.address.ip(), result.address.port()));
        (results, end)
    }

    #[test]
    fn open_and_closed_ports_are_distinguished() {
        let listener = TcpListener::bind(HERE).unwrap();
        let open = listener.local_addr().unwrap().port();
        let (results, end) = run(&plan(&format!("1-2000,{open}")), &[HERE]);
        end.unwrap();
        assert!(results.len() == 2_000 || results.len() == 2_001);
        for result in results {
            let found = (result.state, result.reason);
            let port = result.address.port();
            if port == open {
                assert_eq!(found, (PortState::Open, Reason::SynAck));
            } else if found.0 != PortState::Open {
                assert_eq!(found, (PortState::Closed, Reason::ConnRefused), "{port}");
            }
            assert!(result.rtt.is_some(), "{port}");
        }
    }

    #[test]
    fn a_connection_that_is_closed_immediately_was_open() {
        let listener = TcpListener::bind(HERE).unwrap();
        let port = listener.local_addr().unwrap().port();
        let closer = std::thread::spawn(move || {
            for _ in 0..50 {
                drop(listener.accept().unwrap());
            }
        });
        for _ in 0..50 {
            let (results, _) = run(&plan(&port.to_string()), &[HERE]);
            assert_eq!(results[0].state, PortState::Open);
        }
        closer.join().unwrap();
    }

    #[test]
    fn a_port_that_connects_to_itself_is_closed() {
        // The kernel chooses the source port, so all ports that it may choose are probed.
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let ends: Vec<u16> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
        let [first, last] = ends[..] else { panic!("{range}") };
        let here = SocketAddr::from(([127, 0, 0, 77], 0));
        let mut ours = plan(&format!("{first}-{last}"));
        ours.source = Some(here.ip());
        let (results, end) = run(&ours, &[here]);
        end.unwrap();
        assert_eq!(results.len(), usize::from(last - first) + 1);
        let open: Vec<_> = results.iter().filter(|result| result.state != PortState::Closed).collect();
        // A program that listens at all addresses listens at this one, too.
        assert!(open.iter().all(|result| TcpListener::bind(result.address).is_err()), "{open:?}");
    }

    #[test]
    fn several_addresses_are_probed_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let plan = ProbePlan::new("localhost", PortList::from(port));
        let (results, end) = run(&plan, &[HERE, other]);
        end.unwrap();
        let states: Vec<_> = results.iter().map(|result| result.state).collect();
        assert_eq!(states, [PortState::Open, PortState::Closed]);
    }

    #[test]
    fn what_cannot_be_reached_does_not_keep_the_others() {
        let mut plan = plan("1-3");
        plan.source = Some(HERE.ip());
        // From this source no route leads out of the machine.
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let (results, end) = run(&plan, &[HERE, nowhere]);
        assert_eq!(results.len(), 3);
        assert!(matches!(&end, Err(ProbeError::NoRoute { address, .. }) if *address == nowhere.ip()), "{end:?}");
    }

    #[test]
    fn a_source_that_is_not_ours_is_an_error() {
        let mut plan = plan("9");
        plan.source = Some([192, 0, 2, 1].into());
        let (results, end) = run(&plan, &[HERE]);
        assert!(results.is_empty());
        assert!(
            matches!(&end, Err(ProbeError::Source { error, .. }) if error.kind() == io::ErrorKind::AddrNotAvailable)
        );
    }

    #[test]
    fn the_caller_can_stop_it() {
        let start = Instant::now();
        let mut plan = plan("1-100");
        plan.rate = NonZeroU32::new(10);
        let mut results = 0;
        let end = scan(&plan, &[HERE], &mut |_| results += 1, &mut |known| {
            if known >= 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(end.is_ok());
        assert!((3..=5).contains(&results), "{results}");
        assert!(start.elapsed() >= Duration::from_millis(200) && start.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_silent_port_gets_no_more_syns_than_allowed() {
        let millis =
            |timeout, retries, linear| answer_timeout(Duration::from_millis(timeout), retries, linear).as_millis();
        assert_eq!(millis(3_300, None, 4), 3_300);
        // After 1, 2, 3, 4, 5, 7, 11 seconds.
        assert_eq!([0, 1, 2, 4, 5, 6].map(|n| millis(60_000, Some(n), 4)), [950, 1_950, 2_950, 4_950, 6_950, 10_950]);
        // After 1, 3, 7 seconds.
        assert_eq!([0, 1, 2].map(|n| millis(60_000, Some(n), 0)), [950, 2_950, 6_950]);
        assert_eq!(millis(500, Some(0), 4), 500);
        assert_eq!(millis(3_300, Some(255), 0), 3_300);
    }
}
