//! Errors of sending knocks and of waiting for the port.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Step;
use crate::host::HostError;
use crate::probe::PortState;
use crate::spa::PacketError;

/// Errors of sending knocks and of waiting for the port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnockError {
    /// The host has no address to knock at.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A raw socket cannot be opened.
    #[error(
        "cannot send bare SYNs to {address}: {error}{}",
        if error.kind() == io::ErrorKind::PermissionDenied {
            " (raw sockets need root or the capability CAP_NET_RAW; ordinary knocks need no privilege)"
        } else {
            ""
        }
    )]
    Raw {
        /// The address to knock at.
        address: IpAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// A knock could not be sent. The rest of the sequence was not sent either.
    #[error("cannot knock at {address} port {} ({}): {error}", step.port, step.protocol)]
    Send {
        /// The address to knock at.
        address: IpAddr,
        /// The step that failed.
        step: Step,
        /// The kernel's error.
        error: io::Error,
    },
    /// A packet could not be made. No packet was sent.
    #[error("cannot make a packet: {0}")]
    Packet(#[from] PacketError),
    /// Knocking failed at more than one address.
    #[error("{}", list(.0))]
    Several(Vec<KnockError>),
    /// The observer stopped the knocks.
    #[error("stopped before the end")]
    Stopped,
    /// All knocks were sent, but the port did not open.
    #[error("port {port} of {host} did not open within {} s after the knocks; it is {last}", wait.as_secs_f64())]
    NotOpen {
        /// The host as it was given.
        host: String,
        /// The port that was expected to open.
        port: u16,
        /// The time that it had to open after each round of knocks.
        wait: Duration,
        /// The last observed state of the port.
        last: PortState,
    },
    /// All knocks were sent, but the state of the port could not be checked.
    #[error("cannot check whether port {port} of {host} opens: {error}")]
    Probe {
        /// The host as it was given.
        host: String,
        /// The port that was expected to open.
        port: u16,
        /// The kernel's error.
        error: io::Error,
    },
}

impl KnockError {
    /// Returns the errors of several addresses as one; `Ok` if there is none.
    pub(super) fn of_all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn list(errors: &[KnockError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
