//! Work that waits: on the caller's own thread, where signals end it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portknock_core::host::HostError;
use portknock_core::sys::poll::{self, Interest};
use portknock_core::sys::wake::WakeFd;
use pyo3::prelude::*;

use crate::errors::panicked;

/// The interpreter is asked this often whether a signal came, in case another thread of the process got it.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Something to do at a host.
pub(crate) trait Task: Send + Sync + 'static {
    type Found: Send + 'static;
    type Error: From<HostError> + Send + 'static;

    /// The host as it was given.
    fn host(&self) -> &str;

    /// Finds the host's addresses. To ask the name service can take long and cannot be stopped.
    fn resolve(&self) -> Result<Vec<SocketAddr>, Self::Error>;

    /// Does it. `observer` is asked at least every tenth of a second whether to go on.
    fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self::Found, Self::Error>;

    /// What the caller gets.
    fn result(&self, py: Python<'_>, found: Result<Self::Found, Self::Error>) -> PyResult<Py<PyAny>>;
}

/// Does it on this thread. A signal whose handler raises ends it.
pub(crate) fn run<T: Task>(py: Python<'_>, task: &Arc<T>) -> PyResult<Py<PyAny>> {
    let addresses = if has_name(task.as_ref()) { resolve(py, task)? } else { task.resolve() };
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(error) => return task.result(py, Err(error)),
    };
    let mut raised = None;
    let mut observer = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            raised = Some(error);
            ControlFlow::Break(())
        }
    };
    let found = py.detach(|| task.run(&addresses, &mut observer));
    match raised {
        Some(error) => Err(error),
        None => task.result(py, found),
    }
}

/// True where the name service has to be asked.
pub(crate) fn has_name(task: &impl Task) -> bool {
    task.host().parse::<IpAddr>().is_err()
}

/// Asks the name service on a thread of its own, which is left to itself where a signal handler raises.
fn resolve<T: Task>(py: Python<'_>, task: &Arc<T>) -> PyResult<Result<Vec<SocketAddr>, T::Error>> {
    let answer = Arc::new(Answer { came: WakeFd::new()?, addresses: Mutex::new(None) });
    // The descriptor goes with the caller, and not with a thread that may wait for long.
    let (place, task) = (Arc::downgrade(&answer), Arc::clone(task));
    let resolver = thread::Builder::new().name("portknock-resolve".into()).spawn(move || {
        let addresses = task.resolve();
        if let Some(answer) = place.upgrade() {
            if let Ok(mut place) = answer.addresses.lock() {
                *place = Some(addresses);
            }
            answer.came.wake();
        }
    })?;
    loop {
        py.detach(|| wait(&answer.came, TICK))?;
        if resolver.is_finished() || answer.came.acknowledge() {
            // It ends now.
            py.detach(|| resolver.join()).map_err(|_| panicked())?;
            return answer.addresses.lock().map_err(|_| panicked())?.take().ok_or_else(panicked);
        }
        py.check_signals()?;
    }
}

struct Answer<T> {
    came: WakeFd,
    addresses: Mutex<Option<T>>,
}

/// Waits until it is woken, a signal comes, or the time is over.
fn wait(wake: &WakeFd, time: Duration) -> io::Result<()> {
    match poll::wait([(wake.as_fd(), Interest::Read)], time) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
