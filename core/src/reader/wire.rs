//! The messages between the daemon and its reader.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::capture::{Absence, CaptureNotice};
use crate::clock::Clock;
use crate::config::{Config, DoorId, MAX_HINT_BYTES, Sequence, Step};
use crate::decode::Knock;
use crate::engine::{EngineStats, LiveSecrets};
use crate::event::{Event, EventKind, FailReason};
use crate::fwknop::{HmacDigest, MacKey};
use crate::live_windows::{LiveWindow, LiveWindows};
use crate::log_limit::Counted;
use crate::matcher::SavedAttempt;
use crate::packet::{Protocol, TcpFlags};
use crate::packet_keys::{Hint, HintTable};
use crate::sys::netlink::Network;
use crate::time::Timestamp;

/// A message from the daemon to the reader.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToReader {
    /// The first message: doors, interfaces and options.
    Start(Start),
    /// Attempts that the previous reader has handed over.
    Attempts(Vec<SavedAttempt>),
    /// Start reading. The previous reader has handled the packets with timestamps up to `after`, in
    /// nanoseconds by the wall clock.
    Begin { after: u64 },
    /// New doors. The reader answers with [`FromReader::Reloaded`].
    Reload(Doors),
    /// The next sequence of the one-time door with this index; `None` if it has none.
    Sequence { door: u16, sequence: Option<WireSequence> },
    /// Live windows that have changed.
    Windows(Vec<WireWindow>),
    /// New hints of packets.
    Hints(WireHints),
    /// The answer to [`FromReader::AskNetwork`]; `None` if the daemon cannot read the state of the
    /// network.
    Network(Option<Network>),
    /// A request for [`FromReader::CaughtUp`] when the reader has handled every packet that has
    /// arrived up to now.
    CatchUp,
    /// A request for [`FromReader::Counts`].
    Count,
    /// A request to hand over the attempts, in [`FromReader::Attempts`], and to end with
    /// [`FromReader::HandedOver`].
    HandOver,
}

/// A message from the reader to the daemon. Times are in nanoseconds by the service's clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromReader {
    /// The answer to [`ToReader::Start`]: the reader listens and has given up its privileges,
    /// except these.
    Ready { kept: Vec<String> },
    /// The reader ends for this reason.
    Failed(String),
    /// An event at a door.
    DoorEvent(DoorEvent),
    /// A packet that a key may have made.
    Packet(WirePacket),
    /// A packet without a hint, whose client may have a wrong clock, or without a valid HMAC, whose
    /// client may be set up without one.
    UnknownPacket(WirePacket),
    /// A packet that passed the filter, for the log of `--debug`.
    Knock(WireKnock),
    /// A notice about the capture of an interface.
    Capture(WireNotice),
    /// The answer to [`ToReader::CatchUp`]: the reader has reported everything up to this time.
    CaughtUp { time: u64 },
    /// The answer to [`ToReader::Reload`]: the reader uses the new doors.
    Reloaded,
    /// A request for [`ToReader::Network`], because the network has changed.
    AskNetwork,
    /// A request for another reader, because only that can listen on an interface that is up.
    /// `failed` if this reader has failed to listen on it.
    AskRestart { failed: bool },
    /// The answer to [`ToReader::Count`]: the numbers since the reader's start.
    Counts(Counts),
    /// Attempts for the next reader.
    Attempts(Vec<SavedAttempt>),
    /// The last message: the reader has handled and reported the packets with timestamps up to
    /// `last`, by the wall clock.
    HandedOver { last: u64, counts: Counts },
    /// A sign of life: the reader has just polled this many captures without an error. It sends
    /// this if it has sent nothing else for [`ALIVE_INTERVAL`].
    Alive { captures: u16 },
    /// Numbers of events up to this time that the reader did not report individually.
    Suppressed { time: u64, counted: Counted },
}

