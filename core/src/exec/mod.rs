//! Running commands without waiting for them.
//!
//! A command runs as `/bin/sh -c COMMAND`, or directly if the shell would only start a program in its
//! place (see `argv.rs`). It has its own process group, so that a Ctrl-C on the terminal does not
//! reach it, `/dev/null` as standard input, and this process's standard output and error. It inherits
//! the environment of this process, without `NOTIFY_SOCKET`. Added variables are `PORTKNOCK_DOOR`,
//! `PORTKNOCK_IP`, `PORTKNOCK_NET`, `PORTKNOCK_EVENT` (`open` or `close`), and `PORTKNOCK_KEY` (only
//! for the start command of a door with keys). `PORTKNOCK_STATE_FILE` identifies the daemon of the
//! command. The executor never kills a command, because one command can open a port, sleep and close
//! the port.

mod argv;
mod orphans;
mod queue;
mod result;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use orphans::Orphan;
use queue::{CommandQueue, Job, Key};
pub(crate) use result::SLOW_AFTER;
pub use result::{CommandId, CommandResult, CommandResultKind};

use crate::event::{Action, CommandRequest};
use crate::sys::epoll::Epoll;
use crate::sys::process::pidfd_open;
use crate::time::Timestamp;

/// Maximum number of start commands that run at the same time, and also of stop commands. Slow
/// commands (see [`SLOW_AFTER`]) do not count. A door without a running command may start one more.
pub(crate) const SLOTS: usize = 64;
/// Maximum number of commands that run at the same time, slow ones included. Each uses a descriptor,
/// of which a process has 1,024 by default. Start commands leave the last [`SLOTS`] of the processes
/// to stop commands, and those of one door leave as many processes free as they use.
pub(crate) const MAX_PROCESSES: usize = 512;
/// Maximum number of stop commands, and of start commands, that one turn starts. Each start waits
/// until the kernel has created the process, so more of them would delay the caller's packets.
const STARTS_PER_TURN: usize = 4;
// The environment variables of a command.
const DOOR: &str = "PORTKNOCK_DOOR";
const IP: &str = "PORTKNOCK_IP";
const NET: &str = "PORTKNOCK_NET";
const KEY: &str = "PORTKNOCK_KEY";
const EVENT: &str = "PORTKNOCK_EVENT";
const STATE_FILE: &str = "PORTKNOCK_STATE_FILE";
/// The variable with the supervisor's socket, which is meant for the daemon only; see sd_notify(3).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// Time between a failed start and the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Interval at which children without a descriptor are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs commands. Commands of one door and address (or network, if the door opens for one) run one
/// after another. All others run at the same time within [`SLOTS`]: stop commands first, and the doors
/// in turn. [`Executor::set_limit`] limits the number of waiting start commands of one door. No stop
/// command is lost.
///
/// After [`Executor::submit`], when the descriptor is readable, and at [`Executor::poll_timeout`], call
/// [`Executor::reap`] and [`Executor::start_next`]. After each of them call [`Executor::poll_result`]
/// until it returns `None`. Dropping an executor does not affect running commands.
#[derive(Debug)]
pub(crate) struct Executor {
    epoll: Epoll,
    queue: CommandQueue,
    /// Maximum number of waiting start commands of one door. Start commands of a door also wait while
    /// this number of its stop commands wait.
    limit: usize,
    running: HashMap<u64, RunningCommand>,
    /// Commands of an earlier executor that submitted commands wait for.
    orphans: HashMap<u64, Orphan>,
    /// The state file of the openings, which distinguishes these commands from those of other daemons.
    state_file: PathBuf,
    /// The time at which each running command becomes slow, in order; some may have ended.
    slow_at: VecDeque<(Timestamp, u64)>,
    /// Stop commands that could not be started, each with the time of the next attempt.
    retries: VecDeque<(Timestamp, Job)>,
    /// Set while the process or the system lacks a resource: no command starts before this time.
    paused_until: Option<Timestamp>,
    /// The latest [`Executor::start_next`] may have left commands that can be started.
    has_more: bool,
    /// Children without a descriptor, which are polled at `next_poll`.
    polled: Vec<u64>,
    next_poll: Timestamp,
    next_id: u64,
    results: VecDeque<CommandResult>,
}

#[derive(Debug)]
struct RunningCommand {
    child: Child,
    /// Keeps the child's descriptor in the set; `None` for a polled child.
    _pidfd: Option<OwnedFd>,
    id: CommandId,
    request: CommandRequest,
    /// True if the command no longer occupies a slot and other commands of its key do not wait for it.
    slow: bool,
}

