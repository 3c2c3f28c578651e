//! The reports about a command.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::event::CommandRequest;
use crate::printable::Printable;

/// Running time after which a command is reported as slow. From then on other commands do not wait
/// for it.
pub(crate) const SLOW_AFTER: Duration = Duration::from_secs(60);

/// The number of a command, unique within its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) u64);

/// A report about a command.
#[derive(Debug)]
#[non_exhaustive]
pub struct CommandResult {
    /// The number of the command.
    pub id: CommandId,
    /// The command.
    pub request: CommandRequest,
    /// The change that the report is about.
    pub kind: CommandResultKind,
}

/// The change that a report about a command describes.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommandResultKind {
    /// The command was started.
    Started,
    /// The command ended with this status.
    Finished(ExitStatus),
    /// The command has been running for 60 seconds and continues. The next command of the same door
    /// and address no longer waits for it. `Finished` follows when it ends.
    StillRunning,
    /// The command could not be started. The executor tries again until it succeeds, and reports
    /// each kind of error once.
    Delayed(io::Error),
    /// The command could not be started and never runs. Reported only for start commands, and only
    /// for errors other than a lack of processes, memory or descriptors.
    NotStarted(io::Error),
    /// The command never runs. It waited longest when too many start commands of its door waited.
    Dropped,
    /// The command has ended with an unknown exit status, because other code of this process waited
    /// for it.
    Lost(io::Error),
}

impl CommandResultKind {
    /// True if this is the last report about the command.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::NotStarted(_) | Self::Dropped | Self::Lost(_))
    }
}

/// The line for a log. It is empty for a command that ended with status 0, which knockd does not log
/// either.
impl fmt::Display for CommandResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandRequest { door, ip, action, .. } = &self.request;
        let door = Printable(door);
        match &self.kind {
            CommandResultKind::Started => write!(f, "{}", self.request),
            CommandResultKind::Finished(status) => match (status.code(), status.signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => {
                    write!(f, "{door}: command returned non-zero status code ({code}) ({action} for {ip})")
                }
                (None, signal) => {
                    write!(f, "{door}: command was killed by signal {} ({action} for {ip})", signal.unwrap_or(0))
                }
            },
            CommandResultKind::StillRunning => {
                write!(f, "{door}: command is still running after {} s ({action} for {ip})", SLOW_AFTER.as_secs())
            }
            CommandResultKind::Delayed(error) => {
                write!(f, "{door}: could not start the command, trying again every second: {error} ({action} for {ip})")
            }
            CommandResultKind::NotStarted(error) => {
                write!(f, "{door}: could not start the command: {error} ({action} for {ip})")
            }
            CommandResultKind::Dropped => {
                write!(f, "{door}: command was not started, because too many others wait ({action} for {ip})")
            }
            CommandResultKind::Lost(error) => {
                write!(f, "{door}: command ended with an unknown status: {error} ({action} for {ip})")
            }
        }
    }
}
