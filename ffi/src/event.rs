//! Events at doors, in the form that C reads.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::ptr;

use portknock_core::config::MAX_OPEN_PORTS;
use portknock_core::{Event, EventKind, FailReason, OpenPort, Protocol, RefusalReason};

use crate::host::portknock_protocol;
use crate::text::ChangingText;

/// Kind of an event. Later versions may have more kinds: ignore unknown ones.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_event_kind {
    /// A step of the sequence matched: `stage` of `steps` are done. OPEN or EXTEND follows the last
    /// one.
    PORTKNOCK_EVENT_STAGE = 1,
    /// The whole sequence matched and the door opens, by `command` (NULL if the door has none) and
    /// by `ports`, which open for `net` until `closes_at_ns`.
    PORTKNOCK_EVENT_OPEN = 2,
    /// A complete knock while the door is open: `stop_command` and `command` open it again, and
    /// `ports` stay open until `closes_at_ns`.
    PORTKNOCK_EVENT_EXTEND = 3,
    /// The door closes because its time is over, or early, by `command` (NULL if the door has
    /// none). `ports` close for `net`.
    PORTKNOCK_EVENT_CLOSE = 4,
    /// The attempt took longer than seq_timeout; `stage` steps were done.
    PORTKNOCK_EVENT_TIMEOUT = 5,
    /// The attempt failed for a `reason`; `stage` steps were done.
    PORTKNOCK_EVENT_FAIL = 6,
    /// Only from listeners with the option `notices`: a line for a log. Only `message` is set.
    PORTKNOCK_EVENT_NOTICE = 7,
    /// A knock that `key` authenticated opens nothing; `refusal` is the reason.
    PORTKNOCK_EVENT_REFUSED = 8,
}

/// Reason why an attempt failed, or why a door closed early. Later versions may have more reasons.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_fail_reason {
    /// No failure.
    PORTKNOCK_FAIL_NONE = 0,
    /// A packet to a port that some door uses, but not as this door's next step.
    PORTKNOCK_FAIL_WRONG_PORT = 1,
    /// More ports that no door uses than ScanGuard allows.
    PORTKNOCK_FAIL_SCAN = 2,
    /// The table of attempts was full and a new attempt replaced this one; or the door had
    /// MaxOpenings openings and this was the oldest.
    PORTKNOCK_FAIL_FULL = 3,
    /// The door was changed or removed, or another client consumed its one-time sequence.
    PORTKNOCK_FAIL_RELOAD = 4,
    /// The start command failed, so the door is not open.
    PORTKNOCK_FAIL_COMMAND = 5,
    /// The third wrong code of the address: the door ignores the address until the window ends.
    PORTKNOCK_FAIL_SILENCED = 6,
    /// The tenth wrong code: the door ignores every address until the window ends.
    PORTKNOCK_FAIL_DOOR_SILENCED = 7,
}

/// Reason why an authenticated knock opens nothing. Later versions may have more reasons.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_refusal_reason {
    /// Not refused.
    PORTKNOCK_REFUSAL_NONE = 0,
    /// The same knock was accepted before, or it may have been: a listener's record of accepted
    /// knocks from before its start is incomplete.
    PORTKNOCK_REFUSAL_REPLAY = 1,
    /// The clock of the client differs from the clock of this host by more than ClockSkew; see
    /// `clock_offset`.
    PORTKNOCK_REFUSAL_CLOCK = 2,
    /// The packet asks for a door that does not exist or that the key does not open.
    PORTKNOCK_REFUSAL_UNKNOWN_DOOR = 3,
    /// The door ignores the address until its seq_cooldown is over. The knock is consumed.
    PORTKNOCK_REFUSAL_COOLDOWN = 4,
    /// The packet asks for an address that the door's `allow` or packet_address excludes, or that no
    /// host can have.
    PORTKNOCK_REFUSAL_ADDRESS = 5,
    /// The packet of fwknop's format asks for ports that the key does not open.
    PORTKNOCK_REFUSAL_PORTS = 6,
    /// The packet of fwknop's format contains a command.
    PORTKNOCK_REFUSAL_COMMAND = 7,
    /// The packet of fwknop's format asks for network address translation.
    PORTKNOCK_REFUSAL_NAT = 8,
    /// The packet of fwknop's format lacks a protection that is required, such as an HMAC.
    PORTKNOCK_REFUSAL_WEAK = 9,
    /// The packet of fwknop's format names a user other than that of the key.
    PORTKNOCK_REFUSAL_USER = 10,
    /// The packet of fwknop's format has a valid HMAC, and its encryption key is not that of the key
    /// file or its content is invalid.
    PORTKNOCK_REFUSAL_MALFORMED = 11,
}

