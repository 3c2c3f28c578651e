//! Text of the file inside messages: everything that a terminal or a log would act on is made visible.

/// What stands for a character in a message; most stand for themselves.
pub(super) fn visible(c: char) -> String {
    match c {
        c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)),
        // Format characters too: direction marks can make a line look like another one.
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => {
            format!("\\u{{{:x}}}", u32::from(c))
        }
        c => c.to_string(),
    }
}

/// The text in backquotes for a message, made visible and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut shown: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_are_shown() {
        assert_eq!(quoted("a\x1b[0m\u{202e}b\u{9b}—"), "`a\\x1b[0m\\u{202e}b\\u{9b}—`");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(quoted(&"x".repeat(48)), format!("`{}`", "x".repeat(48)));
        assert_eq!(quoted(&"x".repeat(49)), format!("`{}…`", "x".repeat(48)));
    }
}
