//! Text from outside in messages and log lines: characters that would control a terminal or a log
//! are escaped.

use std::fmt::{self, Write};
use std::path::Path;

/// Text with control characters and direction marks escaped, as in `\x1b` and `\u{202e}`. The text
/// can then neither imitate nor break a log line.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(acts) {
            let (plain, from) = rest.split_at(at);
            f.write_str(plain)?;
            let mut chars = from.chars();
            chars.next().map_or(Ok(()), |c| write_escaped(f, c))?;
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// Maximum number of characters of an [`Excerpt`].
const EXCERPT_CHARS: usize = 200;

/// The beginning of a text of untrusted length, escaped as by [`Printable`], with `…` in place of
/// the omitted part.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(EXCERPT_CHARS) {
            Some((end, _)) => write!(f, "{}…", Printable(&self.0[..end])),
            None => Printable(self.0).fmt(f),
        }
    }
}

/// Returns the path as text for a message.
pub(crate) fn shown_path(path: &Path) -> String {
    Printable(&path.to_string_lossy()).to_string()
}

/// Returns true for characters that have an effect other than being shown on the line.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn write_escaped(f: &mut impl Write, c: char) -> fmt::Result {
    if c.is_ascii() { write!(f, "\\x{:02x}", u32::from(c)) } else { write!(f, "\\u{{{:x}}}", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let text = Printable("a\x1b[0m\u{202e}b\u{9b}—\n").to_string();
        assert_eq!(text, "a\\x1b[0m\\u{202e}b\\u{9b}—\\x0a");
        assert_eq!(Printable("plain — text").to_string(), "plain — text");
    }

    #[test]
    fn an_excerpt_ends_after_two_hundred_characters() {
        let text = "ä".repeat(200);
        assert_eq!(Excerpt(&text).to_string(), text);
        assert_eq!(Excerpt(&(text.clone() + "\n")).to_string(), text.clone() + "…");
        assert_eq!(Excerpt("a\nb").to_string(), "a\\x0ab");
    }
}
