//! What the reader does in its own process.

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
use super::wire::{
    ALIVE_INTERVAL, ATTEMPTS_PER_MESSAGE, Counts, DoorEvent, Doors, FromReader, MAX_DAEMON_MESSAGE, MAX_KNOCK_RATE,
    ReaderOptions, Start, ToReader, WireNotice, WireSequence, cut,
};
use crate::capture::{CaptureSet, RestartRequest};
use crate::clock::Clock;
use crate::config::{Config, DoorId};
use crate::decode::Knock;
use crate::engine::Engine;
use crate::event::EventKind;
use crate::feed::{Feed, MAX_FINAL_TURNS};
use crate::filter::PortFilter;
use crate::log_limit::LogLimit;
use crate::rate_limit::{BURST, Bucket};
use crate::sys::netlink::Network;
use crate::time::Timestamp;

/// What is only for the log may wait so long, so that a flood of first knocks wakes the daemon less often.
const PATIENCE: Duration = Duration::from_millis(20);
/// What waits is sent when it is so much.
const MUCH: usize = 32 << 10;

/// Reads packets for the daemon at the other end of `socket`, until that closes it. Before the first packet is read,
/// `give_up_rights` is called with that connection, the one thing that is written to, and with the maximum number of
/// bytes that the reader may still allocate; it returns in words what rights it could not give up.
///
/// # Errors
/// Where something failed, which the daemon has been told as far as possible.
pub fn run(
    socket: OwnedFd,
    give_up_rights: impl FnOnce(BorrowedFd<'_>, u64) -> Result<Vec<String>, String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut link =
        Link { channel: Channel::new(UnixStream::from(socket), MAX_DAEMON_MESSAGE)?, waiting: VecDeque::new() };
    let work = AssertUnwindSafe(|| -> Result<(), String> {
        let Some(mut reader) = Reader::start(&mut link, give_up_rights)? else { return Ok(()) };
        reader.run().or_else(|error| match error.kind() {
            // The daemon is gone.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(error.to_string()),
        })
    });
    let result = catch_unwind(work).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("it panicked: {}", text.unwrap_or("without words")))
    });
    if let Err(message) = &result {
        link.channel.put(&FromReader::Failed(cut(message)))?;
        link.channel.flush()?;
    }
    Ok(result?)
}

/// The connection to the daemon.
struct Link {
    channel: Channel,
    /// Messages that came while another was waited for.
    waiting: VecDeque<ToReader>,
}

impl Link {
    fn next(&mut self) -> io::Result<Option<ToReader>> {
        match self.waiting.pop_front() {
            Some(message) => Ok(Some(message)),
            None => self.channel.next(),
        }
    }

    /// Asks the daemon how the network is now; `None` where it does not know.
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

struct Reader<'a> {
    link: &'a mut Link,
    capture: CaptureSet,
    /// The names of the interfaces as the daemon numbers them.
    interfaces: Vec<String>,
    feed: Feed,
    /// `None` after it was handed over.
    engine: Option<Engine>,
    config: Config,
    log_limit: LogLimit,
    /// The first door of each name.
    places: HashMap<Arc<str>, u16, RandomState>,
    clock: Clock,
    secret: u32,
    report_knocks: bool,
    knock_limit: Bucket,
    /// The daemon waits for [`FromReader::CaughtUp`] of this time.
    catch_up: Option<Timestamp>,
    /// A turn is due that no descriptor tells of.
    look_again: bool,
    /// Since when something waits to be sent.
    waits_since: Option<Instant>,
    /// When the daemon was last sent something.
    sent_at: Instant,
}

