//! What happened at a door.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt::Write;
use std::ptr;

use portknock_core::{Event, EventKind, FailReason};

use crate::text::ChangingText;

/// What an event tells. Later versions may have more kinds: pass over those that you do not know.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_event_kind {
    /// A step of the sequence matched: `stage` of `steps` are done. The last one is followed by OPEN or EXTEND.
    PORTKNOCK_EVENT_STAGE = 1,
    /// The whole sequence matched and the door opens. `command` is what opens it, or NULL where the door has no command.
    PORTKNOCK_EVENT_OPEN = 2,
    /// A complete knock while the door is open: it closes later, and nothing is run.
    PORTKNOCK_EVENT_EXTEND = 3,
    /// The door's time is over. `command` is what closes it, or NULL where the kernel shuts its ports and no command does.
    PORTKNOCK_EVENT_CLOSE = 4,
    /// The attempt took longer than seq_timeout; `stage` steps were done.
    PORTKNOCK_EVENT_TIMEOUT = 5,
    /// The attempt failed for a `reason`; `stage` steps were done.
    PORTKNOCK_EVENT_FAIL = 6,
    /// Of listeners with the option `notices` alone: something to log. `message` has the line; nothing else is set.
    PORTKNOCK_EVENT_NOTICE = 7,
}

/// Why an attempt failed, or a door closed early. Later versions may have more reasons.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_fail_reason {
    /// It did not fail.
    PORTKNOCK_FAIL_NONE = 0,
    /// A port that some door uses, but not as this door's next step.
    PORTKNOCK_FAIL_WRONG_PORT = 1,
    /// More ports that no door uses than ScanGuard allows.
    PORTKNOCK_FAIL_SCAN = 2,
    /// The table of attempts was full and this one made room for another; or the door had MaxOpenings openings
    /// and this was the oldest.
    PORTKNOCK_FAIL_FULL = 3,
    /// The door changed or went away, or its one-time sequence was used by someone else.
    PORTKNOCK_FAIL_RELOAD = 4,
    /// The start command failed, so the door is not open.
    PORTKNOCK_FAIL_COMMAND = 5,
}

/// Something that happened at a door. It and its texts belong to the handle that it came from, and are as they are until
/// the next event is taken from that handle, by any thread. What is read later shows another event, or a mixture of
/// several, but stays readable until the handle is freed. Later versions may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct portknock_event {
    /// When, in nanoseconds since 1970: the packet's time, or the due time of a timeout or a closing. 0 for a notice.
    pub time_ns: u64,
    /// What happened.
    pub kind: portknock_event_kind,
    /// 4 or 6, as `ip` is of IPv4 or IPv6; 0 for a notice.
    pub family: i32,
    /// The door's name; "" for a notice.
    pub door: *const c_char,
    /// The address that knocked, as text; "" for a notice.
    pub ip: *const c_char,
    /// For STAGE, TIMEOUT and FAIL: how many steps are done. Else 0.
    pub stage: u32,
    /// For STAGE: how many steps the sequence has. Else 0.
    pub steps: u32,
    /// For OPEN, EXTEND and CLOSE: the command for /bin/sh, with the address in it. Else NULL, and for a door that has
    /// none. If an EXTEND has one, `stop_command` runs before it.
    pub command: *const c_char,
    /// For a NOTICE: a line for a log, without control characters and without a line's end. Else NULL.
    pub message: *const c_char,
    /// For FAIL: why. For CLOSE: why it is early, FULL or COMMAND; NONE if its time is over or somebody closed it.
    pub reason: portknock_fail_reason,
    /// Always 0.
    pub reserved: i32,
    /// For EXTEND: the stop command for /bin/sh that runs before `command`. Else NULL, and for a door that has none.
    pub stop_command: *const c_char,
    /// For OPEN, EXTEND and CLOSE: the network that the door is open for, as in "203.0.113.0/24"; without `open_prefix` it
    /// is a single address, as in "203.0.113.7/32". Else NULL.
    pub net: *const c_char,
}

/// The place of a handle where its last event is, for C to read.
#[derive(Default)]
pub(crate) struct LastEvent {
    event: Option<Box<Cell<portknock_event>>>,
    door: ChangingText,
    ip: ChangingText,
    /// A command or a message.
    text: ChangingText,
    stop_command: ChangingText,
    net: ChangingText,
    /// Kept for its memory.
    scratch: String,
}

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
    reserved: 0,
    stop_command: ptr::null(),
    net: ptr::null(),
};

