//! Everything at work behind one descriptor: packets in, doors opened and closed, notices out.
//!
//! A service is one thread's: the one that calls [`Service::next`], or that waits for its descriptor in a loop of its own.
//!
//! # What comes before what
//!
//! In each turn packets are matched first, by the times they were captured at, which also ends the attempts and openings
//! that were due by then; when no packet is left, the clock ends what is due by now. Then, for all that happened: one-time
//! sequences are marked as used, openings are written to the state file with one sync, and only then commands start.

mod clock;
mod notice;
mod one_time;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clock::{Clock, packet_time};
pub use notice::{Notice, ServiceError};
use one_time::OneTimeDoors;
pub use status::Status;

use crate::capture::{CaptureNotice, CaptureSet};
use crate::config::{Config, DoorId, OnStop};
use crate::decode::decode;
use crate::engine::{Engine, LocalAddresses};
use crate::event::{Action, CommandRequest, Event, EventKind};
use crate::exec::{CommandId, Executor};
use crate::filter::PortFilter;
use crate::journal::{OpeningId, StateFile, boot_id};
use crate::openings::Opening;
use crate::sys::epoll::Epoll;
use crate::sys::timer::TimerFd;
use crate::sys::wake::WakeFd;
use crate::time::Timestamp;

/// How long a stopping service waits for commands. A command that opens, waits and closes has this long to get to its end.
pub const STOP_LIMIT: Duration = Duration::from_secs(60);
/// knockd's interface where neither the configuration nor the caller names one.
pub const DEFAULT_INTERFACE: &str = "eth0";

/// How a service differs from what its configuration says.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Listen on these interfaces, whatever the configuration says, also after a reload.
    pub interfaces: Option<Vec<String>>,
    /// Run the doors' commands. Where this is false nothing outside of the process changes: commands are only told by
    /// [`Notice::CommandSkipped`], there is no state file, and one-time sequences stay unused and open again and again.
    pub run_commands: bool,
    /// Pass over IPv6 packets.
    pub ipv4_only: bool,
    /// Tell of each packet that matters by [`Notice::Knock`].
    pub report_knocks: bool,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { interfaces: None, run_commands: true, ipv4_only: false, report_knocks: false }
    }
}

/// Wakes a [`Service`] out of [`Service::next`]; for other threads and for signal handlers.
#[derive(Clone, Debug)]
pub struct Waker(Arc<WakeFd>);

impl Waker {
    /// Makes [`Service::next`] return `None` now, or at its next call.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// The capture, the engine, the commands, the state file and the one-time files of a configuration at work.
///
/// Its descriptor is readable when [`Service::next`] has something to do or to tell: call it with a timeout of zero until
/// it returns `None`. Dropping the service leaves running commands alone and open doors to the state file; to stop in
/// order see [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    config: Config,
    options: ServiceOptions,
    interfaces: Vec<String>,
    /// Chooses the ports that the filter passes for the scan guard; the same over reloads.
    secret: u32,
    engine: Engine,
    capture: CaptureSet,
    executor: Executor,
    state: Option<StateFile>,
    one_time: OneTimeDoors,
    /// Stop commands under way and the openings that they end.
    closing: HashMap<CommandId, OpeningId>,
    /// Openings that the engine believes in but that a one-time file forbade; there is nothing to close.
    withheld: HashSet<OpeningKey>,
    clock: Clock,
    epoll: Epoll,
    timer: TimerFd,
    waker: Arc<WakeFd>,
    packets: u64,
    notices: VecDeque<Notice>,
    /// Set from [`Service::stop`] on: until when commands are waited for.
    stop_limit: Option<Timestamp>,
    stopped: bool,
}

/// What makes an opening the one that it is: door, address and stop command.
type OpeningKey = (Arc<str>, std::net::IpAddr, String);

fn key_of(opening: &Opening) -> OpeningKey {
    (opening.door.clone(), opening.ip, opening.stop_command.clone())
}

#[derive(Clone, Copy)]
#[repr(u64)]
enum Token {
    Capture,
    Commands,
    Timer,
    Wake,
}

