//! What to probe, and how.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::time::Duration;

use super::drive::{Wire, drive};
use super::error::ProbeError;
use super::ports::PortList;
use super::raw::{self, SynWire};
use super::result::ProbeResult;
use super::schedule::{Found, Options, Schedule};
use super::udp::UdpWire;
use crate::config::Protocol;
use crate::host::{self, Family, HostError};

/// How long a port without an answer takes unless it is said otherwise: long enough for the kernel to notice that there
/// is no such neighbour (3.1 s).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(3_300);

/// A longer timeout than this is cut to it, so that no time overflows.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

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

/// How far a probe has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// About how much of the work is done, from 0 to 1; more work can turn up.
    pub done: f32,
    /// How many ports, of all addresses together, have their result.
    pub known: usize,
    /// How many ports there are, of all addresses together.
    pub ports: usize,
}

/// What a probe has found.
#[derive(Debug)]
pub struct Scan {
    /// Sorted by address, as they were given, and port. Ports that had no result yet when the probe was stopped are
    /// missing.
    pub results: Vec<ProbeResult>,
    /// How TCP ports were probed: never [`Method::Auto`]. It means nothing for UDP.
    pub method: Method,
    /// Why it was stopped: `None` where it ran to its end, or where the observer stopped it.
    pub error: Option<ProbeError>,
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

    /// Probes all ports at each of `addresses`. The observer is asked at least every tenth of a second whether to go on;
    /// when it breaks off, what is known so far is the result. Blocks until all is done.
    ///
    /// # Errors
    /// Where nothing could be probed. What goes wrong later ends the probe with the results so far, in
    /// [`Scan::error`].
    pub fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Scan, ProbeError> {
        let mut scan = Scan { results: Vec::new(), method: self.method_for(addresses), error: None };
        let each = self.ports.iter().len();
        for (before, &address) in addresses.iter().enumerate() {
            let mut stopped = false;
            let mut observe = |known, done| {
                let go_on = observer(Progress {
                    done: done_of_all(before, done, addresses.len()),
                    known: before * each + known,
                    ports: addresses.len() * each,
                });
                stopped = go_on.is_break();
                go_on
            };
            let mut wire = match self.wire(scan.method, address) {
                Err(error) if before == 0 => return Err(error),
                Err(error) => {
                    scan.error = Some(error);
                    break;
                }
                Ok(wire) => wire,
            };
            scan.error = drive(wire.as_mut(), address, &mut observe).err();
            let mut found: Vec<_> = wire.schedule().results().collect();
            found.sort_unstable_by_key(|(port, _)| *port);
            scan.results.extend(found.into_iter().map(|(port, found)| self.result(address, port, found)));
            if stopped || scan.error.is_some() {
                break;
            }
        }
        Ok(scan)
    }

    fn method_for(&self, addresses: &[SocketAddr]) -> Method {
        match self.method {
            Method::Auto if addresses.iter().all(|&address| raw::is_allowed(address)) => Method::Syn,
            Method::Auto => Method::Connect,
            method => method,
        }
    }

    fn wire(&self, method: Method, address: SocketAddr) -> Result<Box<dyn Wire>, ProbeError> {
        let schedule = Schedule::new(
            &self.ports,
            Options {
                protocol: self.protocol,
                timeout: self.timeout.min(LONGEST_TIMEOUT),
                retries: self.retries,
                rate: self.rate,
                // Which ports come when is nobody's business.
                seed: RandomState::new().hash_one(address),
            },
        );
        Ok(match (self.protocol, method) {
            (Protocol::Udp, _) => Box::new(UdpWire::new(schedule, address, self.source)?),
            (Protocol::Tcp, _) => Box::new(SynWire::new(schedule, address, self.source)?),
        })
    }

    fn result(&self, mut address: SocketAddr, port: u16, Found { state, reason, rtt }: Found) -> ProbeResult {
        address.set_port(port);
        ProbeResult { address, protocol: self.protocol, state, reason, rtt }
    }
}

/// How much of the work at all addresses is done, when it is `done` at one of them.
#[allow(clippy::cast_precision_loss, reason = "nobody probes a million addresses by one call")]
fn done_of_all(before: usize, done: f32, addresses: usize) -> f32 {
    (before as f32 + done) / addresses as f32
}
