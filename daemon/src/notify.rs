//! Notifications to a supervisor through sd_notify(3), if one listens: that the daemon is ready,
//! reloads or stops, a status line, and that its main loop and its reader work.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Time until the next try to send to a supervisor whose queue is full.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Minimum time between two changes of the status line.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of messages that wait for a supervisor whose queue is full; the newest are kept.
const MAX_WAITING: usize = 32;

/// The connection to the supervisor. Sending never waits.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    /// Messages that are not sent yet.
    waiting: VecDeque<String>,
    retry_at: Option<Instant>,
    /// Interval of the watchdog messages, and the time of the next one.
    watchdog: Option<(Duration, Instant)>,
    status: String,
    /// When to send the status next, if it can have changed.
    status_due: Option<Instant>,
    /// When the status was checked last.
    status_reported: Option<Instant>,
}

impl Notify {
    /// Connects to the supervisor that `NOTIFY_SOCKET` names; `None` if it names none.
    pub(crate) fn from_environment() -> io::Result<Option<Self>> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        Self::connect(&name, sd_notify::watchdog_enabled()).map(Some)
    }

    /// True if a supervisor requests notifications.
    pub(crate) fn is_requested() -> bool {
        env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty())
    }

    fn connect(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address)?;
        let watchdog = watchdog.filter(|limit| !limit.is_zero()).map(|limit| (limit / 2, Instant::now()));
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            retry_at: None,
            watchdog,
            status: String::new(),
            status_due: None,
            status_reported: None,
        })
    }

    /// Reports that the daemon is ready.
    pub(crate) fn ready(&mut self) {
        self.send(&[NotifyState::Ready]);
        self.status_changed();
    }

    /// Reports that the daemon reads its configuration again; [`Notify::ready`] reports the end of
    /// this.
    pub(crate) fn reloading(&mut self) {
        // This clock always exists; see clock_gettime(2).
        let now = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
        self.send(&[NotifyState::Reloading, now]);
    }

    /// Reports that the daemon stops.
    pub(crate) fn stopping(&mut self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// Requests a new status line, because the number of doors or openings can have changed.
    pub(crate) fn status_changed(&mut self) {
        let now = Instant::now();
        let earliest = self.status_reported.map_or(now, |last| last + STATUS_INTERVAL);
        self.status_due.get_or_insert(earliest.max(now));
    }

    /// Sends the messages that are due, after an iteration of the main loop: the numbers of doors
    /// and openings, which `counts` returns, and, if the reader works, too (`is_reading`), the
    /// watchdog message.
    pub(crate) fn loop_completed(&mut self, is_reading: bool, counts: impl FnOnce() -> (usize, usize)) {
        let now = Instant::now();
        if self.status_due.is_some_and(|due| due <= now) && !self.waiting.is_empty() {
            // No new status lines are queued for a supervisor whose queue is full.
            self.status_due = Some(now + STATUS_INTERVAL);
        }
        if self.status_due.is_some_and(|due| due <= now) {
            let (doors, openings) = counts();
            let line = format!("doors {doors}, openings {openings}");
            if line != self.status {
                self.send(&[NotifyState::Status(&line)]);
                self.status = line;
            }
            (self.status_due, self.status_reported) = (None, Some(now));
        }
        if let Some((every, due)) = &mut self.watchdog
            && *due <= now
        {
            *due = now + *every;
            // A late watchdog message would prove nothing.
            if is_reading && self.waiting.is_empty() {
                self.send(&[NotifyState::Watchdog]);
            }
        }
        if self.retry_at.is_some_and(|due| due <= now) {
            self.flush();
        }
    }

    /// When to call [`Notify::loop_completed`], even without an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.watchdog.map(|(_, due)| due), self.status_due, self.retry_at].into_iter().flatten().min()
    }

    fn send(&mut self, states: &[NotifyState<'_>]) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(states.iter().map(|state| format!("{state}\n")).collect());
        self.flush();
    }

    fn flush(&mut self) {
        self.retry_at = None;
        while let Some(message) = self.waiting.front() {
            match self.socket.send(message.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.retry_at = Some(Instant::now() + RETRY_DELAY);
                    return;
                }
                // A supervisor that has gone gets no messages.
                _ => self.waiting.pop_front(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 1000];
        let count = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    #[test]
    fn a_supervisor_whose_queue_is_full_is_notified_later_without_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut notify = Notify::connect(path.as_os_str(), Some(Duration::from_secs(3600))).unwrap();
        notify.ready();
        notify.loop_completed(true, || (3, 1));
        let messages: Vec<_> = std::iter::from_fn(|| received(&socket)).collect();
        assert_eq!(messages, ["READY=1\n", "STATUS=doors 3, openings 1\n", "WATCHDOG=1\n"]);
        assert!(notify.deadline().unwrap() > Instant::now() + Duration::from_secs(1700), "half of the limit");
        let mut count = 0;
        while notify.retry_at.is_none() {
            notify.stopping();
            count += 1;
        }
        while received(&socket).is_some() {
            count -= 1;
        }
        assert_eq!(count, 1, "one waits");
        notify.flush();
        assert_eq!(received(&socket).as_deref(), Some("STOPPING=1\n"));
        drop(socket);
        notify.ready();
        assert!(notify.waiting.is_empty() && notify.retry_at.is_none());
    }

    #[test]
    fn there_is_no_watchdog_message_while_the_reader_does_not_work() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut notify = Notify::connect(path.as_os_str(), Some(Duration::from_millis(2))).unwrap();
        for is_reading in [true, false, true] {
            std::thread::sleep(Duration::from_millis(2));
            notify.loop_completed(is_reading, || (0, 0));
            assert_eq!(received(&socket).as_deref(), is_reading.then_some("WATCHDOG=1\n"));
        }
    }

    #[test]
    fn an_abstract_socket_works_and_a_missing_one_is_an_error() {
        let name = format!("portknock-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut notify = Notify::connect(OsStr::new(&format!("@{name}")), None).unwrap();
        notify.reloading();
        let message = received(&socket).unwrap();
        assert!(message.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{message}");
        assert_eq!(notify.deadline(), None);
        Notify::connect(OsStr::new("/no/such/socket"), None).unwrap_err();
    }

    #[test]
    fn a_supervisor_whose_queue_is_full_gets_only_the_newest_messages_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut notify = Notify::connect(path.as_os_str(), None).unwrap();
        for round in 0..1_000 {
            notify.reloading();
            notify.ready();
            notify.status_due = Some(Instant::now());
            notify.loop_completed(true, || (round, round));
        }
        assert_eq!(notify.waiting.len(), MAX_WAITING);
        assert!(notify.status_due.unwrap() > Instant::now(), "the loop would spin");
        let mut last = None;
        while notify.retry_at.is_some() {
            last = std::iter::from_fn(|| received(&socket)).last();
            notify.flush();
        }
        last = std::iter::from_fn(|| received(&socket)).last().or(last);
        assert_eq!(last.as_deref(), Some("READY=1\n"));
    }
}