impl<'a> Reader<'a> {
    /// `None` where the daemon is gone before it said what to do.
    fn start(
        link: &'a mut Link,
        give_up_rights: impl FnOnce(BorrowedFd<'_>, u64) -> Result<Vec<String>, String>,
    ) -> Result<Option<Self>, String> {
        let text = |error: io::Error| error.to_string();
        let Ok(ToReader::Start(start)) = link.channel.wait() else { return Ok(None) };
        let Start { doors, interfaces, secret, clock, options } = start;
        let ReaderOptions { ipv4_only, report_knocks } = options;
        let config = doors.config()?;
        let clock = Clock::from_zero(Timestamp::from_nanos(clock));
        let mut engine = Engine::new_detect_only(&config);
        let mut capture = CaptureSet::open(&interfaces, PortFilter::new(&config, secret).with_all_flags(report_knocks))
            .map_err(|error| error.to_string())?;
        let mut feed = Feed::new(clock, ipv4_only);
        feed.follow_addresses(&mut capture, &mut engine);
        capture.wait_also_for(link.channel.as_fd()).map_err(text)?;
        capture.enter_sandbox();
        let kept = give_up_rights(link.channel.as_fd(), memory_for(&config))?;
        let mut reader = Self {
            link,
            capture,
            interfaces,
            feed,
            engine: Some(engine),
            places: places(&config),
            log_limit: log_limit(&config),
            config,
            clock,
            secret,
            report_knocks,
            knock_limit: Bucket::new(MAX_KNOCK_RATE, 1),
            catch_up: None,
            look_again: false,
            waits_since: None,
            sent_at: Instant::now(),
        };
        let kept = kept.iter().map(|right| cut(right)).collect();
        reader.say(&FromReader::Ready { kept }).map_err(text)?;
        reader.tell_capture().map_err(text)?;
        reader.flush().map_err(text)?;
        Ok(Some(reader))
    }

    fn run(&mut self) -> io::Result<()> {
        self.begin()?;
        let mut has_messages = false;
        while self.engine.is_some() {
            if has_messages {
                self.link.channel.receive()?;
            }
            while let Some(message) = self.link.next()? {
                self.obey(message)?;
            }
            self.turn()?;
            let left = self.time_left();
            has_messages = self.capture.wait(left)?;
        }
        Ok(())
    }

    /// Takes up what the reader before this one had under way.
    fn begin(&mut self) -> io::Result<()> {
        loop {
            let message = self.link.channel.wait()?;
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
                other => self.link.waiting.push_back(other),
            }
        }
    }

    fn obey(&mut self, message: ToReader) -> io::Result<()> {
        if matches!(message, ToReader::Reload(_)) {
            // What has come by now is for the doors of before.
            self.read_on()?;
        }
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match message {
            ToReader::Reload(doors) => {
                self.config = Doors::config(doors).map_err(io::Error::other)?;
                engine.reload(&self.config, self.clock.now());
                self.capture.set_filter(PortFilter::new(&self.config, self.secret).with_all_flags(self.report_knocks));
                // Under the names of before.
                self.tell_events()?;
                self.report_suppressed()?;
                self.places = places(&self.config);
                self.log_limit = log_limit(&self.config);
                self.tell_capture()?;
                self.say(&FromReader::Reloaded)?;
                self.flush()
            }
            ToReader::Sequence { door, sequence } => {
                let sequence = sequence.and_then(WireSequence::sequence);
                engine.set_sequence(DoorId(door), sequence.clone());
                if let Some(door) = self.config.doors.get_mut(usize::from(door)) {
                    door.sequence = sequence;
                }
                self.capture.set_filter(PortFilter::new(&self.config, self.secret).with_all_flags(self.report_knocks));
                Ok(())
            }
            ToReader::CatchUp => {
                self.catch_up = Some(self.clock.now());
                Ok(())
            }
            ToReader::Count => {
                let counts = self.counts();
                self.say(&FromReader::Counts(counts))?;
                self.flush()
            }
            ToReader::HandOver => self.hand_over(),
            ToReader::Start(_) | ToReader::Attempts(_) | ToReader::Begin { .. } | ToReader::Network(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a message out of turn"))
            }
        }
    }

    fn counts(&mut self) -> Counts {
        let stats = self.engine.as_ref().map(Engine::stats).unwrap_or_default();
        Counts::of(&stats, self.feed.packets(), self.capture.stats().dropped)
    }