/// Maximum time for which a reader sends nothing.
pub(super) const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum size of a message from the daemon, in bytes.
pub(super) const MAX_DAEMON_MESSAGE: usize = 64 << 20;
// A configuration file has at most 16 MiB; live windows and attempts need less than the rest.
const _: () = assert!(MAX_HINT_BYTES + (20 << 20) <= MAX_DAEMON_MESSAGE);
/// Maximum size of a message from the reader, in bytes.
pub(super) const MAX_READER_MESSAGE: usize = 64 << 10;
/// Maximum number of packets per second, and at one time, that a reader reports for the log of
/// `--debug`.
pub(super) const MAX_KNOCK_RATE: u32 = 100_000;
/// Maximum length of a text in a message from the reader, in characters.
pub(super) const MAX_TEXT_CHARS: usize = 200;
/// Maximum number of attempts in one message. An attempt has at most 830 bytes.
pub(super) const ATTEMPTS_PER_MESSAGE: usize = 64;

/// Returns the beginning of a text, at most [`MAX_TEXT_CHARS`] characters.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// A [`CaptureNotice`] in a message; the interface is an index into [`Start::interfaces`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireNotice {
    pub(super) interface: u16,
    pub(super) kind: WireNoticeKind,
}

/// The kind of a [`WireNotice`], as in [`CaptureNotice`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireNoticeKind {
    Listening,
    Waiting(WireAbsence),
    Lost(WireAbsence),
    Dropped { packets: u64 },
    CoarseFilter { instructions: Option<u16> },
}

/// An [`Absence`] in a message.
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
    /// Returns the notice for a message; `None` if it is about an interface that is not in
    /// `interfaces`.
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

/// The parameters of a reader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(super) doors: Doors,
    /// The interfaces to listen on. Later messages refer to them by their indices.
    pub(super) interfaces: Vec<String>,
    /// The secret that selects the ports that the filter passes for the scan guard.
    pub(super) secret: u32,
    /// The zero of the service's clock ([`Clock::zero`]), in nanoseconds.
    pub(super) clock: u64,
    pub(super) options: ReaderOptions,
}

/// Options of a reader that are not in the configuration.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReaderOptions {
    /// Ignore IPv6 packets.
    pub(crate) ipv4_only: bool,
    /// Report each packet that passes the filter.
    pub(crate) report_knocks: bool,
}

impl Start {
    pub(crate) fn new(
        config: &Config,
        interfaces: Vec<String>,
        secret: u32,
        clock: Clock,
        options: ReaderOptions,
        secrets: &LiveSecrets,
    ) -> Self {
        Self { doors: Doors::of(config, secrets), interfaces, secret, clock: clock.zero().as_nanos(), options }
    }
}

/// The configuration as text, and the current sequences of one-time doors, which the text does not
/// contain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Doors {
    text: String,
    /// The index and the sequence of each one-time door.
    one_time: Vec<(u16, Option<WireSequence>)>,
    /// The index and the number of keys of each door with live windows.
    key_counts: Vec<(u16, u32)>,
    /// The live windows of these doors.
    windows: Vec<WireWindow>,
    hints: WireHints,
    mac_keys: Vec<WireMacKey>,
}

/// The part of a key of fwknop that authenticates packets.
#[derive(Clone, Serialize, Deserialize)]
struct WireMacKey {
    /// The index of the digest in [`HmacDigest::ALL`].
    digest: u8,
    bytes: Vec<u8>,
}

/// Erases the key.
impl Drop for WireMacKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl WireMacKey {
    fn of(key: &MacKey) -> Self {
        let digest = HmacDigest::ALL.iter().position(|digest| *digest == key.digest());
        let digest = digest.and_then(|digest| u8::try_from(digest).ok()).unwrap_or(0);
        Self { digest, bytes: key.as_bytes().to_vec() }
    }

    /// Returns the key; `None` if it is invalid.
    fn key(&self) -> Option<MacKey> {
        MacKey::from_parts(*HmacDigest::ALL.get(usize::from(self.digest))?, &self.bytes).ok()
    }
}

