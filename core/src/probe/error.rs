//! Why ports could not be probed.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::host::HostError;

/// Why ports could not be probed, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The host has no address to probe.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The process lacks the right to open raw sockets, which the SYN method needs.
    #[error(
        "no right to send SYNs by a raw socket: run as root, or give the program the capability CAP_NET_RAW \
         (setcap cap_net_raw+ep PROGRAM); `--method connect` needs no right"
    )]
    NotAllowed,
    /// This machine has no way to send to the address.
    #[error(
        "no route to {address}: {}",
        // What the kernel calls a route that swallows packets, and an address of a link that is not named.
        if error.raw_os_error() == Some(libc::EINVAL) && !is_link_local(*address) {
            "it is a blackhole (ip-route(8))".into()
        } else {
            error.to_string()
        }
    )]
    NoRoute {
        /// What should have been probed.
        address: IpAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The address to probe from is not one of this machine's.
    #[error("cannot probe from {source_address}: {error}")]
    Source {
        /// The address that was asked for.
        source_address: IpAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// The system refused something that a probe needs.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl ProbeError {
    /// The error for a packet to `target` (from `source`, where that was asked for) that this machine did not send.
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
