//! The service: runs a configuration. It captures packets, opens and closes doors, runs commands
//! and returns notices, all through one descriptor.
//!
//! A [`Service`] is for one thread: the thread that calls [`Service::next`], or that waits for the
//! service's descriptor in its own event loop. A [`Listener`] can be used from any thread.
//!
//! # What comes before what
//!
//! In each turn the service matches the captured packets first, by the times at which they were
//! captured. That also ends the attempts and openings that were due by then. When no packet is
//! left, the service ends everything that is due by the current time. Then it handles all events of
//! the turn, in this order:
//!
//! - It marks one-time sequences as consumed.
//! - It writes openings and the ends of stop commands to the state file, with one sync.
//! - It has the kernel open and close the ports.
//! - It starts commands.
//!
//! Therefore a stop command that has ended never runs again after a crash, when the door may be
//! open again.

mod commands;
mod listener;
mod notice;
mod one_time;
mod open;
mod options;
mod packet_source;
mod ports;
mod refusals;
mod status;
mod stored;
mod summary;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod turn;

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::Starting;
use ipnet::IpNet;
pub use listener::Listener;
pub use notice::{Notice, ServiceError};
use one_time::OneTimeDoors;
pub use open::CloseError;
pub use options::ServiceOptions;
use packet_source::PacketSource;
use ports::Ports;
use refusals::Refusals;
pub use status::{CommandCounts, Status};
use stored::{open_file, open_state};
pub use summary::FloodCounts;
use summary::Summaries;
use tally::Tally;
pub use tally::{DoorCounts, RefusedCounts};

use crate::capture::CaptureNotice;
use crate::clock::Clock;
use crate::config::{Config, Door, OnStop, Sequence};
use crate::decode::Knock;
use crate::engine::{Engine, EngineStats};
use crate::exec::{CommandId, Executor};
use crate::gate::Gate;
use crate::journal::{OpeningId, StateFile};
use crate::log_limit::DOOR_BURST;
use crate::packet::Protocol;
use crate::reader::Counts;
use crate::replay_memory::{Incomplete, ReplayMemory};
use crate::sys::epoll::Epoll;
use crate::sys::timer::TimerFd;
use crate::sys::wake::WakeFd;
use crate::sys::wall_clock::{ClockWatch, is_synchronised};
use crate::time::Timestamp;

/// Maximum time that a stopping service waits for commands, from the call of [`Service::stop`]. A
/// single command that opens, waits and closes must end within this time too.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The interface that is used, like in knockd, if neither the configuration nor the caller names
/// one.
pub const DEFAULT_INTERFACE: &str = "eth0";

/// Ends the wait of [`Service::next`], from another thread or from a signal handler.
#[derive(Clone, Debug)]
pub struct Waker(Arc<WakeFd>);

impl Waker {
    /// Makes [`Service::next`] return `None`, now or at its next call.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// The capture, the engine, the commands, the state file and the one-time files of one
/// configuration.
///
/// Its descriptor is readable when [`Service::next`] has work to do or a notice to return: call it
/// with a timeout of zero until it returns `None`. Dropping the service does not end running
/// commands, and leaves the openings in the state file. To stop in order, use [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    config: Config,
    options: ServiceOptions,
    engine: Engine,
    packet_source: PacketSource,
    executor: Executor,
    state: Option<StateFile>,
    ports: Ports,
    one_time: OneTimeDoors,
    /// Stop commands that wait or run, and the openings that they end; `None` if the door is opened
    /// again after the stop command.
    closing: HashMap<CommandId, Option<OpeningId>>,
    /// Start commands of openings that wait or run.
    starting: HashMap<CommandId, Starting>,
    summaries: Summaries,
    refusals: Refusals,
    /// Time at which the search for the clock of a client goes on.
    search_at: Option<Timestamp>,
    /// Openings that the engine holds but that a one-time file prevented; there is nothing to
    /// close.
    withheld: HashSet<OpeningKey>,
    clock: Clock,
    /// Time of the start.
    started: Timestamp,
    epoll: Epoll,
    timer: TimerFd,
    /// The time for which the timer is armed.
    armed: Option<Timestamp>,
    waker: Arc<WakeFd>,
    clock_watch: ClockWatch,
    commands: CommandCounts,
    tally: Tally,
    /// True if a turn is due although the descriptor may not be readable.
    turn_due: bool,
    /// True right after a turn.
    has_turned: bool,
    /// True if a [`Waker`] was used and [`Service::next`] has not returned for it yet.
    woken: bool,
    tokens: Vec<u64>,
    notices: VecDeque<Notice>,
    /// Set by [`Service::stop`]: the time until which the service waits for commands.
    stop_deadline: Option<Timestamp>,
    stopped: bool,
}

