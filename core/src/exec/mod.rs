//! Running commands without ever waiting for them.
//!
//! A command runs as `/bin/sh -c COMMAND`, or without the shell where that would only start a program in its place (see
//! `argv.rs`), in a process group of its own (so that a Ctrl-C on the terminal does not reach it), with `/dev/null` as
//! standard input and this process's standard output and error. Its environment is this process's with
//! `PORTKNOCK_DOOR`, `PORTKNOCK_IP`, `PORTKNOCK_NET` and `PORTKNOCK_EVENT` (`open` or `close`) added, and with `PORTKNOCK_STATE_FILE`,
//! which tells whose command it is, and without `NOTIFY_SOCKET`. No command is ever killed: people write
//! `open; sleep 30; close` in one command.

mod argv;
mod orphans;
mod outcome;
mod queue;

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
pub use outcome::{CommandId, Outcome, OutcomeKind, SLOW_AFTER};
use queue::{CommandQueue, Job, Key};

use crate::event::{Action, CommandRequest};
use crate::sys::epoll::Epoll;
use crate::sys::process::pidfd_open;
use crate::time::Timestamp;

/// How many start commands run at once, and how many stop commands; slow ones (see [`SLOW_AFTER`]) do not count. A door
/// of which none runs may have one more.
pub const SLOTS: usize = 64;
/// How many commands run at once, slow ones included; each takes a descriptor, of which a process has 1,024 by default.
/// Start commands leave the last [`SLOTS`] of them to stop commands, and those of one door as many as they take.
pub const MAX_PROCESSES: usize = 512;
/// Number of stop commands and of start commands that are started in one turn. Each start waits until the kernel has made
/// the process, so that many of them would keep the caller from its packets.
const STARTS_PER_TURN: usize = 4;
/// The variables that a command finds in its environment.
const DOOR: &str = "PORTKNOCK_DOOR";
const IP: &str = "PORTKNOCK_IP";
const NET: &str = "PORTKNOCK_NET";
const EVENT: &str = "PORTKNOCK_EVENT";
const STATE_FILE: &str = "PORTKNOCK_STATE_FILE";
/// What a supervisor tells the daemon alone; see sd_notify(3).
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// How long after a failed start the next try comes.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often children are looked at that no descriptor tells about.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Runs commands: those of one door and address (or network, if the door opens for one) one after another, all others side by side within [`SLOTS`], stop
/// commands first, and the doors in turn. Of one door at most as many start commands wait as [`Executor::set_limit`]
/// says. No stop command is lost.
///
/// After [`Executor::submit`], and when the descriptor is readable, and at [`Executor::poll_timeout`], call
/// [`Executor::reap`] and [`Executor::start_next`], and [`Executor::poll_outcome`] until `None` after each. Dropping it
/// leaves running commands alone.
#[derive(Debug)]
pub struct Executor {
    epoll: Epoll,
    queue: CommandQueue,
    /// How many start commands of one door wait, and while how many of its stop commands do they all wait.
    limit: usize,
    running: HashMap<u64, Running>,
    /// Commands of an executor before this one that others wait for.
    orphans: HashMap<u64, Orphan>,
    /// What its commands have in common and those of others do not: the state file of their openings.
    state_file: PathBuf,
    /// When each running command becomes slow, in order; some may have ended.
    slow_at: VecDeque<(Timestamp, u64)>,
    /// Stop commands that could not be started, and when to try again.
    retries: VecDeque<(Timestamp, Job)>,
    /// The process or the system has run out of something: nothing is started until then.
    paused_until: Option<Timestamp>,
    /// The latest [`Executor::start_next`] may have left commands that can be started.
    has_more: bool,
    /// Children without a descriptor, and when to look at them.
    polled: Vec<u64>,
    next_poll: Timestamp,
    next_id: u64,
    outcomes: VecDeque<Outcome>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    /// Keeps the child's descriptor in the set; `None` for a polled child.
    _pidfd: Option<OwnedFd>,
    id: CommandId,
    request: CommandRequest,
    /// It holds no slot and no lane any more.
    slow: bool,
}

