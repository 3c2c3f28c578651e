//! Collects the findings of the parser and the checks.

use super::codes;
use super::diagnostic::{Diagnostic, Report, Severity};

/// Maximum number of findings that are kept. It bounds the memory for a large file with an error on
/// each line.
const MAX_FINDINGS: usize = 10_000;

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Diagnostic>,
    dropped: usize,
    dropped_error: bool,
    muted: bool,
}

impl Findings {
    /// Adds one finding, unless muted.
    pub(super) fn push(&mut self, found: Diagnostic) {
        if self.muted {
            return;
        }
        if self.kept.len() < MAX_FINDINGS {
            self.kept.push(found);
        } else {
            self.dropped += 1;
            self.dropped_error |= found.severity == Severity::Error;
        }
    }

    /// Drops all findings while `muted`. The parser still reads the settings of a line that it has
    /// refused as a whole, so that one error does not cause a second message elsewhere.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// Returns true if there is an error, including errors beyond the maximum.
    pub(super) fn has_errors(&self) -> bool {
        self.dropped_error || self.kept.iter().any(|found| found.severity == Severity::Error)
    }

    /// Returns the findings in the order of the text, which is `text_len` bytes long.
    pub(super) fn into_report(mut self, text_len: usize) -> Report {
        self.kept.sort_by_key(|found| found.span.start);
        if self.dropped > 0 {
            let message = format!("{} more findings are not shown", self.dropped);
            let end = text_len..text_len;
            self.kept.push(match self.dropped_error {
                true => Diagnostic::error(codes::TOO_MANY_FINDINGS, end, message),
                false => Diagnostic::warning(codes::TOO_MANY_FINDINGS, end, message),
            });
        }
        Report { diagnostics: self.kept }
    }
}
