//! Errors: the reasons why calls fail.

use std::ffi::{CString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use portknock_core::Printable;
use portknock_core::capture::CaptureError;
use portknock_core::client_file::ClientFileError;
use portknock_core::config::LoadError;
use portknock_core::gate::GateError;
use portknock_core::host::HostError;
use portknock_core::knock::KnockError;
use portknock_core::probe::ProbeError;
use portknock_core::replay::ReplayError;
use portknock_core::service::ServiceError;
use portknock_core::spa::PacketError;

use crate::boundary::{free, inspect};
use crate::diagnostic::{Findings, portknock_diagnostic};
use crate::status::portknock_status::{
    self, PORTKNOCK_ERR_ARGUMENT, PORTKNOCK_ERR_CONFIG, PORTKNOCK_ERR_FILE, PORTKNOCK_ERR_FORKED, PORTKNOCK_ERR_HOST,
    PORTKNOCK_ERR_LINK_TYPE, PORTKNOCK_ERR_NETWORK, PORTKNOCK_ERR_NOT_OPEN, PORTKNOCK_ERR_PANICKED,
    PORTKNOCK_ERR_PERMISSION, PORTKNOCK_ERR_SYSTEM,
};
use crate::text::c_string;

/// The reason why a call failed. The caller that requested it owns it and frees it by
/// portknock_error_free(). It never changes, and stays valid after the handle of the failed call is
/// freed.
pub struct portknock_error {
    status: portknock_status,
    message: CString,
    file: Option<CString>,
    findings: Option<Findings>,
}

impl portknock_error {
    fn first(&self) -> Option<&portknock_diagnostic> {
        self.findings.as_ref()?.first_error()
    }
}

/// An error before it is passed to C. Small, so that successful calls do not pay for it.
pub(crate) struct Failure(Box<portknock_error>);

impl Failure {
    #[cold]
    pub(crate) fn new(status: portknock_status, message: impl ToString) -> Self {
        let message = c_string(message.to_string());
        Self(Box::new(portknock_error { status, message, file: None, findings: None }))
    }

    pub(crate) fn argument(message: impl ToString) -> Self {
        Self::new(PORTKNOCK_ERR_ARGUMENT, message)
    }

    /// A configuration with errors.
    pub(crate) fn refused(file: &str, findings: Findings) -> Self {
        let (line, column) = findings.first_error().map_or((0, 0), |found| (found.line, found.column));
        let message = format!("{file}:{line}:{column}: {}", findings.summary);
        let mut failure = Self::new(PORTKNOCK_ERR_CONFIG, Printable(&message));
        (failure.0.file, failure.0.findings) = (Some(c_string(file)), Some(findings));
        failure
    }

    /// A client's file that cannot be used.
    pub(crate) fn client_file(path: &Path, error: &ClientFileError) -> Self {
        Self::new(PORTKNOCK_ERR_FILE, error).with_file(path)
    }

    fn with_file(mut self, file: &Path) -> Self {
        self.0.file = Some(c_string(file.as_os_str().as_bytes()));
        self
    }

    pub(crate) fn status(&self) -> portknock_status {
        self.0.status
    }

    /// Passes the ownership of the error to C.
    pub(crate) fn into_raw(self) -> *mut portknock_error {
        Box::into_raw(self.0)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(PORTKNOCK_ERR_FILE, &error).with_file(&error.path)
    }
}

impl From<PacketError> for Failure {
    fn from(error: PacketError) -> Self {
        Self::new(PORTKNOCK_ERR_SYSTEM, error)
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match &error {
            ReplayError::Open { path, .. } | ReplayError::Damaged { path, .. } => {
                Self::new(PORTKNOCK_ERR_FILE, &error).with_file(path)
            }
            ReplayError::LinkType { path, .. } => Self::new(PORTKNOCK_ERR_LINK_TYPE, &error).with_file(path),
            _ => Self::new(PORTKNOCK_ERR_FILE, &error),
        }
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let status = match &error {
            ServiceError::Capture(CaptureError::NotAllowed) => PORTKNOCK_ERR_PERMISSION,
            ServiceError::Capture(CaptureError::BadName { .. }) => PORTKNOCK_ERR_ARGUMENT,
            ServiceError::Gate(GateError::NotAllowed) => PORTKNOCK_ERR_PERMISSION,
            ServiceError::State(_) | ServiceError::OneTime { .. } => PORTKNOCK_ERR_FILE,
            ServiceError::Panicked => PORTKNOCK_ERR_PANICKED,
            ServiceError::Forked => PORTKNOCK_ERR_FORKED,
            _ => PORTKNOCK_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::new(PORTKNOCK_ERR_HOST, error)
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        let status = match &error {
            ProbeError::Host(_) => PORTKNOCK_ERR_HOST,
            ProbeError::NotAllowed => PORTKNOCK_ERR_PERMISSION,
            ProbeError::NoRoute { .. } | ProbeError::Source { .. } => PORTKNOCK_ERR_NETWORK,
            _ => PORTKNOCK_ERR_SYSTEM,
        };
        Self::new(status, error)
    }
}

impl From<KnockError> for Failure {
    fn from(error: KnockError) -> Self {
        Self::new(status_of(&error), error)
    }
}

fn status_of(error: &KnockError) -> portknock_status {
    match error {
        KnockError::Host(_) => PORTKNOCK_ERR_HOST,
        KnockError::Raw { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => PORTKNOCK_ERR_PERMISSION,
        KnockError::Several(errors) => errors.first().map_or(PORTKNOCK_ERR_NETWORK, status_of),
        KnockError::NotOpen { .. } => PORTKNOCK_ERR_NOT_OPEN,
        KnockError::Packet(_) => PORTKNOCK_ERR_SYSTEM,
        _ => PORTKNOCK_ERR_NETWORK,
    }
}

/// Returns the status that the failed call returned; PORTKNOCK_ERR_ARGUMENT for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_status(error: *const portknock_error) -> portknock_status {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, PORTKNOCK_ERR_ARGUMENT, |error| error.status) }
}

/// Returns a description for users: one line, without control characters. "" for NULL. The text is
/// valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_message(error: *const portknock_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, c"".as_ptr(), |error| error.message.as_ptr()) }
}

/// Returns the file that the error is about, or NULL if it is not about a file. The text is valid
/// until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_file(error: *const portknock_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, ptr::null(), |error| error.file.as_ref().map_or(ptr::null(), |file| file.as_ptr())) }
}

