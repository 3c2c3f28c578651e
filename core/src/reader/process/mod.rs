//! The daemon's side: starts the reader, believes nothing that cannot be, and starts another one where it has to.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::channel::{AT_ONCE, Channel};
use super::memory::memory_for;
use super::notice::ReaderNotice;
use super::wire::{Counts, Doors, Found, FromReader, Start, ToReader, What, WireSequence};
use crate::capture::CaptureNotice;
use crate::config::{Config, Door, DoorId, MAX_STEPS};
use crate::decode::Knock;
use crate::event::EventKind;
use crate::log_limit::{Counted, MAX_REPORTED_DOORS, Suppressed};
use crate::service::clock::Clock;
use crate::sys::epoll::Epoll;
use crate::sys::netlink::Network;
use crate::sys::timer::TimerFd;
use crate::time::Timestamp;

/// A reader that does not answer for so long is ended.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest time from one start to the next.
const BETWEEN_STARTS: Duration = Duration::from_millis(200);
/// The longest wait for the next reader, where those before could not listen on an interface that is up.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long after a failed start the next try comes.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// So often at most what has come is received in one turn, so that other work gets its time.
const RECEIVED_A_TURN: usize = 16;

/// The program that [`run`](super::run)s the reader; its standard input is the connection to the daemon.
#[derive(Clone, Debug)]
pub struct ReaderProgram {
    /// The program's file.
    pub program: PathBuf,
    /// Its name, as the system shows it, and its arguments.
    pub args: Vec<OsString>,
}

/// What the reader has seen, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Something happened at a door, as an engine that only tells says it.
    Found { time: Timestamp, door_id: DoorId, ip: IpAddr, kind: EventKind },
    /// A packet that matters.
    Knock(Knock),
    /// Something happened to a capture.
    Capture(CaptureNotice),
    /// Events that were not reported one by one.
    Suppressed(Suppressed),
    /// Nothing that came up to this time is missing.
    CaughtUp(Timestamp),
    /// Something about the reader itself.
    Notice(ReaderNotice),
}

/// The process that reads packets, and its successors. Its descriptor is readable when [`ReaderProcess::turn`] has
/// something to do.
#[derive(Debug)]
pub(crate) struct ReaderProcess {
    program: ReaderProgram,
    start: Start,
    /// The doors that its reports are checked against.
    config: Config,
    /// The doors of each name that several have, by the first of them, which stands for all in most reports.
    namesakes: HashMap<u16, Vec<u16>>,
    clock: Clock,
    /// A time that is over.
    past: Timestamp,
    epoll: Epoll,
    /// `None` where the last one has ended and the next cannot be started yet.
    running: Option<Running>,
    /// When to start the next one.
    again: TimerFd,
    /// Not before this time.
    next_start: Instant,
    /// When another one is to take the place of the one that runs.
    renew_at: Option<Instant>,
    /// How long to wait for the next one where this one cannot do what it was started for.
    pause: Duration,
    /// Since when an answer to [`ToReader::CatchUp`] is waited for.
    asked_at: Option<Instant>,
    /// What all readers before this one counted.
    earlier: Counts,
    /// What this one had counted when it was asked last.
    counts: Counts,
    seen: VecDeque<Seen>,
    /// What was last told of each interface, since each reader tells it anew.
    told: HashMap<String, Told>,
    told_kept: Vec<String>,
    /// Why the last start failed.
    told_failure: Option<String>,
}

#[derive(Debug, Default)]
struct Told {
    /// Why it is not listened on; `None` where it is.
    absence: Option<String>,
    /// How many instructions its coarse filter has.
    coarse: Option<Option<usize>>,
}

/// A reader at work; dropping it ends it.
#[derive(Debug)]
struct Running {
    child: Child,
    channel: Channel,
}

