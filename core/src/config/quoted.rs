//! Quotes text of the configuration in messages.

use crate::printable::Printable;

/// Returns the text in backquotes for a message. Control characters are escaped, and long text is
/// truncated.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARACTERS: usize = 48;
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("`{}…`", Printable(&text[..end])),
        None => format!("`{}`", Printable(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_truncated() {
        assert_eq!(quoted(&"x".repeat(48)), format!("`{}`", "x".repeat(48)));
        assert_eq!(quoted(&"x".repeat(49)), format!("`{}…`", "x".repeat(48)));
    }
}
