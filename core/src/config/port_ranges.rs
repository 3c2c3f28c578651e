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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, Vec<&'static str>> {
        let mut found = Findings::default();
        let ranges = list(Slice::new(text, 0), &mut found);
        let codes = found.into_report(text.len()).diagnostics.iter().map(|found| found.code).collect();
        ranges.map(|ranges| ranges_text(&ranges)).ok_or(codes)
    }

    #[test]
    fn a_list_is_sorted_and_merged() {
        for (text, expected) in [
            ("62201", "62201"),
            ("62201,10000-65535", "10000-65535"),
            ("9 , 5 - 7,00080", "5-7,9,80"),
            ("5,6,7,1-3", "1-3,5-7"),
            ("65535,65534,1-65535", "1-65535"),
            ("7-7,7", "7"),
            ("1-9,2-3,11", "1-9,11"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(read(expected).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn each_error_has_its_code() {
        for bad in ["", "x", "1,", "1--2", "1-", "-1", "1-2-3", "9-8", "+1", "1 2", "udp/1"] {
            assert_eq!(read(bad), Err(vec![codes::NOT_A_PORT_RANGE]), "{bad}");
        }
        for bad in ["0", "65536", "0-9", "9-99999999999"] {
            assert_eq!(read(bad), Err(vec![codes::PORT_RANGE]), "{bad}");
        }
        assert_eq!(read("0,x"), Err(vec![codes::PORT_RANGE, codes::NOT_A_PORT_RANGE]));
        let mut found = Findings::default();
        assert_eq!(single(Slice::new("5,6", 0), &mut found), None);
    }
}
