//! Converts byte offsets to lines and columns.

use std::ops::Range;

/// A line and column of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1 in characters. A tab is one character, and so is a byte that is
    /// not UTF-8.
    pub column: usize,
}

/// Finds positions in a text. Each lookup takes time logarithmic in the number of lines, plus the
/// length of one line.
#[derive(Clone, Debug)]
pub struct Locator<'a> {
    text: &'a [u8],
    /// The offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Locator<'a> {
    /// Indexes the lines of this text.
    pub fn new(text: &'a [u8]) -> Self {
        let mark = "\u{feff}".as_bytes();
        let first = if text.starts_with(mark) { mark.len() } else { 0 };
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        Self { text, starts: std::iter::once(first).chain(ends.map(|(at, _)| at + 1)).collect() }
    }

    /// Returns the position of the byte at `offset`, or the end of the text for an offset beyond
    /// it.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Position { line, column: 1 + characters(before).count() }
    }

    /// Returns the bytes of a line (counted from 1) without the line ending. Panics if there is no
    /// such line.
    pub(super) fn line(&self, number: usize) -> Range<usize> {
        let start = self.starts[number - 1];
        let end = self.starts.get(number).map_or(self.text.len(), |next| next - 1);
        let end = if self.text[start..end].ends_with(b"\r") { end - 1 } else { end };
        start..end
    }
}

/// Returns the characters of bytes that need not be UTF-8; an invalid byte becomes U+FFFD.
pub(super) fn characters(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(|_| '\u{fffd}')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "a\n\tü—x\n".as_bytes();
        let locator = Locator::new(text);
        let at = |offset| (locator.position(offset).line, locator.position(offset).column);
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(1), (1, 2));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(8), (2, 4));
        assert_eq!(at(10), (3, 1));
        assert_eq!(at(99), (3, 1));
    }

    #[test]
    fn a_byte_order_mark_is_no_column_and_an_invalid_byte_is_one() {
        assert_eq!(Locator::new("\u{feff}ab".as_bytes()).position(4), Position { line: 1, column: 2 });
        assert_eq!(Locator::new("\u{feff}ab".as_bytes()).position(0), Position { line: 1, column: 1 });
        assert_eq!(Locator::new(b"\xff\xfeab").position(2), Position { line: 1, column: 3 });
    }
}
