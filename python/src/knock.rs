//! Knocking.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use portknock_core::Protocol;
use portknock_core::knock::{AuthenticatedKnock, ExpectedPort, KnockError, KnockForm, parse_steps};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{address, family, number, seconds};
use crate::errors;
use crate::job::Job;
use crate::key::Key;
use crate::task::{Task, run};

/// The host to knock at, the steps and the options.
#[pyclass(frozen, module = "portknock._native")]
pub(crate) struct KnockPlan(Arc<Plan>);

struct Plan {
    knock: Knock,
    expected: Option<ExpectedPort>,
}

/// The two kinds of knocks.
enum Knock {
    /// The steps that the caller passed.
    Steps(portknock_core::knock::KnockPlan),
    /// A knock by a key.
    Authenticated(AuthenticatedKnock),
}

impl Knock {
    fn plan_mut(&mut self) -> &mut portknock_core::knock::KnockPlan {
        match self {
            Self::Steps(plan) => plan,
            Self::Authenticated(knock) => &mut knock.plan,
        }
    }
}

/// Returns the knock that a client's file describes.
fn authenticated(host: &str, key: &Key, address: Option<IpAddr>, seconds: u32) -> PyResult<AuthenticatedKnock> {
    let mut knock = AuthenticatedKnock::of_client(host, &key.0);
    match &mut knock.form {
        KnockForm::Packet(request) => (request.address, request.seconds) = (address, seconds),
        KnockForm::Time(_) if address.is_some() || seconds != 0 => {
            let message = "address and seconds are for packets, but the key has the form \"time\"";
            return Err(PyValueError::new_err(message));
        }
        KnockForm::Time(_) => {}
    }
    Ok(knock)
}

#[pymethods]
impl KnockPlan {
    #[new]
    #[pyo3(signature = (
        host, ports, *, udp, delay, source, raw, family, all_addresses, then, wait, retries, key, address, seconds
    ))]
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
        key: Option<&Key>,
        address: Option<&Bound<'_, PyAny>>,
        seconds: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let address = address.map(|address| self::address(address, "address")).transpose()?;
        let seconds = number(seconds, "seconds", 0..=u32::MAX)?;
        let mut knock = match key {
            Some(key) => Knock::Authenticated(authenticated(host, key, address, seconds)?),
            None => {
                if address.is_some() || seconds != 0 {
                    return Err(PyValueError::new_err("address and seconds need a key"));
                }
                let steps = parse_steps(ports).map_err(|error| PyValueError::new_err(format!("ports: {error}")))?;
                Knock::Steps(portknock_core::knock::KnockPlan::new(host, steps))
            }
        };
        let plan = knock.plan_mut();
        if udp {
            plan.steps.iter_mut().for_each(|step| step.protocol = Protocol::Udp);
        }
        plan.delay = self::seconds(delay, "delay")?;
        plan.source = source.map(|source| self::address(source, "source")).transpose()?;
        plan.raw = raw;
        plan.family = self::family(family)?;
        plan.all_addresses = all_addresses;
        let (wait, retries) = (self::seconds(wait, "wait")?, number(retries, "retries", 0..=u32::MAX)?);
        let port = then.map(|port| number(port, "then", 1..=u16::MAX)).transpose()?.and_then(NonZeroU16::new);
        let expected = port.map(|port| ExpectedPort { port, wait, retries });
        Ok(Self(Arc::new(Plan { knock, expected })))
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
        match &self.knock {
            Knock::Steps(plan) => &plan.host,
            Knock::Authenticated(knock) => &knock.plan.host,
        }
    }

    fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        match &self.knock {
            Knock::Steps(plan) => plan.resolve(),
            Knock::Authenticated(knock) => knock.resolve(),
        }
    }

    fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Duration>, KnockError> {
        let mut observer = |_| observer();
        let opened = match (&self.knock, self.expected) {
            (Knock::Steps(plan), None) => return plan.send(addresses, &mut observer).map(|()| None),
            (Knock::Authenticated(knock), None) => return knock.send(addresses, &mut observer).map(|()| None),
            (Knock::Steps(plan), Some(expected)) => plan.send_until_open(addresses, expected, &mut observer),
            (Knock::Authenticated(knock), Some(expected)) => knock.send_until_open(addresses, expected, &mut observer),
        };
        opened.map(|opened| Some(opened.after))
    }

    fn result(&self, py: Python<'_>, found: Result<Option<Duration>, KnockError>) -> PyResult<Py<PyAny>> {
        let after = found.map_err(|error| errors::knock(&error))?;
        Ok(after.map(|after| after.as_secs_f64()).into_pyobject(py)?.unbind())
    }
}
