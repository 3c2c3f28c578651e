//! The engine on a capture file.

use std::path::PathBuf;
use std::sync::Mutex;

use pyo3::prelude::*;

use crate::arguments::local_addresses;
use crate::config::Config;
use crate::errors::{self, panicked};
use crate::event;

/// Number of frames processed between two checks for signals: some milliseconds.
const FRAME_BATCH: u64 = 65_536;

/// The iterator that `replay` returns. Several threads can share it and its events.
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Replay(Mutex<portknock_core::replay::Replay>);

/// Process a capture file, pcap or pcapng, by an engine; return an iterator of its events.
///
/// The packets cause the same events as they would live. "-" means standard input. The replay runs
/// no command and writes no file. Doors with one_time_sequences continue with the next sequences of
/// their files. For doors with keys, the times of the packets are the wall clock, and no knock was
/// accepted before. At the end of the file, attempts and openings that are still running cause no
/// event.
///
/// local_addresses: as for `Engine`.
///
/// Raises CaptureError if the file cannot be read or has an unknown link type. The iterator raises
/// CaptureError if the file is damaged, after the events of the frames before the damage.
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
    // A signal can be the reason why a pipe could not be read.
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
                Ok::<_, PyErr>((replay.next_event_within(FRAME_BATCH), replay.is_at_end()))
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
