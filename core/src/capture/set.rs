//! A set of captures with one descriptor to wait for.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::coalescer::{Change, Coalescer};
use super::error::CaptureError;
use super::frame::Frame;
use super::interface::{Interface, MAX_FRAMES_PER_TURN, Outlook};
use super::names::names_of;
use super::notice::{CaptureNotice, CaptureStats};
use super::state::{FullPoll, NetworkReport, NetworkSource, Readiness, RestartRequest};
use crate::filter::PortFilter;
use crate::sys::epoll::Epoll;
use crate::sys::netlink::{Network, NetworkWatch};
use crate::sys::packet;
use crate::sys::timer::TimerFd;

/// Tokens of the descriptors that the set waits for. The interfaces' tokens follow from
/// `INTERFACES` on, in their order.
const NETWORK: u64 = 0;
const COALESCER: u64 = 1;
const RETRY: u64 = 2;
const OTHER: u64 = 3;
const INTERFACES: u64 = 4;

/// Maximum number of times that a capture is drained before it ends: enough for a full buffer, and
/// bounded if an interface that got another name still receives packets.
const MAX_FINAL_DRAINS: usize = 8;
/// Maximum number of consecutive turns that follow changes of the network and read no frames, so
/// that frames are read even if the network never stops changing.
const MAX_FOLLOWING_TURNS: u32 = 2;
/// Delay before an operation that failed is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Minimum time between two notices about dropped packets, and between two checks for them.
const DROP_INTERVAL: Duration = Duration::from_secs(1);

/// Captures on several interfaces, or on all (`any`). It follows interfaces and addresses that come
/// and go: no change of an interface ends the set.
///
/// Wait until its descriptor is readable, then call [`CaptureSet::turn`], and poll the notices. The
/// descriptor is not readable while no packet arrives. It is readable immediately after a single
/// packet, and once in a millisecond while many packets arrive.
#[derive(Debug)]
pub struct CaptureSet {
    epoll: Epoll,
    watch: NetworkWatch,
    coalescer: Coalescer,
    /// Expires when a failed operation is to be tried again, or dropped packets are to be reported.
    retry_timer: TimerFd,
    network: Network,
    /// The destination addresses of packets that count.
    addresses: HashSet<IpAddr>,
    network_source: NetworkSource,
    /// Number of consecutive turns, up to the last one, that followed changes of the network and
    /// read no frames.
    following_turns: u32,
    restart_request: Option<RestartRequest>,
    full_poll: FullPoll,
    addresses_changed: bool,
    interfaces: Vec<Interface>,
    filter: PortFilter,
    notices: VecDeque<CaptureNotice>,
    drops_checked: Option<Instant>,
    drops_reported: Option<Instant>,
    /// Tokens of the descriptors that were readable at the last wait.
    tokens: Vec<u64>,
    readiness: Readiness,
}

impl CaptureSet {
    /// Checks whether [`CaptureSet::open`] can succeed in a process with the privileges of this
    /// one.
    ///
    /// # Errors
    /// As for [`CaptureSet::open`].
    pub(crate) fn check(interfaces: &[String]) -> Result<(), CaptureError> {
        names_of(interfaces)?;
        check_capture()
    }

    /// Starts to capture the packets that `filter` passes on the interfaces. The set waits for
    /// interfaces that do not exist or are down. If `any` is among the names, the set ignores the
    /// other names.
    ///
    /// # Errors
    /// Fails without the capability CAP_NET_RAW, without free descriptors, and for names that no
    /// interface can have.
    pub fn open(interfaces: &[String], filter: PortFilter) -> Result<Self, CaptureError> {
        let names = names_of(interfaces)?;
        check_capture()?;
        let system = |what| move |error| CaptureError::from_io(what, error);
        // Watching starts before reading, so that no change falls between the two.
        let watch = NetworkWatch::new().map_err(system("cannot watch for changes of the network"))?;
        let network = Network::read().map_err(system("cannot list the network's interfaces"))?;
        let mut set = Self {
            epoll: Epoll::new().map_err(system("cannot wait for packets"))?,
            coalescer: Coalescer::new().map_err(system("cannot make a timer"))?,
            retry_timer: TimerFd::new().map_err(system("cannot make a timer"))?,
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
            drops_checked: None,
            drops_reported: None,
            tokens: Vec::new(),
            readiness: Readiness::Unknown,
        };
        let fds = [
            (Some(set.watch.as_fd()), NETWORK),
            (set.coalescer.fd(), COALESCER),
            (Some(set.retry_timer.as_fd()), RETRY),
        ];
        for (fd, token) in fds.into_iter().filter_map(|(fd, token)| Some((fd?, token))) {
            set.epoll.add(fd, token).map_err(system("cannot wait for packets"))?;
        }
        if set.listen().map_err(system("cannot wait for packets"))? == Outlook::Retry {
            // Waiting does not repair every failure.
            check_capture()?;
        }
        Ok(set)
    }

