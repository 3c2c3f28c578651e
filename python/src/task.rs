//! Work that waits, on the thread of the caller, so that signals end it.

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

/// Interval of the checks for signals, because another thread of the process can receive them.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Work that concerns a host.
pub(crate) trait Task: Send + Sync + 'static {
    type Output: Send + 'static;
    type Error: From<HostError> + Send + 'static;

    /// Returns the host as it was passed.
    fn host(&self) -> &str;

    /// Finds the host's addresses. A query to the name service can take long and cannot be stopped.
    fn resolve(&self) -> Result<Vec<SocketAddr>, Self::Error>;

    /// Does the work. Calls `observer`, which decides whether to continue, at least every tenth of a
    /// second.
    fn run(
        &self,
        addresses: &[SocketAddr],
        observer: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self::Output, Self::Error>;

    /// Converts the result for the caller.
    fn result(&self, py: Python<'_>, found: Result<Self::Output, Self::Error>) -> PyResult<Py<PyAny>>;
}

/// Does the work on this thread. A signal ends it if the handler raises an exception.
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

/// Whether the host is a name, which the name service must resolve.
pub(crate) fn has_name(task: &impl Task) -> bool {
    task.host().parse::<IpAddr>().is_err()
}

/// Queries the name service on a dedicated thread. If a signal handler raises an exception, the thread is
/// left running.
fn resolve<T: Task>(py: Python<'_>, task: &Arc<T>) -> PyResult<Result<Vec<SocketAddr>, T::Error>> {
    let resolution = Arc::new(Resolution { came: WakeFd::new()?, addresses: Mutex::new(None) });
    // The caller owns the descriptor, and not the thread, which may wait long.
    let (weak, task) = (Arc::downgrade(&resolution), Arc::clone(task));
    let resolver = thread::Builder::new().name("portknock-resolve".into()).spawn(move || {
        let addresses = task.resolve();
        if let Some(resolution) = weak.upgrade() {
            if let Ok(mut slot) = resolution.addresses.lock() {
                *slot = Some(addresses);
            }
            resolution.came.wake();
        }
    })?;
    loop {
        py.detach(|| wait(&resolution.came, TICK))?;
        if resolver.is_finished() || resolution.came.acknowledge() {
            // The thread is about to end.
            py.detach(|| resolver.join()).map_err(|_| panicked())?;
            return resolution.addresses.lock().map_err(|_| panicked())?.take().ok_or_else(panicked);
        }
        py.check_signals()?;
    }
}

struct Resolution<T> {
    came: WakeFd,
    addresses: Mutex<Option<T>>,
}

/// Waits until it is woken, a signal arrives, or the time is over.
fn wait(wake: &WakeFd, time: Duration) -> io::Result<()> {
    match poll::wait([(wake.as_fd(), Interest::Read)], time) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    }
}
