//! A daemon on a machine whose time and commands are made up, and what is known of its door from outside.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;

use super::super::{Clocks, OpeningId, StateFile, StateNotice};
use super::disk;
use crate::config::{Config, Door, OpenPrefix, Sequence, Step};
use crate::decode::Knock;
use crate::engine::Engine;
use crate::event::{Action, CommandRequest, EventKind, FailReason};
use crate::packet::{Protocol, TcpFlags};
use crate::time::Timestamp;

/// What is lost when the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The process alone; its commands go on.
    Process,
    /// All that is not on disk.
    Power,
}

/// A number as the daemon knows it, and what the disk may have of it: there is one more value until it is saved.
#[derive(Clone, Copy, Debug, Default)]
struct Saved {
    now: u64,
    least: u64,
    most: u64,
}

/// The door as it stands for one network.
#[derive(Debug, Default)]
struct DoorOf {
    /// A start command was started, and no stop command has ended since.
    may_be_open: bool,
    /// Nothing may close it before, where it is open.
    stays_until: u64,
    /// A stop command that had ended runs once more, since a loss of power took that from the disk.
    runs_again: bool,
    /// Stop commands that have to end.
    owed: Saved,
    /// When the latest opening closes.
    due: Saved,
    /// When the one before it was to close.
    due_before: Saved,
}

#[derive(Debug)]
struct Running {
    /// `None` where the daemon that started it is gone.
    id: Option<u64>,
    request: CommandRequest,
    ends_at: u64,
    fails: bool,
}

struct Daemon {
    engine: Engine,
    state: StateFile,
    line: VecDeque<(u64, CommandRequest)>,
    /// Stop commands under way and the opening that each ends; none where the door is opened again after it.
    closing: HashMap<u64, Option<OpeningId>>,
    /// Start commands under way, and the stop command before each where the door was open already.
    starting: HashMap<u64, Option<u64>>,
    next_id: u64,
    /// What its clock is ahead of the world's.
    ahead: u64,
    was_told_of_failure: bool,
    is_stopping: bool,
}

pub(super) struct World {
    path: PathBuf,
    rng: Rng,
    /// In seconds since the epoch.
    time: u64,
    boot: u64,
    booted_at: u64,
    doors: BTreeMap<IpNet, DoorOf>,
    /// Commands under way, whoever started them.
    running: Vec<Running>,
    daemon: Option<Daemon>,
    died_by: Option<Loss>,
    /// Tells each step.
    speaks: bool,
}

impl Saved {
    fn becomes(&mut self, now: u64) {
        *self = Self { now, least: self.least.min(now), most: self.most.max(now) };
    }

    fn is_saved(&mut self) {
        (self.least, self.most) = (self.now, self.now);
    }
}

impl World {
    pub(super) fn new(path: &Path, rng: Rng, speaks: bool) -> Self {
        Self {
            path: path.to_owned(),
            rng,
            time: 10_000,
            boot: 1,
            booted_at: 9_000,
            doors: BTreeMap::new(),
            running: Vec::new(),
            daemon: None,
            died_by: None,
            speaks,
        }
    }

    pub(super) fn say(&self, what: &dyn Debug) {
        if self.speaks {
            println!("{}: {what:?}", self.time);
        }
    }

    /// A daemon starts, reads what the one before it left, and has its first turn.
    pub(super) fn start(&mut self) {
        let ahead = self.rng.u64(..1000);
        let clocks = self.clocks(ahead);
        let (state, restored) = StateFile::open(&self.path, &format!("boot-{}", self.boot), clocks).unwrap();
        self.say(&restored);
        for (net, door) in &mut self.doors {
            let unfinished = restored.unfinished.iter().filter(|(_, request)| request.net == *net).count() as u64;
            let openings: Vec<_> = restored.openings.iter().filter(|opening| opening.net == *net).collect();
            assert!(openings.len() < 2, "a network is open once: {openings:?}");
            let opening = openings.first();
            let owed = unfinished + u64::from(opening.is_some());
            let most = if self.died_by == Some(Loss::Power) { u64::MAX } else { door.owed.most };
            assert!(
                (door.owed.least..=most).contains(&owed),
                "{net}: {owed} openings found by the start, not {door:?}"
            );
            door.owed = Saved { now: owed, least: owed, most: owed };
            if let Some(opening) = opening {
                // What was overdue is due now.
                let due = seconds(opening.closes_at) - ahead;
                let is_rebooted = self.died_by == Some(Loss::Power);
                let latest = if is_rebooted { self.time } else { door.due.most.max(self.time) };
                let right = if is_rebooted { self.time } else { door.due.least.max(self.time) }..=latest;
                assert!(right.contains(&due), "{net}: due at {due}, not {door:?}");
                door.due = Saved { now: due, least: due, most: due };
                door.stays_until = door.stays_until.min(due);
            }
            door.runs_again |= unfinished > 0 && self.died_by == Some(Loss::Power);
        }
        let mut engine = Engine::new(&config());
        engine.restore_openings(restored.openings);
        let mut daemon = Daemon {
            engine,
            state,
            line: VecDeque::new(),
            closing: HashMap::new(),
            starting: HashMap::new(),
            next_id: 0,
            ahead,
            was_told_of_failure: false,
            is_stopping: false,
        };
        for (id, request) in restored.unfinished {
            let command = daemon.submit(request);
            daemon.closing.insert(command, Some(id));
        }
        self.daemon = Some(daemon);
        self.died_by = None;
        self.turn();
    }

