//! The events of the engine: stages, openings, closings and failures at doors, with the log lines
//! of knockd.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{DoorId, OpenPort};
use crate::fwknop::WeakReason;
use crate::openings::Opening;
use crate::printable::Printable;
use crate::time::Timestamp;

/// An event at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time of the packet, or due time of a timeout or a closing.
    pub time: Timestamp,
    /// The door's name.
    pub door: Arc<str>,
    /// The source address of the knocks.
    pub ip: IpAddr,
    /// The kind, with its data.
    pub kind: EventKind,
}

/// The kind of an event at a door, with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A step matched: `stage` of `steps` are done. An `Open` or `Extend` follows the last one.
    Stage {
        /// Steps matched, counted from 1.
        stage: u8,
        /// Steps of the sequence.
        steps: u8,
    },
    /// The whole sequence matched and the door opens.
    Open {
        /// The door's index in the configuration.
        door_id: DoorId,
        /// The start command to run now, with `%IP%` and `%NET%` replaced.
        command: Option<String>,
        /// The opening, if the door closes again. It must be saved and its ports opened before the
        /// command runs.
        opening: Option<Box<Opening>>,
        /// The network that the door opens for: the address alone, unless the door has
        /// `open_prefix`.
        net: IpNet,
        /// The name of the key that authenticated the knock; `None` for a door without keys.
        key: Option<Arc<str>>,
    },
    /// The whole sequence matched while the door is open: the closing time moves. The start command
    /// opens the door again, because another program may have removed its effect; the opening's
    /// stop command runs before it.
    Extend {
        /// The door's index in the configuration.
        door_id: DoorId,
        /// The start command, with `%IP%` and `%NET%` replaced as in the stop command, to run after
        /// the opening's stop command. `None` if no command runs.
        command: Option<String>,
        /// The opening with its new closing time.
        opening: Box<Opening>,
        /// The name of the key that authenticated the knock; `None` for a door without keys.
        key: Option<Arc<str>>,
    },
    /// The door's time is over, or it closes early.
    Close {
        /// The opening that ends; it contains the stop command to run now. If it ends early, its
        /// closing time is later than the event.
        opening: Box<Opening>,
        /// Reason for closing early without a request: [`FailReason::Full`] or
        /// [`FailReason::Command`].
        reason: Option<FailReason>,
    },
    /// The attempt took longer than `seq_timeout`.
    Timeout {
        /// Number of steps matched when it ended.
        stage: u8,
    },
    /// The attempt failed.
    Fail {
        /// Number of steps matched when it ended.
        stage: u8,
        /// The reason.
        reason: FailReason,
    },
    /// An authenticated knock opens nothing.
    Refused {
        /// The name of the key that authenticated the knock.
        key: Arc<str>,
        /// The reason.
        reason: RefusalReason,
    },
}

/// Why an authenticated knock opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The same knock was accepted before, or it may have been: the record of accepted knocks from
    /// before the start is incomplete.
    Replay,
    /// The clock of the client differs from the clock of this machine by more than `ClockSkew`. The
    /// value is the number of seconds by which it is ahead; negative if it is behind.
    Clock(i64),
    /// The packet asks for a door that does not exist or that this key does not open.
    UnknownDoor,
    /// The door ignores the address until its `seq_cooldown` is over. The knock is consumed.
    Cooldown,
    /// The packet asks for an address that the door's `allow` or `packet_address` excludes, or that no
    /// host can have.
    Address,
    /// The packet of fwknop's format asks for a port that the key does not open.
    Ports,
    /// The packet of fwknop's format contains a command.
    Command,
    /// The packet of fwknop's format asks for network address translation.
    Nat,
    /// The packet of fwknop's format lacks a protection that is required, such as an HMAC.
    Weak(WeakReason),
    /// The packet of fwknop's format names a user other than that of the key.
    User,
    /// The packet of fwknop's format has a valid HMAC, and the encryption key is not that of the key
    /// file or the content is invalid.
    Malformed,
}

impl RefusalReason {
    /// Returns the name in the JSON form, such as `replay`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Clock(_) => "clock",
            Self::UnknownDoor => "unknown-door",
            Self::Cooldown => "cooldown",
            Self::Address => "address",
            Self::Ports => "ports",
            Self::Command => "command",
            Self::Nat => "nat",
            Self::Weak(_) => "weak",
            Self::User => "user",
            Self::Malformed => "malformed",
        }
    }
}

