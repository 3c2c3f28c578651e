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
/// `str` gives its canonical text: options that differ from the defaults, then the doors. Configurations are equal
/// where these mean the same; names, comments and warnings do not matter.
///
/// It can be copied and pickled. `pickle` keeps the text; whoever unpickles it reads it again, and with it the files of
/// one_time_sequences that it names, as `parse` does.
#[pyclass(frozen, eq, hash, module = "portknock")]
pub(crate) struct Config {
    pub(crate) config: portknock_core::Config,
    json: String,
    report: String,
    name: String,
    /// What it was read from.
    text: Vec<u8>,
    doors: PyOnceLock<Py<PyAny>>,
    options: PyOnceLock<Py<PyAny>>,
    diagnostics: PyOnceLock<Py<PyAny>>,
}

/// What `pickle` keeps: `Config.parse` and its arguments.
type Reduced<'a, 'py> = (Bound<'py, PyAny>, (Bound<'py, PyBytes>, &'a str));

/// What was read, and by which name it is shown.
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

    /// The configuration, or what is wrong with it as an exception.
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

    /// What a `Report` is made of.
    fn checked(self, py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        (self.json(), self.report(), self.config()).into_pyobject(py)
    }
}

/// Makes the values that `_values.py` has for a part of the JSON.
fn values<'py>(py: Python<'py>, make: &str, part: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    py.import("portknock._values")?.call_method1(make, (part,))
}

#[pymethods]
impl Config {
    /// Read a file, and the first unused sequence of each one_time_sequences file that it names.
    ///
    /// Raises ConfigError where it has errors, and OSError where it cannot be read: it is missing, no regular file, or
    /// larger than 16 MiB.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| Read::file(&path))?.accept(py)
    }

    /// The same for a text. `name` is what errors call it. Bytes need not be UTF-8.
    ///
    /// Raises ConfigError where it has errors.
    #[staticmethod]
    #[pyo3(signature = (text, name = "<text>"))]
    fn parse(py: Python<'_>, text: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let text = self::text(text)?;
        py.detach(|| Read::text(name, text)).accept(py)
    }

    /// The text with every fix applied that diagnostics offer, as `portknock check --fix` writes it.
    ///
    /// What has no fix stays as it is: `parse` or `check_text` the result to see it.
    #[staticmethod]
    fn fix<'py>(py: Python<'py>, text: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = self::text(text)?;
        let fixed = py.detach(|| config::apply_fixes(&bytes, &config::load_text(&bytes).report));
        if text.is_instance_of::<PyString>() {
            // A fix of a text is a text.
            Ok(PyString::new(py, &String::from_utf8_lossy(&fixed)).into_any())
        } else {
            Ok(PyBytes::new(py, &fixed).into_any())
        }
    }

    /// The doors, in the order of the file.
    #[getter]
    fn doors(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(values(py, "doors", self.as_dict(py)?.get_item("doors")?)?.unbind());
        self.doors.get_or_try_init(py, make).map(|doors| doors.clone_ref(py))
    }

    /// The options.
    #[getter]
    fn options(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || Ok::<_, PyErr>(values(py, "options", self.as_dict(py)?.get_item("options")?)?.unbind());
        self.options.get_or_try_init(py, make).map(|options| options.clone_ref(py))
    }

    /// What was found in it: warnings, since there are no errors, in the order of the text.
    #[getter]
    fn diagnostics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let make = || {
            let found = loads(py, &self.json)?.get_item("diagnostics")?;
            Ok::<_, PyErr>(values(py, "diagnostics", found)?.unbind())
        };
        self.diagnostics.get_or_try_init(py, make).map(|found| found.clone_ref(py))
    }

    /// The diagnostics as `portknock check` shows them, each with its line of the text; "" where there is none.
    #[getter]
    fn report(&self) -> &str {
        &self.report
    }

    /// The object `config` of `portknock check --format json`: a new one each time.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, &self.json)?.get_item("config")
    }

    /// For `pickle`: the text is read again there.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'_, 'py>> {
        let parse = py.get_type::<Self>().getattr("parse")?;
        Ok((parse, (PyBytes::new(py, &self.text), &self.name)))
    }

    /// It never changes, so it is its own copy.
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

/// What `portknock.check` makes its report of.
#[pyfunction]
pub(crate) fn check(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyTuple>> {
    py.detach(|| Read::file(&path))?.checked(py)
}

/// What `portknock.check_text` makes its report of.
#[pyfunction]
pub(crate) fn check_text<'py>(py: Python<'py>, text: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyTuple>> {
    let text = self::text(text)?;
    py.detach(|| Read::text(name, text)).checked(py)
}

/// The bytes of a text.
fn text(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.as_bytes().to_owned());
    }
    let bytes = bytes(value.as_borrowed()).map_err(|_| PyTypeError::new_err("text is a str or bytes"))?;
    Ok(bytes.as_bytes().to_owned())
}
