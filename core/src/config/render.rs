//! The text form of a report, which is the same in every front end.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::diagnostic::{Diagnostic, Report, Severity};
use super::locate::{Locator, characters};
use crate::printable::Printable;

/// Maximum number of characters shown of a long line.
const WIDTH: usize = 160;

/// Number of these characters before the marked text.
const LEAD: usize = 60;

/// Maximum number of warnings shown with the same code. A file with hundreds of doors can have one
/// for each door.
const MAX_EQUAL_WARNINGS: usize = 10;

/// The text shown for a tab at any column, so that the marks are aligned on every terminal.
const TAB: &str = "  ";

impl Report {
    /// Returns the report as readable text: for each finding its location in `text`, the line with
    /// the location marked, and the help. `file_name` is only shown; `text` must be the text that
    /// the report is about. Control characters are escaped, so the result is safe for terminals and
    /// logs. The result contains the first ten warnings of each code, and one line with the number
    /// of the others. It is empty if there are no findings.
    pub fn render(&self, file_name: &str, text: &[u8]) -> String {
        let locator = Locator::new(text);
        let file_name = Printable(file_name).to_string();
        let mut out = String::new();
        let mut warnings: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
        for found in &self.diagnostics {
            if found.severity == Severity::Warning {
                let equal = warnings.entry(found.code).or_default();
                equal.push(found);
                if equal.len() > MAX_EQUAL_WARNINGS {
                    continue;
                }
            }
            if !out.is_empty() {
                out.push('\n');
            }
            render(found, &file_name, text, &locator, &mut out);
        }
        for (code, equal) in warnings {
            if let [first, .., last] = &equal[MAX_EQUAL_WARNINGS.min(equal.len())..] {
                let [first, last] = [first, last].map(|found| locator.position(found.span.start).line);
                let count = equal.len() - MAX_EQUAL_WARNINGS;
                let all = "`portknock check --format json` lists all of them";
                // Writing to a string cannot fail.
                let _ = writeln!(
                    out,
                    "\n{file_name}: {count} more warnings[{code}] in lines {first} to {last} are not shown; {all}"
                );
            } else if let [only] = &equal[MAX_EQUAL_WARNINGS.min(equal.len())..] {
                out.push('\n');
                render(only, &file_name, text, &locator, &mut out);
            }
        }
        out
    }
}

fn render(found: &Diagnostic, file_name: &str, text: &[u8], locator: &Locator<'_>, out: &mut String) {
    let severity = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let at = locator.position(found.span.start);
    let line = locator.line(at.line);
    let (code, message) = (found.code, &found.message);
    let gutter = " ".repeat(at.line.to_string().len());
    let (shown, marks) = excerpt(&text[line.clone()], at.column - 1, marked(found, text, line.end));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{file_name}:{}:{}: {severity}[{code}]: {message}", at.line, at.column);
    let _ = writeln!(out, "{gutter} |");
    let _ = writeln!(out, "{} | {shown}", at.line);
    let _ = writeln!(out, "{gutter} | {marks}");
    if let Some(help) = &found.help {
        let _ = writeln!(out, "{gutter} = help: {help}");
    }
}

/// Returns the number of characters of the first line that the finding is about, at least one.
fn marked(found: &Diagnostic, text: &[u8], line_end: usize) -> usize {
    let bytes = text.get(found.span.start..found.span.end.min(line_end));
    bytes.map_or(0, |bytes| characters(bytes).count()).max(1)
}

