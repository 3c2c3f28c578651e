//! Running a plan: by connections, or by packets to one address after the other.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use super::connect;
use super::drive::{Transport, drive};
use super::error::ProbeError;
use super::plan::{MAX_TIMEOUT, Method, ProbePlan};
use super::raw::{self, SynTransport};
use super::result::ProbeResult;
use super::schedule::{Observation, Options, Schedule};
use super::udp::UdpTransport;
use crate::host::at_port;
use crate::packet::Protocol;

/// The progress of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Approximate share of the work that is done, from 0 to 1. It can fall if more work turns up.
    pub done: f32,
    /// Number of ports with a result, at all addresses together.
    pub known: usize,
    /// Number of ports, at all addresses together.
    pub ports: usize,
}

/// The results of a probe.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scan {
    /// The results, sorted by address in the given order, then by port. Ports without a result when
    /// the probe was stopped are missing.
    pub results: Vec<ProbeResult>,
    /// The method by which TCP ports were probed, never [`Method::Auto`]. Without meaning for UDP.
    pub method: Method,
    /// The first error, which is the reason for missing results. `None` if there was no error, or
    /// if the observer stopped the probe.
    pub error: Option<ProbeError>,
}

impl ProbePlan {
    /// Probes all ports at each of `addresses`. Blocks until every port has a result.
    ///
    /// The observer is called at least every tenth of a second. If it returns `Break`, the probe
    /// stops and the result contains what is known so far.
    ///
    /// # Errors
    /// Fails if nothing could be probed. A later error, or an error at one of several addresses, is
    /// in [`Scan::error`], in addition to the results.
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
            self.run_by_packets(addresses, &mut scan, observer);
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
        let position = |result: &ProbeResult| {
            addresses.iter().position(|address| at_port(*address, 0) == at_port(result.address, 0))
        };
        results.sort_by_cached_key(|result| (position(result), result.address.port()));
    }

    /// Probes one address after the other. An error at one address does not keep the others from
    /// being probed.
    fn run_by_packets(
        &self,
        addresses: &[SocketAddr],
        scan: &mut Scan,
        observer: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) {
        let each = self.ports.iter().len();
        for (before, &address) in addresses.iter().enumerate() {
            let mut stopped = false;
            let mut observe = |known, done: f32| {
                let flow = observer(Progress {
                    done: share(before, addresses.len()) + done * share(1, addresses.len()),
                    known: before * each + known,
                    ports: addresses.len() * each,
                });
                stopped = flow.is_break();
                flow
            };
            let result = self.transport(scan.method, address).and_then(|mut transport| {
                let result = drive(transport.as_mut(), address, &mut observe);
                let mut observations: Vec<_> = transport.schedule().results().collect();
                observations.sort_unstable_by_key(|(port, _)| *port);
                scan.results.extend(
                    observations.into_iter().map(|(port, observation)| self.result(address, port, observation)),
                );
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
            Method::Auto if addresses.iter().all(|&address| raw::is_permitted(address)) => Method::Syn,
            Method::Auto => Method::Connect,
            method => method,
        }
    }

    fn transport(&self, method: Method, address: SocketAddr) -> Result<Box<dyn Transport>, ProbeError> {
        let schedule = Schedule::new(
            &self.ports,
            Options {
                protocol: self.protocol,
                timeout: self.timeout.min(MAX_TIMEOUT),
                retries: self.retries,
                rate: self.rate,
                // An attacker who watches the probes cannot predict the order of the ports.
                seed: RandomState::new().hash_one(address),
            },
        );
        Ok(match (self.protocol, method) {
            (Protocol::Udp, _) => Box::new(UdpTransport::new(schedule, address, self.source)?),
            (Protocol::Tcp, _) => Box::new(SynTransport::new(schedule, address, self.source)?),
        })
    }

    fn result(&self, address: SocketAddr, port: u16, Observation { state, reason, rtt }: Observation) -> ProbeResult {
        ProbeResult { address: at_port(address, port), protocol: self.protocol, state, reason, rtt }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the value is only displayed")]
fn share(part: usize, whole: usize) -> f32 {
    part as f32 / whole as f32
}
