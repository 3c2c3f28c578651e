//! What a running service has to tell, each with its line for a log.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::FloodCounts;
use crate::capture::{CaptureError, CaptureNotice};
use crate::config::FlagMask;
use crate::decode::Knock;
use crate::event::{CommandRequest, Event};
use crate::exec::Outcome;
use crate::gate::{Element, GateError};
use crate::journal::{StateError, StateNotice};
use crate::log_limit::Suppressed;
use crate::network::Written;
use crate::one_time::OneTimeError;
use crate::packet::TcpFlags;
use crate::printable::Printable;
use crate::reader::ReaderNotice;

/// Something that happened.
#[derive(Debug)]
pub enum Notice {
    /// The service has started; it listens on these interfaces, or waits for them.
    StartingUp(Vec<String>),
    /// The service stops.
    ShuttingDown,
    /// Another configuration is in use.
    Reloaded,
    /// A packet that matters, where [`ServiceOptions::report_knocks`](super::ServiceOptions::report_knocks) asks for
    /// it.
    Knock(Knock),
    /// A TCP segment to a port of doors, none of which takes its flags; it is reported like [`Notice::Knock`].
    TurnedAway(Knock),
    /// Something happened at a door.
    Event(Event),
    /// Events that are no [`Notice::Event`] each, since there were more than `LogRate` of them in a second. Only a service with a
    /// [`ReaderProgram`](crate::reader::ReaderProgram) has this limit.
    Suppressed(Suppressed),
    /// The same, without a line for a log: there are too many of them at its door, and [`Notice::Flood`] counts them.
    SummarisedEvent(Event),
    /// What was not logged line by line of one door in the last second.
    Flood {
        /// The door's name.
        door: Arc<str>,
        /// What was not logged.
        counts: FloodCounts,
    },
    /// So many start commands that waited are not run, since the service stops.
    NotRun(usize),
    /// Something happened to a command.
    Command(Outcome),
    /// The shell could not run a program of a command, by its exit status.
    FailedProgram {
        /// The door's name.
        door: Arc<str>,
        /// The program, where the command names it plainly.
        program: Option<String>,
        /// The program is there, but cannot be executed.
        is_found: bool,
    },
    /// A command that would run now if commands were run.
    CommandSkipped(CommandRequest),
    /// Something happened to the capture.
    Capture(CaptureNotice),
    /// A notice about the reader process.
    Reader(ReaderNotice),
    /// So many openings from before the start were found in the state file.
    Restored(usize),
    /// Something happened to the state file.
    State(StateNotice),
    /// A one-time door's last sequence was used, or a file without one was found at the start: it takes no knock.
    UsedUp {
        /// The door's name.
        door: Arc<str>,
        /// Its file of sequences.
        path: PathBuf,
    },
    /// Something is wrong with a one-time door's file. Where `ip` is set, that address made a complete knock for which
    /// nothing was done.
    OneTime {
        /// The door's name.
        door: Arc<str>,
        /// Whose knock does not count.
        ip: Option<IpAddr>,
        /// What is wrong.
        error: OneTimeError,
    },
    /// A port that would be opened now if anything were done.
    OpenSkipped {
        /// The door's name.
        door: Arc<str>,
        /// The port, and for whom.
        element: Element,
    },
    /// A port cannot be opened: the door stays shut.
    NotOpened {
        /// The door's name.
        door: Arc<str>,
        /// The port, and for whom.
        element: Element,
        /// Why.
        error: GateError,
    },
    /// A port cannot be shut before its time; the kernel shuts it then.
    NotShut {
        /// The door's name.
        door: Arc<str>,
        /// The port, and for whom.
        element: Element,
        /// Why.
        error: GateError,
    },
    /// The own table, which refuses who has not knocked, was gone, or a part of it; it was made again.
    GateMadeAgain,
    /// The own table cannot be made or removed.
    Gate(GateError),
    /// At the stop, open doors are closed in spite of `OnStop = keep`, since the state file does not have them.
    NotKept,
    /// At the stop, so many commands still ran and so many waited after [`STOP_LIMIT`](super::STOP_LIMIT). The next
    /// start runs the stop commands among them again.
    LeftBehind {
        /// Commands that run on.
        running: usize,
        /// Commands that were not started.
        waiting: usize,
    },
}

