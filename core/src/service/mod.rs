//! Everything at work behind one descriptor: packets in, doors opened and closed, notices out.
//!
//! A service is one thread's: the one that calls [`Service::next`], or that waits for its descriptor in a loop of its
//! own. A [`Listener`] is a service for any thread.
//!
//! # What comes before what
//!
//! In each turn packets are matched first, by the times they were captured at, which also ends the attempts and
//! openings that were due by then; when no packet is left, the clock ends what is due by now. Then, for all that
//! happened: one-time sequences are marked as used, openings and the ends of stop commands are written to the state file
//! with one sync, the kernel opens the ports, and only then commands start. So a stop command that has ended never runs again, after a crash, on the
//! door that was opened anew.

mod commands;
mod listener;
mod notice;
mod one_time;
mod open;
mod options;
mod packet_source;
mod ports;
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
pub use status::{CommandCounts, Status};
use stored::open_state;
pub use summary::FloodCounts;
use summary::Summaries;
pub use tally::DoorCounts;
use tally::Tally;

use crate::capture::CaptureNotice;
use crate::clock::{Clock, boot_id};
use crate::config::{Config, Door, OnStop, Sequence};
use crate::decode::Knock;
use crate::engine::{Engine, EngineStats};
use crate::exec::{CommandId, Executor};
use crate::gate::Gate;
use crate::journal::{OpeningId, StateFile};
use crate::log_limit::DOOR_BURST;
use crate::packet::Protocol;
use crate::reader::Counts;
use crate::sys::epoll::Epoll;
use crate::sys::timer::TimerFd;
use crate::sys::wake::WakeFd;
use crate::time::Timestamp;

/// How long a stopping service waits for commands. A command that opens, waits and closes has this long to get to its
/// end.
pub const STOP_LIMIT: Duration = Duration::from_secs(60);
/// knockd's interface where neither the configuration nor the caller names one.
pub const DEFAULT_INTERFACE: &str = "eth0";

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
/// Its descriptor is readable when [`Service::next`] has something to do or to tell: call it with a timeout of zero
/// until it returns `None`. Dropping the service leaves running commands alone and open doors to the state file; to
/// stop in order see [`Service::stop`].
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
    /// Stop commands under way and the openings that they end; none where the door is opened again after it.
    closing: HashMap<CommandId, Option<OpeningId>>,
    /// Start commands under way of openings.
    starting: HashMap<CommandId, Starting>,
    summaries: Summaries,
    /// Openings that the engine believes in but that a one-time file forbade; there is nothing to close.
    withheld: HashSet<OpeningKey>,
    clock: Clock,
    epoll: Epoll,
    timer: TimerFd,
    /// What the timer is armed for.
    armed: Option<Timestamp>,
    waker: Arc<WakeFd>,
    commands: CommandCounts,
    tally: Tally,
    /// A turn is due that the descriptor may not tell of.
    turn_due: bool,
    /// A turn was just made.
    has_turned: bool,
    /// A [`Waker`] was used, and [`Service::next`] has not returned for it yet.
    woken: bool,
    tokens: Vec<u64>,
    notices: VecDeque<Notice>,
    /// Set from [`Service::stop`] on: until when commands are waited for.
    stop_limit: Option<Timestamp>,
    stopped: bool,
}

/// What makes an opening the one that it is: door, network and stop command.
type OpeningKey = (Arc<str>, IpNet, Option<String>);

#[derive(Clone, Copy)]
#[repr(u64)]
enum Token {
    Packets,
    Commands,
    Timer,
    Wake,
    Firewall,
}

