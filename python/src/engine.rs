//! The engine: packets and times in, events out.

use std::sync::Mutex;

use portknock_core::{LinkType, Timestamp};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::arguments::{local_addresses, time};
use crate::config::Config;
use crate::errors::panicked;
use crate::event;
use crate::frames::{bytes, pair, plain_pair};
use crate::link_type::{LINKTYPE_ETHERNET, link_type};

/// So many frames are taken before they are fed, and signals looked for.
const AT_ONCE: usize = 1024;

/// The matching alone: no socket, clock or thread is behind it.
///
/// Feed it with frames and times; each call returns the events that came of it, and what they ask for is yours to do.
/// After a call wait for the next packet, but not longer than `next_timeout` says, and when that time has come call
/// `advance`. Time never runs backwards: an earlier time than the one before counts as the same.
///
/// Doors with one_time_sequences take one knock here; `replay` and `Listener` go on with their files.
///
/// Calls on one engine wait for each other.
///
/// All times are seconds since 1970 up to 18446744072.99, as float or int, or with `ns=True` int nanoseconds. Others
/// raise ValueError.
///
/// An engine for a configuration.
///
/// local_addresses: the addresses that count as this machine's for doors without a `target`, as texts or objects of
/// `ipaddress`. None: any destination counts.
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Engine(Mutex<portknock_core::Engine>);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (config, local_addresses = None))]
    fn new(config: &Config, local_addresses: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut engine = portknock_core::Engine::new(&config.config);
        engine.set_local_addresses(self::local_addresses(local_addresses)?);
        Ok(Self(Mutex::new(engine)))
    }

    /// Say which addresses count as this machine's from now on; None for any.
    fn set_local_addresses(&self, py: Python<'_>, addresses: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let addresses = local_addresses(addresses)?;
        self.with(py, |engine| engine.set_local_addresses(addresses))
    }

    /// Take a captured frame. What is no knock, whatever its bytes, only moves time on.
    ///
    /// timestamp: when it was captured.
    /// linktype: how it begins, one of LINKTYPE_…; by default Ethernet. Raises ValueError for another number.
    #[pyo3(signature = (frame, timestamp, linktype = LINKTYPE_ETHERNET, *, ns = false))]
    fn feed(
        &self,
        py: Python<'_>,
        frame: &Bound<'_, PyAny>,
        timestamp: &Bound<'_, PyAny>,
        linktype: i32,
        ns: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let (link_type, time, frame) =
            (link_type(linktype)?, time(timestamp.as_borrowed(), ns)?, bytes(frame.as_borrowed())?);
        self.events_of(py, |engine| engine.feed(link_type, time, frame.as_bytes()))
    }

    /// Take many frames, each as a tuple (timestamp, frame): what `feed` does, at a third of the cost.
    ///
    /// `bytes` are read where they are, other bytes-like objects are copied. Where a tuple is wrong, the frames
    /// before it were taken, and their events come with the next call.
    #[pyo3(signature = (frames, linktype = LINKTYPE_ETHERNET, *, ns = false))]
    fn feed_many(
        &self,
        py: Python<'_>,
        frames: &Bound<'_, PyAny>,
        linktype: i32,
        ns: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let link_type = link_type(linktype)?;
        let mut frames = frames.try_iter()?;
        let mut held = Vec::with_capacity(AT_ONCE);
        loop {
            // The caller's code may run here, and use this engine.
            let taken = frames.by_ref().take(AT_ONCE).try_for_each(|frame| frame.map(|frame| held.push(frame)));
            self.feed_all(py, link_type, &held, ns)?;
            // After an error the events stay for the next call.
            taken?;
            if held.len() < AT_ONCE {
                return self.events_of(py, |_| ());
            }
            held.clear();
            py.check_signals()?;
            // Other threads want their turn.
            py.detach(|| ());
        }
    }

    /// Move time on: what is due by then happens.
    #[pyo3(signature = (now, *, ns = false))]
    fn advance(&self, py: Python<'_>, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.handle_timeout(now))
    }

    /// When `advance` is due next; None where nothing runs. May change with every call that takes a time.
    #[pyo3(signature = (*, ns = false))]
    fn next_timeout(&self, py: Python<'_>, ns: bool) -> PyResult<Option<Py<PyAny>>> {
        let due = self.with(py, portknock_core::Engine::poll_timeout)?;
        due.map(|due| if ns { Ok(due.as_nanos().into_pyobject(py)?.into_any().unbind()) } else { seconds(py, due) })
            .transpose()
    }

    /// Take up another configuration. Attempts at doors that did not change go on, others fail; doors that stand
    /// open stay so until their time is over.
    #[pyo3(signature = (config, now, *, ns = false))]
    fn reload(&self, py: Python<'_>, config: &Config, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.reload(&config.config, now))
    }

    /// Close every open door, each with its event.
    #[pyo3(signature = (now, *, ns = false))]
    fn close_all(&self, py: Python<'_>, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.close_all(now))
    }
}

impl Engine {
    /// Feeds frames, of which most should be plain tuples of floats and bytes: they are read without the caller's code.
    fn feed_all(&self, py: Python<'_>, link_type: LinkType, frames: &[Bound<'_, PyAny>], ns: bool) -> PyResult<()> {
        let lock = || self.0.lock_py_attached(py).map_err(|_| panicked());
        let mut engine = lock()?;
        for frame in frames {
            if let Some((time, bytes)) = plain_pair(frame, ns) {
                engine.feed(link_type, time, bytes.as_bytes());
                continue;
            }
            drop(engine);
            let (time, bytes) = pair(frame, ns)?;
            engine = lock()?;
            engine.feed(link_type, time, bytes.as_bytes());
        }
        Ok(())
    }

    /// Works with the engine once the others are done with it.
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut portknock_core::Engine) -> T) -> PyResult<T> {
        let mut engine = self.0.lock_py_attached(py).map_err(|_| panicked())?;
        Ok(work(&mut engine))
    }

    /// The same, and takes the events that there are then.
    fn events_of(&self, py: Python<'_>, work: impl FnOnce(&mut portknock_core::Engine)) -> PyResult<Vec<Py<PyAny>>> {
        let events: Vec<_> = self.with(py, |engine| {
            work(engine);
            std::iter::from_fn(|| engine.poll_event()).collect()
        })?;
        events.into_iter().map(|event| event::to_python(py, event)).collect()
    }
}

/// The time as the number that is nearest to it.
pub(crate) fn seconds(py: Python<'_>, time: Timestamp) -> PyResult<Py<PyAny>> {
    let seconds: f64 = event::seconds(time);
    Ok(seconds.into_pyobject(py)?.into_any().unbind())
}
