//! What became of a command.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::event::CommandRequest;
use crate::printable::Printable;

/// How long a command may run before it is reported; from then on others need not wait for it.
pub const SLOW_AFTER: Duration = Duration::from_secs(60);

/// The number of a command that was submitted; unique in its [`Executor`](super::Executor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(crate) u64);

/// Something that happened to a command.
#[derive(Debug)]
pub struct Outcome {
    /// What [`Executor::submit`](super::Executor::submit) returned for the command.
    pub id: CommandId,
    /// The command.
    pub request: CommandRequest,
    /// What happened.
    pub kind: OutcomeKind,
}

/// What happened to a command.
#[derive(Debug)]
pub enum OutcomeKind {
    /// It was started.
    Started,
    /// It ended.
    Finished(ExitStatus),
    /// It has been running for [`SLOW_AFTER`]. It goes on; the next command of the same door and address no longer
    /// waits for it. `Finished` follows when it ends.
    StillRunning,
    /// It could not be started and is tried again until it can. Reported once for each kind of error.
    Delayed(io::Error),
    /// It could not be started and never will be: only of start commands, and only for errors that time does
    /// not heal.
    NotStarted(io::Error),
    /// It never runs: it waited longest where more start commands of its door waited than
    /// [`Executor::set_limit`](super::Executor::set_limit) allows.
    Dropped,
    /// Somebody else in this process waited for it, so its exit status is unknown; it has ended.
    Lost(io::Error),
}

impl OutcomeKind {
    /// True where nothing more will be told of the command.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::NotStarted(_) | Self::Dropped | Self::Lost(_))
    }
}

/// The line for a log; empty for a command that ended with status 0, of which knockd says nothing either.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandRequest { door, ip, action, .. } = &self.request;
        let door = Printable(door);
        match &self.kind {
            OutcomeKind::Started => write!(f, "{}", self.request),
            OutcomeKind::Finished(status) => match (status.code(), status.signal()) {
                (Some(0), _) => Ok(()),
                (Some(code), _) => {
                    write!(f, "{door}: command returned non-zero status code ({code}) ({action} for {ip})")
                }
                (None, signal) => {
                    write!(f, "{door}: command was killed by signal {} ({action} for {ip})", signal.unwrap_or(0))
                }
            },
            OutcomeKind::StillRunning => {
                write!(f, "{door}: command is still running after {} s ({action} for {ip})", SLOW_AFTER.as_secs())
            }
            OutcomeKind::Delayed(error) => {
                write!(f, "{door}: could not start the command, trying again every second: {error} ({action} for {ip})")
            }
            OutcomeKind::NotStarted(error) => {
                write!(f, "{door}: could not start the command: {error} ({action} for {ip})")
            }
            OutcomeKind::Dropped => {
                write!(f, "{door}: command was not started, since too many others wait ({action} for {ip})")
            }
            OutcomeKind::Lost(error) => {
                write!(f, "{door}: command ended with an unknown status: {error} ({action} for {ip})")
            }
        }
    }
}
