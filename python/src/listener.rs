//! A listener: the engine on live packets.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portknock_core::service::{self, Notice, ServiceError, ServiceOptions};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyString;

use crate::arguments::seconds;
use crate::config::Config;
use crate::errors::{self, panicked};
use crate::event;
use crate::task::TICK;

/// Everything that portknockd does, for a program of your own: packets are captured, doors open and close, and their
/// commands run where you ask for it. What happens is told by events.
///
///     with portknock.Listener(config, interface="eth0") as listener:
///         for event in listener:
///             print(event)
///
/// Or wait for `fileno()` in a loop of your own and, when it is readable, call `next(0)` until it gives None. Nothing
/// happens without these calls. See `portknock.aio.listen` for asyncio.
///
/// A thread that waits keeps no other one from using the listener.
///
/// A listener belongs to the process that opened it: in a forked child (`os.fork`, multiprocessing with "fork") every
/// method but `close` raises PortknockError and takes nothing from the parent; `close` closes the child's copy alone.
///
/// Begin to listen.
///
/// interface: one interface or several, "any" for all. None: those of the configuration. What does not exist
/// (yet) is waited for.
/// run_commands: run the doors' commands (with the umask of this process), open their ports, keep openings in the state file, mark one-time sequences as used. Else
/// nothing outside of the process changes; the program runs the commands and opens the ports that the events have,
/// and one-time sequences open again and again.
/// ipv4_only: pass over IPv6 packets.
/// on_notice: is called, by whoever waits, with each other line that a log should have: interfaces that come and
/// go, commands that run and fail. What it raises comes out of `next`.
///
/// Raises CaptureError without CAP_NET_RAW (errno EPERM) and where the system refuses something; ValueError for
/// names that no interface can have; PortknockError where the state file is in use by someone else or cannot be
/// trusted, where a file of one-time sequences cannot be used, and, with run_commands, where the ports of `open`
/// cannot be opened (CAP_NET_ADMIN, the sets of `Gate`).
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Listener {
    open: Mutex<Option<Open>>,
    /// What tells an interruption from a tick.
    interrupted: AtomicBool,
    /// The process that opened it. In a forked child the lock may be held by a thread that does not exist there.
    owner: u32,
}

struct Open {
    listener: Arc<service::Listener>,
    on_notice: Option<Py<PyAny>>,
}

#[pymethods]
impl Listener {
    #[new]
    #[pyo3(signature = (config, interface = None, *, run_commands = false, ipv4_only = false, on_notice = None))]
    fn new(
        py: Python<'_>,
        config: &Config,
        interface: Option<&Bound<'_, PyAny>>,
        run_commands: bool,
        ipv4_only: bool,
        on_notice: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        if on_notice.as_ref().is_some_and(|callback| !callback.bind(py).is_callable()) {
            return Err(PyTypeError::new_err("on_notice is not callable"));
        }
        let interfaces = interface.map(interfaces).transpose()?;
        let mut options = ServiceOptions::default();
        (options.interfaces, options.run_commands, options.ipv4_only) = (interfaces, run_commands, ipv4_only);
        let listener = py
            .detach(|| service::Listener::open(config.config.clone(), options))
            .map_err(|error| errors::service(&error))?;
        let open = Open { listener: Arc::new(listener), on_notice };
        Ok(Self { open: Mutex::new(Some(open)), interrupted: AtomicBool::new(false), owner: std::process::id() })
    }

