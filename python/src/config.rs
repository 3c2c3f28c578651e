//! Configurations.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use portknock_core::config::{self, Loaded, Parsed};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::errors;
use crate::frames::bytes;
use crate::json::loads;

/// A knockd.conf: its options and doors. It never changes.
///
/// `str` is its canonical text: options that differ from the defaults, then the doors. Two
/// configurations are equal if their options and doors mean the same. The name, comments and
/// warnings do not matter.
///
/// It can be copied and pickled. `pickle` stores the text. Unpickling reads it again, as `parse`
/// does, and so also reads the one_time_sequences files and the `keys` files that it names.
#[pyclass(frozen, eq, hash, module = "portknock")]
pub(crate) struct Config {
    pub(crate) config: portknock_core::Config,
    json: String,
    report: String,
    name: String,
    /// The text that it was read from.
    text: Vec<u8>,
    doors: PyOnceLock<Py<PyAny>>,
    options: PyOnceLock<Py<PyAny>>,
    diagnostics: PyOnceLock<Py<PyAny>>,
}

/// Data that `pickle` stores: `Config.parse` and its arguments.
type Reduced<'a, 'py> = (Bound<'py, PyAny>, (Bound<'py, PyBytes>, &'a str));

/// A configuration that was read, and its name in reports.
struct Read {
    name: String,
    loaded: Loaded,
}

impl Read {
    fn file(path: &Path) -> PyResult<Self> {
        let loaded = config::load(path).map_err(|error| errors::load(&error))?;
        Ok(Self { name: path.to_string_lossy().into_owned(), loaded })
    }

    fn text(name: &str, text: Vec<u8>) -> Self {
        let Parsed { config, report } = config::load_text(&text);
        Self { name: name.into(), loaded: Loaded { config, report, text } }
    }

    fn json(&self) -> String {
        config::check_json(&self.name, &self.loaded.text, &self.loaded.report, self.loaded.config.as_ref())
    }

    fn report(&self) -> String {
        self.loaded.report.render(&self.name, &self.loaded.text)
    }

    fn config(self) -> Option<Config> {
        let (json, report) = (self.json(), self.report());
        let config = self.loaded.config?;
        let [doors, options, diagnostics] = [const { PyOnceLock::new() }; 3];
        let text = self.loaded.text;
        Some(Config { config, json, report, name: self.name, text, doors, options, diagnostics })
    }

    /// Returns the configuration, or an exception if it has errors.
    fn accept(self, py: Python<'_>) -> PyResult<Config> {
        let (json, report) = (self.json(), self.report());
        match self.config() {
            Some(config) => Ok(config),
            None => {
                let found = loads(py, &json)?.get_item("diagnostics")?;
                Err(errors::refused(&report, values(py, "diagnostics", found)?))
            }
        }
    }

    /// Returns the parts of a `Report`.
    fn checked(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        (self.json(), self.report(), self.config()).into_pyobject(py)
    }
}

/// Converts a part of the JSON to the classes of `_values.py`.
fn values<'py>(py: Python<'py>, make: &str, part: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    py.import("portknock._values")?.call_method1(make, (part,))
}

#[pymethods]
impl Config {
    /// Read a file, the first unused sequence of each one_time_sequences file that it names, and the
    /// keys of each `keys` file.
    ///
    /// Raises ConfigError if the configuration has errors, and OSError if the file cannot be read:
    /// it is missing, is not a regular file, or is larger than 16 MiB.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| Read::file(&path))?.accept(py)
    }

    /// Read a text. Bytes need not be UTF-8. Otherwise the same as `load`.
    ///
    /// name: stands for the file name in errors.
    ///
    /// Raises ConfigError if the configuration has errors.
    #[staticmethod]
    #[pyo3(signature = (text, name = "<text>"))]
    fn parse(py: Python<'_>, text: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let text = self::text(text)?;
        py.detach(|| Read::text(name, text)).accept(py)
    }

    /// Return the text with every fix of its diagnostics applied, as `portknock check --fix`
    /// writes it.
    ///
    /// Problems without a fix remain: use `parse` or `check_text` on the result to find them.
    #[staticmethod]
    fn fix<'py>(py: Python<'py>, text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self::text(text)?;
        let fixed = py.detach(|| config::apply_fixes(&bytes, &config::load_text(&bytes).report));
        if text.is_instance_of::<PyString>() {
            // A fixed text is a text.
            Ok(PyString::new(py, &String::from_utf8_lossy(&fixed)).into_any())
        } else {
            Ok(PyBytes::new(py, &fixed).into_any())
        }
    }

    /// Doors, in the order of the file.
    #[getter]
    fn doors(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(values(py, "doors", self.as_dict(py)?.get_item("doors")?)?.unbind());
        self.doors.get_or_try_init(py, make).map(|doors| doors.clone_ref(py))
    }

    /// Options.
    #[getter]
    fn options(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(values(py, "options", self.as_dict(py)?.get_item("options")?)?.unbind());
        self.options.get_or_try_init(py, make).map(|options| options.clone_ref(py))
    }

    /// Findings, in the order of the text. They are warnings, because a `Config` has no
    /// errors.
    #[getter]
    fn diagnostics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || {
            let found = loads(py, &self.json)?.get_item("diagnostics")?;
            Ok::<_, PyErr>(values(py, "diagnostics", found)?.unbind())
        };
        self.diagnostics.get_or_try_init(py, make).map(|found| found.clone_ref(py))
    }

    /// Diagnostics as `portknock check` prints them, each with its line of the text; "" if there
    /// is none.
    #[getter]
    fn report(&self) -> &str {
        &self.report
    }

    /// Return the object `config` of `portknock check --format json`: a new dict each time.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, &self.json)?.get_item("config")
    }

    /// Supports `pickle`: unpickling reads the text again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'_, 'py>> {
        let parse = py.get_type::<Self>().getattr("parse")?;
        Ok((parse, (PyBytes::new(py, &self.text), &self.name)))
    }

    /// A configuration never changes, so it is its own copy.
    fn __copy__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: PyRef<'py, Self>, _memo: &Bound<'py, PyAny>) -> PyRef<'py, Self> {
        slf
    }

    fn __str__(&self) -> String {
        self.config.to_string()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = PyString::new(py, &self.name).repr()?;
        Ok(format!("<Config {name}, doors: {}>", self.config.doors.len()))
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Hash for Config {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Equal configurations have equal texts.
        self.config.to_string().hash(state);
    }
}

/// Returns the parts of the report of `portknock.check`.
#[pyfunction]
pub(crate) fn check(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyTuple>> {
    py.detach(|| Read::file(&path))?.checked(py)
}

/// Returns the parts of the report of `portknock.check_text`.
#[pyfunction]
pub(crate) fn check_text<'py>(py: Python<'py>, text: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyTuple>> {
    let text = self::text(text)?;
    py.detach(|| Read::text(name, text)).checked(py)
}

/// Returns the bytes of a text.
pub(crate) fn text(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.as_bytes().to_owned());
    }
    let bytes = bytes(value.as_borrowed()).map_err(|_| PyTypeError::new_err("text is a str or bytes"))?;
    Ok(bytes.as_bytes().to_owned())
}