impl Service {
    /// Opens everything that `config` needs. No command runs before the first [`Service::next`]: neither those of
    /// overdue openings that the state file has. An interface that does not exist is waited for.
    ///
    /// # Errors
    /// Fails without the right to capture, where the state file is another's or cannot be trusted, where a file of
    /// one-time sequences cannot be read, and without descriptors.
    pub fn start(mut config: Config, options: ServiceOptions) -> Result<Self, ServiceError> {
        let one_time = OneTimeDoors::open(&mut config)?;
        let clock = Clock::new();
        let mut engine = Engine::new(&config);
        let mut executor = Executor::new()?;
        let mut notices = VecDeque::new();
        let mut closing = HashMap::new();
        let mut state = None;
        if options.run_commands {
            let (file, restored) = StateFile::open(&config.options.state_file, &boot_id(), clock.read())?;
            state = Some(file);
            let count = restored.openings.len() + restored.unfinished.len();
            if count > 0 {
                notices.push_back(Notice::Restored(count));
            }
            let open = restored.openings.iter().map(|opening| (opening.door.clone(), opening.ip));
            let unfinished = restored.unfinished.iter().map(|(_, request)| (request.door.clone(), request.ip));
            executor.wait_for_orphans(open.chain(unfinished), clock.now());
            engine.restore_openings(restored.openings);
            for (id, request) in restored.unfinished {
                closing.insert(executor.submit(request), id);
            }
        }
        let secret = random();
        let interfaces = interfaces(&config, &options);
        let capture = CaptureSet::open(&interfaces, PortFilter::new(&config, secret))?;
        let (epoll, timer, waker) = (Epoll::new()?, TimerFd::new()?, WakeFd::new()?);
        epoll.add(capture.as_fd(), Token::Capture as u64)?;
        epoll.add(executor.as_fd(), Token::Commands as u64)?;
        epoll.add(timer.as_fd(), Token::Timer as u64)?;
        epoll.add(waker.as_fd(), Token::Wake as u64)?;
        // The first turn has to come even on a quiet line.
        timer.arm(Some(Duration::ZERO))?;
        notices.push_front(Notice::StartingUp(interfaces.clone()));
        let mut service = Self {
            config,
            options,
            interfaces,
            secret,
            engine,
            capture,
            executor,
            state,
            one_time,
            closing,
            withheld: HashSet::new(),
            clock,
            epoll,
            timer,
            waker: Arc::new(waker),
            packets: 0,
            notices,
            stop_limit: None,
            stopped: false,
        };
        service.tell_used_up();
        service.follow_capture();
        // That is what `StartingUp` says.
        service.notices.retain(|notice| !matches!(notice, Notice::Capture(CaptureNotice::Listening { .. })));
        Ok(service)
    }