    /// Stops using the kernel for anything except reading packets, because the process gives up its
    /// privileges. From now on the set requests what it needs through
    /// [`CaptureSet::take_network_request`] and [`CaptureSet::take_restart_request`].
    pub(crate) fn enter_sandbox(&mut self) {
        self.network_source = NetworkSource::Caller(NetworkReport::NotNeeded);
    }

    /// Makes [`CaptureSet::wait`] wait for this descriptor as well. The caller must use `wait` from
    /// now on and not wait for the set's own descriptor, which would need two more system calls per
    /// turn.
    pub(crate) fn wait_also_for(&mut self, other: BorrowedFd<'_>) -> io::Result<()> {
        self.coalescer.drop_timer();
        self.epoll.add(other, OTHER)
    }

    /// Waits until a turn is due or the other descriptor is readable, at most for `timeout`
    /// (`None`: without limit). Returns true if the other descriptor is readable.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.into_iter().chain(self.coalescer.delay_left()).min();
        self.epoll.wait(&mut self.tokens, timeout)?;
        let is_other = self.tokens.contains(&OTHER);
        // The caller handles the other descriptor first, which may take time. The turn then polls
        // again.
        let has_polled = !is_other && (self.coalescer.is_coalescing() || !self.tokens.is_empty());
        self.readiness = if has_polled { Readiness::Polled } else { Readiness::Unknown };
        Ok(is_other)
    }

    /// Returns true once after the network has changed: the caller must pass its state to
    /// [`CaptureSet::set_network`]. Until then the set reads no frames.
    pub(crate) fn take_network_request(&mut self) -> bool {
        let is_requested = self.needs_network();
        if is_requested {
            self.network_source = NetworkSource::Caller(NetworkReport::NotNeeded);
        }
        is_requested
    }

    /// Returns true if [`CaptureSet::take_network_request`] would return true.
    pub(crate) fn needs_network(&self) -> bool {
        matches!(self.network_source, NetworkSource::Caller(NetworkReport::Requested))
    }

    /// Requests the state of the network again after a delay.
    pub(crate) fn retry_network(&mut self) -> io::Result<()> {
        self.schedule_retry(RETRY_DELAY)
    }

    /// Passes the state of the network, which the next turn uses.
    pub(crate) fn set_network(&mut self, network: Network) {
        if let NetworkSource::Caller(report) = &mut self.network_source {
            *report = NetworkReport::Received(Box::new(network));
        }
    }

    /// Returns a request, once, if an interface is up that only a new set can listen on.
    pub(crate) fn take_restart_request(&mut self) -> Option<RestartRequest> {
        self.restart_request.take()
    }

    /// Makes the next turn poll every capture, whether its descriptor is readable or not.
    pub(crate) fn poll_all(&mut self) {
        self.full_poll = FullPoll::Requested;
    }

    /// Returns, once after the turn that [`CaptureSet::poll_all`] requested, the number of captures
    /// that were polled without an error.
    pub(crate) fn take_polled(&mut self) -> Option<usize> {
        let FullPoll::Done(count) = self.full_poll else { return None };
        self.full_poll = FullPoll::Idle;
        Some(count)
    }

    /// Does the work that is due, passes each captured frame to `on_frame`, and returns the number
    /// of frames. Frames of one interface come in the order of their arrival, with the time of
    /// their arrival by the wall clock.
    ///
    /// Changes of the network come first, so that the set reports a new address before a frame for
    /// that address. If the changes do not stop, the set reads frames between them. A turn reads at
    /// most 4,096 frames of a capture; the descriptor stays readable while more frames wait.
    /// Never waits.
    ///
    /// # Errors
    /// Fails only if the kernel refuses to poll descriptors or to list the network's interfaces.
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
        // A descriptor that is not acknowledged stays readable for the next turn.
        let may_follow = self.following_turns < MAX_FOLLOWING_TURNS;
        let again = may_follow && tokens.contains(&RETRY) && self.retry_timer.acknowledge();
        let changed = may_follow && tokens.contains(&NETWORK) && self.watch.acknowledge()?;
        self.network_source.begin_turn(changed);
        if (changed || again) && self.network_source.ask_caller() {
            self.following_turns += 1;
            return Ok(0);
        }
        let again = again || self.network_source.has_report();
        if changed || again {
            let unreported = std::mem::take(&mut self.addresses_changed);
            frames += self.follow_network(on_frame)?;
            let changed = self.addresses_changed;
            self.addresses_changed |= unreported;
            if changed {
                // The caller must receive the addresses before the frames for them.
                self.following_turns += 1;
                return Ok(frames);
            }
        }
        self.following_turns = 0;
        let mut more = false;
        for index in 0..self.interfaces.len() {
            if self.coalescer.is_coalescing() || self.full_poll == FullPoll::Requested || tokens.contains(&token(index))
            {
                let found = self.drain(index, on_frame)?;
                more |= found >= MAX_FRAMES_PER_TURN;
                frames += found;
            }
        }
        if self.full_poll == FullPoll::Requested {
            let polled = self.interfaces.iter().filter(|interface| interface.is_listening());
            self.full_poll = FullPoll::Done(polled.count());
        }
        self.tokens = tokens;
        let change = self.coalescer.record_turn(start, frames, more)?;
        if change != Change::None {
            self.set_waiting(change == Change::End)?;
        }
        // The end of coalescing may be the end of a flood.
        let calm = again || change == Change::End;
        if frames > 0 || calm {
            self.report_drops(start, calm)?;
        }
        if readiness == Readiness::Polled && frames == 0 {
            // Only a poll that this turn makes itself can find that nothing waits.
            return self.try_turn(on_frame);
        }
        Ok(frames)
    }

    /// Returns the next notice for a log. Call until `None` after [`CaptureSet::open`],
    /// [`CaptureSet::turn`] and [`CaptureSet::set_filter`].
    pub fn poll_notice(&mut self) -> Option<CaptureNotice> {
        self.notices.pop_front()
    }

    /// Returns the destination addresses of packets that count, as of the last turn: all addresses
    /// of this machine, or if all interfaces are named by labels, as in `eth0:0`, the addresses
    /// with these labels.
    pub fn local_addresses(&self) -> &HashSet<IpAddr> {
        &self.addresses
    }

    /// Returns the broadcast addresses of the machine's networks, as of the last turn.
    pub(crate) fn broadcast_addresses(&self) -> &HashSet<IpAddr> {
        &self.network.broadcasts
    }

    /// Returns true if several interfaces may capture the same packet.
    pub(crate) fn may_repeat_packets(&self) -> bool {
        self.interfaces.len() > 1 || self.interfaces.iter().any(Interface::is_any)
    }

    /// Returns true if there are captures of long packets.
    pub(crate) fn has_long(&self) -> bool {
        self.filter.snap_lengths().long.is_some()
    }

    /// Returns true once after the addresses have changed, and once after [`CaptureSet::open`].
    pub fn take_address_change(&mut self) -> bool {
        std::mem::take(&mut self.addresses_changed)
    }

    /// Replaces the filter. Packets that passed the old filter may still come.
    pub fn set_filter(&mut self, filter: PortFilter) {
        self.filter = filter;
        // Replacing the filters of many captures takes time, in which the network may change.
        self.readiness = Readiness::Unknown;
        for interface in &mut self.interfaces {
            interface.set_filter(&self.filter, &mut |notice| self.notices.push_back(notice));
        }
    }

    /// Reads the counters from the kernel and returns them.
    pub fn stats(&mut self) -> CaptureStats {
        let interfaces: Vec<_> = self.interfaces.iter_mut().map(Interface::stats).collect();
        CaptureStats {
            received: interfaces.iter().map(|interface| interface.received).sum(),
            dropped: interfaces.iter().map(|interface| interface.dropped).sum(),
            interfaces,
        }
    }

    /// Reads the state of the network, ends the captures of interfaces that are gone, and starts
    /// those of new interfaces. Returns the number of frames that were still in the buffers of the
    /// ended captures.
    fn follow_network(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> io::Result<usize> {
        self.read_network()?;
        let mut frames = 0;
        for index in 0..self.interfaces.len() {
            if self.interfaces[index].is_outdated(&self.network) {
                for _ in 0..MAX_FINAL_DRAINS {
                    let found = self.drain(index, on_frame)?;
                    frames += found;
                    if found < MAX_FRAMES_PER_TURN {
                        break;
                    }
                }
                // The drain may have ended the capture.
                if self.interfaces[index].is_outdated(&self.network) {
                    self.stop_waiting(index)?;
                    self.interfaces[index].leave(&self.network, &mut |notice| self.notices.push_back(notice));
                }
            }
        }
        self.listen()?;
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
            // A lack of descriptors or memory may pass.
            Err(_) => self.schedule_retry(RETRY_DELAY),
        }
    }

    /// Starts a capture on each interface that has none, if that is possible.
    fn listen(&mut self) -> io::Result<Outlook> {
        self.restart_request = None;
        let mut outlook = Outlook::Settled;
        let waiting = self.interfaces.iter_mut().enumerate().filter(|(_, interface)| !interface.is_listening());
        for (index, interface) in waiting {
            if matches!(self.network_source, NetworkSource::Caller(_)) && interface.is_up(&self.network) {
                self.restart_request = Some(RestartRequest::add(self.restart_request, interface.has_failed()));
                continue;
            }
            let mut notify = |notice| self.notices.push_back(notice);
            if interface.listen(&self.network, &self.filter, &mut notify) == Outlook::Retry {
                outlook = Outlook::Retry;
            }
            for fd in interface.fds() {
                self.epoll.add(fd, token(index))?;
                if self.coalescer.is_coalescing() {
                    self.epoll.set_enabled(fd, token(index), false)?;
                }
            }
        }
        if outlook == Outlook::Retry {
            self.schedule_retry(RETRY_DELAY)?;
        }
        Ok(outlook)
    }

    /// Reads the frames that wait at an interface. If its capture has failed, ends it and starts it
    /// again later.
    fn drain(&mut self, index: usize, on_frame: &mut dyn FnMut(&Frame<'_>)) -> io::Result<usize> {
        match self.interfaces[index].drain(on_frame) {
            Ok(frames) => Ok(frames),
            // The set first needs the state of the network, because the interface may be gone.
            Err(_) if self.network_source.ask_caller() => Ok(0),
            Err(message) => {
                self.stop_waiting(index)?;
                self.read_network()?;
                let mut notify = |notice| self.notices.push_back(notice);
                match self.interfaces[index].fail(&self.network, message, &mut notify) {
                    Outlook::Settled => self.listen().map(drop)?,
                    Outlook::Retry => self.schedule_retry(RETRY_DELAY)?,
                }
                Ok(0)
            }
        }
    }

    /// Makes the descriptor readable after this time, or earlier if a retry is due already.
    fn schedule_retry(&mut self, after: Duration) -> io::Result<()> {
        if !self.retry_timer.is_armed() {
            self.retry_timer.arm(Some(after))?;
        }
        Ok(())
    }

    /// Removes the interface's descriptor from those that the set waits for.
    fn stop_waiting(&self, index: usize) -> io::Result<()> {
        self.interfaces[index].fds().try_for_each(|fd| self.epoll.remove(fd))
    }

    /// Waits for the captures' descriptors, or does not.
    fn set_waiting(&self, enabled: bool) -> io::Result<()> {
        for (index, interface) in self.interfaces.iter().enumerate() {
            for fd in interface.fds() {
                self.epoll.set_enabled(fd, token(index), enabled)?;
            }
        }
        Ok(())
    }

    /// Checks for dropped packets and reports them, at most once in [`DROP_INTERVAL`]. The limit on
    /// checks does not apply if few packets arrive (`calm`).
    fn report_drops(&mut self, start: Instant, calm: bool) -> io::Result<()> {
        let is_over =
            |last: Option<Instant>| last.is_none_or(|last| start.saturating_duration_since(last) >= DROP_INTERVAL);
        if !calm && !is_over(self.drops_checked) {
            return Ok(());
        }
        self.drops_checked = Some(start);
        let unreported: u64 = self.interfaces.iter_mut().map(Interface::count_drops).sum();
        if unreported == 0 {
            return Ok(());
        }
        if !is_over(self.drops_reported) {
            // No packet may wake the set later, so the timer must.
            return self.schedule_retry(DROP_INTERVAL);
        }
        self.drops_reported = Some(start);
        for interface in &mut self.interfaces {
            interface.report_drops(&mut |notice| self.notices.push_back(notice));
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

/// Fails if this process cannot capture packets.
fn check_capture() -> Result<(), CaptureError> {
    packet::may_capture().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => CaptureError::NotAllowed,
        _ => CaptureError::from_io("cannot capture packets", error),
    })
}