    /// One round of work: true where nothing is left in the buffers.
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
        let caught_up = self.feed.turn(&mut self.capture, engine, &mut on_knock).map_err(io::Error::other)?;
        if self.capture.take_network_wanted() {
            match self.link.ask_network()? {
                Some(network) => self.capture.set_network(network),
                // The daemon is out of descriptors or memory, which may pass.
                None => self.capture.ask_again()?,
            }
            self.look_again = true;
        }
        for knock in knocks {
            self.say(&knock)?;
        }
        let mut urgent = self.tell_events()?;
        if self.log_limit.poll_timeout().is_some_and(|due| due <= self.clock.now()) {
            self.report_suppressed()?;
        }
        urgent |= self.tell_capture()?;
        if let Some(captures) = self.capture.take_polled() {
            self.say(&FromReader::Alive { captures: u16::try_from(captures).unwrap_or(u16::MAX) })?;
            urgent = true;
        }
        if let (Some(asked), Some(time)) = (self.catch_up, caught_up)
            && time >= asked
        {
            self.catch_up = None;
            self.say(&FromReader::CaughtUp { time: time.as_nanos() })?;
            urgent = true;
        }
        let much = self.link.channel.waiting() > MUCH;
        if urgent || much || self.waits_since.is_some_and(|since| since.elapsed() >= PATIENCE) {
            self.flush()?;
        }
        Ok(caught_up.is_some())
    }

    /// Reports the numbers of events that were not reported one by one since the last time.
    fn report_suppressed(&mut self) -> io::Result<()> {
        match self.log_limit.take_report() {
            Some(counted) => self.say(&FromReader::Suppressed { time: self.clock.now().as_nanos(), counted }),
            None => Ok(()),
        }
    }

    /// Tells what the engine found, so far as the rate of log lines admits it; true where a door is to be opened.
    fn tell_events(&mut self) -> io::Result<bool> {
        let mut opens = false;
        // Not the times of the events: those of many seconds may come at one time, and the daemon goes by what comes.
        let now = self.clock.now();
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            let door = match &event.kind {
                EventKind::Open { door_id, .. } => Some(door_id.0),
                _ => self.places.get(&event.door).copied(),
            };
            opens |= matches!(event.kind, EventKind::Open { .. });
            if let Some(door) = door
                && (self.is_one_time_use(&event.kind) || self.log_limit.admits(door, &event.kind, now))
                && let Some(found) = DoorEvent::of(&event, door)
            {
                self.say(&FromReader::DoorEvent(found))?;
            }
        }
        Ok(opens)
    }

    /// True for the complete sequence of a one-time door, which takes no knock until the daemon has used it.
    fn is_one_time_use(&self, kind: &EventKind) -> bool {
        let EventKind::Open { door_id, .. } = kind else { return false };
        self.config.doors.get(usize::from(door_id.0)).is_some_and(|door| door.one_time_sequences.is_some())
    }

    /// Tells what the capture has to say; true where there is something.
    fn tell_capture(&mut self) -> io::Result<bool> {
        let mut told = false;
        while let Some(notice) = self.capture.poll_notice() {
            if let Some(notice) = WireNotice::of(&notice, &self.interfaces) {
                self.say(&FromReader::Capture(notice))?;
                told = true;
            }
        }
        if let Some(request) = self.capture.take_restart_request() {
            self.say(&FromReader::AskRestart { failed: request == RestartRequest::AfterFailure })?;
            told = true;
        }
        Ok(told)
    }

    /// Reads to the end of the buffers.
    fn read_on(&mut self) -> io::Result<()> {
        for _ in 0..MAX_FINAL_TURNS {
            if self.turn()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads to the end of the buffers and gives the attempts to the next reader.
    fn hand_over(&mut self) -> io::Result<()> {
        self.read_on()?;
        self.report_suppressed()?;
        let counts = Counts { attempts: 0, ..self.counts() };
        let Some(engine) = self.engine.take() else { return Ok(()) };
        let mut attempts = engine.hand_over();
        loop {
            let some: Vec<_> = attempts.by_ref().take(ATTEMPTS_PER_MESSAGE).collect();
            if some.is_empty() {
                break;
            }
            self.say(&FromReader::Attempts(some))?;
            if self.link.channel.waiting() > MUCH {
                self.flush()?;
            }
        }
        self.say(&FromReader::HandedOver { last: self.feed.last_stamp().as_nanos(), counts })?;
        self.flush()
    }

    fn say(&mut self, message: &FromReader) -> io::Result<()> {
        self.waits_since.get_or_insert_with(Instant::now);
        self.link.channel.put(message)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waits_since.take().is_some() {
            self.sent_at = Instant::now();
        }
        self.link.channel.flush()
    }

    /// How long to wait for packets and messages.
    fn time_left(&mut self) -> Option<Duration> {
        let look_again = std::mem::take(&mut self.look_again) || self.link.channel.has_unseen();
        if self.catch_up.is_some() || look_again {
            return Some(Duration::ZERO);
        }
        let due =
            self.engine.as_mut().and_then(Engine::poll_timeout).into_iter().chain(self.log_limit.poll_timeout()).min();
        let due = due.map(|due| due.saturating_since(self.clock.now()));
        let flush = self.waits_since.map(|since| PATIENCE.saturating_sub(since.elapsed()));
        let alive = ALIVE_INTERVAL.saturating_sub(self.sent_at.elapsed());
        due.into_iter().chain(flush).chain([alive]).min()
    }
}

/// The limits of the events that the reader reports.
fn log_limit(config: &Config) -> LogLimit {
    LogLimit::new(config.options.log_rate, config.options.max_openings, config.doors.len())
}

/// The place of the first door of each name.
fn places(config: &Config) -> HashMap<Arc<str>, u16, RandomState> {
    let mut places = HashMap::default();
    for (door, place) in config.doors.iter().zip(0..=u16::MAX) {
        places.entry(door.name.clone()).or_insert(place);
    }
    places
}
