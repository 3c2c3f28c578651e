//! Reads everything that the library returns to C, and checks each promise of the header.

use std::ffi::{CStr, c_char};
use std::hint::black_box;

use portknock::config::*;
use portknock::diagnostic::{portknock_diagnostic, portknock_severity};
use portknock::error::*;
use portknock::event::portknock_event_kind::*;
use portknock::event::{portknock_event, portknock_fail_reason, portknock_refusal_reason};
use portknock::status::portknock_status::{self, *};

/// Asserts that the status is one of the listed ones, or that of an invalid argument if an argument
/// is invalid.
pub(super) fn check(status: portknock_status, may: &[portknock_status], wrong_argument: bool) {
    assert!(may.contains(&status), "{status:?}");
    assert!(!wrong_argument || status == PORTKNOCK_ERR_ARGUMENT, "{status:?} with a NULL");
}

/// A text that may be NULL.
unsafe fn optional<'a>(pointer: *const c_char) -> Option<&'a str> {
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_str().expect("UTF-8"))
}

unsafe fn text<'a>(pointer: *const c_char) -> &'a str {
    unsafe { optional(pointer) }.expect("a text")
}

/// A text on one line.
unsafe fn line<'a>(pointer: *const c_char) -> &'a str {
    let line = unsafe { text(pointer) };
    assert!(!line.contains(char::is_control), "{line:?}");
    line
}

pub(super) unsafe fn at_error(err: *const portknock_error, status: portknock_status) {
    assert_eq!(unsafe { portknock_error_status(err) }, if err.is_null() { PORTKNOCK_ERR_ARGUMENT } else { status });
    let message = unsafe { line(portknock_error_message(err)) };
    assert_eq!(message.is_empty(), err.is_null());
    let about_config = !err.is_null() && status == PORTKNOCK_ERR_CONFIG;
    let file = unsafe { portknock_error_file(err) };
    // The name of a file may contain bytes that are not UTF-8.
    black_box((!file.is_null()).then(|| unsafe { CStr::from_ptr(file) }.to_bytes()));
    let count = unsafe { portknock_error_diagnostic_count(err) };
    assert_eq!(count > 0, about_config);
    for index in 0..count {
        unsafe { at_diagnostic(&*portknock_error_diagnostic(err, index)) };
    }
    assert!(unsafe { portknock_error_diagnostic(err, count) }.is_null());
    assert!(unsafe { portknock_error_diagnostic(err, usize::MAX) }.is_null());
    assert_eq!(unsafe { text(portknock_error_report(err)) }.is_empty(), !about_config);
    assert_eq!(unsafe { portknock_error_line(err) } > 0, about_config);
    assert_eq!(unsafe { portknock_error_column(err) } > 0, about_config);
}

pub(super) unsafe fn at_config(config: *const portknock_config) {
    let doors = unsafe { portknock_config_door_count(config) };
    let json = unsafe { optional(portknock_config_json(config)) };
    assert_eq!(json.is_none(), config.is_null());
    if let Some(json) = json {
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(json["config"]["doors"].as_array().map(Vec::len), Some(doors));
    }
    let warnings = unsafe { portknock_config_diagnostic_count(config) };
    for index in 0..warnings {
        let warning = unsafe { &*portknock_config_diagnostic(config, index) };
        unsafe { at_diagnostic(warning) };
        assert_eq!(warning.severity, portknock_severity::PORTKNOCK_WARNING);
    }
    assert!(unsafe { portknock_config_diagnostic(config, warnings) }.is_null());
    assert_eq!(unsafe { text(portknock_config_report(config)) }.is_empty(), warnings == 0);
}

unsafe fn at_diagnostic(found: &portknock_diagnostic) {
    assert!(unsafe { line(found.code) }.starts_with("PK"));
    assert!(!unsafe { line(found.message) }.is_empty());
    unsafe { optional(found.help) };
    assert!((found.line, found.column) <= (found.end_line, found.end_column) && found.line > 0 && found.column > 0);
    assert!(unsafe { optional(found.fix_replacement) }.is_some() || (found.fix_start, found.fix_end) == (0, 0));
    assert!(found.fix_start <= found.fix_end);
}

pub(super) unsafe fn at_event(event: &portknock_event) {
    unsafe { text(event.door) };
    let ip: std::net::IpAddr = unsafe { text(event.ip) }.parse().expect("an address");
    assert_eq!(event.family, if ip.is_ipv4() { 4 } else { 6 });
    let command = unsafe { optional(event.command) };
    assert!(unsafe { optional(event.message) }.is_none());
    let counted = matches!(event.kind, PORTKNOCK_EVENT_STAGE | PORTKNOCK_EVENT_TIMEOUT | PORTKNOCK_EVENT_FAIL);
    assert_eq!(event.stage > 0, counted);
    assert_eq!(event.steps >= event.stage.max(1), event.kind == PORTKNOCK_EVENT_STAGE);
    assert_eq!(event.reason != portknock_fail_reason::PORTKNOCK_FAIL_NONE, event.kind == PORTKNOCK_EVENT_FAIL);
    assert!(!event.ports.is_null() && event.port_count <= portknock_core::config::MAX_OPEN_PORTS);
    let ports = unsafe { std::slice::from_raw_parts(event.ports, event.port_count) };
    assert!(ports.iter().all(|port| (1..=65_535).contains(&port.port)));
    match event.kind {
        PORTKNOCK_EVENT_CLOSE => assert!(command.is_some() || !ports.is_empty()),
        PORTKNOCK_EVENT_OPEN | PORTKNOCK_EVENT_EXTEND => {}
        kind => assert!(command.is_none() && ports.is_empty() && kind != PORTKNOCK_EVENT_NOTICE),
    }
    match event.kind {
        PORTKNOCK_EVENT_OPEN if ports.is_empty() && event.closes_at_ns == 0 => {}
        PORTKNOCK_EVENT_OPEN | PORTKNOCK_EVENT_EXTEND | PORTKNOCK_EVENT_CLOSE => {
            assert!(event.closes_at_ns >= event.time_ns)
        }
        _ => assert_eq!(event.closes_at_ns, 0),
    }
    let opens = matches!(event.kind, PORTKNOCK_EVENT_OPEN | PORTKNOCK_EVENT_EXTEND | PORTKNOCK_EVENT_CLOSE);
    assert_eq!(unsafe { optional(event.net) }.is_some(), opens);
    let is_refused = event.kind == PORTKNOCK_EVENT_REFUSED;
    assert_eq!(event.refusal != portknock_refusal_reason::PORTKNOCK_REFUSAL_NONE, is_refused);
    assert!(event.clock_offset == 0 || event.refusal == portknock_refusal_reason::PORTKNOCK_REFUSAL_CLOCK);
    assert!(unsafe { optional(event.key) }.is_some() || !is_refused);
}
