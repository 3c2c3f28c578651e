//! One interface: its capture while it can be listened on, and why not while it cannot.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Direction, Precision};

use super::frame::{ANY, Frame};
use super::missing;
use super::notice::{Absence, CaptureNotice, InterfaceStats};
use crate::decode::{LinkType, cooked_origin};
use crate::filter::PortFilter;
use crate::packet::CaptureOrigin;
use crate::sys::netlink::{InterfaceState, Network};
use crate::sys::{bpf, packet};
use crate::time::Timestamp;

/// Enough for the ports and flags behind two VLAN tags and any usual IP header. A short one lets the ring hold many
/// packets.
const SNAP_LENGTH: i32 = 128;
/// Room for about eighteen thousand packets: five thousand whole sequences at once, while the commands of the first ones take
/// the processors.
const BUFFER_BYTES: i32 = 4 << 20;
/// So many frames of an interface are taken in one turn, so that a flooded one leaves time for the others.
pub(super) const FRAMES_A_TURN: usize = 4096;
/// A capture that fails sooner is not tried again at once.
const SHORT: Duration = Duration::from_secs(1);
/// The libpcap number of [`LinkType::LinuxSll2`].
const LINUX_SLL2: i32 = 276;
/// The longest filter that the kernel takes (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

#[derive(Debug)]
pub(super) struct Interface {
    name: String,
    state: State,
    /// Why the last notice said that it is not listened on, so that no notice is repeated.
    told: Option<Absence>,
    told_coarse: Option<CaptureNotice>,
    received: u64,
    dropped: u64,
    /// How many of the dropped ones notices have told.
    told_dropped: u64,
}

enum State {
    Waiting,
    Listening(Listener),
}

struct Listener {
    capture: Capture<Active>,
    link_type: LinkType,
    /// The interface, 0 for `any`.
    origin: CaptureOrigin,
    since: Instant,
    /// The kernel's count of dropped packets when it was last read; it wraps around.
    dropped: u32,
}

/// When an interface is to be looked after next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// When the network changes.
    Settled,
    /// In a while: it should work, but does not.
    TryAgain,
}

