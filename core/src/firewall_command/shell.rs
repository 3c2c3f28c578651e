//! Splits a shell command line into simple commands.

/// Returns the words of each simple command of a line, without their quotes. Returns `None` for
/// unsupported syntax, such as a substitution, and for an unclosed quote.
pub(super) fn simple_commands(line: &str) -> Option<Vec<Vec<String>>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    c => word.get_or_insert_default().push(c),
                }
            },
            '"' => {
                word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '`' => return None,
                        '$' if chars.peek() == Some(&'(') => skip_substitution(&mut chars)?,
                        '\\' if matches!(chars.peek(), Some('"' | '\\' | '$' | '`')) => {
                            word.get_or_insert_default().extend(chars.next());
                        }
                        c => word.get_or_insert_default().push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '`' | '(' | ')' => return None,
            '$' if chars.peek() == Some(&'(') => return None,
            ';' | '&' | '|' | '\n' => {
                commands.last_mut()?.extend(word.take());
                commands.push(Vec::new());
            }
            // The target of a redirection is not an argument, as in `2>/dev/null`.
            '>' | '<' => {
                word = word.filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
                commands.last_mut()?.extend(word.take());
                while chars.next_if(|c| matches!(c, '>' | '<' | '&' | ' ' | '\t')).is_some() {}
                while chars.next_if(|c| !matches!(c, ' ' | '\t' | ';' | '&' | '|')).is_some() {}
            }
            ' ' | '\t' => commands.last_mut()?.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut()?.extend(word);
    commands.retain(|words| !words.is_empty());
    Some(commands)
}

/// Skips `(…)` inside double quotes: text that no packet filter program reads, as in `"$(date)"`.
fn skip_substitution(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<()> {
    while chars.next()? != ')' {}
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_commands_are_split() {
        let shown = |line: &str| {
            let commands = simple_commands(line)?;
            Some(commands.iter().map(|words| words.join("|")).collect::<Vec<_>>().join(" ; "))
        };
        assert_eq!(shown("a b  'c d' \"e f\"").as_deref(), Some("a|b|c d|e f"));
        assert_eq!(shown("a && b; c|d &").as_deref(), Some("a ; b ; c ; d"));
        assert_eq!(shown("a b 2>/dev/null >> /x/y && c").as_deref(), Some("a|b ; c"));
        assert_eq!(shown(r#"echo "$(date): \"open\"" x\ y"#).as_deref(), Some("echo|: \"open\"|x y"));
        for other in ["a 'b", "a \"b", "`a`", "$(a)", "(a)", "a \\"] {
            assert_eq!(shown(other), None, "{other}");
        }
    }
}
