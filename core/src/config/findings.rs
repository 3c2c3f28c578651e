//! Where the reader of a configuration puts what it finds.

use super::codes;
use super::diagnostic::{Diagnostic, Report, Severity};

/// No person reads further than this; a file of megabytes that is wrong on each line must not fill the memory.
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
    /// Takes one finding.
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

    /// While muted, findings are dropped: for a line that is refused as a whole, but read on for what it sets, so that
    /// one fault does not cause a second message elsewhere.
    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// True where an error was found.
    pub(super) fn has_errors(&self) -> bool {
        self.dropped_error || self.kept.iter().any(|found| found.severity == Severity::Error)
    }

    /// The findings in the order of the text, which is `text_len` bytes long.
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
