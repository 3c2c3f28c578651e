//! One interface: its capture, or the reason why there is none.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use pcap::{Active, Capture, Direction, Precision};

use super::frame::Frame;
use super::missing;
use super::names::ANY;
use super::notice::{Absence, CaptureNotice, InterfaceStats};
use crate::decode::{LinkType, cooked_origin};
use crate::filter::{PortFilter, Program, SnapLengths};
use crate::packet::CaptureOrigin;
use crate::sys::netlink::{InterfaceState, Network};
use crate::sys::{bpf, packet};
use crate::time::Timestamp;

/// Size of a capture's ring, in bytes: about eighteen thousand packets. That is five thousand whole
/// sequences at the same time, while the commands of the first ones use the processors.
const BUFFER_BYTES: i32 = 4 << 20;
/// Size of the ring of a capture of long packets, in bytes: about six hundred packets.
const LONG_BUFFER_BYTES: i32 = 1 << 20;
/// Maximum number of frames read from an interface in one turn, so that a flooded interface leaves
/// time for the others.
pub(super) const MAX_FRAMES_PER_TURN: usize = 4096;
/// Time after which a capture counts as stable. A capture that fails sooner is not restarted
/// immediately.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// The libpcap number of [`LinkType::LinuxSll2`].
const LINUX_SLL2: i32 = 276;
/// Maximum length of a filter that the kernel accepts, in instructions (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// An interface that is captured or waited for.
#[derive(Debug)]
pub(super) struct Interface {
    name: String,
    state: State,
    /// The reason in the last notice that it is not captured, so that no notice is repeated.
    reported: Option<Absence>,
    /// `None` if the filter was exact when it was last attached, otherwise true if the kernel accepted
    /// a coarse one.
    reported_coarse: Option<bool>,
    received: u64,
    dropped: u64,
    /// Number of dropped packets that notices have reported.
    reported_dropped: u64,
}

enum State {
    Waiting,
    Listening(Listener),
}

struct Listener {
    /// The capture of knocks and of packets of portknock's own format.
    knocks: Socket,
    /// The capture of long packets, if a door needs it.
    long: Option<Socket>,
    /// The interface; its index is 0 for `any`.
    origin: CaptureOrigin,
    since: Instant,
}

/// A capture.
struct Socket {
    capture: Capture<Active>,
    link_type: LinkType,
    /// The kernel's number of dropped packets when it was last read; it wraps around.
    dropped: u32,
}

/// When to check an interface next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// When the network changes.
    Settled,
    /// After a delay: the capture failed, although the interface is up.
    Retry,
}