/// A port that a door opens without a command (`open`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct portknock_open_port {
    /// Protocol of the port.
    pub protocol: portknock_protocol,
    /// Port, 1 to 65535.
    pub port: u32,
}

/// An event at a door. The event, its texts and its ports belong to the handle that returned it,
/// and do not change until any thread takes the next event from that handle. A later read returns
/// another event or a mixture of several, and the memory stays readable until the handle is freed.
/// Later versions may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_event {
    /// Time of the event, in nanoseconds since 1970: the time of the packet, or the due time of a
    /// timeout or a closing. 0 for a notice.
    pub time_ns: u64,
    /// Kind of the event.
    pub kind: portknock_event_kind,
    /// IP version of `ip`: 4 or 6. 0 for a notice.
    pub family: i32,
    /// Name of the door; "" for a notice.
    pub door: *const c_char,
    /// Address of the client, as text; "" for a notice.
    pub ip: *const c_char,
    /// For STAGE, TIMEOUT and FAIL: number of steps that are done. Otherwise 0.
    pub stage: u32,
    /// For STAGE: number of steps in the sequence. Otherwise 0.
    pub steps: u32,
    /// For OPEN, EXTEND and CLOSE: the command for /bin/sh, which contains the address; NULL if the
    /// door has none. NULL for other kinds. `stop_command` of an EXTEND runs before it.
    pub command: *const c_char,
    /// For NOTICE: a line for a log, without control characters and without a line end. Otherwise
    /// NULL.
    pub message: *const c_char,
    /// For FAIL: the reason. For CLOSE: the reason why it is early, FULL or COMMAND; NONE if its
    /// time is over or it was closed on request. Otherwise NONE.
    pub reason: portknock_fail_reason,
    /// For REFUSED: the reason. Otherwise NONE.
    pub refusal: portknock_refusal_reason,
    /// For EXTEND: the stop command for /bin/sh that runs before `command`; NULL if the door has
    /// none. NULL for other kinds.
    pub stop_command: *const c_char,
    /// For OPEN, EXTEND and CLOSE: the ports that the door opens without a command (`open`), in the
    /// order of the configuration. A listener without run_commands opens and closes no port; the
    /// program does it. Never NULL.
    pub ports: *const portknock_open_port,
    /// Number of ports in `ports`; 0 for a door without `open`, and for other kinds.
    pub port_count: usize,
    /// For OPEN and EXTEND: when the door closes, in nanoseconds since 1970. For CLOSE: when it was
    /// due to close, which is later than `time_ns` if it closes early. 0 for a door that never
    /// closes by itself, and for other kinds.
    pub closes_at_ns: u64,
    /// For OPEN, EXTEND and CLOSE: the network for which the door is open, as in "203.0.113.0/24".
    /// Without `open_prefix` it is a single address, as in "203.0.113.7/32". Otherwise NULL.
    pub net: *const c_char,
    /// For OPEN and EXTEND of a door with keys, and for REFUSED: the name of the key that
    /// authenticated the knock. Otherwise NULL.
    pub key: *const c_char,
    /// For REFUSED with the reason CLOCK: clock of the client minus clock of this host, in seconds.
    /// Otherwise 0.
    pub clock_offset: i64,
}

/// Storage in a handle for its last event, which C reads.
#[derive(Default)]
pub(crate) struct LastEvent {
    shown: Option<Box<Shown>>,
    door: ChangingText,
    ip: ChangingText,
    /// A command or a message.
    text: ChangingText,
    stop_command: ChangingText,
    net: ChangingText,
    key: ChangingText,
    /// Kept to reuse its memory.
    scratch: String,
}

/// An event with its ports. The array always has its full length, because a program that reads too
/// late can combine it with the number of ports of another event.
struct Shown {
    event: Cell<portknock_event>,
    ports: [Cell<portknock_open_port>; MAX_OPEN_PORTS],
}

const NO_PORT: portknock_open_port = portknock_open_port { protocol: portknock_protocol::PORTKNOCK_TCP, port: 0 };

