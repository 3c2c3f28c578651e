//! The diagnostics of a configuration as data. `render` has their text form, which all front ends
//! show.

use std::ops::Range;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The configuration can be used, but the finding probably shows a mistake.
    Warning,
    /// The configuration is refused.
    Error,
}

/// A change of the text that fixes a finding: `replacement` replaces the bytes `span`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fix {
    /// The bytes to replace, as offsets in the text; an empty range is an insertion.
    pub span: Range<usize>,
    /// The new text.
    pub replacement: String,
}

/// One finding: its location, the problem, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The stable code, `PK` and three digits. `docs/diagnostics.md` lists all codes.
    pub code: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The problem, on one line, without control characters.
    pub message: String,
    /// The bytes of the text that the finding is about.
    pub span: Range<usize>,
    /// The remedy, on one line, if the message alone does not make it obvious.
    pub help: Option<String>,
    /// The change that fixes the finding, if only one correction is plausible.
    pub fix: Option<Fix>,
}

impl Diagnostic {
    pub(super) fn error(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span, help: None, fix: None }
    }

    pub(super) fn warning(code: &'static str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn fix(mut self, span: Range<usize>, replacement: impl Into<String>) -> Self {
        self.fix = Some(Fix { span, replacement: replacement.into() });
        self
    }
}

/// All findings in one text, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The findings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Returns the number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Returns the number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Returns true if there is an error, so that the configuration is refused.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == severity).count()
    }
}
