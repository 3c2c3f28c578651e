//! Why knocks were not sent, or did not help.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Family;
use crate::config::Step;
use crate::probe::LastAnswer;

/// Why knocks were not sent, or did not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnockError {
    /// The name service knows no such host, or cannot be asked.
    #[error("cannot find the host `{}`: {error}", host.escape_default())]
    Resolve {
        /// The host as it was given.
        host: String,
        /// What the name service says.
        error: io::Error,
    },
    /// The host has no address of the family that was asked for.
    #[error("{host} has no {} address", match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
        Family::Any => "IP",
    })]
    NoAddress {
        /// The host as it was given.
        host: String,
        /// The family that was asked for, also by the address to knock from.
        family: Family,
    },
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
        last: LastAnswer,
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