const NOTHING: portknock_event = portknock_event {
    time_ns: 0,
    kind: portknock_event_kind::PORTKNOCK_EVENT_NOTICE,
    family: 0,
    door: c"".as_ptr(),
    ip: c"".as_ptr(),
    stage: 0,
    steps: 0,
    command: ptr::null(),
    message: ptr::null(),
    reason: portknock_fail_reason::PORTKNOCK_FAIL_NONE,
    refusal: portknock_refusal_reason::PORTKNOCK_REFUSAL_NONE,
    stop_command: ptr::null(),
    ports: ptr::null(),
    port_count: 0,
    closes_at_ns: 0,
    net: ptr::null(),
    key: ptr::null(),
    clock_offset: 0,
};

impl LastEvent {
    /// Stores an event and returns the pointer for C.
    pub(crate) fn set(&mut self, event: &Event) -> *const portknock_event {
        self.scratch.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.scratch, "{}", event.ip);
        let mut shown = portknock_event {
            time_ns: event.time.as_nanos(),
            family: if event.ip.is_ipv4() { 4 } else { 6 },
            door: self.door.set(&event.door),
            ip: self.ip.set(&self.scratch),
            closes_at_ns: event.closes_at().map_or(0, |time| time.as_nanos()),
            ..NOTHING
        };
        if let Some(net) = event.net() {
            self.scratch.clear();
            let _ = write!(self.scratch, "{net}");
            shown.net = self.net.set(&self.scratch);
        }
        if let Some(key) = event.kind.key() {
            shown.key = self.key.set(key);
        }
        match &event.kind {
            EventKind::Stage { stage, steps } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_STAGE;
                (shown.stage, shown.steps) = (u32::from(*stage), u32::from(*steps));
            }
            EventKind::Open { command, .. } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_OPEN;
                shown.command = command.as_ref().map_or(ptr::null(), |command| self.text.set(command));
            }
            EventKind::Extend { command, opening, .. } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_EXTEND;
                if let Some(command) = command {
                    shown.command = self.text.set(command);
                    let stop = opening.stop_command.as_ref();
                    shown.stop_command = stop.map_or(ptr::null(), |stop| self.stop_command.set(stop));
                }
            }
            EventKind::Close { opening, reason } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_CLOSE;
                shown.reason = reason.map_or(portknock_fail_reason::PORTKNOCK_FAIL_NONE, fail_reason);
                let command = opening.stop_command.as_ref();
                shown.command = command.map_or(ptr::null(), |command| self.text.set(command));
            }
            EventKind::Timeout { stage } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_TIMEOUT;
                shown.stage = u32::from(*stage);
            }
            EventKind::Fail { stage, reason } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_FAIL;
                (shown.stage, shown.reason) = (u32::from(*stage), fail_reason(*reason));
            }
            EventKind::Refused { reason, .. } => {
                shown.kind = portknock_event_kind::PORTKNOCK_EVENT_REFUSED;
                (shown.refusal, shown.clock_offset) = refusal(*reason);
            }
            // A kind that this interface does not have is passed on as a notice without a text.
            _ => {}
        }
        self.show(shown, event.ports())
    }

    /// Stores a line for a log and returns the pointer for C.
    pub(crate) fn set_notice(&mut self, line: &str) -> *const portknock_event {
        let message = self.text.set(line);
        self.show(portknock_event { message, ..NOTHING }, &[])
    }

    fn show(&mut self, event: portknock_event, ports: &[OpenPort]) -> *const portknock_event {
        let shown = self.shown.get_or_insert_with(|| {
            Box::new(Shown { event: Cell::new(NOTHING), ports: std::array::from_fn(|_| Cell::new(NO_PORT)) })
        });
        for (cell, port) in shown.ports.iter().zip(ports) {
            cell.set(open_port(*port));
        }
        let port_count = ports.len().min(MAX_OPEN_PORTS);
        shown.event.set(portknock_event { ports: shown.ports.as_ptr().cast(), port_count, ..event });
        shown.event.as_ptr()
    }
}

fn open_port(OpenPort { protocol, port }: OpenPort) -> portknock_open_port {
    let protocol = match protocol {
        Protocol::Tcp => portknock_protocol::PORTKNOCK_TCP,
        Protocol::Udp => portknock_protocol::PORTKNOCK_UDP,
    };
    portknock_open_port { protocol, port: port.get().into() }
}