/// The secret is hidden.
impl fmt::Debug for WireMacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireMacKey(..)")
    }
}

/// The hints of packets by minute, each in the order of the keys, and the first and the last minute
/// that is still used.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireHints {
    first: u64,
    last: u64,
    minutes: Vec<(u64, Vec<Hint>)>,
}

impl WireHints {
    /// Returns the hints of a table that another table does not contain.
    pub(super) fn new_since(hints: &HintTable, old: &HintTable) -> Self {
        let minutes = hints.minutes();
        let new = minutes.iter().filter(|(minute, _)| !old.minutes().contains_key(minute));
        Self {
            first: minutes.keys().next().copied().unwrap_or(0),
            last: minutes.keys().next_back().copied().unwrap_or(0),
            minutes: new.map(|(minute, hints)| (*minute, hints.clone())).collect(),
        }
    }

    /// Adds the hints to a table, and removes those that are no longer used.
    pub(super) fn add_to(self, table: &mut HintTable) {
        table.keep(&(self.first..=self.last));
        for (minute, hints) in self.minutes {
            table.add(minute, hints);
        }
    }
}

/// A packet in a message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WirePacket {
    /// Nanoseconds by the service's clock.
    pub(super) time: u64,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) bytes: Vec<u8>,
}

impl WirePacket {
    pub(super) fn of(knock: &Knock, bytes: &[u8]) -> Self {
        let Knock { time, source, destination, .. } = *knock;
        Self { time: time.as_nanos(), source, destination, bytes: bytes.to_vec() }
    }
}

/// A live window in a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireWindow {
    /// Its identifier, which continues those of the doors.
    pub(super) id: u16,
    /// Its number since 1970.
    pub(super) number: u64,
    /// `None` if it has opened its door.
    pub(super) sequence: Option<WireSequence>,
}

impl WireWindow {
    pub(super) fn of(id: DoorId, window: &LiveWindow) -> Self {
        Self { id: id.0, number: window.number, sequence: window.sequence.as_ref().map(WireSequence::of) }
    }

    /// Returns the values that [`Engine::set_windows`] accepts.
    ///
    /// [`Engine::set_windows`]: crate::Engine
    pub(super) fn into_values(self) -> (DoorId, u64, Option<Sequence>) {
        (DoorId(self.id), self.number, self.sequence.and_then(WireSequence::sequence))
    }
}

impl Doors {
    pub(super) fn of(config: &Config, secrets: &LiveSecrets) -> Self {
        let numbered = (0..=u16::MAX).zip(&config.doors);
        let one_time = numbered.clone().filter(|(_, door)| door.one_time_sequences.is_some());
        let key_counts = numbered.map(|(id, door)| (id, u32::try_from(door.window_keys()).unwrap_or(u32::MAX)));
        Self {
            text: config.to_string(),
            one_time: one_time.map(|(id, door)| (id, door.sequence.as_ref().map(WireSequence::of))).collect(),
            key_counts: key_counts.filter(|(_, count)| *count > 0).collect(),
            windows: secrets.windows.iter().map(|(id, window)| WireWindow::of(id, window)).collect(),
            hints: WireHints::new_since(&secrets.hints, &HintTable::default()),
            mac_keys: secrets.mac_keys.iter().map(WireMacKey::of).collect(),
        }
    }

