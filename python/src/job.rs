//! Work on a dedicated thread, for event loops.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use portknock_core::sys::wake::WakeFd;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::errors::panicked;
use crate::task::{Task, has_name};

/// The thread waits for the name service.
const RESOLVING: u8 = 0;
/// The thread does the work.
const WORKING: u8 = 1;
/// The result is not needed any more.
const CANCELLED: u8 = 2;

/// Work in progress. Its descriptor is readable when the work has ended.
#[pyclass(frozen, module = "portknock._native")]
pub(crate) struct Job {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

struct Shared {
    stage: AtomicU8,
    ended: WakeFd,
    finish: Mutex<Option<Finish>>,
}

impl Job {
    pub(crate) fn start<T: Task>(task: Arc<T>) -> PyResult<Self> {
        let stage = AtomicU8::new(if has_name(task.as_ref()) { RESOLVING } else { WORKING });
        let shared = Arc::new(Shared { stage, ended: WakeFd::new()?, finish: Mutex::new(None) });
        // The job owns the descriptor, and not the thread, which may wait long for a name server.
        let weak = Arc::downgrade(&shared);
        let work = move || {
            let addresses = task.resolve();
            let Some(shared) = weak.upgrade() else { return };
            let shared = WakeAtEnd(shared);
            let _ = shared.0.stage.compare_exchange(RESOLVING, WORKING, Ordering::SeqCst, Ordering::SeqCst);
            if shared.0.observe().is_break() {
                return;
            }
            let found = addresses.and_then(|addresses| task.run(&addresses, &mut || shared.0.observe()));
            if let Ok(mut finish) = shared.0.finish.lock() {
                *finish = Some(Box::new(move |py| task.result(py, found)));
            }
        };
        let thread = thread::Builder::new().name("portknock-job".into()).spawn(work)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }
}

impl Shared {
    fn observe(&self) -> ControlFlow<()> {
        if self.stage.load(Ordering::SeqCst) == CANCELLED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Signals the end of the work, also after a panic.
struct WakeAtEnd(Arc<Shared>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        self.0.ended.wake();
    }
}

#[pymethods]
impl Job {
    /// Return a descriptor that is readable when the work has ended.
    fn fileno(&self) -> RawFd {
        self.shared.ended.as_fd().as_raw_fd()
    }

    /// Stop the work. Returns False if the thread only waits for the name service, which cannot be
    /// stopped: then do not wait for the end of the thread.
    fn cancel(&self) -> bool {
        self.shared.stage.swap(CANCELLED, Ordering::SeqCst) != RESOLVING
    }

    /// Wait for the end of the thread.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let thread = self.thread.lock_py_attached(py).map_err(|_| panicked())?.take();
        py.detach(|| thread.map_or(Ok(()), JoinHandle::join)).map_err(|_| panicked())
    }

    /// Return the result. Can be called once, after the end of the work.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.join(py)?;
        let finish = self.shared.finish.lock_py_attached(py).map_err(|_| panicked())?.take();
        finish.ok_or_else(panicked)?(py)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.cancel();
    }
}
