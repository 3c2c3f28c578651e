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

/// The complete work of portknockd for the program's own event loop.
///
/// Packets are captured, doors open and close, and their commands run if the program asks for it.
/// Events report everything that happens.
///
///     with portknock.Listener(config, interface="eth0") as listener:
///         for event in listener:
///             print(event)
///
/// Alternatively wait for `fileno()` in another event loop and, when it is readable, call `next(0)`
/// until it returns None. Nothing happens without these calls. See `portknock.aio.listen` for
/// asyncio.
///
/// A thread that waits does not keep other threads from using the listener.
///
/// A listener belongs to the process that opened it. In a forked child (`os.fork`, multiprocessing
/// with "fork") every method except `close` raises PortknockError and does not affect the parent;
/// `close` closes only the child's copy.
///
/// Start to listen.
///
/// interface: one interface or several, "any" for all. None: those of the configuration. The
///     listener waits for interfaces that do not exist (yet).
/// run_commands: run commands (with the umask of this process), open ports, keep openings in
///     the state file, and mark one-time sequences as used. Otherwise nothing outside of the
///     process changes. The program runs the commands and opens the ports that the events
///     contain. One-time sequences open again and again.
/// ipv4_only: ignore IPv6 packets.
/// on_notice: function that receives further lines for a log: interfaces that come and go,
///     commands that run and fail. The thread that waits in `next` calls it. `next` passes on
///     its exceptions.
///
/// Raises CaptureError without CAP_NET_RAW (errno EPERM) and if a system call fails. Raises
/// ValueError for names that no interface can have. Raises PortknockError if a file of one-time
/// sequences cannot be used. With run_commands, raises PortknockError also if another program
/// uses the state file, if the state file cannot be trusted, or if the ports of `open` cannot
/// be opened (CAP_NET_ADMIN, the sets of `Gate`).
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Listener {
    open: Mutex<Option<Open>>,
    /// Set by an interruption, to distinguish it from a tick.
    interrupted: AtomicBool,
    /// Id of the process that opened the listener. In a forked child a thread that does not exist there
    /// can hold the lock.
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

    /// Return a descriptor that is readable when `next` has work to do or an event to return.
    ///
    /// It belongs to the listener: wait for it, and do nothing else with it. Raises ValueError
    /// after `close`.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.listener(py)?.as_fd().as_raw_fd())
    }

    /// Do the work that is due and take the next event.
    ///
    /// timeout: maximum time to wait for an event, in seconds; None waits without limit.
    ///
    /// Returns None if the time is over, if `interrupt` or `close` was called, or if all is done
    /// after `stop`.
    ///
    /// Raises CaptureError if the capture has failed permanently, and ValueError after `close`.
    #[pyo3(signature = (timeout = None))]
    fn next(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let timeout = timeout.map(|timeout| seconds(timeout, "timeout")).transpose()?;
        // The call fails if the listener is closed already, and returns if it is closed meanwhile.
        self.listener(py)?;
        self.wait(py, timeout)
    }

    /// End one wait, the current or the next one: `next` returns None, a loop over the listener
    /// ends.
    ///
    /// Can be called from any thread.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_child()?;
        // In this order, so that a woken thread finds the reason.
        self.interrupted.store(true, Ordering::SeqCst);
        self.listener(py)?.interrupt();
        Ok(())
    }

    /// Replace the configuration. Unchanged doors keep their attempts, and open doors stay open.
    ///
    /// Raises the exceptions of the constructor; then the listener continues with the old
    /// configuration.
    fn reload(&self, py: Python<'_>, config: &Config) -> PyResult<()> {
        self.with(py, |listener| listener.reload(config.config.clone()))
    }

    /// Start to stop: packets are not processed any more, and open doors are closed unless
    /// OnStop = keep.
    ///
    /// Continue to take events until there is none: the listener waits up to a minute for running
    /// commands. A second call changes nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, service::Listener::stop)
    }

    /// True when everything that `stop` started is done and its events are taken.
    ///
    /// Raises ValueError after `close`.
    #[getter]
    fn stopped(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, service::Listener::is_stopped)
    }

    /// Stop listening immediately, as the end of a `with` block does. Threads that wait return.
    ///
    /// Running commands are left alone. With run_commands, open doors stay open for the next
    /// listener or daemon with the same state file. To close them, call `stop` before and take the
    /// remaining events. Can be called from any thread. A second call changes nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_forked() {
            // Closes only the child's copy.
            drop(self.open.try_lock().map(|mut open| open.take()));
            return Ok(());
        }
        let open = self.open.lock_py_attached(py).map_err(|_| panicked())?.take();
        if let Some(open) = open {
            // A thread that waits finds the listener closed and wakes the next one. The last one drops it.
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
            // An object that is in use, or has no references, is not garbage.
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

    /// Returns the listener, unless it is closed.
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

    /// Returns the next event; `None` if the time is over, or the wait is interrupted, or the listener is
    /// stopped or closed.
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
                    // One interruption ends one wait, and further threads may be waiting.
                    listener.interrupt();
                }
                (next, closed || listener.is_stopped().unwrap_or(true))
            });
            // A signal handler can close the listener.
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

/// Reads one name, or several.
fn interfaces(value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Ok(vec![value.extract()?]);
    }
    let names: Vec<String> = value.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>()?;
    if names.is_empty() {
        return Err(PyValueError::new_err("interface is an empty list; None means those of the configuration"));
    }
    Ok(names)
}
