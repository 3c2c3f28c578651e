//! The work of the reader, in its own process.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::channel::Channel;
use super::memory::memory_for;
use super::packets::{DetectedPacket, PacketDetector};
use super::wire::{
    ALIVE_INTERVAL, ATTEMPTS_PER_MESSAGE, Counts, DoorEvent, Doors, FromReader, MAX_DAEMON_MESSAGE, MAX_KNOCK_RATE,
    ReaderOptions, Start, ToReader, WireNotice, WirePacket, WireSequence, WireWindow, cut,
};
use crate::capture::{CaptureSet, RestartRequest};
use crate::clock::Clock;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::{Engine, LiveSecrets, PacketForm};
use crate::event::EventKind;
use crate::feed::{Feed, MAX_FINAL_TURNS};
use crate::filter::PortFilter;
use crate::log_limit::LogLimit;
use crate::rate_limit::{BURST, Bucket};
use crate::sys::netlink::Network;
use crate::time::Timestamp;

/// Maximum time for which messages for the log wait to be sent, so that a flood of first knocks
/// wakes the daemon less often.
const FLUSH_DELAY: Duration = Duration::from_millis(20);
/// Number of waiting bytes above which they are sent immediately.
const FLUSH_THRESHOLD: usize = 32 << 10;

/// Runs a reader: reads packets for the daemon at the other end of `socket`, until the daemon
/// closes the connection.
///
/// Before the first packet is read, `run` calls `enter_sandbox`, which must give up the privileges
/// of this process. Its arguments are the connection, the only descriptor that the reader writes
/// to, and the maximum number of bytes that the reader still allocates. It returns a description of
/// each privilege that it could not give up, or why the reader must not run. The calling thread
/// runs the reader; the process should have no other.
///
/// # Errors
/// Fails if the reader cannot start or continue. It has sent the reason to the daemon, if the
/// connection still works. A panic of the reader is such a reason.
pub fn run(
    socket: OwnedFd,
    enter_sandbox: impl FnOnce(BorrowedFd<'_>, u64) -> Result<Vec<String>, String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut daemon = DaemonConnection {
        channel: Channel::new(UnixStream::from(socket), MAX_DAEMON_MESSAGE)?,
        waiting: VecDeque::new(),
    };
    let work = AssertUnwindSafe(|| -> Result<(), String> {
        let Some(mut reader) = Reader::start(&mut daemon, enter_sandbox)? else { return Ok(()) };
        reader.run().or_else(|error| match error.kind() {
            // The daemon has ended.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error.to_string()),
        })
    });
    let result = catch_unwind(work).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("it panicked: {}", text.unwrap_or("without a message")))
    });
    if let Err(message) = &result {
        daemon.channel.put(&FromReader::Failed(cut(message)))?;
        daemon.channel.flush()?;
    }
    Ok(result?)
}

/// The connection to the daemon.
struct DaemonConnection {
    channel: Channel,
    /// Messages that came while the reader waited for another one.
    waiting: VecDeque<ToReader>,
}

impl DaemonConnection {
    /// Returns the next message, if one was received completely.
    fn next(&mut self) -> io::Result<Option<ToReader>> {
        match self.waiting.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.channel.next(),
        }
    }

    /// Requests the state of the network from the daemon, and waits for it; `None` if the daemon
    /// cannot read it.
    fn ask_network(&mut self) -> io::Result<Option<Network>> {
        self.channel.put(&FromReader::AskNetwork)?;
        self.channel.flush()?;
        loop {
            match self.channel.wait()? {
                ToReader::Network(network) => return Ok(network),
                other => self.waiting.push_back(other),
            }
        }
    }
}

/// A reader with open captures.
struct Reader<'a> {
    daemon: &'a mut DaemonConnection,
    capture: CaptureSet,
    /// The names of the interfaces, by the indices that messages use.
    interfaces: Vec<String>,
    feed: Feed,
    /// `None` after the attempts were handed over.
    engine: Option<Engine>,
    packets: PacketDetector,
    config: Config,
    log_limit: LogLimit,
    /// The index of the first door of each name.
    first_doors: HashMap<Arc<str>, u16, RandomState>,
    clock: Clock,
    /// As [`Start::secret`].
    secret: u32,
    report_knocks: bool,
    /// Limit of reported packets.
    knock_limit: Bucket,
    /// The daemon waits for [`FromReader::CaughtUp`] with this time or a later one.
    catch_up: Option<Timestamp>,
    /// A turn is due that no descriptor reports.
    is_turn_due: bool,
    /// Time since which a message waits to be sent.
    unsent_since: Option<Instant>,
    /// Time at which messages were last sent.
    sent_at: Instant,
}

