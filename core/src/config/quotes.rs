//! Quotes around a whole value, in ASCII or as word processors write them.

use super::slice::Slice;

/// Groups of quotes. Any quote of a group can close any other of the same group.
const PAIRS: [&[char]; 3] =
    [&['"', '“', '”', '„', '‟', '«', '»', '″'], &['\'', '‘', '’', '‚', '‛', '‹', '›', '′'], &['`', '´']];

/// Returns the text between quotes that enclose all of `text`, or `None` if there are no such
/// quotes. Further quotes of the same kind mean several quoted words, unless a backslash precedes
/// each.
pub(super) fn inside(text: Slice<'_>) -> Option<Slice<'_>> {
    let first = text.text().chars().next()?;
    let kind = PAIRS.iter().find(|kind| kind.contains(&first))?;
    let body = text.text()[first.len_utf8()..].strip_suffix(*kind)?;
    let mut escaped = false;
    for c in body.chars() {
        if kind.contains(&c) && !escaped {
            return None;
        }
        escaped = c == '\\' && !escaped;
    }
    // A backslash before the last quote escapes it, so that it does not close.
    (!escaped).then(|| Slice::new(body, text.start() + first.len_utf8()).trim())
}

/// Returns text from between double quotes without the backslashes before quotes inside.
pub(super) fn unescaped(inside: &str) -> String {
    inside.replace("\\\"", "\"")
}

/// Returns true if the shell reads the quotes around this text as intended: ASCII quotes around a
/// single word.
pub(super) fn is_quoted_word(whole: &str, inside: &str) -> bool {
    whole.starts_with(['"', '\'']) && whole.ends_with(['"', '\'']) && !inside.contains([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quotes_around_the_whole_text_are_found() {
        let found = |text| inside(Slice::new(text, 3)).map(|slice| (slice.text().to_owned(), slice.start()));
        assert_eq!(found("\"a b\""), Some(("a b".to_owned(), 4)));
        assert_eq!(found("“a 'b'”"), Some(("a 'b'".to_owned(), 6)));
        assert_eq!(found("„a“").map(|found| found.0).as_deref(), Some("a"));
        assert_eq!(found("“a\"").map(|found| found.0).as_deref(), Some("a"));
        assert_eq!(found("' a '"), Some(("a".to_owned(), 5)));
        assert_eq!(found("`a`").map(|found| found.0).as_deref(), Some("a"));
        assert_eq!(found(r#""echo \"a\" b""#).map(|found| unescaped(&found.0)).as_deref(), Some(r#"echo "a" b"#));
        for other in ["", "\"", "a", "\"a\" \"b\"", "'a' b 'c'", "\"a'", "a\"", r#""a\""#] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
