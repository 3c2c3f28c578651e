//! Diagnostics of a configuration.

use std::ffi::{CString, c_char};
use std::ptr;

use portknock_core::config::{Locator, Report, Severity};

use crate::text::c_string;

/// Severity of a diagnostic.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_severity {
    /// The configuration is usable, but this should be checked.
    PORTKNOCK_WARNING = 1,
    /// The configuration is refused.
    PORTKNOCK_ERROR = 2,
}

/// One finding about the text of a configuration. It never changes and is valid until the handle
/// that it belongs to is freed. Later versions may append fields.
#[repr(C)]
pub struct portknock_diagnostic {
    /// Stable code: "PK" and three digits.
    pub code: *const c_char,
    /// Severity.
    pub severity: portknock_severity,
    /// Description of the problem: one line, without control characters.
    pub message: *const c_char,
    /// Advice on how to resolve it, or NULL.
    pub help: *const c_char,
    /// Line of its first character, counted from 1.
    pub line: usize,
    /// Column of its first character, counted from 1 in characters.
    pub column: usize,
    /// Line of its end, counted from 1.
    pub end_line: usize,
    /// Column after its last character, counted from 1.
    pub end_column: usize,
    /// Text that replaces the bytes from fix_start to before fix_end and so fixes the problem. NULL
    /// if there is no obvious fix.
    pub fix_replacement: *const c_char,
    /// First byte to replace, counted from 0; 0 without a fix.
    pub fix_start: usize,
    /// Byte after the last one to replace, counted from 0; 0 without a fix.
    pub fix_end: usize,
}

/// All findings about one text, in the form that C reads.
pub(crate) struct Findings {
    pub(crate) diagnostics: Vec<portknock_diagnostic>,
    /// The message of the first error, and the number of further errors.
    pub(crate) summary: String,
    /// The whole report as `portknock check` prints it.
    pub(crate) report: CString,
    /// The texts that the diagnostics point to.
    _texts: Vec<CString>,
}

impl Findings {
    pub(crate) fn new(report: &Report, file: &str, text: &[u8]) -> Self {
        let locator = Locator::new(text);
        let mut texts = Vec::new();
        let mut keep = |text: &str| {
            let text = c_string(text);
            let pointer = text.as_ptr();
            texts.push(text);
            pointer
        };
        let mut diagnostics = Vec::new();
        for found in &report.diagnostics {
            let (start, end) = (locator.position(found.span.start), locator.position(found.span.end));
            let fix = found.fix.as_ref();
            diagnostics.push(portknock_diagnostic {
                code: keep(found.code),
                severity: match found.severity {
                    Severity::Warning => portknock_severity::PORTKNOCK_WARNING,
                    Severity::Error => portknock_severity::PORTKNOCK_ERROR,
                },
                message: keep(&found.message),
                help: found.help.as_deref().map_or(ptr::null(), &mut keep),
                line: start.line,
                column: start.column,
                end_line: end.line,
                end_column: end.column,
                fix_replacement: fix.map_or(ptr::null(), |fix| keep(&fix.replacement)),
                fix_start: fix.map_or(0, |fix| fix.span.start),
                fix_end: fix.map_or(0, |fix| fix.span.end),
            });
        }
        let summary = summary(report);
        Self { diagnostics, summary, report: c_string(report.render(file, text)), _texts: texts }
    }

    /// Returns the finding with this index; NULL if there is none.
    pub(crate) fn get(&self, index: usize) -> *const portknock_diagnostic {
        self.diagnostics.get(index).map_or(ptr::null(), ptr::from_ref)
    }

    /// Returns the first error.
    pub(crate) fn first_error(&self) -> Option<&portknock_diagnostic> {
        self.diagnostics.iter().find(|found| found.severity == portknock_severity::PORTKNOCK_ERROR)
    }
}

fn summary(report: &Report) -> String {
    let first = report.diagnostics.iter().find(|found| found.severity == Severity::Error);
    let message = first.map_or("", |found| &found.message);
    match report.errors() {
        0 | 1 => message.to_owned(),
        errors => format!("{message} (and {} more)", errors - 1),
    }
}
