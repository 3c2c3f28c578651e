//! Probing: whether ports are open, closed or filtered.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;

use portknock_core::Protocol;
use portknock_core::probe::{Method, PortList, ProbeError, Scan, result_line};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{address, family, number, seconds};
use crate::errors;
use crate::job::Job;
use crate::json::loads;
use crate::task::{Task, run};

/// The host and ports to probe, and the options.
#[pyclass(frozen, module = "portknock._native")]
pub(crate) struct ProbePlan(Arc<portknock_core::probe::ProbePlan>);

#[pymethods]
impl ProbePlan {
    #[new]
    #[pyo3(signature = (host, ports, *, timeout, udp, method, retries, rate, source, family, all_addresses))]
    #[allow(clippy::too_many_arguments, reason = "they are the options of the Python function")]
    fn new(
        host: &str,
        ports: &str,
        timeout: f64,
        udp: bool,
        method: &str,
        retries: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        source: Option<&Bound<'_, PyAny>>,
        family: i32,
        all_addresses: bool,
    ) -> PyResult<Self> {
        let ports: PortList = ports.parse().map_err(|error| PyValueError::new_err(format!("ports: {error}")))?;
        let mut plan = portknock_core::probe::ProbePlan::new(host, ports);
        plan.timeout = seconds(timeout, "timeout")?;
        if plan.timeout.is_zero() {
            return Err(PyValueError::new_err("timeout is 0, expected a number of seconds above it"));
        }
        if udp {
            plan.protocol = Protocol::Udp;
        }
        plan.method = match method {
            "auto" => Method::Auto,
            "syn" => Method::Syn,
            "connect" => Method::Connect,
            _ => {
                let text = format!("there is no method {method:?}; the methods are auto, syn, connect");
                return Err(PyValueError::new_err(text));
            }
        };
        plan.retries = retries.map(|retries| number(retries, "retries", 0..=u8::MAX)).transpose()?;
        plan.rate = rate.map(|rate| number(rate, "rate", 1..=u32::MAX)).transpose()?.and_then(NonZeroU32::new);
        plan.source = source.map(|source| address(source, "source")).transpose()?;
        plan.family = self::family(family)?;
        plan.all_addresses = all_addresses;
        Ok(Self(Arc::new(plan)))
    }

    /// Probe now.
    fn run(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        run(py, &self.0)
    }

    /// Probe on another thread.
    fn start(&self) -> PyResult<Job> {
        Job::start(Arc::clone(&self.0))
    }
}

impl Task for portknock_core::probe::ProbePlan {
    type Output = Scan;
    type Error = ProbeError;

    fn host(&self) -> &str {
        &self.host
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, ProbeError> {
        Ok(self.resolve()?)
    }

    fn run(&self, addresses: &[SocketAddr], observer: &mut dyn FnMut() -> ControlFlow<()>) -> Result<Scan, ProbeError> {
        self.run(addresses, &mut |_| observer())
    }

    fn result(&self, py: Python<'_>, found: Result<Scan, ProbeError>) -> PyResult<Py<PyAny>> {
        let scan = found.map_err(|error| errors::probe(&error, Vec::new()))?;
        let make = py.import("portknock._values")?.getattr("probe_result")?;
        let mut results = Vec::with_capacity(scan.results.len());
        for result in &scan.results {
            let rtt = result.rtt.map(|rtt| rtt.as_secs_f64());
            results.push(make.call1((loads(py, &result_line(&self.host, result))?, rtt))?.unbind());
        }
        match scan.error {
            None => Ok(results.into_pyobject(py)?.unbind()),
            Some(error) => Err(errors::probe(&error, results)),
        }
    }
}