    /// A descriptor that is readable when `next` has something to do or to tell. It belongs to the listener: wait
    /// for it, and do nothing else with it. Raises ValueError after `close`.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.listener(py)?.as_fd().as_raw_fd())
    }

    /// Do what there is to do and take the next event, waiting for one at most `timeout` seconds; None waits for
    /// ever.
    ///
    /// None: the time is over, `interrupt` or `close` was called, or all is done after `stop`.
    ///
    /// Raises CaptureError where the capture has broken down for good, and ValueError after `close`.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let timeout = timeout.map(|timeout| seconds(timeout, "timeout")).transpose()?;
        // It fails where it is closed already, and ends where it is closed meanwhile.
        self.listener(py)?;
        self.wait(py, timeout)
    }

    /// End one wait, now or at its beginning: `next` gives None, a loop over the listener ends. From any thread.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_child()?;
        // In this order: who is woken finds out why.
        self.interrupted.store(true, Ordering::SeqCst);
        self.listener(py)?.interrupt();
        Ok(())
    }

    /// Take up another configuration. Doors that did not change keep their attempts, open doors stay open.
    ///
    /// Raises what the constructor raises; then everything goes on as before.
    fn reload(&self, py: Python<'_>, config: &Config) -> PyResult<()> {
        self.with(py, |listener| listener.reload(config.config.clone()))
    }

    /// Begin to stop: no packet counts any more, and open doors are closed unless the configuration has OnStop =
    /// keep.
    ///
    /// Go on taking events until there is none: commands are waited for, up to a minute. Again it changes nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, service::Listener::stop)
    }

    /// True when everything that `stop` began is done and its events are taken. Raises ValueError after `close`.
    #[getter]
    fn stopped(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, service::Listener::is_stopped)
    }

    /// End listening at once, as leaving a `with` block does; whoever waits finds the end.
    ///
    /// Commands that run are left alone; with run_commands, open doors are left to the next listener or daemon with the
    /// same state file. To close them first, call `stop` and take the events that are left. From any thread; again it
    /// changes nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_forked() {
            // The child's copy alone.
            drop(self.open.try_lock().map(|mut open| open.take()));
            return Ok(());
        }
        let open = self.open.lock_py_attached(py).map_err(|_| panicked())?.take();
        if let Some(open) = open {
            // Whoever waits finds it closed, wakes the next one, and the last one lets go of it.
            open.listener.interrupt();
            py.detach(|| drop(open.listener));
        }
        Ok(())
    }

    /// True after `close`.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_forked() {
            return Ok(self.open.try_lock().is_ok_and(|open| open.is_none()));
        }
        Ok(self.open.lock_py_attached(py).map_err(|_| panicked())?.is_none())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.wait(py, None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.open.try_lock().as_deref() {
            Ok(Some(open)) => visit.call(&open.on_notice),
            // What is in use, or holds nothing, is no garbage.
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        if let Ok(Some(open)) = self.open.lock().as_deref_mut() {
            open.on_notice = None;
        }
    }
}

impl Listener {
    fn is_forked(&self) -> bool {
        std::process::id() != self.owner
    }

    fn refuse_child(&self) -> PyResult<()> {
        if self.is_forked() { Err(errors::service(&ServiceError::Forked)) } else { Ok(()) }
    }

    /// The listener, unless it is closed.
    fn listener(&self, py: Python<'_>) -> PyResult<Arc<service::Listener>> {
        self.refuse_child()?;
        match &*self.open.lock_py_attached(py).map_err(|_| panicked())? {
            Some(open) => Ok(Arc::clone(&open.listener)),
            None => Err(PyValueError::new_err("the listener is closed")),
        }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&service::Listener) -> Result<T, ServiceError> + Send,
    ) -> PyResult<T> {
        let listener = self.listener(py)?;
        py.detach(|| work(&listener)).map_err(|error| errors::service(&error))
    }

    /// The next event; `None` when the time is over, and when it is interrupted, stopped or closed.
    fn wait(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Py<PyAny>>> {
        self.refuse_child()?;
        let start = Instant::now();
        loop {
            let (listener, on_notice) = match &*self.open.lock_py_attached(py).map_err(|_| panicked())? {
                Some(open) => {
                    (Arc::clone(&open.listener), open.on_notice.as_ref().map(|callback| callback.clone_ref(py)))
                }
                None => return Ok(None),
            };
            let left = timeout.map_or(TICK, |timeout| timeout.saturating_sub(start.elapsed()));
            let (next, stopped) = py.detach(|| {
                let next = match on_notice {
                    Some(_) => listener.next(Some(left.min(TICK))),
                    None => listener.next_event(Some(left.min(TICK))).map(|event| event.map(Notice::Event)),
                };
                let closed = self.open.lock().map_or(true, |open| open.is_none());
                if closed {
                    // One interruption ends one wait, and there may be more of them.
                    listener.interrupt();
                }
                (next, closed || listener.is_stopped().unwrap_or(true))
            });
            // A signal handler may close it.
            py.detach(|| drop(listener));
            match (next.map_err(|error| errors::service(&error))?, on_notice) {
                (Some(Notice::Event(event) | Notice::SummarisedEvent(event)), _) => {
                    return event::to_python(py, event).map(Some);
                }
                (Some(notice), Some(callback)) => drop(callback.call1(py, (notice.to_string(),))?),
                (Some(_), None) => {}
                (None, _) if stopped || self.interrupted.swap(false, Ordering::SeqCst) => return Ok(None),
                (None, _) if timeout.is_some_and(|timeout| start.elapsed() >= timeout) => return Ok(None),
                (None, _) => py.check_signals()?,
            }
        }
    }
}

/// One name, or several.
fn interfaces(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Ok(vec![value.extract()?]);
    }
    let names: Vec<String> = value.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>()?;
    if names.is_empty() {
        return Err(PyValueError::new_err("interface is an empty list; None takes those of the configuration"));
    }
    Ok(names)
}
