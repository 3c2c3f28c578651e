//! Parses and prints ranges of ports, as in `62201,10000-65535`.

use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::quoted::quoted;
use super::slice::Slice;

type PortRange = RangeInclusive<NonZeroU16>;

/// Parses a list of ports and ranges. The ranges of the result are in ascending order, and there
/// is at least one other port between any two of them.
pub(super) fn list(value: Slice<'_>, found: &mut Findings) -> Option<Vec<PortRange>> {
    let help = "write ports and ranges as in `62201,10000-65535`";
    let ranges: Vec<Option<PortRange>> = value.split(',').map(|part| range(part.trim(), help, found)).collect();
    Some(merged(ranges.into_iter().collect::<Option<_>>()?))
}

/// Parses a single range.
pub(super) fn single(value: Slice<'_>, found: &mut Findings) -> Option<PortRange> {
    range(value, "write one range, as in `20000-60000`", found)
}

/// Returns the text that [`list`] parses to these ranges.
pub(super) fn ranges_text(ranges: &[PortRange]) -> String {
    let text = |range: &PortRange| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

fn range(word: Slice<'_>, help: &str, found: &mut Findings) -> Option<PortRange> {
    let (low, high) = word.split_once('-').map_or((word, word), |(low, high)| (low.trim(), high.trim()));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(low.text()) || !is_number(high.text()) {
        let message = match word.is_empty() {
            true => "a port is missing".to_owned(),
            false => format!("{} is neither a port nor a range of ports", quoted(word.text())),
        };
        found.push(Diagnostic::error(codes::NOT_A_PORT_RANGE, word.span(), message).help(help));
        return None;
    }
    let port = |word: Slice<'_>| word.text().parse::<NonZeroU16>().ok();
    let (Some(low), Some(high)) = (port(low), port(high)) else {
        let message = format!("a port in {} is out of range", quoted(word.text()));
        let help = "ports are numbers from 1 to 65535";
        found.push(Diagnostic::error(codes::PORT_RANGE, word.span(), message).help(help));
        return None;
    };
    if low > high {
        let message = format!("the range {} ends before it begins", quoted(word.text()));
        let help = format!("write `{high}-{low}`");
        found.push(Diagnostic::error(codes::NOT_A_PORT_RANGE, word.span(), message).help(help));
        return None;
    }
    Some(low..=high)
}

fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end().saturating_add(1) >= *range.start() => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}
