//! The engine over a capture file.

use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::prelude::*;

use crate::arguments::local_addresses;
use crate::config::Config;
use crate::errors::{self, panicked};
use crate::event;

/// So many frames pass between two looks for a signal: some milliseconds.
const AT_ONCE: u64 = 65_536;

/// What `replay` returns: an iterator, for one thread or several that share its events.
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Replay(Mutex<portknock_core::replay::Replay>);

/// Run a capture file, pcap or pcapng, through an engine: an iterator of the events that the packets would have
/// made.
///
/// "-" is standard input. Nothing is run and nothing is written. One-time doors go on with the lines of their files
/// that follow. At the end of the file nothing more is told: what is still running stays unmentioned.
///
/// local_addresses: as for `Engine`.
///
/// Raises CaptureError where the file cannot be read or has an unknown link type, and while iterating where it is
/// damaged, after the events of the frames before.
#[pyfunction]
#[pyo3(signature = (path, config, local_addresses = None))]
pub(crate) fn replay(
    py: Python<'_>,
    path: PathBuf,
    config: &Config,
    local_addresses: Option<&Bound<'_, PyAny>>,
) -> PyResult<Replay> {
    let local = self::local_addresses(local_addresses)?;
    let opened = py.detach(|| portknock_core::replay::Replay::open(&config.config, local, &path));
    // A signal is why a pipe could not be read.
    py.check_signals()?;
    Ok(Replay(Mutex::new(opened.map_err(|error| errors::replay(&error))?)))
}

#[pymethods]
impl Replay {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        loop {
            let (next, at_end) = py.detach(|| {
                let mut replay = self.0.lock().map_err(|_| panicked())?;
                Ok::<_, PyErr>((replay.next_event_within(AT_ONCE), replay.is_at_end()))
            })?;
            if let Ok(Some(event)) = next {
                return event::to_python(py, event).map(Some);
            }
            py.check_signals()?;
            next.map_err(|error| errors::replay(&error))?;
            if at_end {
                return Ok(None);
            }
        }
    }
}
