//! The plan of a probe: the host, the ports and the method.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::host::{self, Family, HostError};
use crate::packet::Protocol;
use crate::port_list::PortList;

/// Default time until a port without an answer counts as filtered. It is long enough for the kernel
/// to notice that there is no such neighbour (3.1 s).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(3_300);

/// Maximum timeout. Longer ones are cut to it, so that no time computation overflows.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The method by which TCP ports are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// SYN if the process may open raw sockets, otherwise connect.
    #[default]
    Auto,
    /// Bare SYNs from a raw socket, which needs the capability CAP_NET_RAW. No connection is made,
    /// and a few descriptors suffice for any number of ports.
    Syn,
    /// connect(2), which needs no privilege. Each port whose answer is outstanding uses one
    /// descriptor.
    Connect,
}

/// Which ports to probe, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProbePlan {
    /// A name, an IPv4 address, or an IPv6 address with or without a zone (`fe80::1%eth0`).
    pub host: String,
    /// The ports.
    pub ports: PortList,
    /// The transport protocol. Default: TCP.
    pub protocol: Protocol,
    /// The method by which TCP ports are probed. Default: SYN if the process may open raw sockets.
    pub method: Method,
    /// The IP versions to use. Default: any.
    pub family: Family,
    /// Probe every address of the host, not only the first. Default: no.
    pub all_addresses: bool,
    /// The source address of the probes. Default: the kernel's choice for the route.
    pub source: Option<IpAddr>,
    /// Time from the first probe of a port until the port counts as unanswered. Default:
    /// [`DEFAULT_TIMEOUT`]. Maximum: one day. A known round-trip time shortens it; sending many
    /// probes lengthens it.
    pub timeout: Duration,
    /// Number of times that an unanswered probe is repeated. Default: from one to nine, depending
    /// on the loss on the path.
    pub retries: Option<u8>,
    /// Maximum number of probes per second, to all addresses together. Default: as many as the path
    /// carries.
    pub rate: Option<NonZeroU32>,
}

impl ProbePlan {
    /// Creates a plan that probes these TCP ports of `host`, with the defaults of the other fields.
    pub fn new(host: &str, ports: PortList) -> Self {
        Self {
            host: host.into(),
            ports,
            protocol: Protocol::Tcp,
            method: Method::Auto,
            family: Family::Any,
            all_addresses: false,
            source: None,
            timeout: DEFAULT_TIMEOUT,
            retries: None,
            rate: None,
        }
    }

    /// Returns the addresses to probe, with port 0: the host's first address that `family` and
    /// `source` permit, or all of them with `all_addresses`. Queries the name service if `host` is
    /// a name.
    ///
    /// # Errors
    /// Fails if the host is not found, or has no such address.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, HostError> {
        host::resolve(&self.host, self.family, self.source, self.all_addresses)
    }
}
