//! The golden file of the errors, notices, events and log lines, `core/tests/golden/messages.txt`:
//! at least one of each variant, in the form in which a person reads it.

use std::fmt::{Display, Write};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::{Absence, CaptureError, CaptureNotice};
use crate::client_file::{ClientFileError, SettingError};
use crate::config::{DoorId, KeysError, LoadError, OpenPort, SequenceError, Step};
use crate::decode::Knock;
use crate::engine::EngineStats;
use crate::event::{Action, CommandRequest, Event, EventKind, FailReason, RefusalReason};
use crate::exec::{CommandId, CommandResult, CommandResultKind};
use crate::fwknop::WeakReason;
use crate::gate::{Element, GateError};
use crate::host::{Family, HostError};
use crate::journal::{StateError, StateNotice};
use crate::keys::{KeyFileError, KeyTextError};
use crate::knock::{KnockError, StepError, WatchedStep};
use crate::log_limit::{EventCounts, Suppressed};
use crate::one_time::OneTimeError;
use crate::openings::Opening;
use crate::packet::{Protocol, TcpFlags};
use crate::probe::{NotOpen, PortListError, PortState, ProbeError, Reason};
use crate::reader::ReaderNotice;
use crate::replay::ReplayError;
use crate::rules::check::{Finding, ReadError};
use crate::rules::{AllowedPortsError, check};
use crate::service::{CloseError, CommandCounts, FloodCounts, Notice, ServiceError, Status};
use crate::spa::PacketError;
use crate::time::Timestamp;

/// Adds the given values of an enum. The `match` has no wildcard, so a variant without a value does
/// not compile.
macro_rules! add {
    ($golden:ident, $name:ident { $($values:tt)+ }) => {
        add!($golden, |value: $name| value, $name { $($values)+ });
    };
    ($golden:ident, $show:expr, $name:ident { $($variant:ident $(($($tuple:tt)*))? $({$($fields:tt)*})?),+ $(,)? }) => {
        #[allow(unreachable_patterns, reason = "a variant can have several values")]
        let _ = |value: &$name| match value { $($name::$variant { .. } => ()),+ };
        $($golden.line(concat!(stringify!($name), "::", stringify!($variant)), &$show($name::$variant $(($($tuple)*))? $({$($fields)*})?));)+
    };
}

#[derive(Default)]
struct Golden(String);

impl Golden {
    fn line(&mut self, name: &str, text: &dyn Display) {
        let text = text.to_string();
        assert!(text.is_empty() || text.trim() == text, "{name}: {text:?}");
        let text = if text.is_empty() { "(no line)" } else { &text };
        let _ = writeln!(self.0, "{name}: {text}");
    }
}

fn ip() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1).into()
}

fn path() -> PathBuf {
    "/etc/portknock/file".into()
}

