//! The notices of a running service, with their log lines.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::FloodCounts;
use crate::capture::{CaptureError, CaptureNotice};
use crate::config::FlagMask;
use crate::config::KeysError;
use crate::decode::Knock;
use crate::event::{CommandRequest, Event};
use crate::exec::CommandResult;
use crate::gate::{Element, GateError};
use crate::journal::{StateError, StateNotice};
use crate::log_limit::Suppressed;
use crate::network::DisplayNetwork;
use crate::one_time::OneTimeError;
use crate::packet::TcpFlags;
use crate::printable::Printable;
use crate::reader::ReaderNotice;

/// A notice of a running service. Its `Display` form is its log line, empty if it has none.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The service has started. It listens on these interfaces, or waits for them.
    StartingUp(Vec<String>),
    /// The service begins to stop.
    ShuttingDown,
    /// A new configuration is in force.
    Reloaded,
    /// A knock that passed the kernel's filter, at whatever port, if
    /// [`ServiceOptions::report_knocks`](super::ServiceOptions::report_knocks) is set.
    Knock(Knock),
    /// A TCP segment to a port of doors, none of which accepts its flags. Reported under the same
    /// condition as [`Notice::Knock`].
    FlagsIgnored(Knock),
    /// An event at a door.
    Event(Event),
    /// Numbers of events that were not reported as a [`Notice::Event`] each, because there were
    /// more than `LogRate` of them in a second. Only a service with a
    /// [`ReaderProgram`](crate::reader::ReaderProgram) has this limit.
    Suppressed(Suppressed),
    /// An event at a door, without a log line: its door has too many of them, and [`Notice::Flood`]
    /// counts them.
    SummarisedEvent(Event),
    /// The numbers of lines that were not logged for one door in the last second.
    Flood {
        /// The door's name.
        door: Arc<str>,
        /// The numbers by kind.
        counts: FloodCounts,
    },
    /// Number of waiting start commands that are not run, because the service stops.
    NotRun(usize),
    /// A result of a command.
    Command(CommandResult),
    /// The exit status of a command shows that the shell could not run a program.
    FailedProgram {
        /// The door's name.
        door: Arc<str>,
        /// The program, if the command names it without expansions.
        program: Option<String>,
        /// True if the program exists but cannot be executed.
        is_found: bool,
    },
    /// A command that would run now if
    /// [`ServiceOptions::run_commands`](super::ServiceOptions::run_commands) were set.
    CommandSkipped(CommandRequest),
    /// A notice of the capture.
    Capture(CaptureNotice),
    /// A notice about the reader process.
    Reader(ReaderNotice),
    /// Number of openings from before the start that the state file contains.
    Restored(usize),
    /// A notice about the state file.
    State(StateNotice),
    /// The last sequence of a one-time door was consumed, or its file had none left at the start.
    /// The door accepts no knock.
    SequencesConsumed {
        /// The door's name.
        door: Arc<str>,
        /// The door's file of sequences.
        path: PathBuf,
    },
    /// Doors with keys refuse the knocks of clients for a time, because the record of accepted knocks
    /// is incomplete.
    ReplaysIncomplete,
    /// No program synchronises the clock of this machine, and doors with keys depend on it.
    ClockNotSynchronised,
    /// A one-time door's file cannot be used as expected. If `ip` is set, that address made a
    /// complete knock that did not open the door.
    OneTime {
        /// The door's name.
        door: Arc<str>,
        /// The address whose knock does not count.
        ip: Option<IpAddr>,
        /// The error.
        error: OneTimeError,
    },
    /// A port that would be opened now if
    /// [`ServiceOptions::run_commands`](super::ServiceOptions::run_commands) were set.
    OpenSkipped {
        /// The door's name.
        door: Arc<str>,
        /// The port, and the address or network.
        element: Element,
    },
    /// A port cannot be opened: the door stays closed.
    NotOpened {
        /// The door's name.
        door: Arc<str>,
        /// The port, and the address or network.
        element: Element,
        /// The error.
        error: GateError,
    },
    /// A port cannot be closed before its time; the kernel closes it at its time.
    NotClosed {
        /// The door's name.
        door: Arc<str>,
        /// The port, and the address or network.
        element: Element,
        /// The error.
        error: GateError,
    },
    /// The managed table, which protects the ports, was removed or changed, and has been restored.
    TableRestored,
    /// The managed table cannot be created or removed.
    Gate(GateError),
    /// At the stop, open doors are closed in spite of `OnStop = keep`, because the state file does
    /// not contain them.
    NotKept,
    /// The stop timed out after [`STOP_TIMEOUT`](super::STOP_TIMEOUT) while commands still ran or
    /// waited. The next start runs the stop commands among them again.
    LeftBehind {
        /// Number of commands that continue to run.
        running: usize,
        /// Number of commands that were not started.
        waiting: usize,
    },
}

