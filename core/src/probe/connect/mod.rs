//! The connect method: a connection to each port, by connect(2), which needs no right.
//!
//! The probes that are repeated are the kernel's SYNs: it sends the first one again after one, three and seven seconds,
//! since Linux 6.5 after each of the first five seconds (tcp(7), `tcp_syn_linear_timeouts`). Which ICMP error ended a
//! connection comes from the socket's error queue, so that this method tells as much as that of SYNs does.

mod allowance;
mod outcome;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use allowance::{Allowance, REPETITION};
pub(super) use outcome::{Outcome, outcome};

use super::error::ProbeError;
use super::plan::{LONGEST_TIMEOUT, ProbePlan};
use super::result::ProbeResult;
use super::state::{PortState, Reason};
use crate::host::at_port;
use crate::packet::Protocol;
use crate::sys::connecting::{Connecting, NotBegun};
use crate::sys::epoll::Epoll;
use crate::sys::process::descriptors_left;
use crate::tick::TICK;

/// At most so many connections wait at once: the kernel takes some kilobytes for each.
const MOST_WAITING: usize = 8_192;
/// So many descriptors are left to the rest of the process.
const HEADROOM: usize = 32;
/// So many connections are begun before those that wait are looked at again.
const BATCH: usize = 16;
/// A connection is given up so long before the kernel would send a SYN too many.
const MARGIN: Duration = Duration::from_millis(50);

/// A connection that waits for its answer.
struct Attempt {
    connection: Connecting,
    target: SocketAddr,
    begun: Instant,
}

struct ConnectScan<'a> {
    plan: &'a ProbePlan,
    epoll: Epoll,
    /// Those that wait, in the order of their beginning, which is that of their deadlines too. `None` has ended.
    attempts: VecDeque<Option<Attempt>>,
    /// How many have left the front of `attempts`. A token of `epoll` counts from there.
    gone: u64,
    waiting: usize,
    most_waiting: usize,
    allowance: Allowance,
    /// How long a connection waits.
    patience: Duration,
    known: usize,
    /// Addresses, with port 0, that this machine cannot send to.
    given_up: Vec<(SocketAddr, ProbeError)>,
    on_result: &'a mut dyn FnMut(ProbeResult),
}

/// Probes the plan's ports at each of `addresses`, port by port, and hands on each result as soon as it is known. `tick`
/// is told how many those are, at least every tenth of a second and at once after a signal, and says whether to go on.
///
/// As many connections wait at once as the limit of descriptors leaves room for, up to 8,192. `rate` counts the SYNs that
/// the kernel repeats too: where ports are silent, fewer ports than that are probed in a second. With `retries` a port is
/// given up when the kernel would send one SYN more.
///
/// # Errors
/// Where this machine cannot send to an address, that address has no further results, the other addresses get theirs, and
/// in the end this is the error (the first one, where there are more). Other errors end all at once.
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
        for _ in 0..BATCH {
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
        if !more && scan.waiting == 0 {
            return scan.given_up.into_iter().next().map_or(Ok(()), |(_, error)| Err(error));
        }
        let (pause, begun) = (scan.pause(more), Instant::now());
        scan.epoll.wait(&mut tokens, Some(pause)).map_err(system("cannot wait for connections"))?;
        let now = Instant::now();
        if tokens.is_empty() && now - begun < pause {
            // A signal ended the wait, which may be why to stop.
            next_tick = now;
        }
        for &token in &tokens {
            scan.look(token, now);
        }
        scan.expire(now);
    }
}

impl<'a> ConnectScan<'a> {
    fn new(plan: &'a ProbePlan, on_result: &'a mut dyn FnMut(ProbeResult)) -> Result<Self, ProbeError> {
        Ok(Self {
            plan,
            epoll: Epoll::new().map_err(system("cannot wait for connections"))?,
            attempts: VecDeque::new(),
            gone: 0,
            waiting: 0,
            most_waiting: descriptors_left().saturating_sub(HEADROOM).clamp(1, MOST_WAITING),
            allowance: Allowance::new(plan.rate, Instant::now()),
            patience: patience(plan.timeout.min(LONGEST_TIMEOUT), plan.retries, linear_repetitions()),
            known: 0,
            given_up: Vec::new(),
            on_result,
        })
    }

    fn may_begin(&mut self, now: Instant) -> bool {
        self.waiting < self.most_waiting && self.allowance.next(now).is_some_and(|next| next <= now)
    }

    /// Begins with `target`; false where something is used up that those which wait give back when they end.
    fn begin(&mut self, target: SocketAddr, now: Instant) -> Result<bool, ProbeError> {
        let error = match Connecting::begin(target, self.plan.source) {
            Ok(connection) => {
                let token = self.gone + self.attempts.len() as u64;
                let watched = self.epoll.add_writable(connection.as_fd(), token);
                watched.map_err(system("cannot wait for a connection"))?;
                self.attempts.push_back(Some(Attempt { connection, target, begun: now }));
                self.waiting += 1;
                self.allowance.begun(now);
                return Ok(true);
            }
            Err(NotBegun::Socket(error) | NotBegun::Connect(error)) if self.waiting > 0 && is_used_up(&error) => {
                self.most_waiting = self.waiting;
                return Ok(false);
            }
            Err(NotBegun::Socket(error)) => return Err(system("cannot open a socket")(error)),
            Err(NotBegun::Source(error) | NotBegun::Connect(error)) => error,
        };
        match error.raw_os_error() {
            // The answer is here already.
            Some(libc::ECONNREFUSED) => self.tell(target, outcome::REFUSED, None),
            Some(libc::EPERM) => self.tell(target, (PortState::Filtered, Reason::PermDenied), None),
            _ => self.give_up(target, error, now),
        }
        Ok(true)
    }