fn fail_reason(reason: FailReason) -> portknock_fail_reason {
    match reason {
        FailReason::WrongPort => portknock_fail_reason::PORTKNOCK_FAIL_WRONG_PORT,
        FailReason::Scan => portknock_fail_reason::PORTKNOCK_FAIL_SCAN,
        FailReason::Full => portknock_fail_reason::PORTKNOCK_FAIL_FULL,
        FailReason::Reload => portknock_fail_reason::PORTKNOCK_FAIL_RELOAD,
        FailReason::Command => portknock_fail_reason::PORTKNOCK_FAIL_COMMAND,
        FailReason::Silenced => portknock_fail_reason::PORTKNOCK_FAIL_SILENCED,
        FailReason::DoorSilenced => portknock_fail_reason::PORTKNOCK_FAIL_DOOR_SILENCED,
        _ => portknock_fail_reason::PORTKNOCK_FAIL_NONE,
    }
}

/// Returns the reason and the number of seconds by which the client's clock is ahead.
fn refusal(reason: RefusalReason) -> (portknock_refusal_reason, i64) {
    match reason {
        RefusalReason::Replay => (portknock_refusal_reason::PORTKNOCK_REFUSAL_REPLAY, 0),
        RefusalReason::Clock(offset) => (portknock_refusal_reason::PORTKNOCK_REFUSAL_CLOCK, offset),
        RefusalReason::UnknownDoor => (portknock_refusal_reason::PORTKNOCK_REFUSAL_UNKNOWN_DOOR, 0),
        RefusalReason::Cooldown => (portknock_refusal_reason::PORTKNOCK_REFUSAL_COOLDOWN, 0),
        RefusalReason::Address => (portknock_refusal_reason::PORTKNOCK_REFUSAL_ADDRESS, 0),
        RefusalReason::Ports => (portknock_refusal_reason::PORTKNOCK_REFUSAL_PORTS, 0),
        RefusalReason::Command => (portknock_refusal_reason::PORTKNOCK_REFUSAL_COMMAND, 0),
        RefusalReason::Nat => (portknock_refusal_reason::PORTKNOCK_REFUSAL_NAT, 0),
        RefusalReason::Weak(_) => (portknock_refusal_reason::PORTKNOCK_REFUSAL_WEAK, 0),
        RefusalReason::User => (portknock_refusal_reason::PORTKNOCK_REFUSAL_USER, 0),
        RefusalReason::Malformed => (portknock_refusal_reason::PORTKNOCK_REFUSAL_MALFORMED, 0),
        _ => (portknock_refusal_reason::PORTKNOCK_REFUSAL_NONE, 0),
    }
}

const KINDS: [&CStr; 8] = [c"stage", c"open", c"extend", c"close", c"timeout", c"fail", c"notice", c"refused"];
const REASONS: [&CStr; 8] =
    [c"none", c"wrong-port", c"scan", c"full", c"reload", c"command", c"silenced", c"door-silenced"];
const REFUSALS: [&CStr; 12] = [
    c"none",
    c"replay",
    c"clock",
    c"unknown-door",
    c"cooldown",
    c"address",
    c"ports",
    c"command",
    c"nat",
    c"weak",
    c"user",
    c"malformed",
];

/// Returns the name of an event kind as in the JSON of `portknock replay`, for example "stage";
/// "unknown" for other numbers. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_event_kind_name(kind: i32) -> *const c_char {
    name(&KINDS, kind.checked_sub(1))
}

/// Returns the name of a reason as in the JSON of `portknock replay`, for example "wrong-port";
/// "unknown" for other numbers. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_fail_reason_name(reason: i32) -> *const c_char {
    name(&REASONS, Some(reason))
}

/// Returns the name of the reason of a refusal as in the JSON of `portknock replay`, for example
/// "replay"; "unknown" for other numbers. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_refusal_reason_name(reason: i32) -> *const c_char {
    name(&REFUSALS, Some(reason))
}

