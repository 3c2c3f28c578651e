//! Text for a log: one line, whatever was in it.

use std::fmt::{self, Write};

/// Shows a text with its control characters (and the line separators of Unicode) escaped as in a Rust string, so that
/// no text of a configuration or of the system can forge a log line or drive a terminal.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_escaped() {
        assert_eq!(Printable("a\nb\x1b[31m\u{85}\u{2028}é \\n").to_string(), r"a\nb\u{1b}[31m\u{85}\u{2028}é \n");
    }
}
