//! A piece of the text that knows where it stands, and the lines that the text is made of.

use std::ops::Range;

/// Part of a line, with its place in the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Slice<'a> {
    /// `text` stands at the byte `start` of the whole text.
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

    /// The part before the byte `at` of this piece, and the part from there on.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        let (head, tail) = self.text.split_at(at);
        (Self::new(head, self.start), Self::new(tail, self.start + at))
    }

    /// The parts before and after the first `separator`, an ASCII character.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((Self::new(&self.text[..at], self.start), Self::new(&self.text[at + 1..], self.start + at + 1)))
    }

    /// The parts between the separators, an ASCII character; at least one, which may be empty.
    pub(super) fn split(self, separator: char) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        self.text.split(separator).map(move |text| {
            let part = Self::new(text, start);
            start = part.end() + 1;
            part
        })
    }

    /// Without blanks at both ends.
    pub(super) fn trim(self) -> Self {
        let head = self.trim_start();
        Self::new(head.text.trim_end_matches(is_blank), head.start)
    }

    /// Without blanks in front.
    pub(super) fn trim_start(self) -> Self {
        let text = self.text.trim_start_matches(is_blank);
        Self::new(text, self.end() - text.len())
    }

    /// The longest beginning without the characters of `stop`, and the rest.
    pub(super) fn take_until(self, stop: impl Fn(char) -> bool) -> (Self, Self) {
        self.split_at(self.text.find(stop).unwrap_or(self.text.len()))
    }

    /// The value and the comment behind it, at the first `#`.
    pub(super) fn split_comment(self) -> (Self, Option<Self>) {
        self.comment_at(self.text.find('#'))
    }

    /// The value and the comment behind it, at the first `#` after a blank: for values that may hold a `#` themselves.
    pub(super) fn split_spaced_comment(self) -> (Self, Option<Self>) {
        let starts = self.text.char_indices().zip(std::iter::once(' ').chain(self.text.chars()));
        self.comment_at(
            starts.into_iter().find(|((_, c), before)| *c == '#' && is_blank(*before)).map(|((at, _), _)| at),
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

/// The blanks of C's `isspace`, which knockd trims by.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// One line of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Where the bytes stand in the whole text.
    pub(super) start: usize,
    /// The bytes without blanks at both ends; they need not be UTF-8.
    pub(super) bytes: &'a [u8],
    /// The blanks in front of them.
    pub(super) indent: &'a [u8],
    /// How the line ends: `\n`, `\r\n`, or `\n` where the text ends without.
    pub(super) ending: &'static str,
}

impl Line<'_> {
    /// The bytes of the line without blanks at both ends.
    pub(super) fn span(&self) -> Range<usize> {
        self.start..self.start + self.bytes.len()
    }
}

/// The lines of the text, which end with `\n` alone, as knockd has them. A byte order mark is left out.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let body = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let mut next = text.len() - body.len();
    body.split(|byte| *byte == b'\n').enumerate().map(move |(i, whole)| {
        let blank = |byte: &u8| is_blank(char::from(*byte));
        let indent = whole.iter().take_while(|byte| blank(byte)).count();
        let trailing = whole[indent..].iter().rev().take_while(|byte| blank(byte)).count();
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
    fn lines_know_their_place_and_lose_their_blanks() {
        let text = b"\xef\xbb\xbfa\r\n\n\t b \x0b\nc";
        let seen: Vec<_> = lines(text).map(|line| (line.number, line.start, line.bytes, line.ending)).collect();
        assert_eq!(seen, [(1, 3, &b"a"[..], "\r\n"), (2, 6, b"", "\n"), (3, 9, b"b", "\n"), (4, 13, b"c", "\n")]);
    }

    #[test]
    fn pieces_know_their_place() {
        let whole = Slice::new(" a , b # c ", 10);
        assert_eq!(whole.trim().span(), 11..20);
        let parts: Vec<_> = whole.split(',').map(|part| part.trim().span()).collect();
        assert_eq!(parts, [11..12, 15..20]);
        let (value, comment) = whole.trim().split_comment();
        assert_eq!((value.text(), comment.map(Slice::span)), ("a , b", Some(17..20)));
    }

    #[test]
    fn a_spaced_comment_needs_a_blank_before_it() {
        assert_eq!(Slice::new("a#b", 0).split_spaced_comment().1, None);
        assert_eq!(Slice::new("a#b #c", 0).split_spaced_comment().1, Some(Slice::new("#c", 4)));
        assert_eq!(Slice::new("#c", 0).split_spaced_comment().1, Some(Slice::new("#c", 0)));
    }
}
