//! What the daemon and its reader tell each other.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capture::{Absence, CaptureNotice};
use crate::clock::Clock;
use crate::config::{Config, DoorId, Sequence, Step};
use crate::decode::Knock;
use crate::engine::EngineStats;
use crate::event::{Event, EventKind, FailReason};
use crate::log_limit::Counted;
use crate::matcher::SavedAttempt;
use crate::packet::{Protocol, TcpFlags};
use crate::sys::netlink::Network;
use crate::time::Timestamp;

/// What the daemon says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToReader {
    /// The first message: what to do.
    Start(Start),
    /// Attempts that the reader before this one had under way.
    Attempts(Vec<SavedAttempt>),
    /// Read on: what was stamped up to this time, another reader has read.
    Begin { after: u64 },
    /// Other doors; answered by [`FromReader::Reloaded`].
    Reload(Doors),
    /// A one-time door's next sequence.
    Sequence { door: u16, sequence: Option<WireSequence> },
    /// The answer to [`FromReader::AskNetwork`]; `None` where the kernel did not tell.
    Network(Option<Network>),
    /// Say [`FromReader::CaughtUp`] when everything is read that came up to now.
    CatchUp,
    /// Say [`FromReader::Counts`].
    Count,
    /// Give the attempts away, in [`FromReader::Attempts`], and end with [`FromReader::HandedOver`].
    HandOver,
}

/// What the reader says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromReader {
    /// The answer to [`ToReader::Start`]: it listens and has given up its rights, but for these.
    Ready { kept: Vec<String> },
    /// It cannot go on.
    Failed(String),
    /// Something happened at a door.
    DoorEvent(DoorEvent),
    /// A packet that matters.
    Knock(WireKnock),
    /// Something happened to the capture of an interface.
    Capture(WireNotice),
    /// The answer to [`ToReader::CatchUp`]: nothing that came up to this time is missing.
    CaughtUp { time: u64 },
    /// The doors of [`ToReader::Reload`] are in use.
    Reloaded,
    /// The network changed: how is it now?
    AskNetwork,
    /// There is an interface to listen on, which only another reader can begin; `failed`: as this one tried to.
    AskRestart { failed: bool },
    /// Everything counted so far.
    Counts(Counts),
    /// Attempts under way.
    Attempts(Vec<SavedAttempt>),
    /// The last message: everything up to this stamp is read and told.
    HandedOver { last: u64, counts: Counts },
    /// The reader works: it has just polled this many captures without an error. Sent if it has sent nothing else for
    /// [`ALIVE_INTERVAL`].
    Alive { captures: u16 },
    /// Numbers of events up to this time that were not reported one by one.
    Suppressed { time: u64, counted: Counted },
}

/// Longest time for which a reader sends nothing.
pub(super) const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum size of a message from the daemon, in bytes. A configuration has at most 16 MiB.
pub(super) const MAX_DAEMON_MESSAGE: usize = 32 << 20;
/// Maximum size of a message from the reader, in bytes.
pub(super) const MAX_READER_MESSAGE: usize = 64 << 10;
/// Maximum number of packets a second, and at one time, that a reader reports for the log of `--debug`.
pub(super) const MAX_KNOCK_RATE: u32 = 100_000;
/// Maximum length of a text in a message from the reader, in characters.
pub(super) const MAX_TEXT_CHARS: usize = 200;
/// Number of attempts in one message. An attempt takes at most 830 bytes.
pub(super) const ATTEMPTS_PER_MESSAGE: usize = 64;

