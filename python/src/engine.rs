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

/// Maximum number of frames read from the iterable before the engine processes them and the interpreter
/// checks for signals.
const FEED_BATCH: usize = 1024;

/// The matching without input and output: an engine has no socket, clock or thread.
///
/// Feed it with frames and times. Each call returns the events that it caused, and the program
/// carries out the actions that they ask for. After each call wait for the next packet until the
/// time of `next_timeout` at the latest, and call `advance` at that time. Time never runs
/// backwards: a time earlier than the previous one counts as the previous one.
///
/// Doors with one_time_sequences accept one knock here; `replay` and `Listener` continue with the
/// next sequences of their files. Doors with keys accept each knock once. A new engine does not
/// remember the knocks that an earlier one has accepted; a `Listener` with run_commands does.
///
/// Calls on one engine wait for each other.
///
/// All times are seconds since 1970 up to 18446744072.99, as float or int, or with `ns=True` int
/// nanoseconds. Other values raise ValueError.
///
/// Create an engine for a configuration.
///
/// local_addresses: addresses that count as this host's for doors without a `target`, as texts
///     or objects of `ipaddress`. None: any destination counts.
/// now: time at which the engine starts. None: the time of its first call.
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Engine(Mutex<portknock_core::Engine>);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (config, local_addresses = None, *, now = None, ns = false))]
    fn new(
        config: &Config,
        local_addresses: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
        ns: bool,
    ) -> PyResult<Self> {
        let mut engine = portknock_core::Engine::new(&config.config);
        engine.set_local_addresses(self::local_addresses(local_addresses)?);
        if let Some(now) = now {
            engine.handle_timeout(time(now.as_borrowed(), ns)?);
        }
        Ok(Self(Mutex::new(engine)))
    }

    /// Set the addresses that count as this host's from now on; None for any.
    fn set_local_addresses(&self, py: Python<'_>, addresses: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let addresses = local_addresses(addresses)?;
        self.with(py, |engine| engine.set_local_addresses(addresses))
    }

    /// Set the time of the wall clock at `now`, the time by the engine's clock.
    ///
    /// Time sequences change by the wall clock, and the times of packets are judged by it. Until
    /// the first call, the times that the engine receives are those of the wall clock. Only a
    /// program whose times come from another clock, such as CLOCK_BOOTTIME, needs this method: at
    /// the start, and after each change of the wall clock.
    #[pyo3(signature = (wall, now, *, ns = false))]
    fn set_wall_clock(
        &self,
        py: Python<'_>,
        wall: &Bound<'_, PyAny>,
        now: &Bound<'_, PyAny>,
        ns: bool,
    ) -> PyResult<Vec<Py<PyAny>>> {
        let (wall, now) = (time(wall.as_borrowed(), ns)?, time(now.as_borrowed(), ns)?);
        self.events_of(py, |engine| engine.set_wall_clock(wall, now))
    }

    /// Process a captured frame and return its events.
    ///
    /// A frame that is not a knock only advances the time; its bytes may be anything.
    ///
    /// timestamp: time of capture.
    /// linktype: format of the frame, one of LINKTYPE_…; by default Ethernet. Raises ValueError for
    ///     another number.
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

    /// Process many frames, each a tuple (timestamp, frame), at a third of the cost of `feed`.
    ///
    /// `bytes` are read in place, other bytes-like objects are copied. If a tuple is invalid, the
    /// frames before it have been processed, and the next call returns their events.
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
        let mut batch = Vec::with_capacity(FEED_BATCH);
        loop {
            // The caller's code can run here, and use this engine.
            let read = frames.by_ref().take(FEED_BATCH).try_for_each(|frame| frame.map(|frame| batch.push(frame)));
            self.feed_all(py, link_type, &batch, ns)?;
            // After an error the next call returns the events.
            read?;
            if batch.len() < FEED_BATCH {
                return self.events_of(py, |_| ());
            }
            batch.clear();
            py.check_signals()?;
            // Lets other threads run.
            py.detach(|| ());
        }
    }

    /// Advance the time: everything due by then happens.
    #[pyo3(signature = (now, *, ns = false))]
    fn advance(&self, py: Python<'_>, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.handle_timeout(now))
    }

    /// Return the time at which `advance` is due next; None if no attempt and no opening is
    /// running.
    ///
    /// It can change with every call that has a time argument.
    #[pyo3(signature = (*, ns = false))]
    fn next_timeout(&self, py: Python<'_>, ns: bool) -> PyResult<Option<Py<PyAny>>> {
        let due = self.with(py, portknock_core::Engine::poll_timeout)?;
        due.map(|due| if ns { Ok(due.as_nanos().into_pyobject(py)?.into_any().unbind()) } else { seconds(py, due) })
            .transpose()
    }

    /// Replace the configuration.
    ///
    /// Attempts at unchanged doors continue, other attempts fail. Open doors stay open until their
    /// time is over.
    #[pyo3(signature = (config, now, *, ns = false))]
    fn reload(&self, py: Python<'_>, config: &Config, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.reload(&config.config, now))
    }

    /// Close every open door; each causes an event.
    #[pyo3(signature = (now, *, ns = false))]
    fn close_all(&self, py: Python<'_>, now: &Bound<'_, PyAny>, ns: bool) -> PyResult<Vec<Py<PyAny>>> {
        let now = time(now.as_borrowed(), ns)?;
        self.events_of(py, |engine| engine.close_all(now))
    }
}

impl Engine {
    /// Feeds frames. Most should be plain tuples of floats and bytes, because reading these runs no code of
    /// the caller.
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

    /// Runs `work` with exclusive access to the engine, after waiting for other threads.
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&mut portknock_core::Engine) -> T) -> PyResult<T> {
        let mut engine = self.0.lock_py_attached(py).map_err(|_| panicked())?;
        Ok(work(&mut engine))
    }

    /// Runs `work` with exclusive access to the engine, and returns the events.
    fn events_of(&self, py: Python<'_>, work: impl FnOnce(&mut portknock_core::Engine)) -> PyResult<Vec<Py<PyAny>>> {
        let events: Vec<_> = self.with(py, |engine| {
            work(engine);
            std::iter::from_fn(|| engine.poll_event()).collect()
        })?;
        events.into_iter().map(|event| event::to_python(py, event)).collect()
    }
}

/// Converts a time to the nearest float.
pub(crate) fn seconds(py: Python<'_>, time: Timestamp) -> PyResult<Py<PyAny>> {
    let seconds: f64 = event::seconds(time);
    Ok(seconds.into_pyobject(py)?.into_any().unbind())
}