impl<'a> Reader<'a> {
    /// Opens the captures, enters the sandbox and reports that the reader is ready. `None` if the
    /// daemon has ended before it sent the parameters.
    fn start(
        daemon: &'a mut DaemonConnection,
        enter_sandbox: impl FnOnce(BorrowedFd<'_>, u64) -> Result<Vec<String>, String>,
    ) -> Result<Option<Self>, String> {
        let text = |error: io::Error| error.to_string();
        let Ok(ToReader::Start(start)) = daemon.channel.wait() else { return Ok(None) };
        let Start { doors, interfaces, secret, clock, options } = start;
        let ReaderOptions { ipv4_only, report_knocks } = options;
        let (config, LiveSecrets { windows, hints, mac_keys }) = doors.config()?;
        let clock = Clock::from_zero(Timestamp::from_nanos(clock));
        let filter = PortFilter::with_windows(&config, &windows, secret).with_all_flags(report_knocks);
        let mut engine = Engine::new_detect_only(&config, windows);
        let mut capture = CaptureSet::open(&interfaces, filter).map_err(|error| error.to_string())?;
        let mut feed = Feed::new(clock, ipv4_only);
        feed.follow_addresses(&mut capture, &mut engine);
        capture.wait_also_for(daemon.channel.as_fd()).map_err(text)?;
        capture.enter_sandbox();
        let kept = enter_sandbox(daemon.channel.as_fd(), memory_for(&config))?;
        let mut reader = Self {
            daemon,
            capture,
            interfaces,
            feed,
            engine: Some(engine),
            packets: PacketDetector::new(hints, mac_keys),
            first_doors: first_doors(&config),
            log_limit: log_limit(&config),
            config,
            clock,
            secret,
            report_knocks,
            knock_limit: Bucket::new(MAX_KNOCK_RATE, 1),
            catch_up: None,
            is_turn_due: false,
            unsent_since: None,
            sent_at: Instant::now(),
        };
        let kept = kept.iter().map(|privilege| cut(privilege)).collect();
        reader.queue(&FromReader::Ready { kept }).map_err(text)?;
        reader.queue_notices().map_err(text)?;
        reader.flush().map_err(text)?;
        Ok(Some(reader))
    }

    /// Works until the attempts are handed over.
    fn run(&mut self) -> io::Result<()> {
        self.restore_attempts()?;
        let mut has_messages = false;
        while self.engine.is_some() {
            if has_messages {
                self.daemon.channel.receive()?;
            }
            while let Some(message) = self.daemon.next()? {
                self.handle(message)?;
            }
            self.turn()?;
            let left = self.time_left();
            has_messages = self.capture.wait(left)?;
        }
        Ok(())
    }

    /// Restores the attempts of the previous reader.
    fn restore_attempts(&mut self) -> io::Result<()> {
        loop {
            let message = self.daemon.channel.wait()?;
            match message {
                ToReader::Attempts(attempts) => {
                    let Some(engine) = &mut self.engine else { continue };
                    for attempt in &attempts {
                        engine.resume_attempt(attempt);
                    }
                }
                ToReader::Begin { after } => {
                    self.feed.begin_after(Timestamp::from_nanos(after));
                    return Ok(());
                }
                // The attempts belong to the present windows.
                present @ (ToReader::Windows(_) | ToReader::Hints(_)) => self.handle(present)?,
                other => self.daemon.waiting.push_back(other),
            }
        }
    }

    /// Handles a message.
    fn handle(&mut self, message: ToReader) -> io::Result<()> {
        if matches!(message, ToReader::Reload(_)) {
            // Packets that have arrived by now are for the old doors.
            self.drain()?;
        }
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match message {
            ToReader::Reload(doors) => {
                let (config, LiveSecrets { windows, hints, mac_keys }) =
                    Doors::config(doors).map_err(io::Error::other)?;
                self.config = config;
                self.packets.set_keys(hints, mac_keys);
                engine.reload_with_windows(&self.config, windows, self.clock.now());
                self.set_filter();
                // The events have the names of the old doors.
                self.queue_events()?;
                self.report_suppressed()?;
                self.first_doors = first_doors(&self.config);
                self.log_limit = log_limit(&self.config);
                self.queue_notices()?;
                self.queue(&FromReader::Reloaded)?;
                self.flush()
            }
            ToReader::Sequence { door, sequence } => {
                let sequence = sequence.and_then(WireSequence::sequence);
                engine.set_sequence(DoorId(door), sequence.clone());
                if let Some(door) = self.config.doors.get_mut(usize::from(door)) {
                    door.sequence = sequence;
                }
                self.set_filter();
                Ok(())
            }
            ToReader::Windows(windows) => {
                engine.set_windows(windows.into_iter().map(WireWindow::into_values), self.clock.now());
                self.set_filter();
                Ok(())
            }
            ToReader::Hints(hints) => {
                hints.add_to(self.packets.hints_mut());
                Ok(())
            }
            ToReader::CatchUp => {
                self.catch_up = Some(self.clock.now());
                Ok(())
            }
            ToReader::Count => {
                let counts = self.counts();
                self.queue(&FromReader::Counts(counts))?;
                self.flush()
            }
            ToReader::HandOver => self.hand_over(),
            ToReader::Start(_) | ToReader::Attempts(_) | ToReader::Begin { .. } | ToReader::Network(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the daemon sent a message out of turn"))
            }
        }
    }

    /// Has the kernel pass the packets that matter to the doors and live windows.
    fn set_filter(&mut self) {
        let Some(engine) = &self.engine else { return };
        let filter = PortFilter::with_windows(&self.config, engine.windows(), self.secret);
        self.capture.set_filter(filter.with_all_flags(self.report_knocks));
    }

    fn counts(&mut self) -> Counts {
        let stats = self.engine.as_ref().map(Engine::stats).unwrap_or_default();
        let counts = Counts::of(&stats, self.feed.packets(), self.capture.stats().dropped);
        Counts { knocks: counts.knocks + self.packets.seen(), bogus: self.packets.bogus(), ..counts }
    }

    /// Does the work that is due. Returns true if no packet is left in the buffers.
    fn turn(&mut self) -> io::Result<bool> {
        let Some(engine) = &mut self.engine else { return Ok(true) };
        let mut knocks = Vec::new();
        let (knock_limit, now) = (&mut self.knock_limit, self.clock.now().as_nanos());
        let mut on_knock = |knock: &Knock| {
            if self.report_knocks && knock_limit.take(now, BURST) {
                knocks.push(FromReader::Knock(knock.into()));
            }
        };
        if self.sent_at.elapsed() >= ALIVE_INTERVAL {
            self.capture.poll_all();
        }
        let packets = &mut self.packets;
        let mut on_packet = |knock: &Knock, packet: PacketForm<'_>| packets.take(knock, packet, now);
        let caught_up =
            self.feed.turn(&mut self.capture, engine, Some(&mut on_packet), &mut on_knock).map_err(io::Error::other)?;
        if self.capture.take_network_request() {
            match self.daemon.ask_network()? {
                Some(network) => self.capture.set_network(network),
                // The daemon lacks descriptors or memory, which may pass.
                None => self.capture.retry_network()?,
            }
            self.is_turn_due = true;
        }
        for knock in knocks {
            self.queue(&knock)?;
        }
        let mut urgent = self.queue_events()?;
        for DetectedPacket { knock, bytes } in self.packets.take_found() {
            self.queue(&FromReader::Packet(WirePacket::of(&knock, &bytes)))?;
            urgent = true;
        }
        for DetectedPacket { knock, bytes } in self.packets.take_unknown(now) {
            self.queue(&FromReader::UnknownPacket(WirePacket::of(&knock, &bytes)))?;
            urgent = true;
        }
        if self.log_limit.poll_timeout().is_some_and(|due| due <= self.clock.now()) {
            self.report_suppressed()?;
        }
        urgent |= self.queue_notices()?;
        if let Some(captures) = self.capture.take_polled() {
            self.queue(&FromReader::Alive { captures: u16::try_from(captures).unwrap_or(u16::MAX) })?;
            urgent = true;
        }
        if let (Some(asked), Some(time)) = (self.catch_up, caught_up)
            && time >= asked
        {
            self.catch_up = None;
            self.queue(&FromReader::CaughtUp { time: time.as_nanos() })?;
            urgent = true;
        }
        let is_much = self.daemon.channel.unsent() > FLUSH_THRESHOLD;
        if urgent || is_much || self.unsent_since.is_some_and(|since| since.elapsed() >= FLUSH_DELAY) {
            self.flush()?;
        }
        Ok(caught_up.is_some())
    }

    /// Queues the numbers of events that were not reported individually since the last report.
    fn report_suppressed(&mut self) -> io::Result<()> {
        match self.log_limit.take_report() {
            Some(counted) => self.queue(&FromReader::Suppressed { time: self.clock.now().as_nanos(), counted }),
            None => Ok(()),
        }
    }

    /// Queues the engine's events that the log limit admits. Returns true if one of them opens a
    /// door.
    fn queue_events(&mut self) -> io::Result<bool> {
        let mut opens = false;
        // The current time and not the times of the events, because the engine may return the
        // events of many seconds at one time. The daemon limits the messages by the time of their
        // arrival.
        let now = self.clock.now();
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            let opened = match event.kind {
                EventKind::Open { door_id, .. } => Some(door_id),
                _ => None,
            };
            let door = opened.map(|door| door.0).or_else(|| self.first_doors.get(&event.door).copied());
            let window = opened.and_then(|id| self.engine.as_ref()?.windows().get(id)).map(|window| window.number);
            opens |= opened.is_some();
            if let Some(door) = door
                && (window.is_some()
                    || self.is_one_time_use(&event.kind)
                    || self.log_limit.admits(door, &event.kind, now))
                && let Some(event) = DoorEvent::of(&event, door, window)
            {
                self.queue(&FromReader::DoorEvent(event))?;
            }
        }
        Ok(opens)
    }