/// The reason in a log line.
impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replay => f.write_str("it may have been accepted before"),
            Self::Clock(seconds) if *seconds < 0 => write!(f, "its clock is {} s behind", seconds.unsigned_abs()),
            Self::Clock(seconds) => write!(f, "its clock is {seconds} s ahead"),
            Self::UnknownDoor => f.write_str("it asks for a door that the key does not open"),
            Self::Cooldown => f.write_str("the door has opened for this address a short time ago"),
            Self::Address => f.write_str("it asks for an address that may not use the door"),
            Self::Ports => f.write_str("it asks for ports that the key does not open"),
            Self::Command => f.write_str("it contains a command, which is never run"),
            Self::Nat => f.write_str("it asks for network address translation, which is not available"),
            Self::Weak(reason) => reason.fmt(f),
            Self::User => f.write_str("it names another user than the key file"),
            Self::Malformed => f.write_str(
                "it is authentic, but its encryption key is not that of the key file, or its content is invalid",
            ),
        }
    }
}

/// Why an attempt failed, or a door closed before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailReason {
    /// A knock at a port that some door uses, but that is not this door's next step.
    WrongPort,
    /// Packets to more unused ports than `ScanGuard` allows.
    Scan,
    /// The table of attempts was full and this attempt was evicted for another; or the door had
    /// `MaxOpenings` openings and this was the oldest.
    Full,
    /// The third wrong code of the address in the present window: the door ignores the address until the
    /// window ends.
    Silenced,
    /// The tenth wrong code in the present window: the door ignores every address until the window ends.
    DoorSilenced,
    /// A reload changed or removed the door; another client consumed its one-time sequence; or the
    /// door opened for the network that begins with this address, and its cooldown began.
    Reload,
    /// The start command failed, so that the door is not open.
    Command,
}

impl EventKind {
    /// Returns the name in the JSON form, such as `stage`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Stage { .. } => "stage",
            Self::Open { .. } => "open",
            Self::Extend { .. } => "extend",
            Self::Close { .. } => "close",
            Self::Timeout { .. } => "timeout",
            Self::Fail { .. } => "fail",
            Self::Refused { .. } => "refused",
        }
    }

    /// Returns the name of the key that authenticated the knock of an `Open`, `Extend` or `Refused`;
    /// `None` for a door without keys, and for every other event.
    pub fn key(&self) -> Option<&Arc<str>> {
        match self {
            Self::Open { key, .. } | Self::Extend { key, .. } => key.as_ref(),
            Self::Refused { key, .. } => Some(key),
            Self::Stage { .. } | Self::Close { .. } | Self::Timeout { .. } | Self::Fail { .. } => None,
        }
    }

    /// Returns the opening of an `Open`, `Extend` or `Close`. `None` for the `Open` of a door that
    /// never closes by itself, and for every other event.
    pub fn opening(&self) -> Option<&Opening> {
        match self {
            Self::Open { opening, .. } => opening.as_deref(),
            Self::Extend { opening, .. } | Self::Close { opening, .. } => Some(opening),
            Self::Stage { .. } | Self::Timeout { .. } | Self::Fail { .. } | Self::Refused { .. } => None,
        }
    }
}

impl FailReason {
    /// Returns the name in the JSON form, such as `wrong-port`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongPort => "wrong-port",
            Self::Scan => "scan",
            Self::Full => "full",
            Self::Silenced => "silenced",
            Self::DoorSilenced => "door-silenced",
            Self::Reload => "reload",
            Self::Command => "command",
        }
    }
}