    /// Returns the configuration and what detects the knocks of doors with keys. Fails with a message if the text
    /// cannot be parsed.
    pub(super) fn config(self) -> Result<(Config, LiveSecrets), String> {
        let parsed = crate::config::parse(self.text.as_bytes());
        let Some(mut config) = parsed.config else {
            return Err(format!(
                "the reader cannot read the configuration:\n{}",
                parsed.report.render("", self.text.as_bytes())
            ));
        };
        for (id, sequence) in self.one_time {
            if let Some(door) = config.doors.get_mut(usize::from(id)) {
                door.sequence = sequence.and_then(WireSequence::sequence);
            }
        }
        let counts: HashMap<_, _> = self.key_counts.into_iter().collect();
        let count_of = |door: u16| counts.get(&door).map_or(0, |count| *count as usize);
        let doors = config.doors.len();
        let mut windows = LiveWindows::with_key_counts(doors, (0..=u16::MAX).take(doors).map(count_of));
        for window in self.windows {
            let (id, number, sequence) = window.into_values();
            windows.set(id, number, sequence);
        }
        let mut hints = HintTable::default();
        self.hints.add_to(&mut hints);
        let mac_keys: Option<_> = self.mac_keys.iter().map(WireMacKey::key).collect();
        let mac_keys = mac_keys.ok_or("the daemon sent an invalid key")?;
        Ok((config, LiveSecrets { windows, hints, mac_keys }))
    }
}

/// A sequence in a message: the port of each step, and true for UDP.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WireSequence(Vec<(NonZeroU16, bool)>);

impl WireSequence {
    pub(super) fn of(sequence: &Sequence) -> Self {
        Self(sequence.steps().iter().map(|step| (step.port, step.protocol == Protocol::Udp)).collect())
    }

    /// Returns the sequence; `None` if it is invalid.
    pub(super) fn sequence(self) -> Option<Sequence> {
        let protocol = |udp| if udp { Protocol::Udp } else { Protocol::Tcp };
        let steps = self.0.into_iter().map(|(port, udp)| Step { port, protocol: protocol(udp) });
        Sequence::new(steps.collect::<Vec<_>>()).ok()
    }
}

/// An event at a door, with the source address and no other content of a packet. The door is an
/// index into the configuration: of the door itself for [`DoorEventKind::Complete`], and of the
/// first door of the same name for other events. For [`DoorEventKind::CompleteWindow`] it is the
/// identifier of a live window.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct DoorEvent {
    /// Nanoseconds by the service's clock.
    pub(super) time: u64,
    pub(super) door: u16,
    pub(super) ip: IpAddr,
    pub(super) kind: DoorEventKind,
}

/// The kind of a [`DoorEvent`], as in [`EventKind`]. Stages count from 1.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum DoorEventKind {
    Stage {
        stage: u8,
        steps: u8,
    },
    Complete,
    /// The sequence of the live window with this number is complete.
    CompleteWindow {
        number: u64,
    },
    Timeout {
        stage: u8,
    },
    WrongPort {
        stage: u8,
    },
    Scan {
        stage: u8,
    },
    Full {
        stage: u8,
    },
    Reload {
        stage: u8,
    },
    /// Too many wrong codes of the address.
    Silenced {
        stage: u8,
    },
    /// Too many wrong codes.
    DoorSilenced {
        stage: u8,
    },
}

impl DoorEvent {
    /// Returns the event of an engine that only detects knocks; `door` is the index described
    /// above, and `window` the number of the window that a complete sequence belongs to. `None` for events that such an engine never reports.
    pub(super) fn of(event: &Event, door: u16, window: Option<u64>) -> Option<Self> {
        let kind = match event.kind {
            EventKind::Stage { stage, steps } => DoorEventKind::Stage { stage, steps },
            EventKind::Open { .. } => match window {
                Some(number) => DoorEventKind::CompleteWindow { number },
                None => DoorEventKind::Complete,
            },
            EventKind::Timeout { stage } => DoorEventKind::Timeout { stage },
            EventKind::Fail { stage, reason: FailReason::WrongPort } => DoorEventKind::WrongPort { stage },
            EventKind::Fail { stage, reason: FailReason::Scan } => DoorEventKind::Scan { stage },
            EventKind::Fail { stage, reason: FailReason::Full } => DoorEventKind::Full { stage },
            EventKind::Fail { stage, reason: FailReason::Silenced } => DoorEventKind::Silenced { stage },
            EventKind::Fail { stage, reason: FailReason::DoorSilenced } => DoorEventKind::DoorSilenced { stage },
            EventKind::Fail { stage, reason: FailReason::Reload } => DoorEventKind::Reload { stage },
            EventKind::Extend { .. }
            | EventKind::Close { .. }
            | EventKind::Refused { .. }
            | EventKind::Fail { reason: FailReason::Command, .. } => return None,
        };
        Some(Self { time: event.time.as_nanos(), door, ip: event.ip, kind })
    }