    /// How long to wait for what happens, where there are more ports to begin with or not.
    fn pause(&mut self, more: bool) -> Duration {
        let now = Instant::now();
        let deadline = self.attempts.front().and_then(Option::as_ref).map(|attempt| attempt.begun + self.patience);
        let begin = if more && self.waiting < self.most_waiting { self.allowance.next(now) } else { None };
        let next = deadline.into_iter().chain(begin).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    /// Sees what has become of a connection that something has happened to.
    fn look(&mut self, token: u64, now: Instant) {
        let place = token.checked_sub(self.gone).and_then(|place| usize::try_from(place).ok());
        let attempt = place.and_then(|place| self.attempts.get_mut(place));
        if let Some(attempt) = attempt
            && let Some(Attempt { connection, target, .. }) = attempt
        {
            match outcome(connection, *target) {
                Ok(None) => {}
                Ok(Some(outcome)) => {
                    if let Some(attempt) = attempt.take() {
                        self.end(attempt, outcome, now);
                    }
                }
                Err(error) => {
                    let target = *target;
                    self.give_up(target, error, now);
                }
            }
        }
    }

    /// Gives up what waits for too long.
    fn expire(&mut self, now: Instant) {
        while let Some(attempt) = self.attempts.front() {
            if let Some(Attempt { begun, .. }) = attempt {
                if *begun + self.patience > now {
                    break;
                }
                // More may have happened than was reported at once.
                self.look(self.gone, now);
            }
            if let Some(Some(attempt)) = self.attempts.pop_front() {
                self.end(attempt, (PortState::Filtered, Reason::NoResponse), now);
            }
            self.gone += 1;
        }
    }

    fn end(&mut self, attempt: Attempt, outcome: Outcome, now: Instant) {
        let Attempt { connection, target, begun } = attempt;
        self.waiting -= 1;
        self.allowance.ended(begun, now);
        if outcome.0 == PortState::Open {
            connection.reset();
        }
        // Of an answer after that it is not known which SYN it is for.
        let took = now.saturating_duration_since(begun);
        let answered = !matches!(outcome.1, Reason::NoResponse | Reason::PermDenied);
        self.tell(target, outcome, Some(took).filter(|took| answered && *took < REPETITION));
    }

    fn is_given_up(&self, target: SocketAddr) -> bool {
        self.given_up.iter().any(|(address, _)| *address == at_port(target, 0))
    }

    /// This machine cannot send to the target: ends the connections to that address, of which nothing is known.
    fn give_up(&mut self, target: SocketAddr, error: io::Error, now: Instant) {
        let address = at_port(target, 0);
        for attempt in &mut self.attempts {
            if let Some(Attempt { begun, .. }) = attempt.take_if(|attempt| at_port(attempt.target, 0) == address) {
                self.waiting -= 1;
                self.allowance.ended(begun, now);
            }
        }
        self.given_up.push((address, ProbeError::route(target, self.plan.source, error)));
    }

    fn tell(&mut self, address: SocketAddr, (state, reason): Outcome, rtt: Option<Duration>) {
        self.known += 1;
        (self.on_result)(ProbeResult { address, protocol: Protocol::Tcp, state, reason, rtt });
    }
}

/// True for the lack of descriptors, of memory, or of ports to connect from.
fn is_used_up(error: &io::Error) -> bool {
    let used_up =
        [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EAGAIN, libc::EADDRNOTAVAIL, libc::EADDRINUSE];
    error.raw_os_error().is_some_and(|errno| used_up.contains(&errno))
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> ProbeError {
    move |error| ProbeError::System { what, error }
}

/// How many of the kernel's repetitions come a second after the one before; from then on the time doubles.
fn linear_repetitions() -> u32 {
    // Before Linux 6.5 there is no such file, and the time doubles from the beginning.
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_syn_linear_timeouts");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// How long to wait for an answer: no longer than `timeout`, and not until the kernel sends a SYN more than `retries`
/// allow. Its times cannot be changed, and the bound that TCP_SYNCNT sets does not count the linear ones.
fn patience(timeout: Duration, retries: Option<u8>, linear: u32) -> Duration {
    let Some(retries) = retries else { return timeout };
    let mut repetition = Duration::ZERO;
    for before in 0..=u32::from(retries) {
        repetition =
            repetition.saturating_add(REPETITION.saturating_mul(2_u32.saturating_pow(before.saturating_sub(linear))));
    }
    timeout.min(repetition - MARGIN)
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
        let mut told = 0;
        let end = scan(plan, addresses, &mut |result| results.push(result), &mut |known| {
            assert!(known >= told);
            told = known;
            ControlFlow::Continue(())
        });
        results.sort_by_key(|result| (result.address.ip(), result.address.port()));
        (results, end)
    }

    #[test]
    fn open_and_closed_ports_are_told_apart() {
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
    fn a_connection_that_is_ended_at_once_was_open() {
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
        // Which source port the kernel takes is left to it, so all that it may take are probed.
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
        // Who listens at all addresses listens at this one too.
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
        let millis = |timeout, retries, linear| patience(Duration::from_millis(timeout), retries, linear).as_millis();
        assert_eq!(millis(3_300, None, 4), 3_300);
        // After 1, 2, 3, 4, 5, 7, 11 seconds.
        assert_eq!([0, 1, 2, 4, 5, 6].map(|n| millis(60_000, Some(n), 4)), [950, 1_950, 2_950, 4_950, 6_950, 10_950]);
        // After 1, 3, 7 seconds.
        assert_eq!([0, 1, 2].map(|n| millis(60_000, Some(n), 0)), [950, 2_950, 6_950]);
        assert_eq!(millis(500, Some(0), 4), 500);
        assert_eq!(millis(3_300, Some(255), 0), 3_300);
    }
}