fn door() -> Arc<str> {
    "ssh".into()
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn disk() -> io::Error {
    error(libc::ENOSPC)
}

fn port() -> NonZeroU16 {
    NonZeroU16::MIN
}

fn element() -> Element {
    Element { net: ip().into(), port: OpenPort { protocol: Protocol::Tcp, port: port() } }
}

fn knock(protocol: Protocol, flags: TcpFlags) -> Knock {
    Knock {
        time: Timestamp::default(),
        source: ip(),
        destination: Ipv4Addr::new(192, 0, 2, 2).into(),
        port: 7000,
        protocol,
        flags,
        source_port: 40_000,
        sequence_number: 1,
    }
}

fn opening() -> Box<Opening> {
    let (closes_at, stop_command) = (Timestamp::default(), None);
    Box::new(Opening { door: door(), ip: ip(), closes_at, stop_command, open: Arc::new([]), net: ip().into() })
}

fn event(kind: EventKind) -> Event {
    Event { time: Timestamp::default(), door: door(), ip: ip(), kind }
}

fn request() -> CommandRequest {
    CommandRequest {
        door: door(),
        ip: ip(),
        action: Action::Open,
        command: "/sbin/open 192.0.2.1".into(),
        net: ip().into(),
        key: None,
    }
}

fn outcome(kind: CommandResultKind) -> CommandResult {
    CommandResult { id: CommandId(1), request: request(), kind }
}

fn finding(outcome: check::KnockOutcome) -> Finding {
    Finding { protocol: Protocol::Tcp, port: 22, ipv6: false, outcome }
}

fn counts() -> EventCounts {
    EventCounts {
        first_stages: 1,
        later_stages: 2,
        timeouts: 3,
        wrong_port: 4,
        scan: 5,
        full: 6,
        reload: 7,
        unopened: 8,
    }
}

fn status(saving: bool) -> Status {
    Status {
        doors: 1,
        engine: EngineStats { attempts: 2, openings: 3, knocks: 4, unused: 5, evicted: 6, refused: 7, bogus: 8 },
        packets: 8,
        drops: 9,
        filtered: 10,
        commands: CommandCounts { run: 11, failed: 12 },
        commands_running: 13,
        commands_waiting: 14,
        saving,
        clock_synchronised: None,
    }
}

#[test]
fn all_messages_are_the_golden_ones() {
    let mut golden = Golden::default();
    events(&mut golden);
    notices(&mut golden);
    service_errors(&mut golden);
    client_errors(&mut golden);
    client_files(&mut golden);
    packet_filter(&mut golden);
    portknock_golden::assert_golden("core/tests/golden/messages.txt", &golden.0);
}

fn events(golden: &mut Golden) {
    add!(golden, event, EventKind {
        Stage { stage: 1, steps: 3 },
        Open { door_id: DoorId(0), command: None, opening: None, net: ip().into(), key: None },
        Extend { door_id: DoorId(0), command: None, opening: opening(), key: None },
        Extend { door_id: DoorId(0), command: Some("open".into()), opening: opening(), key: None },
        Close { opening: opening(), reason: None },
        Close { opening: opening(), reason: Some(FailReason::Full) },
        Close { opening: opening(), reason: Some(FailReason::Command) },
        Timeout { stage: 1 },
        Fail { stage: 1, reason: FailReason::WrongPort },
        Fail { stage: 2, reason: FailReason::Silenced },
        Fail { stage: 2, reason: FailReason::DoorSilenced },
        Refused { key: "alice".into(), reason: RefusalReason::Replay },
    });
    add!(golden, RefusalReason {
        Replay,
        Clock(9),
        Clock(-14_754),
        UnknownDoor,
        Cooldown,
        Address,
        Ports,
        Command,
        Nat,
        Weak(WeakReason::NoHmac),
        User,
        Malformed,
    });
    add!(golden, FailReason { WrongPort, Scan, Full, Silenced, DoorSilenced, Reload, Command });
    add!(golden, outcome, CommandResultKind {
        Started,
        Finished(ExitStatus::from_raw(0)),
        Finished(ExitStatus::from_raw(1 << 8)),
        Finished(ExitStatus::from_raw(9)),
        StillRunning,
        Delayed(error(libc::EAGAIN)),
        NotStarted(error(libc::E2BIG)),
        Dropped,
        Lost(error(libc::ECHILD)),
    });
    golden.line("Status", &status(true));
    golden.line("Status", &status(false));
}

fn notices(golden: &mut Golden) {
    add!(golden, Absence {
        Missing { near: None },
        Missing { near: Some("eth0".into()) },
        Down,
        Replaced,
        Failed("The interface disappeared".into()),
    });
    add!(golden, CaptureNotice {
        Listening { interface: "eth0".into() },
        Waiting { interface: "eth0".into(), reason: Absence::Down },
        Lost { interface: "eth0".into(), reason: Absence::Down },
        Dropped { interface: "eth0".into(), packets: 3 },
        CoarseFilter { interface: "eth0".into(), instructions: Some(3) },
        CoarseFilter { interface: "eth0".into(), instructions: None },
    });
    add!(golden, ReaderNotice {
        Ended("killed by signal 9".into()),
        NotStarted("out of memory".into()),
        KeptPrivileges(vec!["Landlock: not in this kernel".into()]),
        UsedTooSoon { door: door(), ip: ip() },
    });
    add!(golden, StateNotice {
        NotSaved(path(), disk()),
        SavedAgain(path()),
        NotLocked(path(), error(libc::ENOLCK)),
        NotRead(path(), error(libc::EIO)),
        Torn(path()),
        Damaged { path: path(), lines: 3, not_kept: None },
        Damaged { path: path(), lines: 3, not_kept: Some(disk()) },
    });
    add!(golden, Notice {
        StartingUp(vec!["eth0".into(), "lo".into()]),
        ShuttingDown,
        Reloaded,
        ReplaysIncomplete,
        ClockNotSynchronised,
        Knock(knock(Protocol::Udp, TcpFlags::NONE)),
        FlagsIgnored(knock(Protocol::Tcp, TcpFlags::ACK)),
        Event(event(EventKind::Timeout { stage: 1 })),
        Suppressed(Suppressed { time: Timestamp::default(), doors: vec![(door(), counts())], others: counts() }),
        SummarisedEvent(event(EventKind::Timeout { stage: 1 })),
        Flood { door: door(), counts: FloodCounts { replaced: 1, repeated: 2, dropped: 3, commands: 4 } },
        NotRun(3),
        Command(outcome(CommandResultKind::Started)),
        FailedProgram { door: door(), program: Some("iptables".into()), is_found: false },
        FailedProgram { door: door(), program: None, is_found: true },
        CommandSkipped(request()),
        Capture(CaptureNotice::Listening { interface: "eth0".into() }),
        Reader(ReaderNotice::NotStarted("out of memory".into())),
        Restored(3),
        State(StateNotice::Torn(path())),
        SequencesConsumed { door: door(), path: path() },
        OneTime { door: door(), ip: Some(ip()), error: OneTimeError::Edited(path(), 3) },
        OneTime { door: door(), ip: None, error: OneTimeError::Edited(path(), 3) },
        OpenSkipped { door: door(), element: element() },
        NotOpened { door: door(), element: element(), error: GateError::Full },
        NotClosed { door: door(), element: element(), error: GateError::Full },
        TableRestored,
        Gate(GateError::NotAllowed),
        NotKept,
        LeftBehind { running: 1, waiting: 2 },
    });
}

fn service_errors(golden: &mut Golden) {
    golden.line("LoadError", &LoadError { path: path(), reason: error(libc::ENOENT) });
    add!(golden, SequenceError { Empty, TooLong(65) });
    add!(golden, CaptureError {
        NotAllowed,
        OutOfDescriptors(error(libc::EMFILE)),
        BadName { interface: "a/b".into() },
        System { what: "cannot wait for packets", source: error(libc::ENOMEM) },
    });
    add!(golden, StateError {
        InUse(path()),
        Untrusted(path(), "others can write to it"),
        Version(path(), "portknock 9".into()),
    });
    add!(golden, OneTimeError {
        Unreadable(path(), error(libc::EACCES)),
        BadLine(path(), 3, "a sequence needs at least one port".into()),
        NotMarked(path(), 3, disk()),
        Edited(path(), 3),
    });
    add!(golden, GateError {
        NotAllowed,
        NotSupported,
        NotOurs,
        NoSet("doors4".into()),
        SetType { name: "doors4".into(), wanted: "ipv4_addr . inet_proto . inet_service" },
        Full,
        Kernel(libc::ENOMEM),
    });
    add!(golden, ServiceError {
        Capture(CaptureError::NotAllowed),
        Reader("out of memory".into()),
        State(StateError::InUse(path())),
        Keys(KeysError::TooMany(30_000, 21_844)),
        Keys(KeysError::TooManyForSkew { keys: 50_000, skew: Duration::from_secs(3600), max: 42_625 }),
        OneTime { door: door(), error: OneTimeError::Edited(path(), 3) },
        Gate(GateError::Full),
        System(error(libc::EMFILE)),
        Panicked,
        Forked,
    });
    add!(golden, CloseError {
        UnknownDoor("ssh".into()),
        NotOpen { door: "ssh".into(), addresses: ip().into() },
        NotOpen { door: "ssh".into(), addresses: "192.0.2.0/24".parse().unwrap() },
    });
    add!(golden, ReplayError {
        Open { path: path(), reason: "unknown file format".into() },
        LinkType { path: path(), number: 147 },
        Damaged { path: path(), frames: 3, reason: "truncated dump file".into() },
        OneTime(OneTimeError::Edited(path(), 3)),
    });
}

fn client_errors(golden: &mut Golden) {
    let host = || String::from("host.example");
    add!(golden, HostError {
        Resolve { host: host(), error: io::Error::other("Name or service not known") },
        NoAddress { host: host(), family: Family::V4 },
        NoAddress { host: host(), family: Family::V6 },
        NoAddress { host: host(), family: Family::Any },
        NoZone { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) },
    });
    add!(golden, StepError { Port("7OOO".into()), Protocol("sctp".into()) });
    add!(golden, KnockError {
        Host(HostError::NoZone { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) }),
        Raw { address: ip(), error: error(libc::EPERM) },
        Raw { address: ip(), error: error(libc::ENOBUFS) },
        Send { address: ip(), step: Step { port: port(), protocol: Protocol::Udp }, error: error(libc::ENETUNREACH) },
        Packet(PacketError::DoorName),
        Several(vec![KnockError::Stopped, KnockError::Stopped]),
        Stopped,
        NotOpen { host: host(), port: 22, wait: Duration::from_secs(5), last: PortState::Filtered },
        Probe { host: host(), port: 22, error: error(libc::EMFILE) },
    });
    golden.line("WatchedStep", &WatchedStep { port: port() });
    add!(golden, PortListError { Port("8O".into()), Backwards("9-8".into()) });
    add!(golden, NotOpen {
        Deadline { last: PortState::Filtered, tries: 3 },
        Stopped,
        Io(error(libc::EMFILE)),
    });
    add!(golden, ProbeError {
        Host(HostError::NoZone { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1) }),
        NotAllowed,
        NoRoute { address: ip(), error: error(libc::ENETUNREACH) },
        NoRoute { address: ip(), error: error(libc::EINVAL) },
        Source { source_address: ip(), error: error(libc::EADDRNOTAVAIL) },
        System { what: "cannot open a socket", error: error(libc::EMFILE) },
    });
    add!(golden, PortState { Open, Closed, Filtered, OpenFiltered });
    add!(
        golden,
        Reason {
            SynAck,
            Reset,
            ConnRefused,
            UdpResponse,
            NoResponse,
            NetUnreach,
            HostUnreach,
            ProtoUnreach,
            PortUnreach,
            NetProhibited,
            HostProhibited,
            AdminProhibited,
            NoRoute,
            BeyondScope,
            RejectRoute,
            DestUnreach,
            TimeExceeded,
            ParamProblem,
            PermDenied,
        }
    );
}

