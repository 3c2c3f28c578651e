//! All captures behind one descriptor.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::error::CaptureError;
use super::frame::ANY;
use super::frame::Frame;
use super::interface::{FRAMES_A_TURN, Interface, Outlook};
use super::notice::{CaptureNotice, CaptureStats};
use super::pace::{Change, Pace};
use super::state::{FullPoll, NetworkReport, NetworkSource, Readiness, RestartRequest};
use crate::filter::PortFilter;
use crate::sys::epoll::Epoll;
use crate::sys::netlink::{Network, NetworkWatch};
use crate::sys::packet;
use crate::sys::timer::TimerFd;

/// The names of what is waited for. The interfaces follow, in their order.
const NETWORK: u64 = 0;
const PACE: u64 = 1;
const AGAIN: u64 = 2;
const OTHER: u64 = 3;
const INTERFACES: u64 = 4;

/// So often a capture that ends is drained: more than its buffer holds, and not for ever where the interface lives on under
/// another name.
const LAST_DRAINS: usize = 8;
/// Maximum number of turns in a row that follow changes of the network and take no frames: changes that go on and on must
/// not keep frames out.
const MAX_FOLLOWING_TURNS: u32 = 2;
/// How long to wait before trying once more what should have worked.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// The shortest time between two notices of dropped packets, and between two looks for them.
const DROPS: Duration = Duration::from_secs(1);

/// Captures on several interfaces, or on all (`any`). It follows interfaces and addresses that come and go: nothing
/// that happens to an interface ends it.
///
/// Wait until its descriptor is readable, then call [`CaptureSet::turn`], and take the notices. On a quiet line nothing
/// wakes; a packet alone is there at once; a busy line is looked at once in a millisecond.
#[derive(Debug)]
pub struct CaptureSet {
    epoll: Epoll,
    watch: NetworkWatch,
    pace: Pace,
    /// Readable when something is to be tried again, or dropped packets are to be told.
    again: TimerFd,
    network: Network,
    /// The addresses that packets may be for.
    addresses: HashSet<IpAddr>,
    network_source: NetworkSource,
    /// Number of the latest turns that followed changes of the network and took no frames.
    following_turns: u32,
    restart_request: Option<RestartRequest>,
    full_poll: FullPoll,
    addresses_changed: bool,
    interfaces: Vec<Interface>,
    filter: PortFilter,
    notices: VecDeque<CaptureNotice>,
    drops_looked_for: Option<Instant>,
    drops_told: Option<Instant>,
    /// The tokens of the descriptors that were readable.
    tokens: Vec<u64>,
    readiness: Readiness,
}

impl CaptureSet {
    /// Tries whether [`CaptureSet::open`] may succeed in a process with the rights of this one.
    pub(crate) fn check(interfaces: &[String]) -> Result<(), CaptureError> {
        names_of(interfaces)?;
        check_capture()
    }

    /// Begins to listen on the interfaces, of packets that `filter` passes. Interfaces that are not there or not up are
    /// waited for. Where `any` is among them, it is the only one.
    ///
    /// # Errors
    /// Fails without the right to capture, without free descriptors, and for names that no interface can have.
    pub fn open(interfaces: &[String], filter: PortFilter) -> Result<Self, CaptureError> {
        let names = names_of(interfaces)?;
        check_capture()?;
        let system = |what| move |error| CaptureError::from_io(what, error);
        // Watch before asking, so that no change falls between the two.
        let watch = NetworkWatch::new().map_err(system("cannot watch for changes of the network"))?;
        let network = Network::read().map_err(system("cannot list the network's interfaces"))?;
        let mut set = Self {
            epoll: Epoll::new().map_err(system("cannot wait for packets"))?,
            pace: Pace::new().map_err(system("cannot make a timer"))?,
            again: TimerFd::new().map_err(system("cannot make a timer"))?,
            addresses: network.addresses_of(names.iter().map(|name| name.as_str())),
            network,
            watch,
            network_source: NetworkSource::Kernel,
            following_turns: 0,
            restart_request: None,
            full_poll: FullPoll::Idle,
            addresses_changed: true,
            interfaces: names.into_iter().map(|name| Interface::new(name)).collect(),
            filter,
            notices: VecDeque::new(),
            drops_looked_for: None,
            drops_told: None,
            tokens: Vec::new(),
            readiness: Readiness::Unknown,
        };
        let fds = [(Some(set.watch.as_fd()), NETWORK), (set.pace.fd(), PACE), (Some(set.again.as_fd()), AGAIN)];
        for (fd, token) in fds.into_iter().filter_map(|(fd, token)| Some((fd?, token))) {
            set.epoll.add(fd, token).map_err(system("cannot wait for packets"))?;
        }
        if set.take_up().map_err(system("cannot wait for packets"))? == Outlook::TryAgain {
            // What it fails for may be something that waiting does not mend.
            check_capture()?;
        }
        Ok(set)
    }

