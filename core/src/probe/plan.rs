//! What to probe, and how.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::host::{self, Family, HostError};
use crate::packet::Protocol;
use crate::port_list::PortList;

/// How long a port without an answer takes unless it is said otherwise: long enough for the kernel to notice that there
/// is no such neighbour (3.1 s).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(3_300);

/// A longer timeout than this is cut to it, so that no time overflows.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// How TCP ports are probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// By SYN where raw sockets are allowed, else by connect.
    #[default]
    Auto,
    /// By bare SYNs from a raw socket, which needs the capability CAP_NET_RAW: no connection is made, and any number of
    /// ports takes a few descriptors.
    Syn,
    /// By connect(2), which needs no right; a descriptor for each port that is waited for.
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
    /// By which protocol. Default: TCP.
    pub protocol: Protocol,
    /// How TCP ports are probed. Default: by SYN where that is allowed.
    pub method: Method,
    /// Which of the host's addresses are meant. Default: any.
    pub family: Family,
    /// Probe every address of the host, not only the first. Default: no.
    pub all_addresses: bool,
    /// The address of this machine that the probes come from. Default: what the route says.
    pub source: Option<IpAddr>,
    /// From the first try to giving up on a port that does not answer. Default: [`DEFAULT_TIMEOUT`]. What is known of the
    /// host's round trip time makes it shorter; to send many probes takes longer. At most a day.
    pub timeout: Duration,
    /// How often a probe without an answer is repeated. Default: as often as the path's losses ask for, once at the
    /// least and nine times at the most.
    pub retries: Option<u8>,
    /// At most so many probes in a second, to all addresses together. Default: what the path carries.
    pub rate: Option<NonZeroU32>,
}

impl ProbePlan {
    /// Probes these TCP ports of `host`, with the defaults of the other fields.
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

    /// The addresses to probe: the host's first one that `family` and `source` allow, or all of those with
    /// `all_addresses`. Their port is 0. Asks the name service, where `host` is a name.
    ///
    /// # Errors
    /// Where the host is not found, or has no such address.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, HostError> {
        host::resolve(&self.host, self.family, self.source, self.all_addresses)
    }
}