impl Interface {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            state: State::Waiting,
            reported: None,
            reported_coarse: None,
            received: 0,
            dropped: 0,
            reported_dropped: 0,
        }
    }

    /// Returns true if it stands for all interfaces.
    pub(super) fn is_any(&self) -> bool {
        self.name == ANY
    }

    /// Returns true if it is not captured because its capture failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.reported, Some(Absence::Failed(_)))
    }

    /// Returns true while it is captured.
    pub(super) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    /// Returns the descriptors to wait for, while it is captured.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listener = match &self.state {
            State::Listening(listener) => Some(listener),
            State::Waiting => None,
        };
        listener.into_iter().flat_map(Listener::sockets).map(|socket| socket.capture.as_fd())
    }

    /// Returns true if there is a capture, and its interface is down, gone, or no longer the one
    /// with this name.
    pub(super) fn is_outdated(&self, network: &Network) -> bool {
        match (&self.state, self.link(network)) {
            (State::Listening(listener), Some(link)) => !link.up || link.index != listener.origin.interface,
            (State::Listening(_), None) => true,
            (State::Waiting, _) => false,
        }
    }

    /// Ends an outdated capture and notifies of it.
    pub(super) fn leave(&mut self, network: &Network, notify: &mut dyn FnMut(CaptureNotice)) {
        let absence = match self.link(network) {
            None => Absence::Missing { near: missing::near(&self.name, network) },
            Some(InterfaceState { up: false, .. }) => Absence::Down,
            Some(_) => Absence::Replaced,
        };
        self.lose(absence, notify);
    }

    /// Ends a capture that failed with this message. The caller can start another one immediately,
    /// because captures may fail when an interface goes down and up; but only after a delay if the
    /// capture failed as soon as it had begun.
    pub(super) fn fail(
        &mut self,
        network: &Network,
        message: String,
        notify: &mut dyn FnMut(CaptureNotice),
    ) -> Outlook {
        let was_stable = matches!(&self.state, State::Listening(listener) if listener.since.elapsed() >= STABLE_AFTER);
        if self.is_outdated(network) {
            self.leave(network, notify);
        } else {
            self.lose(Absence::Failed(message), notify);
        }
        if was_stable { Outlook::Settled } else { Outlook::Retry }
    }

    fn lose(&mut self, absence: Absence, notify: &mut dyn FnMut(CaptureNotice)) {
        self.count_drops();
        self.state = State::Waiting;
        notify(CaptureNotice::Lost { interface: self.name.clone(), reason: absence.clone() });
        self.reported = Some(absence);
    }

    /// Starts a capture if that is possible, and notifies of the result if it is new.
    pub(super) fn listen(
        &mut self,
        network: &Network,
        filter: &PortFilter,
        notify: &mut dyn FnMut(CaptureNotice),
    ) -> Outlook {
        let absence = match self.link(network) {
            None => Absence::Missing { near: missing::near(&self.name, network) },
            Some(InterfaceState { up: false, .. }) => Absence::Down,
            Some(link) => match Listener::open(network.device(&self.name).unwrap_or(&self.name), link, filter) {
                Ok(listener) => {
                    self.state = State::Listening(listener);
                    self.reported = None;
                    self.set_filter(filter, notify);
                    notify(CaptureNotice::Listening { interface: self.name.clone() });
                    return Outlook::Settled;
                }
                Err(message) => Absence::Failed(message),
            },
        };
        let outlook = if matches!(absence, Absence::Failed(_)) { Outlook::Retry } else { Outlook::Settled };
        if self.reported.as_ref() != Some(&absence) {
            notify(CaptureNotice::Waiting { interface: self.name.clone(), reason: absence.clone() });
            self.reported = Some(absence);
        }
        outlook
    }

    /// Returns true if the interface exists and is up.
    pub(super) fn is_up(&self, network: &Network) -> bool {
        self.link(network).is_some_and(|link| link.up)
    }

    /// Returns the interface of this name as it is now.
    fn link(&self, network: &Network) -> Option<InterfaceState> {
        if self.is_any() {
            return Some(InterfaceState { index: 0, up: true, is_loopback: false });
        }
        network.interfaces.get(network.device(&self.name)?).copied()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Attaches the filter, which the kernel applies to packets that arrive from now on.
    pub(super) fn set_filter(&mut self, filter: &PortFilter, notify: &mut dyn FnMut(CaptureNotice)) {
        let State::Listening(listener) = &self.state else { return };
        let attached = listener.knocks.attach(|link_type, limit| filter.program(link_type, limit));
        let long = listener.long.as_ref().map(|long| long.attach(|link_type, _| filter.long_program(link_type)));
        let coarse = match (attached, long) {
            (Attached::Coarse(instructions), _) => Some(Some(instructions)),
            (Attached::Nothing, _) | (_, Some(Attached::Nothing)) => Some(None),
            (Attached::Exact, _) => None,
        };
        // The length alone is no news: it changes with the live windows of doors.
        let kind = coarse.map(|instructions| instructions.is_some());
        if std::mem::replace(&mut self.reported_coarse, kind) != kind
            && let Some(instructions) = coarse
        {
            notify(CaptureNotice::CoarseFilter { interface: self.name.clone(), instructions });
        }
    }

    /// Passes the waiting frames to `on_frame`, at most [`MAX_FRAMES_PER_TURN`] of each capture, and
    /// returns their number. Fails with libpcap's message.
    pub(super) fn drain(&mut self, on_frame: &mut dyn FnMut(&Frame<'_>)) -> Result<usize, String> {
        let State::Listening(listener) = &mut self.state else { return Ok(0) };
        let (own_origin, is_any) = (listener.origin, self.name == ANY);
        let mut all = 0;
        for (is_long, socket) in [(false, Some(&mut listener.knocks)), (true, listener.long.as_mut())] {
            let Some(Socket { capture, link_type, .. }) = socket else { continue };
            let link_type = *link_type;
            let mut frames = 0;
            let result = capture.dispatch(Some(MAX_FRAMES_PER_TURN), |packet| {
                frames += 1;
                let origin =
                    if is_any { cooked_origin(link_type, packet.data).unwrap_or_default() } else { own_origin };
                let time = timestamp(packet.header.ts);
                on_frame(&Frame { link_type, time, origin, is_long, bytes: packet.data });
            });
            self.received += frames as u64;
            result.map_err(|error| error.to_string())?;
            all += frames;
        }
        Ok(all)
    }

    /// Updates the number of dropped packets. Returns the number that no notice has reported.
    pub(super) fn count_drops(&mut self) -> u64 {
        if let State::Listening(listener) = &mut self.state {
            for socket in [Some(&mut listener.knocks), listener.long.as_mut()].into_iter().flatten() {
                self.dropped += socket.count_drops();
            }
        }
        self.dropped - self.reported_dropped
    }

    /// Notifies of the dropped packets that no notice has reported.
    pub(super) fn report_drops(&mut self, notify: &mut dyn FnMut(CaptureNotice)) {
        let packets = self.dropped - self.reported_dropped;
        if packets > 0 {
            notify(CaptureNotice::Dropped { interface: self.name.clone(), packets });
            self.reported_dropped = self.dropped;
        }
    }

    pub(super) fn stats(&mut self) -> InterfaceStats {
        self.count_drops();
        InterfaceStats {
            interface: self.name.clone(),
            listening: self.is_listening(),
            received: self.received,
            dropped: self.dropped,
        }
    }
}

/// The filter that the kernel accepted.
enum Attached {
    /// The exact filter.
    Exact,
    /// A filter of this many instructions, which passes more packets than the exact one.
    Coarse(usize),
    /// No filter.
    Nothing,
}

impl Listener {
    /// Opens the captures that a filter needs, without the filter. Fails with a message, which includes
    /// a remedy if there is one.
    fn open(name: &str, link: InterfaceState, filter: &PortFilter) -> Result<Self, String> {
        let SnapLengths { knocks, long } = filter.snap_lengths();
        let origin = CaptureOrigin { interface: link.index, is_loopback: link.is_loopback };
        Ok(Self {
            knocks: Socket::open(name, knocks, BUFFER_BYTES)?,
            long: long.map(|long| Socket::open(name, long, LONG_BUFFER_BYTES)).transpose()?,
            origin,
            since: Instant::now(),
        })
    }

    fn sockets(&self) -> impl Iterator<Item = &Socket> {
        [Some(&self.knocks), self.long.as_ref()].into_iter().flatten()
    }
}

impl Socket {
    /// Opens a capture without a filter. Fails with a message, which includes a remedy if there is
    /// one.
    fn open(name: &str, snap_length: i32, buffer_bytes: i32) -> Result<Self, String> {
        let open = || {
            Capture::from_device(name)?
                .promisc(false)
                .snaplen(snap_length)
                .immediate_mode(true)
                .buffer_size(buffer_bytes)
                .precision(Precision::Nano)
                .open()?
                .setnonblock()
        };
        let mut capture = open().map_err(|error: pcap::Error| error.to_string())?;
        packet::close_on_exec(capture.as_fd()).map_err(|error| error.to_string())?;
        if name == ANY {
            // Version 1 of the cooked header does not contain the interface. An old libpcap
            // supports no other.
            let _ = capture.set_datalink(pcap::Linktype(LINUX_SLL2));
        }
        let number = capture.get_datalink().0;
        let link_type = LinkType::from_dlt(number)
            .ok_or_else(|| format!("its frames (link type {number}) cannot be read; listen on `{ANY}` instead"))?;
        // The filter does the same, but packets may arrive before it is attached. Not every link
        // type has a direction.
        let _ = capture.direction(Direction::In);
        let dropped = capture.stats().map_or(0, |stat| stat.dropped);
        Ok(Self { capture, link_type, dropped })
    }

    /// Returns the number of packets that were dropped since the last call.
    fn count_drops(&mut self) -> u64 {
        let Ok(stat) = self.capture.stats() else { return 0 };
        u64::from(stat.dropped.wrapping_sub(std::mem::replace(&mut self.dropped, stat.dropped)))
    }

    /// Attaches the filter, or one that passes more packets if the kernel finds the exact one too
    /// long. `program` returns the filter for a link type and a maximum number of instructions.
    fn attach(&self, program: impl Fn(LinkType, usize) -> Program) -> Attached {
        let socket = self.capture.as_fd();
        let mut limit = MAX_INSTRUCTIONS;
        loop {
            let program = program(self.link_type, limit);
            let length = program.instructions.len();
            // The kernel counts the old filter's memory until the new one replaces it. The matcher
            // checks the packets that arrive between the two.
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

/// Returns the time of a packet whose capture was opened for nanoseconds: libpcap stores them in
/// `tv_usec`.
pub(crate) fn timestamp(time: libc::timeval) -> Timestamp {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_usec).unwrap_or(0);
    Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
