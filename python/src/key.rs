//! The keys of clients, their time sequences and their packets.

use std::path::{Path, PathBuf};

use portknock_core::client_file::{ClientFile, SettingError};
use portknock_core::wall_clock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::arguments::{address, number, time};
use crate::config::text;
use crate::errors;

/// The key of a client, and how the client knocks: the content of the file that `portknock keygen`
/// writes.
///
/// It never changes. `repr` shows no part of the secret, and a key cannot be pickled.
#[pyclass(frozen, module = "portknock")]
pub(crate) struct Key(pub(crate) ClientFile);

#[pymethods]
impl Key {
    /// Read a client's file.
    ///
    /// Raises OSError if the file cannot be read, PortknockError if other users can read or write
    /// it, and ValueError if it has errors.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| ClientFile::read(&path)).map(Self).map_err(|error| errors::client_file(&error))
    }

    /// Read the text of a client's file.
    ///
    /// name: stands for the file name in errors.
    ///
    /// Raises ValueError if the text has errors.
    #[staticmethod]
    #[pyo3(signature = (text, name = "<text>"))]
    fn parse(text: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let text = self::text(text)?;
        ClientFile::parse(&text, Path::new(name)).map(Self).map_err(|error| errors::client_file(&error))
    }

    /// Name of the client in the server's key file and in events.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Form of the client's knocks: "time" for time sequences or "packet" for packets.
    #[getter]
    fn form(&self) -> &'static str {
        self.0.form.as_str()
    }

    /// Server that the key is for, and that `knock` knocks at by default; None if the file names
    /// none.
    #[getter]
    fn server(&self) -> Option<&str> {
        self.0.server.as_deref()
    }

    /// Name of the door that packets ask for; None if the file names none.
    #[getter]
    fn door(&self) -> Option<&str> {
        self.0.door.as_deref()
    }

    /// UDP port of the server that packets are sent to.
    #[getter]
    fn port(&self) -> u16 {
        self.0.port.get()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = PyString::new(py, &self.0.name).repr()?;
        Ok(format!("<Key {name}, form: {}>", self.0.form.as_str()))
    }
}

/// Returns the port and the protocol of each step.
#[pyfunction]
pub(crate) fn steps(key: &Key, at: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(u16, String)>> {
    let at = at.map_or_else(|| Ok(wall_clock()), |at| time(at.as_borrowed(), false))?;
    let sequence = key.0.sequence_at(at);
    Ok(sequence.steps().iter().map(|step| (step.port.get(), step.protocol.to_string())).collect())
}

/// Returns a new packet.
#[pyfunction]
pub(crate) fn packet<'py>(
    py: Python<'py>,
    key: &Key,
    address: Option<&Bound<'py, PyAny>>,
    seconds: &Bound<'py, PyAny>,
    at: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let at = at.map_or_else(|| Ok(wall_clock()), |at| time(at.as_borrowed(), false))?;
    let address = address.map(|address| self::address(address, "address")).transpose()?;
    let seconds = number(seconds, "seconds", 0..=u32::MAX)?;
    if key.0.door.is_none() {
        return Err(PyValueError::new_err(format!("key: {}", SettingError::NoDoor)));
    }
    let packet = key.0.packet_at(at, address, seconds).map_err(|error| errors::packet(&error))?;
    Ok(PyBytes::new(py, &packet))
}