impl Interface {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            state: State::Waiting,
            told: None,
            told_coarse: None,
            received: 0,
            dropped: 0,
            told_dropped: 0,
        }
    }

    /// True where it stands for all interfaces.
    pub(super) fn is_any(&self) -> bool {
        self.name == ANY
    }

    /// True where it is not listened on since its capture failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.told, Some(Absence::Failed(_)))
    }

    /// The descriptor to wait for, while it is listened on.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Listening(listener) => Some(listener.capture.as_fd()),
            State::Waiting => None,
        }
    }

    /// True where the capture is not of the interface as it is now, or of none.
    pub(super) fn is_outdated(&self, network: &Network) -> bool {
        match (&self.state, self.link(network)) {
            (State::Listening(listener), Some(link)) => !link.up || link.index != listener.origin.interface,
            (State::Listening(_), None) => true,
            (State::Waiting, _) => false,
        }
    }

    /// Ends an outdated capture.
    pub(super) fn leave(&mut self, network: &Network, tell: &mut dyn FnMut(CaptureNotice)) {
        let absence = match self.link(network) {
            None => Absence::Missing { near: missing::near(&self.name, network) },
            Some(InterfaceState { up: false, .. }) => Absence::Down,
            Some(_) => Absence::Replaced,
        };
        self.lose(absence, tell);
    }

    /// Ends a capture that failed with this message. It can be taken up again now (when an interface goes down and up,
    /// its captures may fail), but only in a while where it failed as soon as it had begun.
    pub(super) fn fail(&mut self, network: &Network, message: String, tell: &mut dyn FnMut(CaptureNotice)) -> Outlook {
        let held = matches!(&self.state, State::Listening(listener) if listener.since.elapsed() >= SHORT);
        if self.is_outdated(network) {
            self.leave(network, tell);
        } else {
            self.lose(Absence::Failed(message), tell);
        }
        if held { Outlook::Settled } else { Outlook::TryAgain }
    }

    fn lose(&mut self, absence: Absence, tell: &mut dyn FnMut(CaptureNotice)) {
        self.count_drops();
        self.state = State::Waiting;
        tell(CaptureNotice::Lost { interface: self.name.clone(), reason: absence.clone() });
        self.told = Some(absence);
    }

    /// Begins to listen where that is possible.
    pub(super) fn take_up(
        &mut self,
        network: &Network,
        filter: &PortFilter,
        tell: &mut dyn FnMut(CaptureNotice),
    ) -> Outlook {
        let absence = match self.link(network) {
            None => Absence::Missing { near: missing::near(&self.name, network) },
            Some(InterfaceState { up: false, .. }) => Absence::Down,
            Some(link) => match Listener::open(network.device(&self.name).unwrap_or(&self.name), link) {
                Ok(listener) => {
                    self.state = State::Listening(listener);
                    self.told = None;
                    self.set_filter(filter, tell);
                    tell(CaptureNotice::Listening { interface: self.name.clone() });
                    return Outlook::Settled;
                }
                Err(message) => Absence::Failed(message),
            },
        };
        let outlook = if matches!(absence, Absence::Failed(_)) { Outlook::TryAgain } else { Outlook::Settled };
        if self.told.as_ref() != Some(&absence) {
            tell(CaptureNotice::Waiting { interface: self.name.clone(), reason: absence.clone() });
            self.told = Some(absence);
        }
        outlook
    }

    /// True where it can be listened on.
    pub(super) fn is_up(&self, network: &Network) -> bool {
        self.link(network).is_some_and(|link| link.up)
    }

    /// The interface of this name as it is now.
    fn link(&self, network: &Network) -> Option<InterfaceState> {
        if self.is_any() {
            return Some(InterfaceState { index: 0, up: true, is_loopback: false });
        }
        network.interfaces.get(network.device(&self.name)?).copied()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Has the kernel filter the packets that arrive from now on.
    pub(super) fn set_filter(&mut self, filter: &PortFilter, tell: &mut dyn FnMut(CaptureNotice)) {
        let State::Listening(listener) = &self.state else { return };
        let coarse = match listener.attach(filter) {
            Attached::Exact => None,
            Attached::Coarse(instructions) => Some(Some(instructions)),
            Attached::Nothing => Some(None),
        }
        .map(|instructions| CaptureNotice::CoarseFilter { interface: self.name.clone(), instructions });
        if self.told_coarse != coarse {
            self.told_coarse.clone_from(&coarse);
            coarse.map(tell);
        }
    }

    /// Hands on what waits, and how many frames that were: at most [`FRAMES_A_TURN`].
    pub(super) fn drain(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> Result<usize, String> {
        let State::Listening(listener) = &mut self.state else { return Ok(0) };
        let (link_type, origin) = (listener.link_type, listener.origin);
        let is_any = self.name == ANY;
        let mut frames = 0;
        let result = listener.capture.dispatch(Some(FRAMES_A_TURN), |packet| {
            frames += 1;
            let origin = if is_any { cooked_origin(link_type, packet.data).unwrap_or_default() } else { origin };
            on_frame(&Frame { link_type, time: timestamp(packet.header.ts), origin, bytes: packet.data });
        });
        self.received += frames as u64;
        result.map_err(|error| error.to_string()).map(|_| frames)
    }

    /// Brings the count of dropped packets up to date; returns how many of them no notice has told.
    pub(super) fn count_drops(&mut self) -> u64 {
        if let State::Listening(listener) = &mut self.state
            && let Ok(stat) = listener.capture.stats()
        {
            self.dropped += u64::from(stat.dropped.wrapping_sub(listener.dropped));
            listener.dropped = stat.dropped;
        }
        self.dropped - self.told_dropped
    }

    /// The notice of the dropped packets that none has told.
    pub(super) fn tell_drops(&mut self, tell: &mut dyn FnMut(CaptureNotice)) {
        let packets = self.dropped - self.told_dropped;
        if packets > 0 {
            tell(CaptureNotice::Dropped { interface: self.name.clone(), packets });
            self.told_dropped = self.dropped;
        }
    }

    pub(super) fn stats(&mut self) -> InterfaceStats {
        self.count_drops();
        InterfaceStats {
            interface: self.name.clone(),
            listening: self.fd().is_some(),
            received: self.received,
            dropped: self.dropped,
        }
    }
}

enum Attached {
    Exact,
    /// A filter of so many instructions that lets through more than it should.
    Coarse(usize),
    Nothing,
}

impl Listener {
    /// Opens a capture without a filter; the message of an error says what to do where there is something.
    fn open(name: &str, link: InterfaceState) -> Result<Self, String> {
        let open = || {
            Capture::from_device(name)?
                .promisc(false)
                .snaplen(SNAP_LENGTH)
                .immediate_mode(true)
                .buffer_size(BUFFER_BYTES)
                .precision(Precision::Nano)
                .open()?
                .setnonblock()
        };
        let mut capture = open().map_err(|error: pcap::Error| error.to_string())?;
        packet::close_on_exec(capture.as_fd()).map_err(|error| error.to_string())?;
        if name == ANY {
            // The other kind of cooked header does not name the interface. An old libpcap knows no other.
            let _ = capture.set_datalink(pcap::Linktype(LINUX_SLL2));
        }
        let number = capture.get_datalink().0;
        let link_type = LinkType::from_dlt(number)
            .ok_or_else(|| format!("its frames (link type {number}) cannot be read; listen on `{ANY}` instead"))?;
        // The filter says the same, but packets may arrive before it is there. Not every link type can tell.
        let _ = capture.direction(Direction::In);
        let dropped = capture.stats().map_or(0, |stat| stat.dropped);
        let origin = CaptureOrigin { interface: link.index, is_loopback: link.is_loopback };
        Ok(Self { capture, link_type, origin, since: Instant::now(), dropped })
    }

    /// Attaches the filter, or one that lets more through where the kernel finds it too long.
    fn attach(&self, filter: &PortFilter) -> Attached {
        let socket = self.capture.as_fd();
        let mut limit = MAX_INSTRUCTIONS;
        loop {
            let program = filter.program(self.link_type, limit);
            let length = program.instructions.len();
            // The kernel counts the old filter's memory until the new one is in its place. What slips through between
            // the two is asked about again by the matcher.
            let attached =
                bpf::detach_filter(socket).and_then(|()| bpf::attach_filter(socket, &program.instructions)).is_ok();
            if attached {
                return if program.exact { Attached::Exact } else { Attached::Coarse(length) };
            }
            if length > limit {
                return Attached::Nothing;
            }
            limit = length / 2;
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Listening(_) => "Listening",
        })
    }
}

/// The time of a packet whose capture was opened for nanoseconds: libpcap puts them where microseconds usually are.
pub(crate) fn timestamp(time: libc::timeval) -> Timestamp {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_usec).unwrap_or(0);
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
