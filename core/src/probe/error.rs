//! Errors of probing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::host::HostError;

/// The reason why some or all ports could not be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The host has no address to probe.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The process has no permission to open raw sockets, which the SYN method needs.
    #[error(
        "no permission to send SYNs through a raw socket: run as root, or give the program the capability CAP_NET_RAW \
         (setcap cap_net_raw+ep PROGRAM); `--method connect` needs no privilege"
    )]
    NotAllowed,
    /// This machine has no route to the address.
    #[error(
        "no route to {address}: {}",
        // The kernel reports EINVAL for a `blackhole` route, and for a link-local address without a
        // zone.
        if error.raw_os_error() == Some(libc::EINVAL) && !is_link_local(*address) {
            "it is a blackhole (ip-route(8))".into()
        } else {
            error.to_string()
        }
    )]
    NoRoute {
        /// The address to probe.
        address: IpAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// The requested source address is not one of this machine's.
    #[error("cannot probe from {source_address}: {error}")]
    Source {
        /// The requested source address.
        source_address: IpAddr,
        /// The kernel's error.
        error: io::Error,
    },
    /// A system call that the probe needs failed.
    #[error("{what}: {error}")]
    System {
        /// The operation that failed, as the beginning of the message.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl ProbeError {
    /// Returns the error for a packet to `target` that this machine could not send. `source` is the
    /// requested source address, if any.
    pub(super) fn route(target: SocketAddr, source: Option<IpAddr>, error: io::Error) -> Self {
        match (error.raw_os_error(), source) {
            (Some(libc::EADDRNOTAVAIL), Some(source_address)) => Self::Source { source_address, error },
            (Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM), _) => {
                Self::System { what: "cannot open a socket", error }
            }
            _ => Self::NoRoute { address: target.ip(), error },
        }
    }
}