impl Service {
    /// Opens everything that `config` needs; where doors have `open`, their ports are refused from here on. No command runs before the first [`Service::next`], not even those of
    /// overdue openings that the state file has. An interface that does not exist is waited for.
    ///
    /// # Errors
    /// Fails without the right to capture, or to change the firewall where doors have `open`, where the state file is another's or cannot be trusted, where a file of
    /// one-time sequences cannot be read, and without descriptors.
    pub fn start(mut config: Config, options: ServiceOptions) -> Result<Self, ServiceError> {
        let one_time = OneTimeDoors::open(&mut config)?;
        let clock = Clock::new();
        let mut engine = Engine::new(&config);
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
        let packet_source = PacketSource::open(&config, interfaces, &options, clock, random())?;
        let (epoll, mut timer, waker) = (Epoll::new()?, TimerFd::new()?, WakeFd::new()?);
        epoll.add(packet_source.as_fd(), Token::Packets as u64)?;
        epoll.add(executor.as_fd(), Token::Commands as u64)?;
        epoll.add(timer.as_fd(), Token::Timer as u64)?;
        epoll.add(waker.as_fd(), Token::Wake as u64)?;
        watch_firewall(&epoll, ports.watch())?;
        // The first turn has to come even on a quiet line.
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
            withheld: HashSet::new(),
            clock,
            epoll,
            timer,
            armed: Some(Timestamp::default()),
            waker: Arc::new(waker),
            commands: CommandCounts::default(),
            tally: Tally::default(),
            turn_due: true,
            has_turned: false,
            woken: false,
            tokens: Vec::new(),
            notices,
            stop_limit: None,
            stopped: false,
        };
        service.tell_used_up();
        service.packet_source.follow(&mut service.engine, &mut service.notices);
        // That is what `StartingUp` says.
        service.notices.retain(|notice| !matches!(notice, Notice::Capture(CaptureNotice::Listening { .. })));
        Ok(service)
    }

    /// Does what there is to do and returns the next notice, waiting for one until `timeout` is over (`None`: for
    /// ever). Returns `None` when it is, when a [`Waker`] or a signal woke it, and from the stop on when
    /// [`Service::is_stopped`].
    ///
    /// # Errors
    /// Fails where the capture has broken down for good, and where system calls fail that should not. The service can
    /// still be stopped.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Notice>, ServiceError> {
        let start = Instant::now();
        loop {
            if let Some(notice) = self.notices.pop_front() {
                self.tally.take(&notice);
                return Ok(Some(match notice {
                    Notice::Knock(knock) if turned_away(&self.config, &knock) => Notice::TurnedAway(knock),
                    notice => notice,
                }));
            }
            let remaining = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            // Right after a turn nothing is left, but for what the descriptor tells: no look is needed to say so.
            let has_turned = std::mem::take(&mut self.has_turned) && remaining == Some(Duration::ZERO);
            if has_turned || self.stopped || std::mem::take(&mut self.woken) || !self.wait(remaining)? {
                return Ok(None);
            }
            self.turn()?;
            self.has_turned = true;
        }
    }

    /// Waits until a turn is due, at most so long (`None`: for ever); true where one is.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, ServiceError> {
        if std::mem::take(&mut self.turn_due) {
            return Ok(true);
        }
        self.epoll.wait(&mut self.tokens, timeout)?;
        if self.tokens.contains(&(Token::Wake as u64)) {
            self.woken = self.waker.acknowledge();
        }
        if self.tokens.contains(&(Token::Firewall as u64)) {
            self.ports.tell();
        }
        Ok(!self.tokens.is_empty())
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
        let path = absolute(&config.options.state_file);
        match &self.state {
            // Doors that are gone may still be open, so it moves whatever the new ones store.
            Some(old) if old.path() != path => state = Some(StateFile::open(&path, &boot_id(), clocks)?),
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
                let numbers = new.take_over(old, clocks.now);
                for id in self.closing.values_mut().flatten() {
                    *id = numbers.get(id).copied().unwrap_or(*id);
                }
            }
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
        self.engine.reload(&self.config, clocks.now);
        let interfaces = self.interfaces();
        self.tally.keep(&self.config.doors.iter().map(|door| &*door.name).collect(), &interfaces);
        self.read_sequences_again();
        self.notices.push_back(Notice::Reloaded);
        self.tell_used_up();
        self.turn()
    }

    /// Begins to stop: no packet counts any more, no start command begins to run, and with `OnStop = close` every open
    /// door is closed. Go on calling
    /// [`Service::next`] until [`Service::is_stopped`]; commands are waited for, but not longer than [`STOP_LIMIT`].
    pub fn stop(&mut self) {
        if self.stop_limit.is_some() {
            return;
        }
        let now = self.clock.now();
        self.turn_due = true;
        // Nobody looks any more, so what comes must not wake; where this fails, it does.
        let _ = self.epoll.remove(self.packet_source.as_fd());
        self.stop_limit = Some(now.saturating_add(STOP_LIMIT));
        self.notices.push_back(Notice::ShuttingDown);
        let keep = self.config.options.on_stop == OnStop::Keep;
        // The kernel shuts ports with or without us.
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

    /// True when everything that [`Service::stop`] began is done.
    pub fn is_stopped(&self) -> bool {
        self.stopped && self.notices.is_empty()
    }

    /// True if packets are being read, as far as that can be known, or if the service is stopping. False if the reader
    /// process ([`ServiceOptions::reader`]) has shown no sign of life for half a minute, although it was replaced.
    pub fn is_reading(&self) -> bool {
        self.stop_limit.is_some() || self.packet_source.is_alive()
    }

    /// The service in numbers.
    pub fn status(&mut self) -> Status {
        // Asking for the counts may bring other news.
        self.turn_due = true;
        let Counts { attempts, packets, knocks, unused, evicted, refused, dropped } =
            self.packet_source.counts(&self.engine);
        let openings = self.engine.stats().openings;
        let attempts = usize::try_from(attempts).unwrap_or(usize::MAX);
        Status {
            doors: self.config.doors.len(),
            engine: EngineStats { attempts, openings, knocks, unused, evicted, refused },
            packets,
            drops: dropped,
            // The reader may say anything.
            filtered: packets.saturating_add(unused).saturating_sub(knocks),
            commands: self.commands,
            commands_running: self.executor.running(),
            commands_waiting: self.executor.waiting(),
            saving: self.state.as_ref().is_none_or(StateFile::is_saving),
        }
    }
}

/// Readable when [`Service::next`] has something to do or to tell.
impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// True for a segment to a port of doors, none of which takes its flags.
fn turned_away(config: &Config, knock: &Knock) -> bool {
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

/// Maximum number of start commands of one door that wait: one for each address of the largest burst that a reader reports.
fn max_waiting_starts(config: &Config) -> usize {
    config.options.max_openings.max(DOOR_BURST) as usize
}

/// The path as it is from every directory; as it is where there is no current directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn watch_firewall(epoll: &Epoll, watch: Option<BorrowedFd<'_>>) -> io::Result<()> {
    watch.map_or(Ok(()), |watch| epoll.add(watch, Token::Firewall as u64))
}

/// A number that nobody can guess: std seeds its hashers from the system's random numbers.
fn random() -> u32 {
    let wide = RandomState::new().hash_one(0_u8);
    u32::try_from(wide >> 32).unwrap_or(0)
}