/// Returns the line of the first error in a configuration, counted from 1; 0 for other errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_line(error: *const portknock_error) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, 0, |error| error.first().map_or(0, |found| found.line)) }
}

/// Returns the column of the first error in a configuration, counted from 1 in characters; 0 for
/// other errors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_column(error: *const portknock_error) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, 0, |error| error.first().map_or(0, |found| found.column)) }
}

/// Returns the number of findings, errors and warnings; 0 if the error is not about a
/// configuration.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_diagnostic_count(error: *const portknock_error) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(error, 0, |error| error.findings.as_ref().map_or(0, |findings| findings.diagnostics.len())) }
}

/// Returns a finding by its index, which counts from 0 in the order of the text. NULL if the index
/// is out of range. The finding is valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_diagnostic(
    error: *const portknock_error,
    index: usize,
) -> *const portknock_diagnostic {
    // SAFETY: as the caller promises.
    unsafe {
        inspect(error, ptr::null(), |error| error.findings.as_ref().map_or(ptr::null(), |findings| findings.get(index)))
    }
}

/// Returns all findings as `portknock check` prints them, each with its line of the text: several
/// lines, without other control characters. "" if there is no finding. The text is valid until the
/// error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_report(error: *const portknock_error) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe {
        inspect(error, c"".as_ptr(), |error| {
            error.findings.as_ref().map_or(c"".as_ptr(), |findings| findings.report.as_ptr())
        })
    }
}

/// Frees an error. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_error_free(error: *mut portknock_error) {
    // SAFETY: as the caller promises.
    unsafe { free(error) };
}