impl Executor {
    /// An executor with nothing to do.
    ///
    /// # Errors
    /// Fails where the process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
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
            outcomes: VecDeque::new(),
        })
    }

    /// Says which state file the openings are in that the commands from now on open and close.
    pub fn set_state_file(&mut self, path: &Path) {
        self.state_file = path.to_owned();
    }

    /// Sets how many start commands of one door may wait; beyond that the oldest is dropped. While as many of its stop
    /// commands wait, no further start command of the door runs.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Makes the commands of these doors and networks wait for those that an executor before this one, in a process
    /// with the same state file that crashed, left running: else a slow start command would open the door after its stop command closed it. To
    /// be called before any [`Executor::submit`]. Nobody waits longer than [`SLOW_AFTER`], and where `/proc` or
    /// pidfd_open(2) is missing nobody waits.
    pub fn wait_for_orphans(&mut self, keys: impl IntoIterator<Item = (Arc<str>, IpNet)>, now: Timestamp) {
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

    /// Queues a command; [`Executor::start_next`] starts it.
    pub fn submit(&mut self, request: CommandRequest) -> CommandId {
        let id = self.next_id();
        let door = request.door.clone();
        self.queue.push(Job { id, request, reported: None });
        if let Some(Job { id, request, .. }) = self.queue.take_start_beyond(&door, self.limit) {
            self.tell(id, request, OutcomeKind::Dropped);
        }
        id
    }

    /// The start commands that wait for this door and network.
    pub fn waiting_starts(&self, door: &Arc<str>, net: IpNet) -> impl Iterator<Item = (CommandId, &CommandRequest)> {
        self.queue.waiting_starts(&(door.clone(), net)).iter().map(|job| (job.id, &job.request))
    }

    /// Takes back a start command that waits for this door and network: nothing more is told of it.
    pub fn withdraw_start(&mut self, door: &Arc<str>, net: IpNet, id: CommandId) {
        self.queue.withdraw(&(door.clone(), net), id);
    }

    /// Takes back all start commands that wait, and returns how many that were.
    pub fn withdraw_starts(&mut self) -> usize {
        self.queue.withdraw_all()
    }

    /// Notices which commands have ended. What waits for them does not start yet, so that their end can be written down
    /// before. Never waits.
    ///
    /// # Errors
    /// Fails only where epoll_wait(2) does, which would be a bug here.
    pub fn reap(&mut self, now: Timestamp) -> io::Result<()> {
        let mut tokens = Vec::new();
        if !self.running.is_empty() || !self.orphans.is_empty() {
            self.epoll.wait(&mut tokens, Some(Duration::ZERO))?;
        }
        for token in tokens {
            self.look_at(token);
            self.let_orphan_go(token);
        }
        if !self.polled.is_empty() && self.next_poll <= now {
            let polled = std::mem::take(&mut self.polled);
            self.polled = polled.into_iter().filter(|&token| !self.look_at(token)).collect();
            self.next_poll = now.saturating_add(POLL_EVERY);
        }
        self.let_slow_ones_go(now);
        Ok(())
    }

    /// Starts commands whose turn it is, stop commands first, some of each at a time. Never waits for their ends.
    pub fn start_next(&mut self, now: Timestamp) {
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

    /// What happened since; in order.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// When the two are due even though the descriptor stays quiet; may change with every call.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let slow = self.slow_at.front().map(|(due, _)| *due);
        let retry = self.retries.front().map(|(due, _)| *due);
        let poll = (!self.polled.is_empty()).then_some(self.next_poll);
        let more = self.has_more.then(Timestamp::default);
        [slow, retry, poll, more, self.paused_until].into_iter().flatten().min()
    }

    /// How many commands run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many commands wait for their turn or for a further try.
    pub fn waiting(&self) -> usize {
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
        let out_of_something = matches!(errno, Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE));
        if !out_of_something && job.request.action == Action::Open {
            self.queue.done(&job.key());
            self.tell(job.id, job.request, OutcomeKind::NotStarted(error));
            return;
        }
        let kind = Some(errno.unwrap_or(0));
        if job.reported != kind {
            job.reported = kind;
            self.tell(job.id, job.request.clone(), OutcomeKind::Delayed(error));
        }
        let due = now.saturating_add(RETRY_AFTER);
        if out_of_something {
            self.paused_until = Some(due);
            self.queue.put_back(job);
        } else {
            self.queue.postpone(&job);
            self.retries.push_back((due, job));
        }
    }

    fn started(&mut self, job: Job, child: Child, now: Timestamp) {
        let Job { id, request, .. } = job;
        // Whatever fails here only means that the child is looked at from time to time.
        let watched = pidfd_open(child.id()).and_then(|pidfd| self.epoll.add(pidfd.as_fd(), id.0).map(|()| pidfd));
        if watched.is_err() {
            self.polled.push(id.0);
            self.next_poll = now.saturating_add(POLL_EVERY);
        }
        self.queue.started(&request.door, request.action);
        self.slow_at.push_back((now.saturating_add(SLOW_AFTER), id.0));
        self.tell(id, request.clone(), OutcomeKind::Started);
        self.running.insert(id.0, Running { child, _pidfd: watched.ok(), id, request, slow: false });
    }

    /// Finds out whether a child has ended; true where it has.
    fn look_at(&mut self, token: u64) -> bool {
        let Some(running) = self.running.get_mut(&token) else { return true };
        let kind = match running.child.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => OutcomeKind::Finished(status),
            Err(error) => OutcomeKind::Lost(error),
        };
        if let Some(running) = self.running.remove(&token) {
            if !running.slow {
                self.release(&running.request);
            }
            self.queue.ended(&running.request.door);
            self.tell(running.id, running.request, kind);
        }
        true
    }

    /// Nobody waits for it any more, where this is one: the others of its door and address are next when it was the last.
    fn let_orphan_go(&mut self, token: u64) {
        if let Some(Orphan { key, .. }) = self.orphans.remove(&token)
            && !self.orphans.values().any(|orphan| orphan.key == key)
        {
            self.queue.done(&key);
        }
    }

    fn let_slow_ones_go(&mut self, now: Timestamp) {
        // Those in front that have ended go too, so that the list holds little more than what runs.
        while let Some(&(due, token)) = self.slow_at.front() {
            match self.running.get_mut(&token) {
                Some(_) if now < due => break,
                Some(running) => {
                    running.slow = true;
                    let (id, request) = (running.id, running.request.clone());
                    self.release(&request);
                    self.tell(id, request, OutcomeKind::StillRunning);
                }
                None if now < due && self.orphans.contains_key(&token) => break,
                None => self.let_orphan_go(token),
            }
            self.slow_at.pop_front();
        }
    }

    /// Frees the slot and the lane of a command.
    fn release(&mut self, request: &CommandRequest) {
        self.queue.release(&request.door, request.action);
        self.queue.done(&(request.door.clone(), request.net));
    }

    fn tell(&mut self, id: CommandId, request: CommandRequest, kind: OutcomeKind) {
        self.outcomes.push_back(Outcome { id, request, kind });
    }
}

/// Readable when a running command has ended.
impl AsFd for Executor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Starts a command, without the shell where that would only start a program in its place: that halves what it costs.
/// Where the program cannot be started the shell is to say so, or knows how to run it, as with a script that does not
/// say what runs it.
fn spawn(request: &CommandRequest, state_file: &Path) -> io::Result<Child> {
    if let Some([program, arguments @ ..]) = argv::direct_argv(&request.command).as_deref()
        && let Ok(child) = spawn_program(program, arguments, request, state_file)
    {
        return Ok(child);
    }
    spawn_program("/bin/sh", &["-c", &request.command], request, state_file)
}

/// Without a closure to run in the child, std uses posix_spawn(3), which costs the same however much memory this process
/// has, and gives the child an empty signal mask.
fn spawn_program(program: &str, arguments: &[&str], request: &CommandRequest, state_file: &Path) -> io::Result<Child> {
    Command::new(program)
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
