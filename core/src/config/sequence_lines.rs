//! Parses the unused lines of a file of one-time sequences.

use super::sequence::parse_sequence;
use super::steps::Sequence;

/// An unused line of a one-time file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SequenceLine<'a> {
    /// The number of the line, counted from 1.
    pub(crate) number: usize,
    /// The offset of its first byte in the file.
    pub(crate) offset: usize,
    /// All of its bytes except the newline.
    pub(crate) bytes: &'a [u8],
    /// The sequence, or a description of the errors in it.
    pub(crate) sequence: Result<Sequence, String>,
}

/// Returns the lines that are neither empty nor begin with `#`, ignoring leading spaces.
pub(crate) fn unused_lines(text: &[u8]) -> impl Iterator<Item = SequenceLine<'_>> {
    let mut next = 0;
    let lines = (1..).zip(text.split_inclusive(|&byte| byte == b'\n')).map(move |(number, line)| {
        let offset = next;
        next += line.len();
        (number, offset, line.strip_suffix(b"\n").unwrap_or(line))
    });
    lines
        .filter(|(_, _, bytes)| bytes.trim_ascii_start().first().is_some_and(|&first| first != b'#'))
        .map(|(number, offset, bytes)| SequenceLine { number, offset, bytes, sequence: parse(bytes) })
}

fn parse(bytes: &[u8]) -> Result<Sequence, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())?;
    parse_sequence(text.trim()).map_err(|report| {
        let messages: Vec<_> = report.diagnostics.into_iter().map(|found| found.message).collect();
        messages.join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_and_empty_lines_are_skipped_and_locations_are_kept() {
        let text = b"#1,2,3\n\n # used\r\n 7,5:udp,6 # Monday\r\nx,8\n9";
        let lines: Vec<_> = unused_lines(text).collect();
        let place = |line: &SequenceLine<'_>| (line.number, line.offset);
        assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), [(4, 17), (5, 38), (6, 42)]);
        assert_eq!(lines[0].sequence.as_ref().unwrap().to_string(), "7,5:udp,6");
        assert!(lines[1].sequence.as_ref().unwrap_err().contains('x'), "{:?}", lines[1]);
        assert_eq!(lines[2].bytes, b"9");
    }
}
