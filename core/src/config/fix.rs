//! Applies the fixes of a report.

use super::diagnostic::{Fix, Report};
use super::parse::parse;

/// A fix can uncover a fault that has a fix of its own, or stand in another's way; few files need more than two rounds.
const MAX_ROUNDS: usize = 16;

/// The text with every machine-applicable fix applied: those of `report`, which must be about `text`, and those of what
/// comes to light then. What has no fix stays; parse the result to see it.
pub fn apply_fixes(text: &[u8], report: &Report) -> Vec<u8> {
    let mut text = text.to_vec();
    let mut next = apply_once(&text, report);
    for _ in 1..MAX_ROUNDS {
        let Some(mended) = next else { break };
        text = mended;
        next = apply_once(&text, &parse(&text).report);
    }
    next.unwrap_or(text)
}

/// Applies the fixes that do not stand in each other's way; `None` where there is none.
fn apply_once(text: &[u8], report: &Report) -> Option<Vec<u8>> {
    let mut fixes: Vec<&Fix> = report.diagnostics.iter().filter_map(|found| found.fix.as_ref()).collect();
    fixes.sort_by_key(|fix| (fix.span.start, fix.span.end));
    let mut mended = Vec::with_capacity(text.len());
    let mut done = 0;
    let mut last_start = None;
    for fix in fixes {
        // Two fixes at one place would be applied in an arbitrary order.
        let meets = fix.span.start < done || last_start == Some(fix.span.start);
        if meets || fix.span.end > text.len() || fix.span.start > fix.span.end {
            continue;
        }
        mended.extend_from_slice(&text[done..fix.span.start]);
        mended.extend_from_slice(fix.replacement.as_bytes());
        done = fix.span.end;
        last_start = Some(fix.span.start);
    }
    last_start?;
    mended.extend_from_slice(&text[done..]);
    Some(mended)
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
    fn fixes_in_each_others_way_are_not_mixed() {
        let once = |fixes| apply_once(b"0123456789", &report(fixes)).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(once(&[(2..4, "a"), (3..5, "b"), (4..4, "c"), (4..4, "d")]).as_deref(), Some("01ac456789"));
        assert_eq!(once(&[(9..11, "x")]), None);
        assert_eq!(once(&[]), None);
    }

    #[test]
    fn what_a_fix_uncovers_is_fixed_too() {
        let text = b"[a]\nsequence = sequence = 3 1\n2 #\ncommand = x\n\xe2\x80\x94y\n";
        let mended = apply_fixes(text, &parse(text).report);
        assert_eq!(String::from_utf8(mended).unwrap(), "[a]\nsequence = 3,1,2 #\ncommand = x --y\n");
    }
}
