//! Why knocks were not sent, or did not help.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Step;
use crate::host::HostError;
use crate::probe::PortState;

/// Why knocks were not sent, or did not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnockError {
    /// The host has no address to knock at.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No raw socket can be opened.
    #[error(
        "cannot send bare SYNs to {address}: {error}{}",
        if error.kind() == io::ErrorKind::PermissionDenied {
            " (it needs root or the capability CAP_NET_RAW; without raw sockets no right is needed)"
        } else {
            ""
        }
    )]
    Raw {
        /// Whom the knocks were for.
        address: IpAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// A knock could not be sent, and so the rest of the sequence was not.
    #[error("cannot knock at {address} port {} ({}): {error}", step.port, step.protocol)]
    Send {
        /// Whom the knock was for.
        address: IpAddr,
        /// The step that failed.
        step: Step,
        /// What the kernel says.
        error: io::Error,
    },
    /// More than one address could not be knocked at.
    #[error("{}", list(.0))]
    Several(Vec<KnockError>),
    /// The observer broke off.
    #[error("stopped before the end")]
    Stopped,
    /// All knocks were sent, and the port did not open.
    #[error("port {port} of {host} did not open within {} s after the knocks, it is {last}", wait.as_secs_f64())]
    NotOpen {
        /// The host as it was given.
        host: String,
        /// The port that should have opened.
        port: u16,
        /// How long it had, after each time of knocking.
        wait: Duration,
        /// How it looked last.
        last: PortState,
    },
    /// All knocks were sent, and the port could not be looked at.
    #[error("cannot see whether port {port} of {host} opens: {error}")]
    Probe {
        /// The host as it was given.
        host: String,
        /// The port that should have opened.
        port: u16,
        /// What the kernel says.
        error: io::Error,
    },
}

fn list(errors: &[KnockError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