    /// Returns true for the complete sequence of a one-time door, which accepts no knock until the
    /// daemon has consumed the sequence.
    fn is_one_time_use(&self, kind: &EventKind) -> bool {
        let EventKind::Open { door_id, .. } = kind else { return false };
        self.config.doors.get(usize::from(door_id.0)).is_some_and(|door| door.one_time_sequences.is_some())
    }

    /// Queues the notices and the restart request of the capture. Returns true if there is one.
    fn queue_notices(&mut self) -> io::Result<bool> {
        let mut is_any = false;
        while let Some(notice) = self.capture.poll_notice() {
            if let Some(notice) = WireNotice::of(&notice, &self.interfaces) {
                self.queue(&FromReader::Capture(notice))?;
                is_any = true;
            }
        }
        if let Some(request) = self.capture.take_restart_request() {
            self.queue(&FromReader::AskRestart { failed: request == RestartRequest::AfterFailure })?;
            is_any = true;
        }
        Ok(is_any)
    }

    /// Handles the packets in the buffers, at most [`MAX_FINAL_TURNS`] turns.
    fn drain(&mut self) -> io::Result<()> {
        for _ in 0..MAX_FINAL_TURNS {
            if self.turn()? {
                break;
            }
        }
        Ok(())
    }

    /// Handles the packets in the buffers and hands over the attempts to the next reader.
    fn hand_over(&mut self) -> io::Result<()> {
        self.drain()?;
        self.report_suppressed()?;
        let counts = Counts { attempts: 0, ..self.counts() };
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let mut attempts = engine.hand_over();
        loop {
            let batch: Vec<_> = attempts.by_ref().take(ATTEMPTS_PER_MESSAGE).collect();
            if batch.is_empty() {
                break;
            }
            self.queue(&FromReader::Attempts(batch))?;
            if self.daemon.channel.unsent() > FLUSH_THRESHOLD {
                self.flush()?;
            }
        }
        self.queue(&FromReader::HandedOver { last: self.feed.last_timestamp().as_nanos(), counts })?;
        self.flush()
    }

