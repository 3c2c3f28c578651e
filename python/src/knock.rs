//! Knocking.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use portknock_core::Protocol;
use portknock_core::knock::{ExpectedPort, KnockError, parse_steps};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{address, family, number, seconds};
use crate::errors;
use crate::job::Job;
use crate::task::{Task, run};

/// The host to knock at, the steps and the options.
#[pyclass(frozen, module = "portknock._native")]
pub(crate) struct KnockPlan(Arc<Plan>);

struct Plan {
    plan: portknock_core::knock::KnockPlan,
    expected: Option<ExpectedPort>,
}

#[pymethods]
impl KnockPlan {
    #[new]
    #[pyo3(signature = (host, ports, *, udp, delay, source, raw, family, all_addresses, then, wait, retries))]
    #[allow(clippy::too_many_arguments, reason = "they are the options of the Python function")]
    fn new(
        host: &str,
        ports: &str,
        udp: bool,
        delay: f64,
        source: Option<&Bound<'_, PyAny>>,
        raw: bool,
        family: i32,
        all_addresses: bool,
        then: Option<&Bound<'_, PyAny>>,
        wait: f64,
        retries: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let steps = parse_steps(ports).map_err(|error| PyValueError::new_err(format!("ports: {error}")))?;
        let mut plan = portknock_core::knock::KnockPlan::new(host, steps);
        if udp {
            plan.steps.iter_mut().for_each(|step| step.protocol = Protocol::Udp);
        }
        plan.delay = seconds(delay, "delay")?;
        plan.source = source.map(|source| address(source, "source")).transpose()?;
        plan.raw = raw;
        plan.family = self::family(family)?;
        plan.all_addresses = all_addresses;
        let (wait, retries) = (seconds(wait, "wait")?, number(retries, "retries", 0..=u32::MAX)?);
        let port = then.map(|port| number(port, "then", 1..=u16::MAX)).transpose()?.and_then(NonZeroU16::new);
        let expected = port.map(|port| ExpectedPort { port, wait, retries });
        Ok(Self(Arc::new(Plan { plan, expected })))
    }

    /// Knock now.
    fn run(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        run(py, &self.0)
    }

    /// Knock on another thread.
    fn start(&self) -> PyResult<Job> {
        Job::start(Arc::clone(&self.0))
    }
}

impl Task for Plan {
    /// Time that the port took to open, if the plan waits for one.
    type Output = Option<Duration>;
    type Error = KnockError;

    fn host(&self) -> &str {
        &self.plan.host
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        self.plan.resolve()
    }

    fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Duration>, KnockError> {
        let mut observer = |_| observer();
        match self.expected {
            None => self.plan.send(addresses, &mut observer).map(|()| None),
            Some(expected) => {
                self.plan.send_until_open(addresses, expected, &mut observer).map(|opened| Some(opened.after))
            }
        }
    }

    fn result(&self, py: Python<'_>, found: Result<Option<Duration>, KnockError>) -> PyResult<Py<PyAny>> {
        let after = found.map_err(|error| errors::knock(&error))?;
        Ok(after.map(|after| after.as_secs_f64()).into_pyobject(py)?.unbind())
    }
}