/// The name in the JSON form.
impl fmt::Display for FailReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of command; the `Display` form is the value of `PORTKNOCK_EVENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The start command.
    Open,
    /// The stop command.
    Close,
}

/// `open` or `close`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Close => "close",
        })
    }
}

/// A command that an event asks for; see [`Event::command_requests`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRequest {
    /// The door's name.
    pub door: Arc<str>,
    /// The source address that opened the door.
    pub ip: IpAddr,
    /// The kind of command.
    pub action: Action,
    /// The command line for `/bin/sh -c`, with `%IP%` and `%NET%` replaced.
    pub command: String,
    /// The network that the door opens or closes for.
    pub net: IpNet,
    /// The name of the key that authenticated the knock; `None` for a stop command, and for a door
    /// without keys.
    pub key: Option<Arc<str>>,
}

/// The log line, with the text of knockd for events that knockd logs too. Control characters in the
/// door's name are escaped.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.ip, Printable(&self.door))?;
        match &self.kind {
            EventKind::Stage { stage, .. } => write!(f, "Stage {stage}"),
            EventKind::Open { key, .. } => write_opened(f, key.as_deref()),
            EventKind::Extend { command: None, .. } => f.write_str("still open, closing time extended"),
            EventKind::Extend { key, .. } => write_opened(f, key.as_deref()),
            EventKind::Close { reason: None, .. } => f.write_str("command timeout"),
            EventKind::Close { reason: Some(FailReason::Command), .. } => {
                f.write_str("closed, because the start command failed")
            }
            EventKind::Close { reason: Some(reason), .. } => write!(f, "closed early: {reason}"),
            EventKind::Timeout { stage } => write!(f, "sequence timeout (stage {stage})"),
            EventKind::Fail { stage, reason: FailReason::Silenced } => {
                write!(
                    f,
                    "attempt failed: third wrong code, the address is ignored until the window ends (stage {stage})"
                )
            }
            EventKind::Fail { stage, reason: FailReason::DoorSilenced } => {
                write!(
                    f,
                    "attempt failed: tenth wrong code, the door ignores every address until the window ends (stage {stage})"
                )
            }
            EventKind::Fail { stage, reason } => write!(f, "attempt failed: {reason} (stage {stage})"),
            EventKind::Refused { key, reason } => write!(f, "knock of key {} refused: {reason}", Printable(key)),
        }
    }
}

/// Writes that a door opens, and the name of the key that authenticated the knock.
fn write_opened(f: &mut fmt::Formatter<'_>, key: Option<&str>) -> fmt::Result {
    f.write_str("OPEN SESAME")?;
    key.map_or(Ok(()), |key| write!(f, " by key {}", Printable(key)))
}

/// The log line of knockd for a command that starts.
impl fmt::Display for CommandRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: running command: {}", Printable(&self.door), Printable(&self.command))
    }
}

impl Event {
    /// Returns the ports that the door opens without a command (`open`). Empty for a door without
    /// `open`, and for every event other than `Open`, `Extend` and `Close`.
    pub fn ports(&self) -> &[OpenPort] {
        self.kind.opening().map_or(&[], |opening| &opening.open)
    }

    /// Returns the time when the door closes. For a `Close` it is the time when the door was due to
    /// close, which is later than the event if the door closes early. `None` for the `Open` of a
    /// door that never closes by itself, and for every event other than `Open`, `Extend` and
    /// `Close`.
    pub fn closes_at(&self) -> Option<Timestamp> {
        self.kind.opening().map(|opening| opening.closes_at)
    }

    /// Returns the network for which the door opens, stays open or closes. `None` for every event
    /// other than `Open`, `Extend` and `Close`.
    pub fn net(&self) -> Option<IpNet> {
        match &self.kind {
            EventKind::Open { net, .. } => Some(*net),
            EventKind::Extend { opening, .. } | EventKind::Close { opening, .. } => Some(opening.net),
            EventKind::Stage { .. }
            | EventKind::Timeout { .. }
            | EventKind::Fail { .. }
            | EventKind::Refused { .. } => None,
        }
    }

    /// Returns the commands that this event asks for, in the order in which they run: the stop
    /// command, then the start command.
    pub fn command_requests(&self) -> impl Iterator<Item = CommandRequest> {
        let (close, open) = match &self.kind {
            EventKind::Open { command, .. } => (None, command.as_ref()),
            EventKind::Extend { command: Some(command), opening, .. } => (opening.stop_command.as_ref(), Some(command)),
            EventKind::Close { opening, .. } => (opening.stop_command.as_ref(), None),
            _ => (None, None),
        };
        let (ip, net) = match &self.kind {
            EventKind::Extend { opening, .. } | EventKind::Close { opening, .. } => (opening.ip, opening.net),
            EventKind::Open { net, .. } => (self.ip, *net),
            _ => (self.ip, self.ip.into()),
        };
        let request = |action, command: Option<&String>| {
            let key = if action == Action::Open { self.kind.key().cloned() } else { None };
            Some(CommandRequest { door: self.door.clone(), ip, action, command: command?.clone(), net, key })
        };
        [request(Action::Close, close), request(Action::Open, open)].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    use crate::packet::Protocol;

    fn opening(stop_command: Option<&str>) -> Box<Opening> {
        let (door, ip) = ("a".into(), IpAddr::from([10, 0, 0, 1]));
        let stop_command = stop_command.map(str::to_owned);
        Box::new(Opening {
            door,
            ip,
            closes_at: Timestamp::default(),
            stop_command,
            open: Arc::new([]),
            net: ip.into(),
        })
    }

    fn open() -> EventKind {
        EventKind::Open {
            door_id: DoorId(0),
            command: None,
            opening: None,
            net: IpAddr::from([10, 0, 0, 1]).into(),
            key: None,
        }
    }

    fn extend(stop: Option<&str>, start: Option<&str>) -> EventKind {
        EventKind::Extend { door_id: DoorId(0), command: start.map(str::to_owned), opening: opening(stop), key: None }
    }

    fn close(command: Option<&str>) -> EventKind {
        EventKind::Close { opening: opening(command), reason: None }
    }

    fn line(kind: EventKind) -> String {
        let event = Event { time: Timestamp::default(), door: "op\nen\x1b[31m".into(), ip: [10, 0, 0, 1].into(), kind };
        event.to_string()
    }

    #[test]
    fn lines_are_those_of_knockd_without_control_characters() {
        let door = "10.0.0.1: op\\x0aen\\x1b[31m: ";
        assert_eq!(line(EventKind::Stage { stage: 2, steps: 3 }), format!("{door}Stage 2"));
        assert_eq!(line(open()), format!("{door}OPEN SESAME"));
        assert_eq!(line(EventKind::Timeout { stage: 1 }), format!("{door}sequence timeout (stage 1)"));
        assert_eq!(line(close(None)), format!("{door}command timeout"));
        let failed = EventKind::Close { opening: opening(None), reason: Some(FailReason::Command) };
        assert_eq!(line(failed), format!("{door}closed, because the start command failed"));
        for stop in [None, Some("close")] {
            assert_eq!(line(extend(stop, None)), format!("{door}still open, closing time extended"));
            assert_eq!(line(extend(stop, Some("open"))), format!("{door}OPEN SESAME"));
        }
        let fail = EventKind::Fail { stage: 1, reason: FailReason::WrongPort };
        assert_eq!(line(fail), format!("{door}attempt failed: wrong-port (stage 1)"));
    }

    #[test]
    fn only_openings_and_closings_ask_for_commands() {
        let event = |kind| Event { time: Timestamp::default(), door: "a".into(), ip: [10, 0, 0, 1].into(), kind };
        let request = event(close(Some("iptables -D"))).command_requests().next().unwrap();
        assert_eq!((request.action, request.to_string().as_str()), (Action::Close, "a: running command: iptables -D"));
        let requests = event(extend(Some("-D"), Some("-I"))).command_requests().collect::<Vec<_>>();
        let requests: Vec<_> = requests.iter().map(|request| (request.action, &*request.command)).collect();
        assert_eq!(requests, [(Action::Close, "-D"), (Action::Open, "-I")]);
        for kind in [open(), extend(Some("close"), None), close(None), EventKind::Timeout { stage: 1 }] {
            assert_eq!(event(kind).command_requests().count(), 0);
        }
    }

    #[test]
    fn openings_and_closings_have_the_ports_and_the_closing_time() {
        let ssh = OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::new(22).unwrap() };
        let due = Timestamp::from_secs(12);
        let opening = Box::new(Opening { open: [ssh].into(), closes_at: due, ..*opening(None) });
        let event = |kind| Event { time: Timestamp::from_secs(2), door: "a".into(), ip: [10, 0, 0, 1].into(), kind };
        let net = IpAddr::from([10, 0, 0, 1]).into();
        let open = |opening| EventKind::Open { door_id: DoorId(0), command: None, opening, net, key: None };
        for kind in [
            open(Some(opening.clone())),
            EventKind::Extend { door_id: DoorId(0), command: None, opening: opening.clone(), key: None },
            EventKind::Close { opening, reason: None },
        ] {
            let event = event(kind);
            assert_eq!((event.ports(), event.closes_at()), (&[ssh][..], Some(due)), "{event:?}");
        }
        for kind in [open(None), EventKind::Stage { stage: 1, steps: 1 }, EventKind::Timeout { stage: 1 }] {
            let event = event(kind);
            assert_eq!((event.ports(), event.closes_at()), (&[][..], None), "{event:?}");
        }
    }
}