impl Executor {
    /// An executor without commands.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            queue: CommandQueue::default(),
            limit: usize::MAX,
            running: HashMap::new(),
            orphans: HashMap::new(),
            state_file: PathBuf::new(),
            slow_at: VecDeque::new(),
            retries: VecDeque::new(),
            paused_until: None,
            has_more: false,
            polled: Vec::new(),
            next_poll: Timestamp::default(),
            next_id: 0,
            results: VecDeque::new(),
        })
    }

    /// Sets the state file of the openings for all commands that start from now on.
    pub(crate) fn set_state_file(&mut self, path: &Path) {
        self.state_file = path.to_owned();
    }

    /// Sets how many start commands of one door may wait, at least 1. If more wait, the oldest is
    /// dropped. While this number of stop commands of a door wait, no further start command of the
    /// door runs.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Makes the commands of these doors and networks wait for those that an earlier process with the
    /// same state file left running when it crashed. Otherwise a slow start command could open a door
    /// after its stop command closed it. Call this before any [`Executor::submit`]. No command waits
    /// longer than [`SLOW_AFTER`], and none waits if `/proc` or pidfd_open(2) is missing.
    pub(crate) fn wait_for_orphans(&mut self, keys: impl IntoIterator<Item = (Arc<str>, IpNet)>, now: Timestamp) {
        let keys: Vec<Key> = keys.into_iter().collect();
        if keys.is_empty() {
            return;
        }
        for orphan in orphans::find(&keys, &self.state_file) {
            let token = self.next_id().0;
            if self.epoll.add(orphan.pidfd.as_fd(), token).is_ok() {
                self.queue.hold(orphan.key.clone());
                self.orphans.insert(token, orphan);
                self.slow_at.push_back((now.saturating_add(SLOW_AFTER), token));
            }
        }
    }

    /// Queues a command, which [`Executor::start_next`] starts.
    pub(crate) fn submit(&mut self, request: CommandRequest) -> CommandId {
        let id = self.next_id();
        let door = request.door.clone();
        self.queue.push(Job { id, request, reported: None });
        if let Some(Job { id, request, .. }) = self.queue.take_start_beyond(&door, self.limit) {
            self.report(id, request, CommandResultKind::Dropped);
        }
        id
    }

    /// Returns the waiting start commands of this door and network.
    pub(crate) fn waiting_starts(
        &self,
        door: &Arc<str>,
        net: IpNet,
    ) -> impl Iterator<Item = (CommandId, &CommandRequest)> {
        self.queue.waiting_starts(&(door.clone(), net)).iter().map(|job| (job.id, &job.request))
    }

    /// Removes a waiting start command of this door and network from the queue. There are no further
    /// reports about it.
    pub(crate) fn withdraw_start(&mut self, door: &Arc<str>, net: IpNet, id: CommandId) {
        self.queue.withdraw(&(door.clone(), net), id);
    }

    /// Removes all waiting start commands from the queue and returns their number.
    pub(crate) fn withdraw_starts(&mut self) -> usize {
        self.queue.withdraw_all()
    }

    /// Checks which commands have ended. Does not start the commands that wait for them, so that the
    /// caller can save their end first. Never blocks.
    ///
    /// # Errors
    /// Fails only if epoll_wait(2) fails, which would be a bug of this module.
    pub(crate) fn reap(&mut self, now: Timestamp) -> io::Result<()> {
        let mut tokens = Vec::new();
        if !self.running.is_empty() || !self.orphans.is_empty() {
            self.epoll.wait(&mut tokens, Some(Duration::ZERO))?;
        }
        for token in tokens {
            self.check(token);
            self.release_orphan(token);
        }
        if !self.polled.is_empty() && self.next_poll <= now {
            let polled = std::mem::take(&mut self.polled);
            self.polled = polled.into_iter().filter(|&token| !self.check(token)).collect();
            self.next_poll = now.saturating_add(POLL_INTERVAL);
        }
        self.release_slow_commands(now);
        Ok(())
    }

    /// Starts the next commands, stop commands first, a limited number of each. Never waits until they
    /// end.
    pub(crate) fn start_next(&mut self, now: Timestamp) {
        while self.retries.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, job)) = self.retries.pop_front() {
                self.queue.resume(job);
            }
        }
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        self.has_more = false;
        for action in [Action::Close, Action::Open] {
            let mut started = 0;
            while self.paused_until.is_none()
                && started < STARTS_PER_TURN
                && let Some(job) = self.queue.take(action, self.limit)
            {
                self.start(job, now);
                started += 1;
            }
            self.has_more |= started == STARTS_PER_TURN;
        }
        self.has_more &= self.paused_until.is_none();
    }

    /// Returns the next report about a command, in the order of the changes.
    pub(crate) fn poll_result(&mut self) -> Option<CommandResult> {
        self.results.pop_front()
    }

    /// Returns the time at which [`Executor::reap`] and [`Executor::start_next`] are due if the
    /// descriptor does not become readable before. Every call of a method may change it.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let slow = self.slow_at.front().map(|(due, _)| *due);
        let retry = self.retries.front().map(|(due, _)| *due);
        let poll = (!self.polled.is_empty()).then_some(self.next_poll);
        let more = self.has_more.then(Timestamp::default);
        [slow, retry, poll, more, self.paused_until].into_iter().flatten().min()
    }

    /// Number of running commands.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Number of commands that wait for their turn or for another attempt.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    fn next_id(&mut self) -> CommandId {
        let id = CommandId(self.next_id);
        self.next_id += 1;
        id
    }

    fn start(&mut self, mut job: Job, now: Timestamp) {
        let error = match spawn(&job.request, &self.state_file) {
            Ok(child) => return self.started(job, child, now),
            Err(error) => error,
        };
        let errno = error.raw_os_error();
        let lacks_resource = matches!(errno, Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE));
        if !lacks_resource && job.request.action == Action::Open {
            self.queue.done(&job.key());
            self.report(job.id, job.request, CommandResultKind::NotStarted(error));
            return;
        }
        let kind = Some(errno.unwrap_or(0));
        if job.reported != kind {
            job.reported = kind;
            self.report(job.id, job.request.clone(), CommandResultKind::Delayed(error));
        }
        let due = now.saturating_add(RETRY_AFTER);
        if lacks_resource {
            self.paused_until = Some(due);
            self.queue.put_back(job);
        } else {
            self.queue.postpone(&job);
            self.retries.push_back((due, job));
        }
    }

    fn started(&mut self, job: Job, child: Child, now: Timestamp) {
        let Job { id, request, .. } = job;
        // After an error here the executor polls the child.
        let watched = pidfd_open(child.id()).and_then(|pidfd| self.epoll.add(pidfd.as_fd(), id.0).map(|()| pidfd));
        if watched.is_err() {
            self.polled.push(id.0);
            self.next_poll = now.saturating_add(POLL_INTERVAL);
        }
        self.queue.started(&request.door, request.action);
        self.slow_at.push_back((now.saturating_add(SLOW_AFTER), id.0));
        self.report(id, request.clone(), CommandResultKind::Started);
        self.running.insert(id.0, RunningCommand { child, _pidfd: watched.ok(), id, request, slow: false });
    }

    /// Checks whether a child has ended, and reports its end. True if it has ended.
    fn check(&mut self, token: u64) -> bool {
        let Some(running) = self.running.get_mut(&token) else { return true };
        let kind = match running.child.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => CommandResultKind::Finished(status),
            Err(error) => CommandResultKind::Lost(error),
        };
        if let Some(running) = self.running.remove(&token) {
            if !running.slow {
                self.release(&running.request);
            }
            self.queue.ended(&running.request.door);
            self.report(running.id, running.request, kind);
        }
        true
    }

    /// Removes an orphan, if the token is that of an orphan. If it was the last one of its door and
    /// network, the commands that waited for it can start.
    fn release_orphan(&mut self, token: u64) {
        if let Some(Orphan { key, .. }) = self.orphans.remove(&token)
            && !self.orphans.values().any(|orphan| orphan.key == key)
        {
            self.queue.done(&key);
        }
    }

    /// Frees the slots of commands that have become slow, and reports the commands.
    fn release_slow_commands(&mut self, now: Timestamp) {
        // This also removes ended commands at the front, so that the list is hardly longer than the
        // number of running commands.
        while let Some(&(due, token)) = self.slow_at.front() {
            match self.running.get_mut(&token) {
                Some(_) if now < due => break,
                Some(running) => {
                    running.slow = true;
                    let (id, request) = (running.id, running.request.clone());
                    self.release(&request);
                    self.report(id, request, CommandResultKind::StillRunning);
                }
                None if now < due && self.orphans.contains_key(&token) => break,
                None => self.release_orphan(token),
            }
            self.slow_at.pop_front();
        }
    }

    /// Frees the slot of a command and lets the next command of its key start.
    fn release(&mut self, request: &CommandRequest) {
        self.queue.release(&request.door, request.action);
        self.queue.done(&(request.door.clone(), request.net));
    }

    fn report(&mut self, id: CommandId, request: CommandRequest, kind: CommandResultKind) {
        self.results.push_back(CommandResult { id, request, kind });
    }
}