/// The identity of an opening: door, network and stop command.
type OpeningKey = (Arc<str>, IpNet, Option<String>);

#[derive(Clone, Copy)]
#[repr(u64)]
enum Token {
    Packets,
    Commands,
    Timer,
    Wake,
    Firewall,
    Clock,
}

impl Service {
    /// Opens everything that `config` needs. If doors have `open`, their ports are protected from
    /// here on. No command runs before the first [`Service::next`], not even the stop commands of
    /// overdue openings in the state file. The service waits for an interface that does not exist.
    ///
    /// # Errors
    /// Fails without the permission to capture or, if doors have `open`, to change the firewall.
    /// Fails if another process uses the state file or the file cannot be trusted, if a file of
    /// one-time sequences cannot be read, and if there are no descriptors left.
    pub fn start(mut config: Config, options: ServiceOptions) -> Result<Self, ServiceError> {
        config.load_keys()?;
        let one_time = OneTimeDoors::open(&mut config)?;
        // Before the clock is read, so that no change of it is missed.
        let clock_watch = ClockWatch::new()?;
        let clock = Clock::new();
        let mut engine =
            if options.reader.is_some() { Engine::new_for_detected(&config) } else { Engine::new(&config) };
        let mut executor = Executor::new()?;
        executor.set_limit(max_waiting_starts(&config));
        let mut notices = VecDeque::new();
        let mut closing = HashMap::new();
        let mut state = None;
        let mut ports = Ports::default();
        if options.run_commands {
            let opened = open_state(&config, clock.read(), &mut notices)?;
            let (file, mut restored) = opened.map_or_else(Default::default, |(file, restored)| (Some(file), restored));
            state = file;
            engine.restore_replays(&restored.replay);
            report_obstacles(&config, &restored.replay, clock.read().wall, &mut notices);
            ports = Ports::start(&config)?;
            restored.openings = ports.adopt(&config, restored.openings, clock.now())?;
            executor.set_state_file(&absolute(&config.options.state_file));
            let count = restored.openings.len() + restored.unfinished.len();
            if count > 0 {
                notices.push_back(Notice::Restored(count));
            }
            let open = restored.openings.iter().map(|opening| (opening.door.clone(), opening.net));
            let unfinished = restored.unfinished.iter().map(|(_, request)| (request.door.clone(), request.net));
            executor.wait_for_orphans(open.chain(unfinished), clock.now());
            engine.restore_openings(restored.openings);
            for (id, request) in restored.unfinished {
                closing.insert(executor.submit(request), Some(id));
            }
        }
        let interfaces = interfaces(&config, &options);
        notices.push_front(Notice::StartingUp(interfaces.clone()));
        let clocks = clock.read();
        engine.set_wall_clock(clocks.wall, clocks.now);
        let packet_source = PacketSource::open(&config, &engine.secrets(), interfaces, &options, clock, random())?;
        let (epoll, mut timer, waker) = (Epoll::new()?, TimerFd::new()?, WakeFd::new()?);
        epoll.add(packet_source.as_fd(), Token::Packets as u64)?;
        epoll.add(executor.as_fd(), Token::Commands as u64)?;
        epoll.add(timer.as_fd(), Token::Timer as u64)?;
        epoll.add(waker.as_fd(), Token::Wake as u64)?;
        epoll.add(clock_watch.as_fd(), Token::Clock as u64)?;
        watch_firewall(&epoll, ports.watch())?;
        // The first turn must come even if no packet arrives.
        timer.arm(Some(Duration::ZERO))?;
        let mut service = Self {
            config,
            options,
            engine,
            packet_source,
            executor,
            state,
            ports,
            one_time,
            closing,
            starting: HashMap::new(),
            summaries: Summaries::default(),
            refusals: Refusals::default(),
            search_at: None,
            withheld: HashSet::new(),
            clock,
            started: clocks.now,
            epoll,
            timer,
            armed: Some(Timestamp::default()),
            waker: Arc::new(waker),
            clock_watch,
            commands: CommandCounts::default(),
            tally: Tally::default(),
            turn_due: true,
            has_turned: false,
            woken: false,
            tokens: Vec::new(),
            notices,
            stop_deadline: None,
            stopped: false,
        };
        service.report_consumed();
        service.packet_source.update(service.clock, &mut service.engine, &mut service.notices);
        // `StartingUp` reports the same.
        service.notices.retain(|notice| !matches!(notice, Notice::Capture(CaptureNotice::Listening { .. })));
        Ok(service)
    }

