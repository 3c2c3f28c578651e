//! Configurations.

use std::ffi::{CString, c_char};
use std::ptr;

use portknock_core::Config;
use portknock_core::config::{self, Loaded, Parsed};

use crate::arguments::{Out, bytes, path};
use crate::border::{call, free, look};
use crate::diagnostic::{Findings, portknock_diagnostic};
use crate::error::{Failure, portknock_error};
use crate::status::portknock_status::{self, PORTKNOCK_OK};
use crate::text::c_string;

/// A configuration: its options and doors. It never changes. Engines and listeners that are made from it do not need it
/// any longer.
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

/// Reads a knockd.conf, and the first unused sequence of each one_time_sequences file that it names.
///
/// On success *config is a new handle, to be freed by portknock_config_free(); it may have warnings, see
/// portknock_config_diagnostic(). Else it is NULL.
///
/// Errors: PORTKNOCK_ERR_FILE where the file cannot be read; PORTKNOCK_ERR_CONFIG where it has errors, all of which
/// the error lists.
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

/// The same for a text of `length` bytes, which need not end with a zero. `name` is what errors call it; NULL for
/// "<text>".
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

/// How many doors it has; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_door_count(config: *const portknock_config) -> usize {
    // SAFETY: as the caller promises.
    unsafe { look(config, 0, |config| config.config.doors.len()) }
}

/// Everything that the configuration says, as one line of JSON: what `portknock check --format json` prints. It lives as
/// long as the handle. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_json(config: *const portknock_config) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { look(config, ptr::null(), |config| config.json.as_ptr()) }
}

/// How many warnings there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_diagnostic_count(config: *const portknock_config) -> usize {
    // SAFETY: as the caller promises.
    unsafe { look(config, 0, |config| config.findings.diagnostics.len()) }
}

/// A warning, in the order of the text, counted from 0; NULL where there is none. It lives as long as the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_diagnostic(
    config: *const portknock_config,
    index: usize,
) -> *const portknock_diagnostic {
    // SAFETY: as the caller promises.
    unsafe { look(config, ptr::null(), |config| config.findings.get(index)) }
}

/// All warnings as `portknock check` shows them, each with its line of the text; many lines, without control
/// characters. It lives as long as the handle. "" where there is no warning.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_report(config: *const portknock_config) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { look(config, c"".as_ptr(), |config| config.findings.report.as_ptr()) }
}

/// Frees a configuration. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn portknock_config_free(config: *mut portknock_config) {
    // SAFETY: as the caller promises.
    unsafe { free(config) };
}