/// The descriptor is readable when a running command has ended.
impl AsFd for Executor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Starts a command. Starts it without the shell if the shell would only start a program in its place,
/// which halves the cost. If that fails, the shell prints the error, or can run the program, for
/// example a script without a `#!` line.
fn spawn(request: &CommandRequest, state_file: &Path) -> io::Result<Child> {
    if let Some([program, arguments @ ..]) = argv::direct_argv(&request.command).as_deref()
        && let Ok(child) = spawn_program(program, arguments, request, state_file)
    {
        return Ok(child);
    }
    spawn_program("/bin/sh", &["-c", &request.command], request, state_file)
}

/// Starts a program. Because no closure runs in the child, std uses posix_spawn(3), whose cost does not
/// depend on the memory of this process, and which gives the child an empty signal mask.
fn spawn_program(program: &str, arguments: &[&str], request: &CommandRequest, state_file: &Path) -> io::Result<Child> {
    let mut command = Command::new(program);
    match &request.key {
        Some(key) => command.env(KEY, &**key),
        None => command.env_remove(KEY),
    };
    command
        .args(arguments)
        .env(DOOR, &*request.door)
        .env(IP, request.ip.to_string())
        .env(NET, request.net.to_string())
        .env(EVENT, request.action.to_string())
        .env(STATE_FILE, state_file)
        .env_remove(NOTIFY_SOCKET)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests;