    /// Works and returns the next notice. Waits for it until `timeout` is over (`None`: without a
    /// limit). Returns `None` when the timeout is over, when a [`Waker`] or a signal woke it, and
    /// immediately once [`Service::is_stopped`].
    ///
    /// # Errors
    /// Fails if the capture has failed for good, or if a system call fails that is not expected to.
    /// The service can still be stopped.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Notice>, ServiceError> {
        let start = Instant::now();
        loop {
            if let Some(notice) = self.notices.pop_front() {
                self.tally.take(&notice);
                return Ok(Some(match notice {
                    Notice::Knock(knock) if has_ignored_flags(&self.config, &knock) => Notice::FlagsIgnored(knock),
                    notice => notice,
                }));
            }
            let remaining = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            // Right after a turn there is no work left unless the descriptor is readable, so that
            // the wait can be skipped.
            let has_turned = std::mem::take(&mut self.has_turned) && remaining == Some(Duration::ZERO);
            if has_turned || self.stopped || std::mem::take(&mut self.woken) || !self.wait(remaining)? {
                return Ok(None);
            }
            self.turn()?;
            self.has_turned = true;
        }
    }

    /// Waits until a turn is due, at most for `timeout` (`None`: without a limit). Returns true if
    /// a turn is due.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, ServiceError> {
        if std::mem::take(&mut self.turn_due) {
            return Ok(true);
        }
        self.epoll.wait(&mut self.tokens, timeout)?;
        if self.tokens.contains(&(Token::Wake as u64)) {
            self.woken = self.waker.acknowledge();
        }
        if self.tokens.contains(&(Token::Clock as u64)) {
            self.clock_watch.acknowledge()?;
            self.follow_wall_clock();
        }
        if self.tokens.contains(&(Token::Firewall as u64)) {
            self.ports.schedule_check();
        }
        Ok(!self.tokens.is_empty())
    }

    /// Uses the wall clock as it was just set.
    fn follow_wall_clock(&mut self) {
        let clocks = self.clock.read();
        self.engine.set_wall_clock(clocks.wall, clocks.now);
        // The clock may have been slow when the service started, as on a machine without a hardware
        // clock. The knocks that were acceptable at the start are then others.
        let since_start = clocks.now.saturating_since(self.started);
        let start = clocks.wall.as_nanos().saturating_sub(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX));
        if let (true, Some(state)) = (self.engine.is_memory_incomplete(), &mut self.state) {
            let times = Incomplete::new(Timestamp::from_nanos(start), self.config.options.clock_skew);
            state.distrust(times);
            self.engine.distrust(times);
        }
    }

    /// Returns a handle with which to wake this service.
    pub fn waker(&self) -> Waker {
        Waker(self.waker.clone())
    }

    /// Replaces the configuration: the doors, the interfaces, the state file. Doors that did not
    /// change keep their attempts. Openings always survive.
    ///
    /// # Errors
    /// Fails as [`Service::start`] does; the old configuration then stays in force.
    pub fn reload(&mut self, mut config: Config) -> Result<(), ServiceError> {
        self.turn()?;
        config.load_keys()?;
        let one_time = OneTimeDoors::open(&mut config)?;
        let clocks = self.clock.read();
        let mut state = None;
        let path = absolute(&config.options.state_file);
        match &self.state {
            // Doors that the new configuration removes may still be open, so the records move
            // whatever the new doors store.
            Some(old) if old.path() != path => state = Some(open_file(&config, &path, clocks)?),
            None if self.options.run_commands => state = open_state(&config, clocks, &mut self.notices)?,
            _ => {}
        }
        let gate = if self.options.run_commands { Gate::find(&config)? } else { None };
        watch_firewall(&self.epoll, gate.as_ref().and_then(Gate::watch))?;
        let interfaces = interfaces(&config, &self.options);
        self.replace_doors(&config, interfaces)?;
        // From here on nothing fails.
        self.ports.replace(gate, self.engine.openings(), &mut self.notices);
        if let Some((mut new, restored)) = state {
            if let Some(old) = &mut self.state {
                let numbers = new.move_from(old, clocks.now);
                for id in self.closing.values_mut().flatten() {
                    *id = numbers.get(id).copied().unwrap_or(*id);
                }
            }
            self.engine.restore_replays(&restored.replay);
            self.engine.restore_openings(restored.openings);
            for (id, request) in restored.unfinished {
                self.closing.insert(self.executor.submit(request), Some(id));
            }
            self.state = Some(new);
        }
        self.executor.set_state_file(&path);
        self.one_time = one_time;
        self.config = config;
        self.executor.set_limit(max_waiting_starts(&self.config));
        self.engine.reload(&self.config, self.clock.now());
        let interfaces = self.interfaces();
        self.tally.keep(&self.config.doors.iter().map(|door| &*door.name).collect(), &interfaces);
        self.reread_sequences();
        self.notices.push_back(Notice::Reloaded);
        self.report_consumed();
        self.turn()
    }

    /// Begins to stop: no packet counts and no start command begins any more, and with
    /// `OnStop = close` every open door is closed. Continue to call [`Service::next`] until
    /// [`Service::is_stopped`]. The service waits for commands, but not longer than
    /// [`STOP_TIMEOUT`].
    pub fn stop(&mut self) {
        if self.stop_deadline.is_some() {
            return;
        }
        let now = self.clock.now();
        self.turn_due = true;
        // The service reads no packets any more, so they must not wake it. If this fails, they do.
        let _ = self.epoll.remove(self.packet_source.as_fd());
        self.stop_deadline = Some(now.saturating_add(STOP_TIMEOUT));
        self.notices.push_back(Notice::ShuttingDown);
        let keep = self.config.options.on_stop == OnStop::Keep;
        // The kernel closes ports when their time is over, whether this process runs or not.
        let by_kernel = self.engine.openings().all(|opening| opening.stop_command.is_none());
        let kept = keep && (by_kernel || self.state.as_ref().is_some_and(StateFile::is_saving));
        if keep && !kept && self.engine.stats().openings > 0 {
            self.notices.push_back(Notice::NotKept);
        }
        if kept {
            self.close_not_started(now);
        } else {
            self.engine.close_all(now);
        }
    }

    /// True when everything that [`Service::stop`] began is done and its notices have been
    /// returned.
    pub fn is_stopped(&self) -> bool {
        self.stopped && self.notices.is_empty()
    }

    /// True if packets are being read, as far as the service can determine, or if the service is
    /// stopping. False if the reader process ([`ServiceOptions::reader`]) has not answered for half
    /// a minute, although the service restarted it.
    pub fn is_reading(&self) -> bool {
        self.stop_deadline.is_some() || self.packet_source.is_alive()
    }

    /// Returns the sizes and counters of the service.
    pub fn status(&mut self) -> Status {
        // Reading the counters may bring other messages from the reader.
        self.turn_due = true;
        let Counts { attempts, packets, knocks, unused, evicted, refused, bogus, dropped } =
            self.packet_source.counts(&self.engine);
        let openings = self.engine.stats().openings;
        let attempts = usize::try_from(attempts).unwrap_or(usize::MAX);
        Status {
            doors: self.config.doors.len(),
            engine: EngineStats { attempts, openings, knocks, unused, evicted, refused, bogus },
            packets,
            drops: dropped,
            // The numbers of the reader process are not trusted.
            filtered: packets.saturating_add(unused).saturating_sub(knocks),
            commands: self.commands,
            commands_running: self.executor.running(),
            commands_waiting: self.executor.waiting(),
            saving: self.state.as_ref().is_none_or(StateFile::is_saving),
            clock_synchronised: has_keys(&self.config).then(is_synchronised),
        }
    }
}

