//! Parts of the text with their offsets, and the lines of the text.

use std::ops::Range;

/// Part of a line, with its offset in the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Slice<'a> {
    /// Creates a slice of the whole text; `start` is the offset of `text` in it, in bytes.
    pub(super) fn new(text: &'a str, start: usize) -> Self {
        Self { text, start }
    }

    pub(super) fn text(self) -> &'a str {
        self.text
    }

    pub(super) fn start(self) -> usize {
        self.start
    }

    pub(super) fn end(self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn span(self) -> Range<usize> {
        self.start..self.end()
    }

    pub(super) fn is_empty(self) -> bool {
        self.text.is_empty()
    }

    /// Returns the part before the byte `at` of this slice, and the part from `at`.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let (head, tail) = self.text.split_at(at);
        (Self::new(head, self.start), Self::new(tail, self.start + at))
    }

    /// Returns the parts before and after the first `separator`, an ASCII character.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((Self::new(&self.text[..at], self.start), Self::new(&self.text[at + 1..], self.start + at + 1)))
    }

    /// Returns the parts between the separators, an ASCII character; at least one part, which may
    /// be empty.
    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(separator).map(move |text| {
            let part = Self::new(text, start);
            start = part.end() + 1;
            part
        })
    }

    /// Returns the slice without spaces at both ends.
    pub(super) fn trim(self) -> Self {
        let head = self.trim_start();
        Self::new(head.text.trim_end_matches(is_space), head.start)
    }

    /// Returns the slice without leading spaces.
    pub(super) fn trim_start(self) -> Self {
        let text = self.text.trim_start_matches(is_space);
        Self::new(text, self.end() - text.len())
    }

    /// Returns the longest beginning without a character for which `stop` is true, and the rest.
    pub(super) fn take_until(self, stop: impl Fn(char) -> bool) -> (Self, Self) {
        self.split_at(self.text.find(stop).unwrap_or(self.text.len()))
    }

    /// Splits a value from the comment after it, at the first `#`.
    pub(super) fn split_comment(self) -> (Self, Option<Self>) {
        self.comment_at(self.text.find('#'))
    }

    /// Splits a value from the comment after it, at the first `#` after a space: for values that
    /// can contain a `#`.
    pub(super) fn split_spaced_comment(self) -> (Self, Option<Self>) {
        let starts = self.text.char_indices().zip(std::iter::once(' ').chain(self.text.chars()));
        self.comment_at(
            starts.into_iter().find(|((_, c), before)| *c == '#' && is_space(*before)).map(|((at, _), _)| at),
        )
    }

    fn comment_at(self, at: Option<usize>) -> (Self, Option<Self>) {
        match at {
            None => (self, None),
            Some(at) => {
                let (value, comment) = self.split_at(at);
                (value.trim(), Some(comment))
            }
        }
    }
}

/// Returns true for the whitespace characters of C's `isspace`, which knockd trims.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// One line of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The number of the line, counted from 1.
    pub(super) number: usize,
    /// The offset of the bytes in the whole text.
    pub(super) start: usize,
    /// The bytes without spaces at both ends; they need not be UTF-8.
    pub(super) bytes: &'a [u8],
    /// The spaces before them.
    pub(super) indent: &'a [u8],
    /// The line ending: `\n` or `\r\n`; `\n` for the last line if it has none.
    pub(super) ending: &'static str,
}

impl Line<'_> {
    /// Returns the span of the line without spaces at both ends.
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.bytes.len()
    }
}

/// Returns the lines of the text. As in knockd, only `\n` ends a line. A byte order mark is
/// skipped.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let body = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut next = text.len() - body.len();
    body.split(|byte| *byte == b'\n').enumerate().map(move |(i, whole)| {
        let space = |byte: &u8| is_space(char::from(*byte));
        let indent = whole.iter().take_while(|byte| space(byte)).count();
        let trailing = whole[indent..].iter().rev().take_while(|byte| space(byte)).count();
        let start = next + indent;
        next += whole.len() + 1;
        Line {
            number: i + 1,
            start,
            bytes: &whole[indent..whole.len() - trailing],
            indent: &whole[..indent],
            ending: if whole.ends_with(b"\r") { "\r\n" } else { "\n" },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_offset_and_are_trimmed() {
        let text = b"\xef\xbb\xbfa\r\n\n\t b \x0b\nc";
        let seen: Vec<_> = lines(text).map(|line| (line.number, line.start, line.bytes, line.ending)).collect();
        assert_eq!(seen, [(1, 3, &b"a"[..], "\r\n"), (2, 6, b"", "\n"), (3, 9, b"b", "\n"), (4, 13, b"c", "\n")]);
    }

    #[test]
    fn slices_have_their_offset() {
        let whole = Slice::new(" a , b # c ", 10);
        assert_eq!(whole.trim().span(), 11..20);
        let parts: Vec<_> = whole.split(',').map(|part| part.trim().span()).collect();
        assert_eq!(parts, [11..12, 15..20]);
        let (value, comment) = whole.trim().split_comment();
        assert_eq!((value.text(), comment.map(Slice::span)), ("a , b", Some(17..20)));
    }

    #[test]
    fn a_spaced_comment_needs_a_space_before_it() {
        assert_eq!(Slice::new("a#b", 0).split_spaced_comment().1, None);
        assert_eq!(Slice::new("a#b #c", 0).split_spaced_comment().1, Some(Slice::new("#c", 4)));
        assert_eq!(Slice::new("#c", 0).split_spaced_comment().1, Some(Slice::new("#c", 0)));
    }
}
