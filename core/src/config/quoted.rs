//! Text of the file inside messages.

use crate::printable::Printable;

/// The text in backquotes for a message, printable and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 48;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", Printable(&text[..end])),
        None => format!("`{}`", Printable(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut() {
        assert_eq!(quoted(&"x".repeat(48)), format!("`{}`", "x".repeat(48)));
        assert_eq!(quoted(&"x".repeat(49)), format!("`{}…`", "x".repeat(48)));
    }
}