fn client_files(golden: &mut Golden) {
    add!(golden, ClientFileError {
        File(KeyFileError::Unreadable(path(), error(libc::ENOENT))),
        BadLine(path(), 3, SettingError::Form),
        Settings(path(), SettingError::NoDoor),
        NotCreated(path(), error(libc::EEXIST)),
        NotCreated(path(), error(libc::EACCES)),
    });
    add!(golden, SettingError {
        NotText,
        NoValue,
        Unknown,
        Repeated(1),
        Missing("name"),
        Name,
        Key(KeyTextError::Checksum),
        Server,
        Form,
        Door,
        NoDoor,
        Port,
        TimeSteps,
        TimePorts,
        FewPorts,
        TimeProtocols,
        TimeStep,
    });
}

fn packet_filter(golden: &mut Golden) {
    use check::KnockOutcome;
    add!(golden, AllowedPortsError {
        Ports(PortListError::Port("8O".into())),
        Protocol("53/sctp".into()),
    });
    add!(golden, ReadError {
        Start { program: "nft", package: "nftables", error: error(libc::ENOENT) },
        Failed { command: "nft list ruleset".into(), message: "Operation not permitted".into(), root: false },
        Failed { command: "nft list ruleset".into(), message: "Operation not permitted".into(), root: true },
        Json("expected value at line 1 column 1".into()),
    });
    add!(golden, finding, KnockOutcome {
        Opens,
        OpenToEveryone,
        StaysClosed(vec!["refused by the policy of inet filter, chain input".into()]),
        Unknown(vec!["it depends on inet filter, chain input, rule 3".into()]),
    });
}