impl ReaderProcess {
    /// Starts a reader of the doors of `config`; it listens when this returns.
    pub(crate) fn start(program: ReaderProgram, config: &Config, start: Start) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let mut process = Self::new(program, config, start).map_err(text)?;
        let first = process.spawn()?;
        process.begin(first, Timestamp::default()).map_err(text)?;
        // What it says about its captures belongs to the start.
        process.receive().map_err(text)?;
        Ok(process)
    }

    /// The same without a reader yet.
    fn new(program: ReaderProgram, config: &Config, start: Start) -> io::Result<Self> {
        let (epoll, again) = (Epoll::new()?, TimerFd::new()?);
        epoll.add(again.as_fd(), 0)?;
        Ok(Self {
            program,
            clock: Clock::from_zero(Timestamp::from_nanos(start.clock)),
            start,
            config: config.clone(),
            namesakes: namesakes(config),
            past: Timestamp::default(),
            epoll,
            running: None,
            again,
            next_start: Instant::now(),
            renew_at: None,
            pause: Duration::ZERO,
            asked_at: None,
            earlier: Counts::default(),
            counts: Counts::default(),
            seen: VecDeque::new(),
            told: HashMap::new(),
            told_kept: Vec::new(),
            told_failure: None,
        })
    }

    /// Takes what the reader says, and sees to it that there is one.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.again.acknowledge();
        self.take_received();
        if self.start_due().is_some_and(|due| due <= Instant::now()) {
            self.start_another();
        }
        match self.start_due() {
            Some(due) => self.again.arm(Some(due.saturating_duration_since(Instant::now()))),
            None => Ok(()),
        }
    }

    /// When to start another reader, if at all.
    fn start_due(&self) -> Option<Instant> {
        if self.running.is_none() { Some(self.next_start) } else { self.renew_at.map(|at| at.max(self.next_start)) }
    }

    /// What has been seen; call until `None` after each other call.
    pub(crate) fn poll_seen(&mut self) -> Option<Seen> {
        self.seen.pop_front()
    }

    /// Asks for [`Seen::CaughtUp`], where that is not done yet. False where there is no answer to be had, or none came in
    /// this time.
    pub(crate) fn catch_up(&mut self, patience: Duration) -> bool {
        if self.running.is_none() {
            return false;
        }
        if let Some(waits) = self.waits_since() {
            return waits < patience;
        }
        self.asked_at = Some(Instant::now());
        self.tell(&ToReader::CatchUp);
        self.running.is_some()
    }

    /// How long the answer to [`ReaderProcess::catch_up`] has been waited for, if it is.
    pub(crate) fn waits_since(&self) -> Option<Duration> {
        self.asked_at.map(|asked_at| asked_at.elapsed())
    }

    /// Gives a one-time door the sequence that it has now. Nothing happens where that place is another door's, as it may
    /// be after [`ReaderProcess::reload`], while what the old doors told is taken up.
    pub(crate) fn set_sequence(&mut self, id: DoorId, door: &Door) {
        let is_same = |own: &&mut Door| own.name == door.name && own.one_time_sequences == door.one_time_sequences;
        let Some(own) = self.config.doors.get_mut(usize::from(id.0)).filter(is_same) else { return };
        own.sequence.clone_from(&door.sequence);
        self.tell(&ToReader::Sequence { door: id.0, sequence: door.sequence.as_ref().map(WireSequence::of) });
    }

    /// Takes up other doors and interfaces. What the old doors still tell is seen before this returns; nothing of it may
    /// be polled after the caller takes up the new doors itself.
    pub(crate) fn reload(&mut self, config: &Config, interfaces: Vec<String>) -> Vec<Seen> {
        self.tell(&ToReader::Reload(Doors::of(config)));
        let reloaded = |message| if matches!(message, FromReader::Reloaded) { Ok(()) } else { Err(message) };
        if self.running.is_some()
            && let Err(error) = self.expect(reloaded)
        {
            self.lose(&error);
        }
        // What is behind that message is about the new doors.
        let before = self.seen.drain(..).collect();
        // A process that has limited its memory cannot raise the limit.
        let outgrown = memory_for(config) > memory_for(&self.config);
        self.config = config.clone();
        self.namesakes = namesakes(config);
        if outgrown || self.start.interfaces != interfaces {
            self.start.interfaces = interfaces;
            self.told.retain(|name, _| self.start.interfaces.contains(name));
            self.renew_at = Some(Instant::now());
            self.start_another();
        }
        self.take_received();
        before
    }

    /// What the readers hold and have counted.
    pub(crate) fn counts(&mut self) -> Counts {
        let counts = |message| if let FromReader::Counts(counts) = message { Ok(counts) } else { Err(message) };
        self.tell(&ToReader::Count);
        if self.running.is_some() {
            match self.expect(counts) {
                Ok(counts) => self.counts = counts,
                Err(error) => self.lose(&error),
            }
        }
        self.take_received();
        self.counts.after(self.earlier)
    }

    fn spawn(&mut self) -> Result<Running, String> {
        let text = |error: io::Error| error.to_string();
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        let (name, args) = self.program.args.split_first().ok_or("its program has no name")?;
        let child = Command::new(&self.program.program)
            .arg0(name)
            .args(args)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            .process_group(0)
            .spawn()
            .map_err(text)?;
        let mut running = Running { child, channel: Channel::new(ours).map_err(text)? };
        let deadline = Some(Instant::now() + PATIENCE);
        // The doors as they are now, one-time doors with the sequences that are not used yet.
        let start = Start { doors: Doors::of(&self.config), ..self.start.clone() };
        let ready = running.channel.put(&ToReader::Start(start));
        let ready = ready.and_then(|()| running.channel.flush(deadline)).and_then(|()| running.channel.wait(deadline));
        match ready {
            Ok(FromReader::Ready { kept }) => {
                if !kept.is_empty() && kept != self.told_kept {
                    self.told_kept.clone_from(&kept);
                    self.seen.push_back(Seen::Notice(ReaderNotice::Keeps(kept)));
                }
                Ok(running)
            }
            Ok(FromReader::Failed(reason)) => Err(reason),
            Ok(_) => Err("it says something else than that it is ready".into()),
            Err(error) => Err(running.end(&error)),
        }
    }

    /// Puts a reader in the place of the one before.
    fn begin(&mut self, mut next: Running, after: Timestamp) -> io::Result<()> {
        next.channel.put(&ToReader::Begin { after: after.as_nanos() })?;
        next.channel.flush(Some(Instant::now() + PATIENCE))?;
        self.epoll.add(next.channel.as_fd(), 1)?;
        self.running = Some(next);
        self.asked_at = None;
        Ok(())
    }

    fn start_another(&mut self) {
        match self.renew() {
            Ok(()) => {
                self.told_failure = None;
                self.next_start = Instant::now() + BETWEEN_STARTS;
                self.take_received();
            }
            Err(reason) => {
                if self.told_failure.as_ref() != Some(&reason) {
                    self.seen.push_back(Seen::Notice(ReaderNotice::NotStarted(reason.clone())));
                    self.told_failure = Some(reason);
                }
                self.next_start = Instant::now() + TRY_AGAIN;
            }
        }
    }

    /// Starts another reader, which takes over the attempts of the one that there is.
    fn renew(&mut self) -> Result<(), String> {
        let next = self.spawn()?;
        self.renew_at = None;
        self.take_the_place(next)
    }

    fn take_the_place(&mut self, mut next: Running) -> Result<(), String> {
        let mut after = Timestamp::default();
        if self.running.is_some() {
            match self.hand_over_to(&mut next) {
                Ok(last) => after = last,
                Err(error) => self.lose(&error),
            }
        }
        self.running = None;
        self.earlier = std::mem::take(&mut self.counts).after(self.earlier);
        // The one before may have seen sequences being used up that this one was started with.
        for (id, door) in (0..=u16::MAX).zip(&self.config.doors) {
            if door.one_time_sequences.is_some() && door.sequence.is_none() {
                let used_up = ToReader::Sequence { door: id, sequence: None };
                next.channel.put(&used_up).map_err(|error| error.to_string())?;
            }
        }
        self.begin(next, after).map_err(|error| error.to_string())
    }

    fn hand_over_to(&mut self, next: &mut Running) -> io::Result<Timestamp> {
        self.channel()?.put(&ToReader::HandOver)?;
        self.channel()?.flush(Some(Instant::now() + PATIENCE))?;
        let mut count = 0;
        loop {
            let message = self.expect(|message| match message {
                FromReader::Attempts(_) | FromReader::HandedOver { .. } => Ok(message),
                other => Err(other),
            })?;
            match message {
                FromReader::Attempts(attempts) => {
                    // Or it could go on for ever.
                    count += attempts.len();
                    if attempts.is_empty() || count > self.config.options.max_attempts as usize {
                        return Err(lie("it hands over more attempts than there can be"));
                    }
                    next.channel.put(&ToReader::Attempts(attempts))?;
                    next.channel.flush(Some(Instant::now() + PATIENCE))?;
                }
                FromReader::HandedOver { last, counts } => {
                    self.counts = counts;
                    return Ok(Timestamp::from_nanos(last));
                }
                _ => {}
            }
        }
    }

    /// Ends the reader that this happened to. The next one is started by [`ReaderProcess::turn`].
    fn lose(&mut self, error: &io::Error) {
        let Some(running) = self.running.take() else { return };
        self.seen.push_back(Seen::Notice(ReaderNotice::Ended(running.end(error))));
        self.earlier = std::mem::take(&mut self.counts).after(self.earlier);
        self.earlier.attempts = 0;
        self.asked_at = None;
        self.wake();
    }

    /// Has the descriptor tell that a turn is due: whoever called may wait for it next.
    fn wake(&mut self) {
        // It fails for no timer that is open.
        let _ = self.again.arm(Some(Duration::ZERO));
    }

    /// Sends a message, where there is a reader.
    fn tell(&mut self, message: &ToReader) {
        let Some(running) = &mut self.running else { return };
        let told = running.channel.put(message);
        match told.and_then(|()| running.channel.flush(Some(Instant::now() + PATIENCE))) {
            Ok(()) if running.channel.has_unseen() => self.wake(),
            Ok(()) => {}
            Err(error) => self.lose(&error),
        }
    }

    fn channel(&mut self) -> io::Result<&mut Channel> {
        self.running.as_mut().map(|running| &mut running.channel).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Takes what has come; also after each wait for one message, behind which others may have come that no descriptor
    /// tells of any more.
    fn take_received(&mut self) {
        if self.running.is_some()
            && let Err(error) = self.receive()
        {
            self.lose(&error);
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..RECEIVED_A_TURN {
            let more = self.channel()?.receive()? == AT_ONCE;
            while let Some(message) = self.channel()?.next()? {
                self.take(message)?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the message that `wanted` takes, and takes the others meanwhile.
    fn expect<T>(&mut self, wanted: impl Fn(FromReader) -> Result<T, FromReader>) -> io::Result<T> {
        let deadline = Some(Instant::now() + PATIENCE);
        loop {
            match wanted(self.channel()?.wait(deadline)?) {
                Ok(message) => return Ok(message),
                Err(other) => self.take(other)?,
            }
        }
    }

    /// Takes a message that may come at any time.
    fn take(&mut self, message: FromReader) -> io::Result<()> {
        match message {
            FromReader::Found(found) => {
                self.check(&found)?;
                if let (What::Complete, Some(door)) = (found.what, self.config.doors.get_mut(usize::from(found.door)))
                    && door.one_time_sequences.is_some()
                {
                    // It takes no knock until it has its next sequence.
                    door.sequence = None;
                }
                self.seen.push_back(Seen::Found {
                    time: Timestamp::from_nanos(found.time),
                    door_id: DoorId(found.door),
                    ip: found.ip,
                    kind: found.kind(),
                });
            }
            FromReader::Knock(knock) if self.start.report_knocks => self.seen.push_back(Seen::Knock(knock.into())),
            FromReader::Capture(notice) => {
                if self.is_news(&notice) {
                    self.seen.push_back(Seen::Capture(notice));
                }
            }
            FromReader::CaughtUp { time } if self.is_past(Timestamp::from_nanos(time)) => {
                self.asked_at = None;
                self.seen.push_back(Seen::CaughtUp(Timestamp::from_nanos(time)));
            }
            FromReader::AskNetwork => {
                let network = Network::read().ok();
                self.channel()?.put(&ToReader::Network(network))?;
                self.channel()?.flush(Some(Instant::now() + PATIENCE))?;
            }
            FromReader::AskRenewal { failed } => self.want_renewal(failed),
            FromReader::Suppressed { time, counted } => {
                let suppressed = self.suppressed(Timestamp::from_nanos(time), counted)?;
                self.seen.push_back(Seen::Suppressed(suppressed));
            }
            FromReader::Failed(reason) => return Err(io::Error::other(reason)),
            _ => return Err(lie("it says something out of turn")),
        }
        Ok(())
    }

    /// Numbers of events with the names of their doors.
    fn suppressed(&mut self, time: Timestamp, counted: Counted) -> io::Result<Suppressed> {
        if !self.is_past(time) || counted.doors.len() > MAX_REPORTED_DOORS {
            return Err(lie("it reports numbers of events that cannot be"));
        }
        let named = |(place, counts)| self.config.doors.get(usize::from(place)).map(|door| (door.name.clone(), counts));
        let doors: Option<Vec<_>> = counted.doors.into_iter().map(named).collect();
        let doors = doors.ok_or_else(|| lie("it tells of a door that does not exist"))?;
        Ok(Suppressed { time, doors, others: counted.others })
    }

    /// Refuses what a reader cannot have found.
    fn check(&mut self, found: &Found) -> io::Result<()> {
        if !self.is_past(Timestamp::from_nanos(found.time)) {
            return Err(lie("it tells of the future"));
        }
        let Some(door) = self.config.doors.get(usize::from(found.door)) else {
            return Err(lie("it tells of a door that does not exist"));
        };
        let is_mapped = matches!(found.ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        let allows = |door: &Door| door.allow.is_empty() || door.allow.iter().any(|net| net.contains(&found.ip));
        let is_allowed = match (found.what, self.namesakes.get(&found.door)) {
            (What::Complete, _) | (_, None) => allows(door),
            (_, Some(doors)) => doors.iter().any(|place| allows(&self.config.doors[usize::from(*place)])),
        };
        if is_mapped || !is_allowed || self.start.ipv4_only && found.ip.is_ipv6() {
            return Err(lie("it tells of an address that may not knock"));
        }
        match (found.stage(), &door.sequence) {
            (None, None) => Err(lie("it opens a door that takes no knocks")),
            (Some(stage), _) if stage == 0 || usize::from(stage) > MAX_STEPS => Err(lie("it tells of no stage")),
            _ => Ok(()),
        }
    }

    /// Has another reader take the place: at once, or later each time where this one `failed` as the next may.
    fn want_renewal(&mut self, failed: bool) {
        if !failed {
            self.pause = Duration::ZERO;
            self.renew_at = Some(Instant::now());
        } else if self.renew_at.is_none() {
            self.renew_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).clamp(BETWEEN_STARTS, LONGEST_PAUSE);
        }
    }

    /// Looks at the clock only where it has to: a flood brings many reports of the past together.
    fn is_past(&mut self, time: Timestamp) -> bool {
        if time > self.past {
            self.past = self.clock.now();
        }
        time <= self.past
    }

    /// False for what was told of the interface before, and for other interfaces.
    fn is_news(&mut self, notice: &CaptureNotice) -> bool {
        let (CaptureNotice::Listening { interface: name }
        | CaptureNotice::Waiting { interface: name, .. }
        | CaptureNotice::Lost { interface: name, .. }
        | CaptureNotice::Dropped { interface: name, .. }
        | CaptureNotice::CoarseFilter { interface: name, .. }) = notice;
        if !self.start.interfaces.contains(name) {
            return false;
        }
        let absence = match notice {
            CaptureNotice::Listening { .. } => None,
            CaptureNotice::Waiting { reason, .. } | CaptureNotice::Lost { reason, .. } => Some(reason.clone()),
            CaptureNotice::CoarseFilter { instructions, .. } => {
                let told = self.told.entry(name.clone()).or_default();
                return told.coarse.replace(*instructions) != Some(*instructions);
            }
            CaptureNotice::Dropped { .. } => return true,
        };
        let is_first = !self.told.contains_key(name);
        let told = self.told.entry(name.clone()).or_default();
        let is_news = std::mem::replace(&mut told.absence, absence.clone()) != absence || is_first;
        if is_news {
            self.pause = Duration::ZERO;
        }
        is_news
    }
}

impl Running {
    /// Ends it because of the error; in words why it ended.
    fn end(mut self, error: &io::Error) -> String {
        // It may have ended by itself; then this is for nothing.
        let _ = self.child.kill();
        let status = self.child.wait();
        match (error.kind(), status) {
            (io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe, Ok(status)) => status.to_string(),
            (io::ErrorKind::TimedOut, _) => "it does not answer".into(),
            _ => error.to_string(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsFd for ReaderProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn namesakes(config: &Config) -> HashMap<u16, Vec<u16>> {
    let mut by_name: HashMap<&str, Vec<u16>> = HashMap::new();
    for (place, door) in (0..=u16::MAX).zip(&config.doors) {
        by_name.entry(&door.name).or_default().push(place);
    }
    by_name.into_values().filter(|places| places.len() > 1).map(|places| (places[0], places)).collect()
}

fn lie(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