    /// Queues a message, which is sent by [`Reader::flush`].
    fn queue(&mut self, message: &FromReader) -> io::Result<()> {
        self.unsent_since.get_or_insert_with(Instant::now);
        self.daemon.channel.put(message)
    }

    /// Sends the queued messages, and waits until the socket has accepted them.
    fn flush(&mut self) -> io::Result<()> {
        if self.unsent_since.take().is_some() {
            self.sent_at = Instant::now();
        }
        self.daemon.channel.flush()
    }

    /// Returns the maximum time to wait for packets and messages.
    fn time_left(&mut self) -> Option<Duration> {
        let is_turn_due = std::mem::take(&mut self.is_turn_due) || self.daemon.channel.has_unhandled();
        if self.catch_up.is_some() || is_turn_due {
            return Some(Duration::ZERO);
        }
        let due =
            self.engine.as_mut().and_then(Engine::poll_timeout).into_iter().chain(self.log_limit.poll_timeout()).min();
        let unknown = self.packets.unknown_due().map(Timestamp::from_nanos);
        let due = due.into_iter().chain(unknown).min();
        let due = due.map(|due| due.saturating_since(self.clock.now()));
        let flush = self.unsent_since.map(|since| FLUSH_DELAY.saturating_sub(since.elapsed()));
        let alive = ALIVE_INTERVAL.saturating_sub(self.sent_at.elapsed());
        due.into_iter().chain(flush).chain([alive]).min()
    }
}

/// Returns the limits of the events that the reader reports.
fn log_limit(config: &Config) -> LogLimit {
    LogLimit::new(config.options.log_rate, config.options.max_openings, config.doors.len())
}

/// Returns the index of the first door of each name.
fn first_doors(config: &Config) -> HashMap<Arc<str>, u16, RandomState> {
    let mut first_doors = HashMap::default();
    for (door, index) in config.doors.iter().zip(0..=u16::MAX) {
        first_doors.entry(door.name.clone()).or_insert(index);
    }
    first_doors
}