impl LastEvent {
    /// Puts an event there, and says where.
    pub(crate) fn set(&mut self, event: &Event) -> *const portknock_event {
        self.scratch.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.scratch, "{}", event.ip);
        let mut shown = portknock_event {
            time_ns: event.time.as_nanos(),
            family: if event.ip.is_ipv4() { 4 } else { 6 },
            door: self.door.set(&event.door),
            ip: self.ip.set(&self.scratch),
            ..NOTHING
        };
        if let Some(net) = event.net() {
            self.scratch.clear();
            let _ = write!(self.scratch, "{net}");
            shown.net = self.net.set(&self.scratch);
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
        }
        self.show(shown)
    }

    /// Puts a line for a log there, and says where.
    pub(crate) fn set_notice(&mut self, line: &str) -> *const portknock_event {
        let message = self.text.set(line);
        self.show(portknock_event { message, ..NOTHING })
    }

    fn show(&mut self, event: portknock_event) -> *const portknock_event {
        let cell = self.event.get_or_insert_with(|| Box::new(Cell::new(NOTHING)));
        cell.set(event);
        cell.as_ptr()
    }
}

fn fail_reason(reason: FailReason) -> portknock_fail_reason {
    match reason {
        FailReason::WrongPort => portknock_fail_reason::PORTKNOCK_FAIL_WRONG_PORT,
        FailReason::Scan => portknock_fail_reason::PORTKNOCK_FAIL_SCAN,
        FailReason::Full => portknock_fail_reason::PORTKNOCK_FAIL_FULL,
        FailReason::Reload => portknock_fail_reason::PORTKNOCK_FAIL_RELOAD,
        FailReason::Command => portknock_fail_reason::PORTKNOCK_FAIL_COMMAND,
    }
}

const KINDS: [&CStr; 7] = [c"stage", c"open", c"extend", c"close", c"timeout", c"fail", c"notice"];
const REASONS: [&CStr; 6] = [c"none", c"wrong-port", c"scan", c"full", c"reload", c"command"];

/// The name of a kind of events in the JSON of `portknock replay`, as in "stage"; "unknown" for other numbers. The text
/// is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_event_kind_name(kind: i32) -> *const c_char {
    name(&KINDS, kind.checked_sub(1))
}

/// The name of a reason in the JSON of `portknock replay`, as in "wrong-port"; "unknown" for other numbers. The text is
/// static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_fail_reason_name(reason: i32) -> *const c_char {
    name(&REASONS, Some(reason))
}

fn name(names: &[&'static CStr], index: Option<i32>) -> *const c_char {
    let index = index.and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| names.get(index)).unwrap_or(&c"unknown").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text at a pointer that must not be NULL.
    fn read<'a>(pointer: *const c_char) -> &'a str {
        // SAFETY: these tests pass texts that are still there.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
    }

    #[test]
    fn names_are_cores() {
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
        let opening = |command: Option<&str>| {
            let (door, ip, closes_at) = ("d".into(), [1, 2, 3, 4].into(), portknock_core::Timestamp::from_nanos(7));
            let (stop_command, net) = (command.map(str::to_owned), "1.2.0.0/16".parse().unwrap());
            Box::new(portknock_core::Opening { door, ip, closes_at, stop_command, open: [].into(), net })
        };
        let close = |command, reason| EventKind::Close { opening: opening(command), reason };
        let extend = |command: Option<&str>, stop| EventKind::Extend {
            door_id: portknock_core::DoorId(0),
            command: command.map(str::to_owned),
            opening: opening(stop),
        };
        let mut last = LastEvent::default();
        for kind in [
            EventKind::Stage { stage: 1, steps: 2 },
            EventKind::Open {
                door_id: portknock_core::DoorId(0),
                command: Some("run".into()),
                opening: None,
                net: "1.2.0.0/16".parse().unwrap(),
            },
            extend(Some("run"), Some("stop")),
            extend(Some("run"), None),
            extend(None, Some("stop")),
            close(Some("run"), None),
            close(None, Some(FailReason::Command)),
            EventKind::Timeout { stage: 1 },
            EventKind::Fail { stage: 1, reason: Scan },
        ] {
            let event = event(kind);
            // SAFETY: it is as long there as `last`, and nothing changes it now.
            let shown = unsafe { last.set(&event).read() };
            assert_eq!(read(portknock_event_kind_name(shown.kind as i32)), event.kind.as_str());
            assert_eq!((shown.time_ns, read(shown.ip), read(shown.door)), (7, "1.2.3.4", "d"));
            let text = |pointer: *const c_char| (!pointer.is_null()).then(|| read(pointer).to_owned());
            assert_eq!(text(shown.net), event.net().map(|_| "1.2.0.0/16".to_owned()), "{event:?}");
            let commands: Vec<_> = event.command_requests().map(|request| request.command).collect();
            let shown_commands = [text(shown.stop_command), text(shown.command)];
            assert_eq!(shown_commands.into_iter().flatten().collect::<Vec<_>>(), commands);
            let reason = match event.kind {
                EventKind::Fail { reason, .. } => Some(reason),
                EventKind::Close { reason, .. } => reason,
                _ => None,
            };
            let expected = reason.map_or("none", FailReason::as_str);
            assert_eq!(read(portknock_fail_reason_name(shown.reason as i32)), expected);
        }
        for number in [0, 8, -1, i32::MIN, i32::MAX] {
            assert_eq!(read(portknock_event_kind_name(number)), "unknown");
        }
    }
}