impl Notice {
    /// Returns the address with which the log line begins, for a log that shows host names.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Event(event) | Self::SummarisedEvent(event) => Some(event.ip),
            _ => None,
        }
    }

    /// Returns the log line, with the text of knockd for notices that knockd logs too, and without
    /// control characters. `None` for notices that are not logged: commands that ended
    /// successfully, and events that a [`Notice::Flood`] counts.
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
            Self::FlagsIgnored(knock) => {
                let from = SocketAddr::new(knock.source, knock.source_port);
                let to = SocketAddr::new(knock.destination, knock.port);
                let flags = FlagMask { set: knock.flags, clear: TcpFlags::NONE };
                write!(f, "tcp: {from} -> {to} ignored: no door accepts its flags ({flags})")
            }
            Self::Event(event) => event.fmt(f),
            Self::Suppressed(suppressed) => suppressed.fmt(f),
            Self::SummarisedEvent(_) => Ok(()),
            Self::Flood { door, counts } => flood(f, door, counts),
            Self::NotRun(count) => write!(f, "waiting start commands that will not run: {count}"),
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
            Self::SequencesConsumed { door, path } => write!(
                f,
                "{}: no more sequences in {}; the door accepts no more knocks",
                Printable(door),
                Printable(&path.to_string_lossy())
            ),
            Self::ClockNotSynchronised => f.write_str(
                "the clock of this machine is not synchronised: doors with keys refuse clients whose clocks differ \
                 from it",
            ),
            Self::ReplaysIncomplete => f.write_str(
                "the record of accepted knocks is missing or incomplete: doors with keys refuse every knock that \
                 could have been accepted before, for at most twice ClockSkew or two windows",
            ),
            Self::OneTime { door, ip: Some(ip), error } => write!(f, "{ip}: {}: {error}", Printable(door)),
            Self::OneTime { door, ip: None, error } => write!(f, "{}: {error}", Printable(door)),
            Self::OpenSkipped { door, element: Element { net, port } } => {
                write!(f, "{}: would open {port} for {}", Printable(door), DisplayNetwork(*net))
            }
            Self::NotOpened { door, element: Element { net, port }, error } => {
                write!(f, "{}: {}: cannot open {port}: {error}", Printable(door), DisplayNetwork(*net))
            }
            Self::NotClosed { door, element: Element { net, port }, error } => {
                write!(f, "{}: {}: cannot close {port}: {error}", Printable(door), DisplayNetwork(*net))
            }
            Self::TableRestored => f.write_str(
                "another program removed or changed the table inet portknock, and its ports may have been open to any host; \
                 the table is restored",
            ),
            Self::Gate(error) => error.fmt(f),
            Self::NotKept => f.write_str("open doors are closed, because the state file does not contain them"),
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

/// The reason for which a service cannot start, continue, or replace its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The capture cannot be opened or has failed for good.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The reader process cannot be started.
    #[error("cannot start the reader process: {0}")]
    Reader(String),
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The key files of the doors cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A door's file of one-time sequences cannot be used.
    #[error("{}: {error}", Printable(.door))]
    OneTime {
        /// The door's name.
        door: Arc<str>,
        /// The error.
        error: OneTimeError,
    },
    /// The ports of doors with `open` cannot be protected or opened.
    #[error("open: {0}")]
    Gate(#[from] GateError),
    /// A system call failed, in most cases because there are no descriptors left.
    #[error("system error: {0}")]
    System(#[from] io::Error),
    /// An earlier call panicked; the [`Listener`](super::Listener) can no longer be used.
    #[error("an earlier call panicked, which is a bug in portknock: the listener can no longer be used")]
    Panicked,
    /// A [`Listener`](super::Listener) is used in a process that was forked after it was opened.
    #[error("the listener belongs to the process that opened it; a forked child cannot use it")]
    Forked,
}