fn name(names: &[&'static CStr], index: Option<i32>) -> *const c_char {
    let index = index.and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| names.get(index)).unwrap_or(&c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portknock_core::fwknop::WeakReason;
    use std::num::NonZeroU16;

    /// Returns the text at a pointer that must not be NULL.
    fn read<'a>(pointer: *const c_char) -> &'a str {
        // SAFETY: these tests pass valid texts.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
    }

    #[test]
    fn names_match_core() {
        use FailReason::{Command, Full, Reload, Scan, WrongPort};
        for reason in [WrongPort, Scan, Full, Reload, Command] {
            assert_eq!(read(portknock_fail_reason_name(fail_reason(reason) as i32)), reason.as_str());
        }
        let event = |kind| Event {
            time: portknock_core::Timestamp::from_nanos(7),
            door: "d".into(),
            ip: [1, 2, 3, 4].into(),
            kind,
        };
        let ports = [(Protocol::Tcp, 22), (Protocol::Udp, 53)]
            .map(|(protocol, port)| OpenPort { protocol, port: NonZeroU16::new(port).unwrap() });
        let opening = |command: Option<&str>| {
            let (door, ip, closes_at) = ("d".into(), [1, 2, 3, 4].into(), portknock_core::Timestamp::from_nanos(9));
            let (stop_command, net) = (command.map(str::to_owned), "1.2.0.0/16".parse().unwrap());
            Box::new(portknock_core::Opening { door, ip, closes_at, stop_command, open: ports.into(), net })
        };
        let close = |command, reason| EventKind::Close { opening: opening(command), reason };
        let open = |command: Option<&str>, opening| EventKind::Open {
            door_id: portknock_core::DoorId(0),
            command: command.map(str::to_owned),
            opening,
            net: "1.2.0.0/16".parse().unwrap(),
            key: Some("alice".into()),
        };
        let extend = |command: Option<&str>, stop| EventKind::Extend {
            door_id: portknock_core::DoorId(0),
            command: command.map(str::to_owned),
            opening: opening(stop),
            key: None,
        };
        let refused = |reason| EventKind::Refused { key: "bob".into(), reason };
        let mut last = LastEvent::default();
        for kind in [
            EventKind::Stage { stage: 1, steps: 2 },
            open(Some("run"), None),
            open(None, Some(opening(None))),
            extend(Some("run"), Some("stop")),
            extend(Some("run"), None),
            extend(None, Some("stop")),
            close(Some("run"), None),
            close(None, Some(FailReason::Command)),
            EventKind::Timeout { stage: 1 },
            EventKind::Fail { stage: 1, reason: Scan },
            refused(RefusalReason::Replay),
            refused(RefusalReason::Clock(-14_754)),
            refused(RefusalReason::Clock(90)),
            refused(RefusalReason::UnknownDoor),
            refused(RefusalReason::Cooldown),
            refused(RefusalReason::Address),
            refused(RefusalReason::Ports),
            refused(RefusalReason::Command),
            refused(RefusalReason::Nat),
            refused(RefusalReason::Weak(WeakReason::NoHmac)),
            refused(RefusalReason::User),
            refused(RefusalReason::Malformed),
        ] {
            let event = event(kind);
            // SAFETY: the event lives as long as `last`, and no other thread changes it.
            let shown = unsafe { last.set(&event).read() };
            assert_eq!(read(portknock_event_kind_name(shown.kind as i32)), event.kind.as_str());
            assert_eq!((shown.time_ns, read(shown.ip), read(shown.door)), (7, "1.2.3.4", "d"));
            let text = |pointer: *const c_char| (!pointer.is_null()).then(|| read(pointer).to_owned());
            assert_eq!(text(shown.key).as_deref(), event.kind.key().map(|key| &**key));
            let (refusal, offset) = match event.kind {
                EventKind::Refused { reason: RefusalReason::Clock(offset), .. } => ("clock", offset),
                EventKind::Refused { reason, .. } => (reason.as_str(), 0),
                _ => ("none", 0),
            };
            assert_eq!(read(portknock_refusal_reason_name(shown.refusal as i32)), refusal);
            assert_eq!(shown.clock_offset, offset);
            assert_eq!(text(shown.net), event.net().map(|_| "1.2.0.0/16".to_owned()), "{event:?}");
            let commands: Vec<_> = event.command_requests().map(|request| request.command).collect();
            let shown_commands = [text(shown.stop_command), text(shown.command)];
            assert_eq!(shown_commands.into_iter().flatten().collect::<Vec<_>>(), commands);
            let reason = match event.kind {
                EventKind::Fail { reason, .. } => Some(reason),
                EventKind::Close { reason, .. } => reason,
                _ => None,
            };
            // SAFETY: as above; the array has `port_count` elements.
            let shown_ports = unsafe { std::slice::from_raw_parts(shown.ports, shown.port_count) };
            assert_eq!(shown_ports, event.ports().iter().map(|port| open_port(*port)).collect::<Vec<_>>());
            assert_eq!(shown.closes_at_ns, if event.ports().is_empty() { 0 } else { 9 });
            let expected = reason.map_or("none", FailReason::as_str);
            assert_eq!(read(portknock_fail_reason_name(shown.reason as i32)), expected);
        }
        for number in [0, 9, -1, i32::MIN, i32::MAX] {
            assert_eq!(read(portknock_event_kind_name(number)), "unknown");
        }
    }
}
