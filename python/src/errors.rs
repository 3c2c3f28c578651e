//! Conversion of core's errors to Python's exceptions.

use std::io::{self, ErrorKind};
use std::path::Path;

use portknock_core::capture::CaptureError;
use portknock_core::client_file::ClientFileError;
use portknock_core::config::LoadError;
use portknock_core::host::HostError;
use portknock_core::keys::KeyFileError;
use portknock_core::knock::KnockError;
use portknock_core::probe::ProbeError;
use portknock_core::replay::ReplayError;
use portknock_core::service::ServiceError;
use portknock_core::spa::PacketError;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

mod python {
    pyo3::import_exception!(portknock._errors, PortknockError);
    pyo3::import_exception!(portknock._errors, ConfigError);
    pyo3::import_exception!(portknock._errors, CaptureError);
    pyo3::import_exception!(portknock._errors, ProbeError);
    pyo3::import_exception!(portknock._errors, KnockError);
}

const EPERM: i32 = 1;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;

/// Returns the number by which Python selects the subclass of `OSError`.
fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or(match error.kind() {
        ErrorKind::IsADirectory => Some(EISDIR),
        ErrorKind::InvalidInput => Some(EINVAL),
        ErrorKind::FileTooLarge => Some(EFBIG),
        _ => None,
    })
}

/// The error for a state that a panic left, which must not be used.
pub(crate) fn panicked() -> PyErr {
    python::PortknockError::new_err("an earlier call panicked: this object can no longer be used")
}

/// The `OSError` that `open` would raise.
pub(crate) fn load(error: &LoadError) -> PyErr {
    unreadable(&error.reason, &error.path)
}

fn unreadable(error: &io::Error, path: &Path) -> PyErr {
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
    PyOSError::new_err((errno(error), reason, path.as_os_str().to_owned()))
}

pub(crate) fn client_file(error: &ClientFileError) -> PyErr {
    match error {
        ClientFileError::File(KeyFileError::Unreadable(path, reason)) => unreadable(reason, path),
        ClientFileError::File(KeyFileError::Untrusted(..)) => python::PortknockError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

pub(crate) fn packet(error: &PacketError) -> PyErr {
    python::PortknockError::new_err(error.to_string())
}

/// A configuration with errors.
pub(crate) fn refused(findings: &str, diagnostics: Bound<'_, PyAny>) -> PyErr {
    python::ConfigError::new_err((
        format!("the configuration is refused\n{}", findings.trim_end()),
        diagnostics.unbind(),
    ))
}

pub(crate) fn replay(error: &ReplayError) -> PyErr {
    match error {
        ReplayError::OneTime(_) => python::PortknockError::new_err(error.to_string()),
        _ => python::CaptureError::new_err(error.to_string()),
    }
}

pub(crate) fn service(error: &ServiceError) -> PyErr {
    let text = error.to_string();
    match error {
        ServiceError::Capture(CaptureError::BadName { .. }) => PyValueError::new_err(text),
        ServiceError::Capture(CaptureError::NotAllowed) => python::CaptureError::new_err((EPERM, text)),
        ServiceError::Capture(CaptureError::OutOfDescriptors(error) | CaptureError::System { source: error, .. })
        | ServiceError::System(error) => match errno(error) {
            Some(errno) => python::CaptureError::new_err((errno, text)),
            None => python::CaptureError::new_err(text),
        },
        _ => python::PortknockError::new_err(text),
    }
}

pub(crate) fn probe(error: &ProbeError, results: Vec<Py<PyAny>>) -> PyErr {
    let errno = match error {
        ProbeError::Host(error) => host_errno(error),
        ProbeError::NotAllowed => Some(EPERM),
        ProbeError::NoRoute { error, .. } | ProbeError::Source { error, .. } | ProbeError::System { error, .. } => {
            errno(error)
        }
        _ => None,
    };
    python::ProbeError::new_err((error.to_string(), errno, results))
}

pub(crate) fn knock(error: &KnockError) -> PyErr {
    let state = match error {
        KnockError::NotOpen { last, .. } => Some(last.as_str()),
        _ => None,
    };
    python::KnockError::new_err((error.to_string(), knock_errno(error), state))
}

fn knock_errno(error: &KnockError) -> Option<i32> {
    match error {
        KnockError::Host(error) => host_errno(error),
        KnockError::Raw { error, .. } | KnockError::Send { error, .. } | KnockError::Probe { error, .. } => {
            errno(error)
        }
        KnockError::Several(errors) => errors.first().and_then(knock_errno),
        _ => None,
    }
}

fn host_errno(error: &HostError) -> Option<i32> {
    match error {
        HostError::Resolve { error, .. } => errno(error),
        _ => None,
    }
}