/// Readable when [`Service::next`] has work to do or a notice to return.
impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// True for a TCP segment to a port of doors, none of which accepts its flags.
fn has_ignored_flags(config: &Config, knock: &Knock) -> bool {
    let has_step = |door: &&Door| {
        let steps = door.sequence.as_ref().map_or(&[][..], Sequence::steps);
        steps.iter().any(|step| step.protocol == knock.protocol && step.port.get() == knock.port)
    };
    let mut doors = config.doors.iter().filter(has_step).peekable();
    knock.protocol == Protocol::Tcp && doors.peek().is_some() && doors.all(|door| !door.tcpflags.matches(knock.flags))
}

fn interfaces(config: &Config, options: &ServiceOptions) -> Vec<String> {
    match &options.interfaces {
        Some(interfaces) => interfaces.clone(),
        None if config.options.interfaces.is_empty() => vec![DEFAULT_INTERFACE.to_owned()],
        None => config.options.interfaces.clone(),
    }
}

/// Maximum number of waiting start commands of one door: one for each address of the largest burst
/// that a reader reports.
fn max_waiting_starts(config: &Config) -> usize {
    config.options.max_openings.max(DOOR_BURST) as usize
}

/// Makes the path independent of the current directory. Returns it unchanged if there is no current
/// directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn has_keys(config: &Config) -> bool {
    config.doors.iter().any(Door::has_secrets)
}