/// The beginning of a text, as long as a message may contain.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// A [`CaptureNotice`]; the interface is an index into [`Start::interfaces`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireNotice {
    pub(super) interface: u16,
    pub(super) kind: WireNoticeKind,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireNoticeKind {
    Listening,
    Waiting(WireAbsence),
    Lost(WireAbsence),
    Dropped { packets: u64 },
    CoarseFilter { instructions: Option<u16> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireAbsence {
    Missing {
        near: Option<String>,
    },
    Down,
    Replaced,
    /// The message of the system or of libpcap.
    Failed(String),
}

impl WireNotice {
    /// Returns `None` if the notice is about another interface.
    pub(super) fn of(notice: &CaptureNotice, interfaces: &[String]) -> Option<Self> {
        let interface = interfaces.iter().position(|name| name == notice.interface())?;
        let kind = match notice {
            CaptureNotice::Listening { .. } => WireNoticeKind::Listening,
            CaptureNotice::Waiting { reason, .. } => WireNoticeKind::Waiting(reason.into()),
            CaptureNotice::Lost { reason, .. } => WireNoticeKind::Lost(reason.into()),
            CaptureNotice::Dropped { packets, .. } => WireNoticeKind::Dropped { packets: *packets },
            CaptureNotice::CoarseFilter { instructions, .. } => WireNoticeKind::CoarseFilter {
                instructions: instructions.map(|count| u16::try_from(count).unwrap_or(u16::MAX)),
            },
        };
        Some(Self { interface: u16::try_from(interface).ok()?, kind })
    }
}

impl From<&Absence> for WireAbsence {
    fn from(absence: &Absence) -> Self {
        match absence {
            Absence::Missing { near } => Self::Missing { near: near.as_deref().map(cut) },
            Absence::Down => Self::Down,
            Absence::Replaced => Self::Replaced,
            Absence::Failed(message) => Self::Failed(cut(message)),
        }
    }
}

/// What a reader begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(super) doors: Doors,
    pub(super) interfaces: Vec<String>,
    /// Chooses the ports that the filter passes for the scan guard.
    pub(super) secret: u32,
    /// The zero of the service's clock.
    pub(super) clock: u64,
    pub(super) options: ReaderOptions,
}

/// How a reader differs from what the configuration says.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReaderOptions {
    /// Ignore IPv6 packets.
    pub(crate) ipv4_only: bool,
    /// Report each packet that matters.
    pub(crate) report_knocks: bool,
}

impl Start {
    pub(crate) fn new(
        config: &Config,
        interfaces: Vec<String>,
        secret: u32,
        clock: Clock,
        options: ReaderOptions,
    ) -> Self {
        Self { doors: Doors::of(config), interfaces, secret, clock: clock.zero().as_nanos(), options }
    }
}

/// The doors as text, and what the text leaves out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Doors {
    text: String,
    one_time: Vec<(u16, Option<WireSequence>)>,
}

impl Doors {
    pub(super) fn of(config: &Config) -> Self {
        let numbered = (0..=u16::MAX).zip(&config.doors);
        let one_time = numbered.filter(|(_, door)| door.one_time_sequences.is_some());
        Self {
            text: config.to_string(),
            one_time: one_time.map(|(id, door)| (id, door.sequence.as_ref().map(WireSequence::of))).collect(),
        }
    }

    pub(super) fn config(self) -> Result<Config, String> {
        let parsed = crate::config::parse(self.text.as_bytes());
        let Some(mut config) = parsed.config else {
            return Err(format!(
                "the configuration cannot be passed on:\n{}",
                parsed.report.render("", self.text.as_bytes())
            ));
        };
        for (id, sequence) in self.one_time {
            if let Some(door) = config.doors.get_mut(usize::from(id)) {
                door.sequence = sequence.and_then(WireSequence::sequence);
            }
        }
        Ok(config)
    }
}

/// A sequence: each step's port, and whether it is UDP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireSequence(Vec<(NonZeroU16, bool)>);

impl WireSequence {
    pub(super) fn of(sequence: &Sequence) -> Self {
        Self(sequence.steps().iter().map(|step| (step.port, step.protocol == Protocol::Udp)).collect())
    }

    pub(super) fn sequence(self) -> Option<Sequence> {
        let protocol = |udp| if udp { Protocol::Udp } else { Protocol::Tcp };
        let steps = self.0.into_iter().map(|(port, udp)| Step { port, protocol: protocol(udp) });
        Sequence::new(steps.collect::<Vec<_>>()).ok()
    }
}

/// What happened at a door: its number, the address, and nothing that anybody sent. All but [`DoorEventKind::Complete`] has the number
/// of the first door of that name.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct DoorEvent {
    pub(super) time: u64,
    pub(super) door: u16,
    pub(super) ip: IpAddr,
    pub(super) kind: DoorEventKind,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum DoorEventKind {
    Stage { stage: u8, steps: u8 },
    Complete,
    Timeout { stage: u8 },
    WrongPort { stage: u8 },
    Scan { stage: u8 },
    Full { stage: u8 },
    Reload { stage: u8 },
}