    pub(super) fn die(&mut self, loss: Loss) {
        // One that died while it started had no daemon yet.
        let was_saving = self.daemon.take().is_none_or(|daemon| !daemon.was_told_of_failure);
        for (net, door) in &mut self.doors {
            if door.owed.least == 0 && door.may_be_open {
                assert!(!was_saving, "{net} is open, and the disk does not know: {door:?}");
                door.may_be_open = false;
            }
        }
        match loss {
            Loss::Process => self.running.iter_mut().for_each(|command| command.id = None),
            Loss::Power => {
                disk::lose_power(&mut self.rng);
                self.running.clear();
                self.boot += 1;
                self.booted_at = self.time;
            }
        }
        self.say(&("dies", loss));
        // It may be a while until the next start.
        self.time += self.rng.u64(..6);
        // What a loss of power took is not back before a start has read what is left.
        self.died_by = self.died_by.filter(|before| *before == Loss::Power).or(Some(loss));
    }

    /// A knock from one of the addresses of a network.
    pub(super) fn knock(&mut self, network: u8) {
        let host = self.rng.u8(1..=3);
        let time = Timestamp::from_secs(self.time + self.daemon().ahead);
        self.daemon().engine.handle_knock(&Knock {
            time,
            source: [10, 0, network, host].into(),
            destination: [10, 1, 1, 1].into(),
            port: 7000,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 1,
            sequence_number: 0,
        });
        self.turn();
    }

    pub(super) fn wait(&mut self, secs: u64) {
        for _ in 0..secs {
            self.time += 1;
            self.turn();
        }
    }

    /// The daemon is stopped as `OnStop` says, and started again.
    pub(super) fn restart(&mut self, keep: bool) {
        let ahead = self.daemon().ahead;
        let now = self.clocks(ahead).now;
        let daemon = self.daemon();
        daemon.is_stopping = true;
        if !keep || !daemon.state.is_saving() {
            daemon.engine.close_all(now);
        } else {
            for (_, request) in daemon.line.iter().filter(|(id, _)| daemon.starting.contains_key(id)) {
                daemon.engine.close_early(&request.door, request.net, Some(&close_of(request)), None, now);
            }
        }
        self.turn();
        while !self.is_idle() {
            self.wait(1);
        }
        self.daemon = None;
        self.start();
    }

