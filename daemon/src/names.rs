//! Host names next to addresses in the log, looked up without delaying the daemon.
//!
//! A helper thread calls the resolver. Lines wait in order for the names that they need, at most
//! [`NAME_TIMEOUT`] and at most [`MAX_LINES`] lines. After that they are logged with the address
//! alone.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use portknock_core::Excerpt;
use portknock_core::sys::clock::LocalTime;
use portknock_core::sys::names::host_name;
use portknock_core::sys::signals::with_signals_blocked;
use portknock_core::sys::wake::WakeFd;

/// Maximum time that a line waits for a name.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of lines that wait.
const MAX_LINES: usize = 1000;
/// Maximum number of addresses that wait for the resolver; further addresses stay without a name
/// for now.
const MAX_REQUESTS: usize = 64;
/// Maximum number of names in the cache.
const MAX_NAMES: usize = 4096;

/// A line that waits to be logged.
#[derive(Debug)]
struct PendingLine {
    text: String,
    ip: Option<IpAddr>,
    time: LocalTime,
    deadline: Instant,
}

/// Lines that wait for names.
#[derive(Debug)]
pub(crate) struct Names {
    lines: VecDeque<PendingLine>,
    /// Results of the resolver; `None` for an address whose lookup is not finished.
    known: HashMap<IpAddr, Option<HostName>>,
    requests: SyncSender<IpAddr>,
    results: Receiver<(IpAddr, HostName)>,
    waker: Arc<WakeFd>,
}

/// The name of an address, if it has one.
type HostName = Option<String>;

impl Names {
    /// Starts the helper thread, which ends when this value is dropped.
    pub(crate) fn start() -> io::Result<Self> {
        Self::with_resolver(host_name)
    }

    fn with_resolver(resolve: impl Fn(IpAddr) -> HostName + Send + 'static) -> io::Result<Self> {
        let waker = Arc::new(WakeFd::new()?);
        let (requests, queue) = sync_channel::<IpAddr>(MAX_REQUESTS);
        let (sender, results) = sync_channel(MAX_REQUESTS);
        let done = waker.clone();
        let work = move || {
            for ip in queue {
                let name = resolve(ip);
                if sender.send((ip, name)).is_err() {
                    return;
                }
                done.wake();
            }
        };
        with_signals_blocked(|| thread::Builder::new().name("names".into()).spawn(work))?;
        Ok(Self { lines: VecDeque::new(), known: HashMap::new(), requests, results, waker })
    }

    /// Appends a line. `ip` is the address that it begins with.
    pub(crate) fn push(&mut self, text: String, ip: Option<IpAddr>, time: LocalTime, now: Instant) {
        if let Some(ip) = ip
            && !self.known.contains_key(&ip)
        {
            if self.known.len() >= MAX_NAMES {
                self.known.clear();
            }
            // If too many requests wait, the address counts as one without a name until the cache
            // is cleared.
            let is_queued = self.requests.try_send(ip).is_ok();
            self.known.insert(ip, if is_queued { None } else { Some(None) });
        }
        self.lines.push_back(PendingLine { text, ip, time, deadline: now + NAME_TIMEOUT });
    }

    /// Removes the first line and returns it with its name, unless it must still wait.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(String, LocalTime)> {
        if self.waker.acknowledge() {
            for (ip, name) in self.results.try_iter() {
                self.known.insert(ip, Some(name));
            }
        }
        let line = self.lines.front()?;
        let result = line.ip.and_then(|ip| self.known.get(&ip));
        if matches!(result, Some(None)) && now < line.deadline && self.lines.len() <= MAX_LINES {
            return None;
        }
        let name = result.and_then(|result| result.as_ref()?.as_deref());
        let text = match (line.ip, name) {
            (Some(ip), Some(name)) => with_name(&line.text, ip, name),
            _ => line.text.clone(),
        };
        let time = line.time;
        self.lines.pop_front();
        Some((text, time))
    }

    /// Removes the first line and returns it as it is, for the end of the daemon.
    pub(crate) fn pop_without_name(&mut self) -> Option<(String, LocalTime)> {
        self.lines.pop_front().map(|line| (line.text, line.time))
    }

    /// The time until which the first line waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lines.front().map(|line| line.deadline)
    }
}

/// Readable when the resolver has a result.
impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

/// Inserts the name in the place in which knockd has it: `10.0.0.1 (host.example): door: Stage 1`.
fn with_name(line: &str, ip: IpAddr, name: &str) -> String {
    match line.strip_prefix(&ip.to_string()) {
        Some(rest) => format!("{ip} ({}){rest}", Excerpt(name)),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portknock_core::sys::clock::local_time;
    use std::sync::mpsc::channel;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn push(names: &mut Names, last: u8, now: Instant) {
        names.push(format!("{}: d: Stage 1", ip(last)), Some(ip(last)), local_time(), now);
    }

    fn pop(names: &mut Names, now: Instant) -> Option<String> {
        names.pop(now).map(|(line, _)| line)
    }

    #[test]
    fn lines_keep_their_order_while_a_name_is_looked_up() {
        let (go, wait) = channel::<()>();
        let resolve = move |ip: IpAddr| {
            let _ = wait.recv();
            ip.to_string().ends_with('1').then(|| "h\n1".to_owned())
        };
        let mut names = Names::with_resolver(resolve).unwrap();
        let now = Instant::now();
        push(&mut names, 1, now);
        names.push("no address".into(), None, local_time(), now);
        push(&mut names, 2, now);
        assert_eq!(pop(&mut names, now), None);
        drop(go);
        let mut lines = Vec::new();
        while lines.len() < 3 {
            lines.extend(pop(&mut names, now));
        }
        assert_eq!(lines, ["10.0.0.1 (h\\x0a1): d: Stage 1", "no address", "10.0.0.2: d: Stage 1"]);
        push(&mut names, 1, now);
        assert_eq!(pop(&mut names, now).as_deref(), Some("10.0.0.1 (h\\x0a1): d: Stage 1"));
    }

    #[test]
    fn a_slow_resolver_delays_a_limited_number_of_lines_for_a_limited_time() {
        let (go, wait) = channel::<()>();
        let mut names = Names::with_resolver(move |_| {
            let _ = wait.recv();
            None
        })
        .unwrap();
        let now = Instant::now();
        push(&mut names, 1, now);
        assert_eq!((pop(&mut names, now), names.deadline()), (None, Some(now + NAME_TIMEOUT)));
        assert_eq!(pop(&mut names, now + NAME_TIMEOUT).as_deref(), Some("10.0.0.1: d: Stage 1"));
        for _ in 0..=MAX_LINES {
            push(&mut names, 1, now);
        }
        assert!(pop(&mut names, now).is_some());
        assert!(pop(&mut names, now).is_none());
        for last in 2..=u8::MAX {
            push(&mut names, last, now);
        }
        assert!(names.known.values().any(Option::is_some), "the resolver's queue is full");
        while names.pop_without_name().is_some() {}
        drop(go);
    }
}