    /// Does what there is to do and returns the next notice, waiting for one until `timeout` is over (`None`: for ever).
    /// Returns `None` when it is, when a [`Waker`] or a signal woke it, and from the stop on when
    /// [`Service::is_stopped`].
    ///
    /// # Errors
    /// Fails where the capture has broken down for good, and where system calls fail that should not. The service can
    /// still be stopped.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Notice>, ServiceError> {
        let start = Instant::now();
        let mut tokens = Vec::new();
        loop {
            if self.notices.is_empty() {
                self.turn()?;
            }
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Some(notice));
            }
            let remaining = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            if self.stopped || self.waker.acknowledge() || remaining == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.epoll.wait(&mut tokens, remaining)?;
            if tokens.is_empty() {
                return Ok(None);
            }
        }
    }

    /// A handle to wake this service with.
    pub fn waker(&self) -> Waker {
        Waker(self.waker.clone())
    }

    /// Takes up another configuration: the doors, the interfaces, the state file. Doors that did not change keep their
    /// attempts, openings always survive.
    ///
    /// # Errors
    /// Fails as [`Service::start`] does; then everything goes on as before.
    pub fn reload(&mut self, mut config: Config) -> Result<(), ServiceError> {
        self.turn()?;
        let one_time = OneTimeDoors::open(&mut config)?;
        let clocks = self.clock.read();
        let mut state = None;
        if let Some(old) = &self.state
            && std::path::absolute(&config.options.state_file)? != old.path()
        {
            state = Some(StateFile::open(&config.options.state_file, &boot_id(), clocks)?);
        }
        let filter = PortFilter::new(&config, self.secret);
        let interfaces = interfaces(&config, &self.options);
        if interfaces == self.interfaces {
            self.capture.set_filter(filter);
        } else {
            let capture = CaptureSet::open(&interfaces, filter)?;
            self.epoll.add(capture.as_fd(), Token::Capture as u64)?;
            self.capture = capture;
            self.interfaces = interfaces;
            self.follow_capture();
        }
        // From here on nothing fails.
        if let (Some((mut new, restored)), Some(old)) = (state, &mut self.state) {
            let numbers = new.take_over(old, clocks.now);
            for id in self.closing.values_mut() {
                *id = numbers.get(id).copied().unwrap_or(*id);
            }
            self.engine.restore_openings(restored.openings);
            for (id, request) in restored.unfinished {
                self.closing.insert(self.executor.submit(request), id);
            }
            self.state = Some(new);
        }
        self.one_time = one_time;
        self.config = config;
        self.engine.reload(&self.config, clocks.now);
        self.notices.push_back(Notice::Reloaded);
        self.tell_used_up();
        self.turn()
    }

    /// Begins to stop: no packet counts any more, and with `OnStop = close` every open door is closed. Go on calling
    /// [`Service::next`] until [`Service::is_stopped`]; commands are waited for, but not longer than [`STOP_LIMIT`].
    pub fn stop(&mut self) {
        if self.stop_limit.is_some() {
            return;
        }
        let now = self.clock.now();
        self.stop_limit = Some(now.saturating_add(STOP_LIMIT));
        self.notices.push_back(Notice::ShuttingDown);
        let keep = self.config.options.on_stop == OnStop::Keep;
        let kept = keep && self.state.as_ref().is_some_and(StateFile::is_saving);
        if keep && !kept && self.engine.stats().openings > 0 {
            self.notices.push_back(Notice::NotKept);
        }
        if !kept {
            self.engine.close_all(now);
        }
    }

    /// True when everything that [`Service::stop`] began is done.
    pub fn is_stopped(&self) -> bool {
        self.stopped && self.notices.is_empty()
    }

    /// The service in numbers.
    pub fn status(&mut self) -> Status {
        Status {
            doors: self.config.doors.len(),
            engine: self.engine.stats(),
            packets: self.packets,
            drops: self.capture.stats().dropped,
            commands_running: self.executor.running(),
            commands_waiting: self.executor.waiting(),
            saving: self.state.as_ref().is_none_or(StateFile::is_saving),
        }
    }

    /// One round of work; never waits for anything but the disk.
    fn turn(&mut self) -> Result<(), ServiceError> {
        if self.stopped {
            return Ok(());
        }
        if self.stop_limit.is_none() {
            self.take_packets()?;
        }
        let now = self.clock.now();
        let requests = self.take_events();
        self.commit(now);
        for (request, ends) in requests {
            let id = self.executor.submit(request);
            self.closing.extend(ends.map(|ends| (id, ends)));
        }
        self.executor.turn(now)?;
        self.take_outcomes();
        self.commit(now);
        self.check_stopped(now);
        self.arm()
    }

    /// Feeds the engine with what was captured, and moves its time on.
    fn take_packets(&mut self) -> Result<(), ServiceError> {
        let mut clocks = self.clock.read();
        let before = clocks.now;
        let Self { engine, capture, clock, options, notices, .. } = self;
        let mut on_frame = |link_type, stamp, frame: &[u8]| {
            if stamp > clocks.wall {
                clocks = clock.read();
            }
            let time = packet_time(stamp, &clocks);
            if !options.ipv4_only && !options.report_knocks {
                return engine.feed(link_type, time, frame);
            }
            match decode(link_type, time, frame) {
                Some(knock) if !(options.ipv4_only && knock.source.is_ipv6()) => {
                    if options.report_knocks {
                        notices.push_back(Notice::Knock(knock));
                    }
                    engine.handle_knock(&knock);
                }
                _ => engine.handle_timeout(time),
            }
        };
        let taken = capture.turn(&mut on_frame)?;
        self.packets += taken as u64;
        // Where packets may still wait in the buffer, they may have come before what is due by now. Those that are for
        // new addresses come with the next turn.
        if !self.follow_capture() && taken == 0 {
            self.engine.handle_timeout(before);
        }
        Ok(())
    }

    /// Takes what the capture has to say; true where the machine's addresses changed.
    fn follow_capture(&mut self) -> bool {
        while let Some(notice) = self.capture.poll_notice() {
            self.notices.push_back(Notice::Capture(notice));
        }
        let changed = self.capture.take_address_change();
        if changed {
            let addresses = self.capture.local_addresses().clone();
            self.engine.set_local_addresses(LocalAddresses::Only(addresses));
        }
        changed
    }

    /// Turns the engine's events into notices, records in the state file, and the commands to run, stop commands with
    /// the opening that they end.
    fn take_events(&mut self) -> Vec<(CommandRequest, Option<OpeningId>)> {
        let mut requests = Vec::new();
        let mut ports_changed = false;
        while let Some(mut event) = self.engine.poll_event() {
            let allowed = match &event.kind {
                EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } => {
                    let (allowed, changed) = self.use_up(*door_id, &event);
                    ports_changed |= changed;
                    allowed
                }
                _ => true,
            };
            if !self.is_real(&mut event, allowed) {
                continue;
            }
            if let (Some(state), EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. }) =
                (&mut self.state, &event.kind)
            {
                state.opened(opening, self.clock.read());
            }
            let request = event.command_request();
            self.notices.push_back(Notice::Event(event));
            match request {
                Some(request) if self.options.run_commands => {
                    // At once, since the next event may open the same door again.
                    let ends = match (&mut self.state, request.action) {
                        (Some(state), Action::Close) => state.closing(&request),
                        _ => None,
                    };
                    requests.push((request, ends));
                }
                Some(request) => self.notices.push_back(Notice::CommandSkipped(request)),
                None => {}
            }
        }
        if ports_changed {
            self.capture.set_filter(PortFilter::new(&self.config, self.secret));
        }
        requests
    }

    /// Keeps the engine's openings apart from those that a one-time file forbade; false for an event to be silent about.
    fn is_real(&mut self, event: &mut Event, allowed: bool) -> bool {
        match &event.kind {
            EventKind::Open { opening, .. } if !allowed => {
                self.withheld.extend(opening.as_ref().map(key_of));
                false
            }
            // The door was opened by an earlier knock. The engine closes it by the later time all the same.
            EventKind::Extend { .. } if !allowed => false,
            // What was forbidden before is granted now.
            EventKind::Extend { door_id, opening } if self.withheld.remove(&key_of(opening)) => {
                let door = self.config.doors.get(usize::from(door_id.0));
                let command = door.and_then(|door| door.start_command_for(event.ip));
                event.kind = EventKind::Open { door_id: *door_id, command, opening: Some(opening.clone()) };
                true
            }
            EventKind::Close { command } => !self.withheld.remove(&(event.door.clone(), event.ip, command.clone())),
            _ => true,
        }
    }

    /// Uses up the sequence of a one-time door. The first value tells whether its command may run, the second whether
    /// the doors use other ports now.
    fn use_up(&mut self, door_id: DoorId, event: &Event) -> (bool, bool) {
        if !self.options.run_commands {
            if let Some(sequence) = self.one_time.current(door_id) {
                self.engine.set_sequence(door_id, Some(sequence));
            }
            return (true, false);
        }
        let Some((marked, next)) = self.one_time.use_up(door_id) else { return (true, false) };
        let allowed = marked.is_ok();
        if let Err(error) = marked {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: Some(event.ip), error });
        }
        let next = next.unwrap_or_else(|error| {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: None, error });
            None
        });
        self.engine.set_sequence(door_id, next.clone());
        if let Some(door) = self.config.doors.get_mut(usize::from(door_id.0)) {
            door.sequence = next;
        }
        if allowed {
            self.tell_if_used_up(door_id);
        }
        (allowed, true)
    }

    fn tell_if_used_up(&mut self, door_id: DoorId) {
        let door = &self.config.doors[usize::from(door_id.0)];
        if let (None, Some(path)) = (&door.sequence, &door.one_time_sequences) {
            self.notices.push_back(Notice::UsedUp { door: door.name.clone(), path: path.clone() });
        }
    }

    fn tell_used_up(&mut self) {
        for i in 0..self.config.doors.len() {
            self.tell_if_used_up(DoorId(u16::try_from(i).unwrap_or(u16::MAX)));
        }
    }

    fn take_outcomes(&mut self) {
        while let Some(outcome) = self.executor.poll_outcome() {
            if outcome.kind.is_final()
                && let (Some(id), Some(state)) = (self.closing.remove(&outcome.id), &mut self.state)
            {
                state.closed(id);
            }
            self.notices.push_back(Notice::Command(outcome));
        }
    }

    fn commit(&mut self, now: Timestamp) {
        let Some(state) = &mut self.state else { return };
        state.commit(now);
        while let Some(notice) = state.poll_notice() {
            self.notices.push_back(Notice::State(notice));
        }
    }

    fn check_stopped(&mut self, now: Timestamp) {
        let Some(limit) = self.stop_limit else { return };
        let (running, waiting) = (self.executor.running(), self.executor.waiting());
        if running + waiting == 0 {
            self.stopped = true;
        } else if limit <= now {
            self.stopped = true;
            self.notices.push_back(Notice::LeftBehind { running, waiting });
        }
    }

    /// Makes the descriptor readable when something is due.
    fn arm(&mut self) -> Result<(), ServiceError> {
        let engine = if self.stop_limit.is_none() { self.engine.poll_timeout() } else { None };
        let state = self.state.as_ref().and_then(StateFile::poll_timeout);
        let due = [engine, self.executor.poll_timeout(), state, self.stop_limit].into_iter().flatten().min();
        Ok(self.timer.arm(due.map(|due| due.saturating_since(self.clock.now())))?)
    }
}

/// Readable when [`Service::next`] has something to do or to tell.
impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn interfaces(config: &Config, options: &ServiceOptions) -> Vec<String> {
    match &options.interfaces {
        Some(interfaces) => interfaces.clone(),
        None if config.options.interfaces.is_empty() => vec![DEFAULT_INTERFACE.to_owned()],
        None => config.options.interfaces.clone(),
    }
}

/// A number that nobody can guess: std seeds its hashers from the system's random numbers.
fn random() -> u32 {
    let wide = RandomState::new().hash_one(0_u8);
    u32::try_from(wide >> 32).unwrap_or(0)
}