impl Notice {
    /// The address that the line begins with, for a log that shows names.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Event(event) | Self::SummarisedEvent(event) => Some(event.ip),
            _ => None,
        }
    }

    /// The line for a log, in knockd's words where knockd has any, without control characters. `None` for what logs
    /// keep quiet about: commands that ended well, and what a [`Notice::Flood`] counts.
    pub fn log_line(&self) -> Option<String> {
        let line = self.to_string();
        (!line.is_empty()).then_some(line)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartingUp(interfaces) => {
                write!(f, "starting up, listening on {}", Printable(&interfaces.join(",")))
            }
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Reloaded => f.write_str("the configuration is reloaded"),
            Self::Knock(knock) => {
                let from = SocketAddr::new(knock.source, knock.source_port);
                let to = SocketAddr::new(knock.destination, knock.port);
                write!(f, "{}: {from} -> {to}", knock.protocol)
            }
            Self::TurnedAway(knock) => {
                let from = SocketAddr::new(knock.source, knock.source_port);
                let to = SocketAddr::new(knock.destination, knock.port);
                let flags = FlagMask { set: knock.flags, clear: TcpFlags::NONE };
                write!(f, "tcp: {from} -> {to} turned away: no door takes its flags ({flags})")
            }
            Self::Event(event) => event.fmt(f),
            Self::Suppressed(suppressed) => suppressed.fmt(f),
            Self::SummarisedEvent(_) => Ok(()),
            Self::Flood { door, counts } => flood(f, door, counts),
            Self::NotRun(count) => write!(f, "start commands that waited and are not run any more: {count}"),
            Self::Command(outcome) => outcome.fmt(f),
            Self::FailedProgram { door, program, is_found } => {
                let program = program.as_deref().unwrap_or("a program of the command");
                let what = if *is_found { "cannot be executed" } else { "not found" };
                write!(f, "{}: {}: {what}", Printable(door), Printable(program))
            }
            Self::CommandSkipped(CommandRequest { door, command, .. }) => {
                write!(f, "{}: would run command: {}", Printable(door), Printable(command))
            }
            Self::Capture(notice) => notice.fmt(f),
            Self::Reader(notice) => notice.fmt(f),
            Self::Restored(count) => write!(f, "openings found from before the start: {count}"),
            Self::State(notice) => notice.fmt(f),
            Self::UsedUp { door, path } => write!(
                f,
                "{}: no more sequences found in {}, the door takes no more knocks",
                Printable(door),
                Printable(&path.to_string_lossy())
            ),
            Self::OneTime { door, ip: Some(ip), error } => write!(f, "{ip}: {}: {error}", Printable(door)),
            Self::OneTime { door, ip: None, error } => write!(f, "{}: {error}", Printable(door)),
            Self::OpenSkipped { door, element: Element { net, port } } => {
                write!(f, "{}: would open {port} for {}", Printable(door), Written(*net))
            }
            Self::NotOpened { door, element: Element { net, port }, error } => {
                write!(f, "{}: {}: cannot open {port}: {error}", Printable(door), Written(*net))
            }
            Self::NotShut { door, element: Element { net, port }, error } => {
                write!(f, "{}: {}: cannot shut {port}: {error}", Printable(door), Written(*net))
            }
            Self::GateMadeAgain => f.write_str(
                "another program removed or changed the table inet portknock, and its ports may have been open to any host; \
                 it is made again",
            ),
            Self::Gate(error) => error.fmt(f),
            Self::NotKept => f.write_str("open doors are closed, since the state file does not have them"),
            Self::LeftBehind { running, waiting } => {
                write!(f, "commands left behind: {running} still running, {waiting} not started")
            }
        }
    }
}

fn flood(f: &mut fmt::Formatter<'_>, door: &str, counts: &FloodCounts) -> fmt::Result {
    let FloodCounts { replaced, repeated, dropped, commands } = *counts;
    write!(f, "{}: not logged one by one in the last second:", Printable(door))?;
    let mut comma = "";
    for (count, what) in [
        (replaced, "openings for which the oldest one was closed (MaxOpenings)"),
        (repeated, "repeated knocks"),
        (dropped, "start commands that were dropped (MaxOpenings)"),
        (commands, "commands that were started"),
    ] {
        if count > 0 {
            write!(f, "{comma} {count} {what}")?;
            comma = ",";
        }
    }
    Ok(())
}

/// Why a service cannot start, go on, or take up a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The capture cannot be opened or has broken down.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The reader process cannot be started.
    #[error("the reader process cannot be started: {0}")]
    Reader(String),
    /// The state file must not be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A door's file of one-time sequences cannot be used.
    #[error("{}: {error}", Printable(.door))]
    OneTime {
        /// The door's name.
        door: Arc<str>,
        /// What is wrong.
        error: OneTimeError,
    },
    /// The ports of the doors' `open` cannot be protected or opened.
    #[error("open: {0}")]
    Gate(#[from] GateError),
    /// A system call failed, mostly for want of descriptors.
    #[error("system error: {0}")]
    System(#[from] io::Error),
    /// A [`Listener`](super::Listener) cannot be used any more.
    #[error(
        "an earlier call failed in a way that must not happen (it panicked): this listener cannot be used any more"
    )]
    Panicked,
    /// A [`Listener`](super::Listener) is used in a process that was forked after it was opened.
    #[error("the listener belongs to the process that opened it; a forked child cannot use it")]
    Forked,
}
