//! Applies the fixes of a report.

use super::diagnostic::{Fix, Report};
use super::parse::parse;

/// Maximum number of rounds. A fix can reveal an error with another fix, or can overlap another
/// fix; few files need more than two rounds.
const MAX_ROUNDS: usize = 16;

/// Returns the text with every fix applied: the fixes of `report`, which must be about `text`, and
/// the fixes of findings that appear only afterwards. Findings without a fix remain; parse the
/// result to get them.
pub fn apply_fixes(text: &[u8], report: &Report) -> Vec<u8> {
    let mut text = text.to_vec();
    let mut next = apply_once(&text, report);
    for _ in 1..MAX_ROUNDS {
        let Some(fixed) = next else { break };
        text = fixed;
        next = apply_once(&text, &parse(&text).report);
    }
    next.unwrap_or(text)
}

/// Applies the fixes that do not overlap; returns `None` if there is no fix.
fn apply_once(text: &[u8], report: &Report) -> Option<Vec<u8>> {
    let mut fixes: Vec<&Fix> = report.diagnostics.iter().filter_map(|found| found.fix.as_ref()).collect();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let mut fixed = Vec::with_capacity(text.len());
    let mut done = 0;
    let mut last_start = None;
    for fix in fixes {
        // The order of two fixes at the same offset would be arbitrary.
        let overlaps = fix.span.start < done || last_start == Some(fix.span.start);
        if overlaps || fix.span.end > text.len() || fix.span.start > fix.span.end {
            continue;
        }
        fixed.extend_from_slice(&text[done..fix.span.start]);
        fixed.extend_from_slice(fix.replacement.as_bytes());
        done = fix.span.end;
        last_start = Some(fix.span.start);
    }
    last_start?;
    fixed.extend_from_slice(&text[done..]);
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Diagnostic;

    fn report(fixes: &[(std::ops::Range<usize>, &str)]) -> Report {
        let make = |(span, text): &(std::ops::Range<usize>, &str)| {
            Diagnostic::error("PK001", span.clone(), "").fix(span.clone(), *text)
        };
        Report { diagnostics: fixes.iter().map(make).collect() }
    }

    #[test]
    fn overlapping_fixes_are_not_mixed() {
        let once = |fixes| apply_once(b"0123456789", &report(fixes)).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(once(&[(2..4, "a"), (3..5, "b"), (4..4, "c"), (4..4, "d")]).as_deref(), Some("01ac456789"));
        assert_eq!(once(&[(9..11, "x")]), None);
        assert_eq!(once(&[]), None);
    }

    #[test]
    fn an_error_that_a_fix_reveals_is_fixed_too() {
        let text = b"[a]\nsequence = sequence = 3 1\n2 #\ncommand = x\n\xe2\x80\x94y\n";
        let fixed = apply_fixes(text, &parse(text).report);
        assert_eq!(String::from_utf8(fixed).unwrap(), "[a]\nsequence = 3,1,2 #\ncommand = x --y\n");
    }
}
