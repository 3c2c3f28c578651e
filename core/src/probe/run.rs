//! Running a plan: by connections, or by packets to one address after the other.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use super::connect;
use super::drive::{Wire, drive};
use super::error::ProbeError;
use super::plan::{LONGEST_TIMEOUT, Method, ProbePlan};
use super::raw::{self, SynWire};
use super::result::ProbeResult;
use super::schedule::{Found, Options, Schedule};
use super::udp::UdpWire;
use crate::host::at_port;
use crate::packet::Protocol;

/// How far a probe has come.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Scan {
    /// Sorted by address, as they were given, and port. Ports that had no result yet when the probe was stopped are
    /// missing.
    pub results: Vec<ProbeResult>,
    /// How TCP ports were probed: never [`Method::Auto`]. It means nothing for UDP.
    pub method: Method,
    /// Why there are not more results: the first thing that went wrong. `None` where nothing did, or the observer stopped
    /// it.
    pub error: Option<ProbeError>,
}

impl ProbePlan {
    /// Probes all ports at each of `addresses`. The observer is asked at least every tenth of a second whether to go on;
    /// when it breaks off, what is known so far is the result. Blocks until all is done.
    ///
    /// # Errors
    /// Where nothing could be probed. What goes wrong later, or at one of several addresses, is in [`Scan::error`] beside
    /// the results that there are.
    pub fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Scan, ProbeError> {
        let method = self.method_for(addresses);
        let mut scan = Scan { results: Vec::new(), method, error: None };
        if (self.protocol, method) == (Protocol::Tcp, Method::Connect) {
            self.run_by_connect(addresses, &mut scan, observer);
        } else {
            self.run_by_wire(addresses, &mut scan, observer);
        }
        match scan.error {
            Some(error) if scan.results.is_empty() => Err(error),
            _ => Ok(scan),
        }
    }

    fn run_by_connect(
        &self,
        addresses: &[SocketAddr],
        scan: &mut Scan,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) {
        let ports = addresses.len() * self.ports.iter().len();
        let mut observe = |known| observer(Progress { done: share(known, ports), known, ports });
        let results = &mut scan.results;
        scan.error = connect::scan(self, addresses, &mut |result| results.push(result), &mut observe).err();
        let place = |result: &ProbeResult| {
            addresses.iter().position(|address| at_port(*address, 0) == at_port(result.address, 0))
        };
        results.sort_by_cached_key(|result| (place(result), result.address.port()));
    }

    /// One address after the other; what is wrong with one does not keep the others from their probes.
    fn run_by_wire(
        &self,
        addresses: &[SocketAddr],
        scan: &mut Scan,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) {
        let each = self.ports.iter().len();
        for (before, &address) in addresses.iter().enumerate() {
            let mut stopped = false;
            let mut observe = |known, done: f32| {
                let go_on = observer(Progress {
                    done: share(before, addresses.len()) + done * share(1, addresses.len()),
                    known: before * each + known,
                    ports: addresses.len() * each,
                });
                stopped = go_on.is_break();
                go_on
            };
            let result = self.wire(scan.method, address).and_then(|mut wire| {
                let result = drive(wire.as_mut(), address, &mut observe);
                let mut found: Vec<_> = wire.schedule().results().collect();
                found.sort_unstable_by_key(|(port, _)| *port);
                scan.results.extend(found.into_iter().map(|(port, found)| self.result(address, port, found)));
                result
            });
            scan.error = scan.error.take().or(result.err());
            if stopped {
                break;
            }
        }
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
                // No observer can predict the order of the ports.
                seed: RandomState::new().hash_one(address),
            },
        );
        Ok(match (self.protocol, method) {
            (Protocol::Udp, _) => Box::new(UdpWire::new(schedule, address, self.source)?),
            (Protocol::Tcp, _) => Box::new(SynWire::new(schedule, address, self.source)?),
        })
    }

    fn result(&self, address: SocketAddr, port: u16, Found { state, reason, rtt }: Found) -> ProbeResult {
        ProbeResult { address: at_port(address, port), protocol: self.protocol, state, reason, rtt }
    }
}

#[allow(clippy::cast_precision_loss, reason = "it is shown to people")]
fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole as f32
}