/// Returns the line as it is shown, and the marks under `count` characters after the first `skip`.
fn excerpt(line: &[u8], skip: usize, count: usize) -> (String, String) {
    let chars: Vec<char> = characters(line).collect();
    let first = if chars.len() > WIDTH { skip.saturating_sub(LEAD) } else { 0 };
    let mut shown = String::from(if first > 0 { "…" } else { "" });
    let mut marks = String::from(if first > 0 { " " } else { "" });
    for (i, c) in chars.iter().enumerate().skip(first).take(WIDTH) {
        let text = if *c == '\t' { TAB.to_owned() } else { Printable(c.encode_utf8(&mut [0; 4])).to_string() };
        let mark = if i < skip { " " } else { "^" };
        if i < skip + count {
            marks.push_str(&mark.repeat(text.chars().count()));
        }
        shown.push_str(&text);
    }
    if chars.len() > first + WIDTH {
        shown.push('…');
    }
    if skip >= chars.len() {
        marks.push('^');
    }
    (shown.trim_end().to_owned(), marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::codes;

    fn shown(text: &[u8], span: std::ops::Range<usize>) -> String {
        Report { diagnostics: vec![Diagnostic::error(codes::NOT_A_PORT, span, "message").help("help")] }
            .render("a.conf", text)
    }

    #[test]
    fn marks_the_location_after_tabs_and_wide_text() {
        assert_eq!(
            shown("x\n\t\tkö = vö\n".as_bytes(), 10..13),
            "a.conf:2:8: error[PK027]: message\n  |\n2 |     kö = vö\n  |          ^^\n  = help: help\n"
        );
    }

    #[test]
    fn shows_control_characters_and_invalid_bytes() {
        assert_eq!(
            shown(b"a\x1bb\xffc", 4..5),
            "a.conf:1:5: error[PK027]: message\n  |\n1 | a\\x1bb\u{fffd}c\n  |        ^\n  = help: help\n"
        );
        let hostile = Report { diagnostics: vec![Diagnostic::error("PK001", 0..0, "m")] }.render("a\n\x1b", b"");
        assert_eq!(hostile, "a\\x0a\\x1b:1:1: error[PK001]: m\n  |\n1 | \n  | ^\n");
    }

    #[test]
    fn truncates_long_lines_around_the_location() {
        let text = [vec![b'a'; 1000], b"XYZ".to_vec(), vec![b'b'; 1000]].concat();
        let rendered = shown(&text, 1000..1003);
        let lines: Vec<&str> = rendered.lines().collect();
        assert_eq!(lines[2].chars().count(), "1 | ".len() + WIDTH + 2);
        let mark = lines[3].find('^').unwrap();
        assert_eq!(lines[2].chars().nth(mark), Some('X'));
        assert!(lines[3].ends_with("^^^"));
    }

    #[test]
    fn hundreds_of_equal_warnings_are_summarised_and_errors_are_not() {
        let text = "x\n".repeat(650);
        let at = |code, severity, line: usize| Diagnostic {
            severity,
            ..Diagnostic::error(code, 2 * line..2 * line + 1, "message")
        };
        let mut diagnostics: Vec<Diagnostic> =
            (0..650).map(|line| at(codes::ORDERED_STEPS, Severity::Warning, line)).collect();
        diagnostics.extend((0..20).map(|line| at(codes::NOT_A_PORT, Severity::Error, line)));
        let rendered = Report { diagnostics: diagnostics.clone() }.render("a.conf", text.as_bytes());
        assert_eq!(rendered.matches(": warning[PK048]").count(), 10);
        assert_eq!(rendered.matches(": error[PK027]").count(), 20);
        let summary = "a.conf: 640 more warnings[PK048] in lines 11 to 650 are not shown";
        assert!(rendered.contains(summary), "{rendered}");
        diagnostics.truncate(11);
        let rendered = Report { diagnostics }.render("a.conf", text.as_bytes());
        assert_eq!(rendered.matches(": warning[PK048]").count(), 11);
    }

    #[test]
    fn a_location_at_the_end_or_beyond_the_text_is_marked() {
        assert!(shown(b"ab\n", 2..2).contains("1 | ab\n  |   ^\n"));
        assert!(shown(b"ab\n", 99..120).starts_with("a.conf:2:1:"));
    }
}