    /// Waits until nothing is open any more, then looks whether all is as it has to be.
    pub(super) fn settle(&mut self) {
        while !self.is_idle() || self.daemon().engine.stats().openings > 0 {
            self.wait(1);
        }
        // Where the disk had failed it is tried again by then.
        self.wait(2 * super::super::RETRY_AFTER.as_secs());
        assert!(self.daemon().state.is_saving());
        self.daemon = None;
        for (net, door) in &self.doors {
            assert!(!door.may_be_open, "{net} stays open: {door:?}");
            assert_eq!(door.owed.now, 0, "{net}: {door:?}");
        }
        let (_, restored) = StateFile::open(&self.path, "any", self.clocks(0)).unwrap();
        assert!(restored.openings.is_empty() && restored.unfinished.is_empty(), "{restored:?}");
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    fn is_idle(&mut self) -> bool {
        self.running.is_empty() && self.daemon().line.is_empty()
    }

    fn clocks(&self, ahead: u64) -> Clocks {
        Clocks { now: Timestamp::from_secs(self.time + ahead), ..clocks(self.time, self.booted_at) }
    }

    /// The service's turn.
    fn turn(&mut self) {
        let ahead = self.daemon().ahead;
        let clocks = self.clocks(ahead);
        let daemon = self.daemon();
        if !daemon.is_stopping {
            daemon.engine.handle_timeout(clocks.now);
        }
        self.reap(clocks.now);
        loop {
            self.take_events(clocks);
            self.commit(clocks.now);
            self.start_commands(clocks.now);
            if !self.daemon().engine.has_events() {
                break;
            }
        }
        self.say(&(&self.running, &self.doors));
        self.look();
    }

    fn take_events(&mut self, clocks: Clocks) {
        let Self { doors, daemon: Some(daemon), .. } = self else { return };
        while let Some(event) = daemon.engine.poll_event() {
            let net = network_of(event.ip);
            let is_absorbed = daemon.waiting_start(net).is_some();
            let door = doors.entry(net).or_default();
            match &event.kind {
                EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. } => {
                    daemon.state.opened(opening, clocks);
                    let due = seconds(opening.closes_at) - daemon.ahead;
                    if matches!(event.kind, EventKind::Open { .. }) {
                        door.due_before = door.due;
                        door.owed.becomes(door.owed.now + 1);
                    } else if !is_absorbed {
                        // It is closed and opened again.
                        door.stays_until = 0;
                    }
                    door.due.becomes(due);
                }
                _ => {}
            }
            match &event.kind {
                EventKind::Open { .. } | EventKind::Extend { .. } if is_absorbed => {}
                EventKind::Open { .. } | EventKind::Extend { .. } => {
                    let mut stop = None;
                    for request in event.command_requests() {
                        let action = request.action;
                        let id = daemon.submit(request);
                        match action {
                            Action::Close => {
                                stop = Some(id);
                                daemon.closing.insert(id, None);
                            }
                            Action::Open => drop(daemon.starting.insert(id, stop)),
                        }
                    }
                }
                EventKind::Close { .. } => {
                    let Some(request) = event.command_requests().next() else { continue };
                    let ends = daemon.state.closing(&request);
                    let Some(start) = daemon.waiting_start(net) else {
                        let id = daemon.submit(request);
                        daemon.closing.insert(id, ends);
                        continue;
                    };
                    daemon.line.retain(|(id, _)| *id != start);
                    match daemon.starting.remove(&start).flatten() {
                        Some(stop) if daemon.closing.contains_key(&stop) => drop(daemon.closing.insert(stop, ends)),
                        _ => {
                            daemon.state.closed(ends.unwrap());
                            door.owed.becomes(door.owed.now - 1);
                            // One whose stop command has not ended is the latest again.
                            door.due.becomes(door.due_before.now);
                            door.due.least = door.due.least.min(door.due_before.least);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn commit(&mut self, now: Timestamp) {
        let Self { doors, daemon: Some(daemon), boot, .. } = self else { return };
        daemon.state.commit(now);
        while let Some(notice) = daemon.state.poll_notice() {
            assert!(*boot > 1 || !matches!(notice, StateNotice::Damaged { .. }), "only a loss of power does: {notice}");
            let fails = matches!(notice, StateNotice::NotSaved(..));
            if fails || matches!(notice, StateNotice::SavedAgain(..)) {
                assert_ne!(daemon.was_told_of_failure, fails, "told once: {notice}");
                daemon.was_told_of_failure = fails;
            }
        }
        assert_eq!(daemon.was_told_of_failure, !daemon.state.is_saving());
        if daemon.state.is_saving() {
            doors.values_mut().flat_map(|door| [&mut door.owed, &mut door.due]).for_each(Saved::is_saved);
        }
    }

    /// Notes which commands have ended.
    fn reap(&mut self, now: Timestamp) {
        let Self { doors, daemon: Some(daemon), running, time, .. } = self else { return };
        for Running { id, request, fails, .. } in running.extract_if(.., |command| command.ends_at <= *time) {
            let door = doors.entry(request.net).or_default();
            if request.action == Action::Open {
                if let Some(id) = id {
                    daemon.started(id, &request, fails, now);
                    door.stays_until = if fails { 0 } else { door.stays_until };
                }
                continue;
            }
            (door.may_be_open, door.runs_again) = (false, false);
            if let Some(opening) = id.and_then(|id| daemon.closing.remove(&id)).flatten() {
                daemon.state.closed(opening);
                door.owed.becomes(door.owed.now - 1);
            }
        }
    }

    /// Starts the commands whose turn it is: one at a time of each network, stop commands first. Some cannot be started.
    fn start_commands(&mut self, now: Timestamp) {
        let Self { doors, daemon: Some(daemon), running, time, rng, .. } = self else { return };
        let mut line = std::mem::take(&mut daemon.line);
        line.make_contiguous().sort_by_key(|(_, request)| request.action == Action::Open);
        while let Some((id, request)) = line.pop_front() {
            let is_same = |other: &CommandRequest| other.net == request.net;
            let has_to_wait = running.iter().any(|command| is_same(&command.request))
                || daemon.line.iter().any(|(_, request)| is_same(request));
            let starts = rng.u8(..8) > 0;
            let door = doors.entry(request.net).or_default();
            match request.action {
                _ if has_to_wait => daemon.line.push_back((id, request)),
                Action::Close if !starts => daemon.line.push_back((id, request)),
                Action::Open if !starts => daemon.started(id, &request, true, now),
                Action::Open => {
                    assert!(door.owed.least > 0 || !daemon.state.is_saving(), "opens what is not on disk: {door:?}");
                    door.may_be_open = true;
                    door.stays_until = door.due.now;
                    let (ends_at, fails) = (*time + rng.u64(..4), rng.u8(..4) == 0);
                    running.push(Running { id: Some(id), request, ends_at, fails });
                }
                Action::Close => {
                    assert!(door.owed.most > 0, "closes what is closed for good: {door:?}");
                    let may_close =
                        !door.may_be_open || door.runs_again || daemon.is_stopping || door.stays_until <= *time;
                    assert!(may_close, "closes early, at {time}: {door:?}");
                    running.push(Running { id: Some(id), request, ends_at: *time + rng.u64(..4), fails: false });
                }
            }
        }
    }

    /// What is open and due has its stop command under way or in line.
    fn look(&mut self) {
        let Self { doors, daemon: Some(daemon), running, time, .. } = self else { return };
        for (net, door) in doors.iter().filter(|(_, door)| door.may_be_open && door.due.now <= *time) {
            let under_way = running.iter().filter(|command| command.id.is_some()).map(|command| &command.request);
            let mut requests = under_way.chain(daemon.line.iter().map(|(_, request)| request));
            let is_closing = requests.any(|request| request.net == *net && request.action == Action::Close);
            assert!(is_closing || daemon.is_stopping, "{net} is not closed at {time}: {door:?}");
        }
    }
}

impl Daemon {
    fn submit(&mut self, request: CommandRequest) -> u64 {
        self.next_id += 1;
        self.line.push_back((self.next_id, request));
        self.next_id
    }

    fn waiting_start(&self, net: IpNet) -> Option<u64> {
        let mut starts = self.line.iter().filter(|(_, request)| request.action == Action::Open && request.net == net);
        starts.next().map(|(id, _)| *id)
    }

    /// A start command has ended, or could not be started: one that fails leaves nothing open, where no other waits.
    fn started(&mut self, id: u64, request: &CommandRequest, fails: bool, now: Timestamp) {
        if self.starting.remove(&id).is_some() && fails && self.waiting_start(request.net).is_none() {
            let stop = close_of(request);
            self.engine.close_early("door", request.net, Some(&stop), Some(FailReason::Command), now);
        }
    }
}

/// The stop command that belongs to a start command.
fn close_of(start: &CommandRequest) -> String {
    let stop = start.command.replace("open", "close");
    assert_eq!(stop, format!("close {} {}", start.net, start.ip));
    stop
}

fn network_of(ip: IpAddr) -> IpNet {
    config().doors[0].network_of(ip)
}

/// One door with one step, open for some seconds for a network.
fn config() -> Config {
    let step = Step { port: 7000.try_into().unwrap(), protocol: Protocol::Udp };
    let mut door = Door::new("door", Some(Sequence::new([step]).unwrap()));
    door.start_command = Some("open %NET% %IP%".into());
    door.stop_command = Some("close %NET% %IP%".into());
    door.open_prefix = Some(OpenPrefix { ipv4: 24, ipv6: 56 });
    door.cmd_timeout = Duration::from_secs(6);
    Config { doors: vec![door], ..Config::default() }
}

fn seconds(time: Timestamp) -> u64 {
    time.as_nanos() / 1_000_000_000
}

/// The clocks of a machine at a time in seconds.
pub(super) fn clocks(time: u64, booted_at: u64) -> Clocks {
    let now = Timestamp::from_secs(time);
    Clocks { now, wall: now, boot: Duration::from_secs(time - booted_at) }
}