/// Adds notices if doors with keys refuse knocks because of the clock, or for a time from `wall` on,
/// the wall clock's time, because the record of accepted knocks is incomplete.
fn report_obstacles(config: &Config, replays: &ReplayMemory, wall: Timestamp, notices: &mut VecDeque<Notice>) {
    let has_keys = has_keys(config);
    if has_keys && !is_synchronised() {
        notices.push_back(Notice::ClockNotSynchronised);
    }
    let windows = config.doors.iter().filter_map(Door::window_length);
    let longest = windows.fold(config.options.clock_skew, Duration::max);
    // Knocks from later times are accepted, and a complete record of them has begun then.
    let ends = replays.incomplete().map(|times| {
        times.until.saturating_add(longest * 2).max(times.packets_until.saturating_add(config.options.clock_skew))
    });
    if has_keys && ends.is_some_and(|ends| ends > wall) {
        notices.push_back(Notice::ReplaysIncomplete);
    }
}

fn watch_firewall(epoll: &Epoll, watch: Option<BorrowedFd<'_>>) -> io::Result<()> {
    watch.map_or(Ok(()), |watch| epoll.add(watch, Token::Firewall as u64))
}

/// Returns a number that other processes cannot predict: std seeds its hashers from the system's
/// random numbers.
fn random() -> u32 {
    let wide = RandomState::new().hash_one(0_u8);
    u32::try_from(wide >> 32).unwrap_or(0)
}