    /// Asks the kernel for nothing any more, as a process that gives up its rights. What is needed then is told by
    /// [`CaptureSet::take_network_wanted`] and [`CaptureSet::take_restart_request`].
    pub(crate) fn enter_sandbox(&mut self) {
        self.network_source = NetworkSource::Caller(NetworkReport::NotNeeded);
    }

    /// Has [`CaptureSet::wait`] wait for this descriptor too, which from now on is to be called in place of a wait for the
    /// set's own one: that would take two more system calls a turn.
    pub(crate) fn wait_also_for(&mut self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.pace.drop_timer();
        self.epoll.add(other, OTHER)
    }

    /// Waits until a turn is due or the other descriptor is readable, at most so long (`None`: for ever). True where the
    /// other one is.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.into_iter().chain(self.pace.rest_left()).min();
        self.epoll.wait(&mut self.tokens, timeout)?;
        let is_other = self.tokens.contains(&OTHER);
        // What is done about the other one may take its time; then the turn has to look again.
        let has_polled = !is_other && (self.pace.is_resting() || !self.tokens.is_empty());
        self.readiness = if has_polled { Readiness::Polled } else { Readiness::Unknown };
        Ok(is_other)
    }

    /// True once after the network changed: [`CaptureSet::set_network`] has to say how it is now. Until then no frame is
    /// taken.
    pub(crate) fn take_network_wanted(&mut self) -> bool {
        let is_wanted = self.wants_network();
        if is_wanted {
            self.network_source = NetworkSource::Caller(NetworkReport::NotNeeded);
        }
        is_wanted
    }

    /// True where [`CaptureSet::take_network_wanted`] would be.
    pub(crate) fn wants_network(&self) -> bool {
        matches!(self.network_source, NetworkSource::Caller(NetworkReport::Wanted))
    }

    /// Wants to know about the network once more in a while.
    pub(crate) fn ask_again(&mut self) -> io::Result<()> {
        self.try_again(TRY_AGAIN)
    }

    /// Says how the network is now; the next turn goes by it.
    pub(crate) fn set_network(&mut self, network: Network) {
        if let NetworkSource::Caller(report) = &mut self.network_source {
            *report = NetworkReport::Received(Box::new(network));
        }
    }

    /// Returned once after an interface is up that only a new set can listen on.
    pub(crate) fn take_restart_request(&mut self) -> Option<RestartRequest> {
        self.restart_request.take()
    }

    /// Makes the next turn poll every capture, whether its descriptor is readable or not.
    pub(crate) fn poll_all(&mut self) {
        self.full_poll = FullPoll::Requested;
    }

    /// Returns, once after the turn that [`CaptureSet::poll_all`] asked for, how many captures were polled without an
    /// error.
    pub(crate) fn take_polled(&mut self) -> Option<usize> {
        let FullPoll::Done(count) = self.full_poll else { return None };
        self.full_poll = FullPoll::Idle;
        Some(count)
    }

    /// Does what there is to do and hands each captured frame to `on_frame`, those of an interface in the order of their
    /// arrival; returns how many. The time is the packet's own, by the wall clock.
    ///
    /// Changes of the network come first: when a packet follows the address that it is for, so does its frame. Where they
    /// do not stop, frames are taken nevertheless, between some of them and the next. At most
    /// 4,096 frames of an interface are taken; the descriptor stays readable while more wait.
    ///
    /// # Errors
    /// Only where the kernel refuses to wait or to tell about the network.
    pub fn turn(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> Result<usize, CaptureError> {
        self.try_turn(on_frame).map_err(|error| CaptureError::from_io("cannot wait for packets", error))
    }

    fn try_turn(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> io::Result<usize> {
        let start = Instant::now();
        let mut tokens = std::mem::take(&mut self.tokens);
        let readiness = std::mem::replace(&mut self.readiness, Readiness::Unknown);
        if readiness == Readiness::Unknown {
            self.epoll.wait(&mut tokens, Some(Duration::ZERO))?;
        }
        let mut frames = 0;
        // What is not acknowledged stays readable, for the turn after this one.
        let may_follow = self.following_turns < MAX_FOLLOWING_TURNS;
        let again = may_follow && tokens.contains(&AGAIN) && self.again.acknowledge();
        let changed = may_follow && tokens.contains(&NETWORK) && self.watch.acknowledge()?;
        self.network_source.begin_turn(changed);
        if (changed || again) && self.network_source.ask_caller() {
            self.following_turns += 1;
            return Ok(0);
        }
        let again = again || self.network_source.has_report();
        if changed || again {
            let untold = std::mem::take(&mut self.addresses_changed);
            frames += self.follow_network(on_frame)?;
            let changed = self.addresses_changed;
            self.addresses_changed |= untold;
            if changed {
                // The caller is to know the addresses before the frames that they are for.
                self.following_turns += 1;
                return Ok(frames);
            }
        }
        self.following_turns = 0;
        let mut more = false;
        for index in 0..self.interfaces.len() {
            if self.pace.is_resting() || self.full_poll == FullPoll::Requested || tokens.contains(&token(index)) {
                let found = self.drain(index, on_frame)?;
                more |= found == FRAMES_A_TURN;
                frames += found;
            }
        }
        if self.full_poll == FullPoll::Requested {
            let polled = self.interfaces.iter().filter(|interface| interface.fd().is_some());
            self.full_poll = FullPoll::Done(polled.count());
        }
        self.tokens = tokens;
        let change = self.pace.turned(start, frames, more)?;
        if change != Change::None {
            self.set_waiting(change == Change::Wake)?;
        }
        // The end of a rest is the end of what may have been a flood.
        let calm = again || change == Change::Wake;
        if frames > 0 || calm {
            self.look_for_drops(start, calm)?;
        }
        if readiness == Readiness::Polled && frames == 0 {
            // That there is nothing can only be said after a look of this turn.
            return self.try_turn(on_frame);
        }
        Ok(frames)
    }

    /// The next thing that a log should say; call until `None` after [`CaptureSet::open`], [`CaptureSet::turn`] and
    /// [`CaptureSet::set_filter`].
    pub fn poll_notice(&mut self) -> Option<CaptureNotice> {
        self.notices.pop_front()
    }

    /// The addresses that packets may be for now, as of the last turn: all that the machine has, or if all interfaces are
    /// named by labels, as in `eth0:0`, the addresses with these labels.
    pub fn local_addresses(&self) -> &HashSet<IpAddr> {
        &self.addresses
    }

    /// The broadcast addresses of the machine's networks, as of the last turn.
    pub(crate) fn broadcast_addresses(&self) -> &HashSet<IpAddr> {
        &self.network.broadcasts
    }

    /// True if one packet may be captured by several interfaces.
    pub(crate) fn may_repeat_packets(&self) -> bool {
        self.interfaces.len() > 1 || self.interfaces.iter().any(Interface::is_any)
    }

    /// True once after the addresses changed, and once after [`CaptureSet::open`].
    pub fn take_address_change(&mut self) -> bool {
        std::mem::take(&mut self.addresses_changed)
    }

    /// Replaces the filter. Packets that passed the old one may still come.
    pub fn set_filter(&mut self, filter: PortFilter) {
        self.filter = filter;
        // Many captures take their time, in which the network may change.
        self.readiness = Readiness::Unknown;
        for interface in &mut self.interfaces {
            interface.set_filter(&self.filter, &mut |notice| self.notices.push_back(notice));
        }
    }

    /// The counters as of now.
    pub fn stats(&mut self) -> CaptureStats {
        let interfaces: Vec<_> = self.interfaces.iter_mut().map(Interface::stats).collect();
        CaptureStats {
            received: interfaces.iter().map(|interface| interface.received).sum(),
            dropped: interfaces.iter().map(|interface| interface.dropped).sum(),
            interfaces,
        }
    }

    /// Asks what there is now, ends the captures of what is gone, and begins those of what has come. Returns the number
    /// of frames that the ended ones still had.
    fn follow_network(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> io::Result<usize> {
        self.read_network()?;
        let mut frames = 0;
        for index in 0..self.interfaces.len() {
            if self.interfaces[index].is_outdated(&self.network) {
                for _ in 0..LAST_DRAINS {
                    let found = self.drain(index, on_frame)?;
                    frames += found;
                    if found < FRAMES_A_TURN {
                        break;
                    }
                }
                // The drain may have found out by itself.
                if self.interfaces[index].is_outdated(&self.network) {
                    self.stop_waiting(index)?;
                    self.interfaces[index].leave(&self.network, &mut |notice| self.notices.push_back(notice));
                }
            }
        }
        self.take_up()?;
        Ok(frames)
    }

    fn read_network(&mut self) -> io::Result<()> {
        let network = match &mut self.network_source {
            NetworkSource::Kernel => Network::read(),
            NetworkSource::Caller(report) => match std::mem::replace(report, NetworkReport::InUse) {
                NetworkReport::Received(network) => Ok(*network),
                other => {
                    *report = other;
                    return Ok(());
                }
            },
        };
        match network {
            Ok(network) => {
                let addresses = network.addresses_of(self.interfaces.iter().map(Interface::name));
                self.addresses_changed |= addresses != self.addresses || network.broadcasts != self.network.broadcasts;
                (self.network, self.addresses) = (network, addresses);
                Ok(())
            }
            // Out of descriptors or memory, which may pass.
            Err(_) => self.try_again(TRY_AGAIN),
        }
    }

    /// Begins to listen wherever that is possible.
    fn take_up(&mut self) -> io::Result<Outlook> {
        self.restart_request = None;
        let mut outlook = Outlook::Settled;
        let waiting = self.interfaces.iter_mut().enumerate().filter(|(_, interface)| interface.fd().is_none());
        for (index, interface) in waiting {
            if matches!(self.network_source, NetworkSource::Caller(_)) && interface.is_up(&self.network) {
                self.restart_request = Some(RestartRequest::add(self.restart_request, interface.has_failed()));
                continue;
            }
            let mut tell = |notice| self.notices.push_back(notice);
            if interface.take_up(&self.network, &self.filter, &mut tell) == Outlook::TryAgain {
                outlook = Outlook::TryAgain;
            }
            if let Some(fd) = interface.fd() {
                self.epoll.add(fd, token(index))?;
                if self.pace.is_resting() {
                    self.epoll.set_enabled(fd, token(index), false)?;
                }
            }
        }
        if outlook == Outlook::TryAgain {
            self.try_again(TRY_AGAIN)?;
        }
        Ok(outlook)
    }

    /// Takes the frames that wait at an interface. Where its capture has failed, it is ended, and tried again later.
    fn drain(&mut self, index: usize, on_frame: &mut dyn FnMut(&Frame<'_>)) -> io::Result<usize> {
        match self.interfaces[index].drain(on_frame) {
            Ok(frames) => Ok(frames),
            // Whether it is the interface that is gone has to be asked first.
            Err(_) if self.network_source.ask_caller() => Ok(0),
            Err(message) => {
                self.stop_waiting(index)?;
                self.read_network()?;
                let mut tell = |notice| self.notices.push_back(notice);
                match self.interfaces[index].fail(&self.network, message, &mut tell) {
                    Outlook::Settled => self.take_up().map(drop)?,
                    Outlook::TryAgain => self.try_again(TRY_AGAIN)?,
                }
                Ok(0)
            }
        }
    }

    /// Has the descriptor become readable after this time, or before where that was due already.
    fn try_again(&mut self, after: Duration) -> io::Result<()> {
        if !self.again.is_armed() {
            self.again.arm(Some(after))?;
        }
        Ok(())
    }

    fn stop_waiting(&self, index: usize) -> io::Result<()> {
        self.interfaces[index].fd().map_or(Ok(()), |fd| self.epoll.remove(fd))
    }

    fn set_waiting(&self, enabled: bool) -> io::Result<()> {
        for (index, interface) in self.interfaces.iter().enumerate() {
            if let Some(fd) = interface.fd() {
                self.epoll.set_enabled(fd, token(index), enabled)?;
            }
        }
        Ok(())
    }

    /// Looks for packets that were dropped, at most once in a while unless the line is `calm`, and tells of them.
    fn look_for_drops(&mut self, start: Instant, calm: bool) -> io::Result<()> {
        let is_over = |last: Option<Instant>| last.is_none_or(|last| start.saturating_duration_since(last) >= DROPS);
        if !calm && !is_over(self.drops_looked_for) {
            return Ok(());
        }
        self.drops_looked_for = Some(start);
        let untold: u64 = self.interfaces.iter_mut().map(Interface::count_drops).sum();
        if untold == 0 {
            return Ok(());
        }
        if !is_over(self.drops_told) {
            // Nobody may come by later, so make sure of it.
            return self.try_again(DROPS);
        }
        self.drops_told = Some(start);
        for interface in &mut self.interfaces {
            interface.tell_drops(&mut |notice| self.notices.push_back(notice));
        }
        Ok(())
    }
}

impl AsFd for CaptureSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn token(interface: usize) -> u64 {
    INTERFACES + interface as u64
}

/// The names without repetitions.
fn names_of(interfaces: &[String]) -> Result<Vec<&String>, CaptureError> {
    let mut names: Vec<&String> = Vec::new();
    for name in interfaces {
        let is_name = |c: char| c != '/' && !c.is_whitespace() && !c.is_control();
        if !(1..=15).contains(&name.len()) || !name.chars().all(is_name) {
            return Err(CaptureError::BadName { interface: name.clone() });
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if let Some(any) = names.iter().find(|name| **name == ANY) {
        names = vec![any];
    }
    Ok(names)
}

fn check_capture() -> Result<(), CaptureError> {
    packet::may_capture().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => CaptureError::NotAllowed,
        _ => CaptureError::from_io("cannot capture packets", error),
    })
}