    /// Returns the kind of the event in the form that an engine uses.
    pub(super) fn event_kind(&self) -> EventKind {
        let fail = |stage, reason| EventKind::Fail { stage, reason };
        match self.kind {
            DoorEventKind::Stage { stage, steps } => EventKind::Stage { stage, steps },
            DoorEventKind::Complete | DoorEventKind::CompleteWindow { .. } => EventKind::Open {
                door_id: DoorId(self.door),
                command: None,
                opening: None,
                net: self.ip.into(),
                key: None,
            },
            DoorEventKind::Timeout { stage } => EventKind::Timeout { stage },
            DoorEventKind::WrongPort { stage } => fail(stage, FailReason::WrongPort),
            DoorEventKind::Scan { stage } => fail(stage, FailReason::Scan),
            DoorEventKind::Full { stage } => fail(stage, FailReason::Full),
            DoorEventKind::Silenced { stage } => fail(stage, FailReason::Silenced),
            DoorEventKind::DoorSilenced { stage } => fail(stage, FailReason::DoorSilenced),
            DoorEventKind::Reload { stage } => fail(stage, FailReason::Reload),
        }
    }

    /// Returns the stage of the attempt, if the message contains it.
    pub(super) fn stage(&self) -> Option<u8> {
        match self.kind {
            DoorEventKind::Complete | DoorEventKind::CompleteWindow { .. } => None,
            DoorEventKind::Stage { stage, .. }
            | DoorEventKind::Timeout { stage }
            | DoorEventKind::WrongPort { stage }
            | DoorEventKind::Scan { stage }
            | DoorEventKind::Full { stage }
            | DoorEventKind::Silenced { stage }
            | DoorEventKind::DoorSilenced { stage }
            | DoorEventKind::Reload { stage } => Some(stage),
        }
    }
}

/// A [`Knock`] in a message, for the log of `--debug`.
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

/// The counters of a reader since its start, and the number of its current attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Attempts under way now.
    pub(crate) attempts: u64,
    /// Packets that passed the filter.
    pub(crate) packets: u64,
    /// As in [`EngineStats`].
    pub(crate) knocks: u64,
    /// As in [`EngineStats`].
    pub(crate) unused: u64,
    /// As in [`EngineStats`].
    pub(crate) evicted: u64,
    /// As in [`EngineStats`].
    pub(crate) refused: u64,
    /// As in [`EngineStats`].
    pub(crate) bogus: u64,
    /// Packets that passed the filter and that the kernel dropped.
    pub(crate) dropped: u64,
}

impl Counts {
    /// Returns the counters of an engine, with the numbers of packets that passed the filter and
    /// that the kernel dropped.
    pub(crate) fn of(engine: &EngineStats, packets: u64, dropped: u64) -> Self {
        let EngineStats { attempts, knocks, unused, evicted, refused, bogus, .. } = *engine;
        Self { attempts: attempts as u64, packets, knocks, unused, evicted, refused, bogus, dropped }
    }

    /// Returns the sum with the counters of the previous readers, saturating. Their attempts do not
    /// count.
    pub(super) fn after(self, earlier: Self) -> Self {
        Self {
            attempts: self.attempts,
            packets: self.packets.saturating_add(earlier.packets),
            knocks: self.knocks.saturating_add(earlier.knocks),
            unused: self.unused.saturating_add(earlier.unused),
            evicted: self.evicted.saturating_add(earlier.evicted),
            refused: self.refused.saturating_add(earlier.refused),
            bogus: self.bogus.saturating_add(earlier.bogus),
            dropped: self.dropped.saturating_add(earlier.dropped),
        }
    }
}
