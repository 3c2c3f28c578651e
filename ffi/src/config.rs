//! Configurations.

use std::ffi::{CString, c_char};
use std::ptr;

use portknock_core::Config;
use portknock_core::config::{self, Loaded, Parsed};

use crate::arguments::{Out, bytes, path};
use crate::boundary::{call, free, inspect};
use crate::diagnostic::{Findings, portknock_diagnostic};
use crate::error::{Failure, portknock_error};
use crate::status::portknock_status::{self, PORTKNOCK_OK};
use crate::text::c_string;

/// A configuration: its options and doors. It never changes. An engine or a listener copies the
/// configuration it is made from, which can be freed afterwards.
pub struct portknock_config {
    pub(crate) config: Config,
    findings: Findings,
    json: CString,
}

impl portknock_config {
    fn new(name: &str, loaded: Loaded) -> Result<Self, Failure> {
        let findings = Findings::new(&loaded.report, name, &loaded.text);
        let Some(config) = loaded.config else { return Err(Failure::refused(name, findings)) };
        let json = c_string(config::check_json(name, &loaded.text, &loaded.report, Some(&config)));
        Ok(Self { config, findings, json })
    }
}

/// Reads a knockd.conf, the first unused sequence of each one_time_sequences file that it names,
/// and the keys of each `keys` file.
///
/// On success *config is a new handle, to be freed by portknock_config_free(). It can have
/// warnings: see portknock_config_diagnostic(). Otherwise *config is NULL.
///
/// Errors: PORTKNOCK_ERR_FILE if the file cannot be read. PORTKNOCK_ERR_CONFIG if the configuration
/// has errors; the error object lists all of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_load(
    path: *const c_char,
    config: *mut *mut portknock_config,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let config = unsafe { Out::new(config, ptr::null_mut(), "config") }?;
        // SAFETY: as the caller promises.
        let path = unsafe { self::path(path, "path") }?;
        config.give(portknock_config::new(&path.to_string_lossy(), config::load(path)?)?);
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Reads a configuration from a text of `length` bytes, which need not end with a zero. Otherwise
/// the same as portknock_config_load(), with the error PORTKNOCK_ERR_CONFIG. `name` stands for the
/// file name in errors; NULL means "<text>".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_parse(
    text: *const c_char,
    length: usize,
    name: *const c_char,
    config: *mut *mut portknock_config,
    err: *mut *mut portknock_error,
) -> portknock_status {
    let body = || {
        // SAFETY: as the caller promises.
        let config = unsafe { Out::new(config, ptr::null_mut(), "config") }?;
        // SAFETY: as the caller promises.
        let text = unsafe { bytes(text.cast(), length, "text") }?;
        let name = if name.is_null() {
            "<text>".into()
        } else {
            // SAFETY: as the caller promises.
            unsafe { path(name, "name") }?.to_string_lossy()
        };
        let Parsed { config: parsed, report } = config::load_text(text);
        config.give(portknock_config::new(&name, Loaded { config: parsed, report, text: text.to_owned() })?);
        Ok(PORTKNOCK_OK)
    };
    // SAFETY: as the caller promises.
    unsafe { call(err, body) }
}

/// Returns the number of doors; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_door_count(config: *const portknock_config) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(config, 0, |config| config.config.doors.len()) }
}

/// Returns the whole configuration as one line of JSON, the output of `portknock check --format
/// json`. The text is valid until the handle is freed. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_json(config: *const portknock_config) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { inspect(config, ptr::null(), |config| config.json.as_ptr()) }
}

/// Returns the number of warnings; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_diagnostic_count(config: *const portknock_config) -> usize {
    // SAFETY: as the caller promises.
    unsafe { inspect(config, 0, |config| config.findings.diagnostics.len()) }
}

/// Returns a warning by its index, which counts from 0 in the order of the text. NULL if the index
/// is out of range. The warning is valid until the handle is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_diagnostic(
    config: *const portknock_config,
    index: usize,
) -> *const portknock_diagnostic {
    // SAFETY: as the caller promises.
    unsafe { inspect(config, ptr::null(), |config| config.findings.get(index)) }
}

/// Returns all warnings as `portknock check` prints them, each with its line of the text: several
/// lines, without other control characters. "" if there is no warning. The text is valid until the
/// handle is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_report(config: *const portknock_config) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { inspect(config, c"".as_ptr(), |config| config.findings.report.as_ptr()) }
}

/// Frees a configuration. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_free(config: *mut portknock_config) {
    // SAFETY: as the caller promises.
    unsafe { free(config) };
}