impl DoorEvent {
    /// The event of an engine that only tells; `door` is the place of the first door of that name. `None` for what such
    /// an engine never says.
    pub(super) fn of(event: &Event, door: u16) -> Option<Self> {
        let kind = match event.kind {
            EventKind::Stage { stage, steps } => DoorEventKind::Stage { stage, steps },
            EventKind::Open { .. } => DoorEventKind::Complete,
            EventKind::Timeout { stage } => DoorEventKind::Timeout { stage },
            EventKind::Fail { stage, reason: FailReason::WrongPort } => DoorEventKind::WrongPort { stage },
            EventKind::Fail { stage, reason: FailReason::Scan } => DoorEventKind::Scan { stage },
            EventKind::Fail { stage, reason: FailReason::Full } => DoorEventKind::Full { stage },
            EventKind::Fail { stage, reason: FailReason::Reload } => DoorEventKind::Reload { stage },
            EventKind::Extend { .. }
            | EventKind::Close { .. }
            | EventKind::Fail { reason: FailReason::Command, .. } => return None,
        };
        Some(Self { time: event.time.as_nanos(), door, ip: event.ip, kind })
    }

    pub(super) fn event_kind(&self) -> EventKind {
        let fail = |stage, reason| EventKind::Fail { stage, reason };
        match self.kind {
            DoorEventKind::Stage { stage, steps } => EventKind::Stage { stage, steps },
            DoorEventKind::Complete => {
                EventKind::Open { door_id: DoorId(self.door), command: None, opening: None, net: self.ip.into() }
            }
            DoorEventKind::Timeout { stage } => EventKind::Timeout { stage },
            DoorEventKind::WrongPort { stage } => fail(stage, FailReason::WrongPort),
            DoorEventKind::Scan { stage } => fail(stage, FailReason::Scan),
            DoorEventKind::Full { stage } => fail(stage, FailReason::Full),
            DoorEventKind::Reload { stage } => fail(stage, FailReason::Reload),
        }
    }

    /// How far the attempt had come, where it tells that.
    pub(super) fn stage(&self) -> Option<u8> {
        match self.kind {
            DoorEventKind::Complete => None,
            DoorEventKind::Stage { stage, .. }
            | DoorEventKind::Timeout { stage }
            | DoorEventKind::WrongPort { stage }
            | DoorEventKind::Scan { stage }
            | DoorEventKind::Full { stage }
            | DoorEventKind::Reload { stage } => Some(stage),
        }
    }
}

/// A packet that matters, for the log of `--debug`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WireKnock {
    time: u64,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    udp: bool,
    flags: u8,
    source_port: u16,
    sequence_number: u32,
}

impl From<&Knock> for WireKnock {
    fn from(knock: &Knock) -> Self {
        Self {
            time: knock.time.as_nanos(),
            source: knock.source,
            destination: knock.destination,
            port: knock.port,
            udp: knock.protocol == Protocol::Udp,
            flags: knock.flags.bits(),
            source_port: knock.source_port,
            sequence_number: knock.sequence_number,
        }
    }
}

impl From<WireKnock> for Knock {
    fn from(knock: WireKnock) -> Self {
        Self {
            time: Timestamp::from_nanos(knock.time),
            source: knock.source,
            destination: knock.destination,
            port: knock.port,
            protocol: if knock.udp { Protocol::Udp } else { Protocol::Tcp },
            flags: TcpFlags::from_bits(knock.flags),
            source_port: knock.source_port,
            sequence_number: knock.sequence_number,
        }
    }
}

/// What a reader holds, and what it counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    pub(crate) packets: u64,
    pub(crate) knocks: u64,
    pub(crate) unused: u64,
    pub(crate) evicted: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
}

impl Counts {
    /// Those of an engine, with the packets that came through the filter and those that were lost.
    pub(crate) fn of(engine: &EngineStats, packets: u64, dropped: u64) -> Self {
        let EngineStats { attempts, knocks, unused, evicted, refused, .. } = *engine;
        Self { attempts: attempts as u64, packets, knocks, unused, evicted, refused, dropped }
    }

    /// These, after the readers before had counted `earlier`.
    pub(super) fn after(self, earlier: Self) -> Self {
        Self {
            attempts: self.attempts,
            packets: self.packets.saturating_add(earlier.packets),
            knocks: self.knocks.saturating_add(earlier.knocks),
            unused: self.unused.saturating_add(earlier.unused),
            evicted: self.evicted.saturating_add(earlier.evicted),
            refused: self.refused.saturating_add(earlier.refused),
            dropped: self.dropped.saturating_add(earlier.dropped),
        }
    }
}
