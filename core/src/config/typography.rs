//! Finds the typographic characters with which word processors and web pages replace ASCII
//! characters in a command.

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::slice::{Slice, is_space};

/// Warns of each typographic character in a command.
pub(super) fn check(command: Slice<'_>, found: &mut Findings) {
    let mut before = None;
    for (at, c) in command.text().char_indices() {
        let rest = &command.text()[at + c.len_utf8()..];
        let after_word = before.is_some_and(|c| !is_space(c));
        let Some((name, ascii)) = ascii_form(c, after_word, rest) else {
            before = Some(c);
            continue;
        };
        before = ascii.chars().last();
        let span = command.start() + at..command.start() + at + c.len_utf8();
        found.push(
            Diagnostic::warning(codes::TYPOGRAPHY, span.clone(), format!("the command contains {name}"))
                .help(format!("write `{ascii}`: the shell does not understand the typographic character"))
                .fix(span, ascii),
        );
    }
}

/// Returns the name of a typographic character and the ASCII text that it replaces. `after_word` is
/// true if the character directly follows a word.
fn ascii_form(c: char, after_word: bool, rest: &str) -> Option<(&'static str, &'static str)> {
    Some(match c {
        // Typesetting `-p tcp --dport` also removes the space. An em dash directly after a word has
        // no other origin.
        '—' | '―' if after_word => ("an em dash", " --"),
        '—' | '―' => ("an em dash", "--"),
        '–' if !after_word && starts_long_option(rest) => ("an en dash", "--"),
        '–' => ("an en dash", "-"),
        '‐' | '‑' | '−' => ("a typographic hyphen", "-"),
        '“' | '”' | '„' | '‟' => ("a curly quote", "\""),
        '‘' | '’' | '‚' | '‛' => ("a curly quote", "'"),
        '\u{a0}' | '\u{202f}' | '\u{2007}' => ("a no-break space", " "),
        _ => return None,
    })
}

/// Returns true for `dport`, false for `j`.
fn starts_long_option(rest: &str) -> bool {
    rest.bytes().take_while(u8::is_ascii_alphabetic).take(2).count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typographic_characters_are_fixed_to_the_ascii_text() {
        for (command, ascii) in [
            ("-p tcp—dport 22", "-p tcp --dport 22"),
            ("-p tcp —dport 22", "-p tcp --dport 22"),
            ("–dport 22 –j X", "--dport 22 -j X"),
            ("1000–2000", "1000-2000"),
            ("echo “a” ‘b’", "echo \"a\" 'b'"),
            ("a\u{a0}–j", "a -j"),
        ] {
            let mut found = Findings::default();
            check(Slice::new(command, 0), &mut found);
            let mut fixed = command.to_owned();
            for fix in found.into_report(0).diagnostics.into_iter().rev().filter_map(|found| found.fix) {
                fixed.replace_range(fix.span, &fix.replacement);
            }
            assert_eq!(fixed, ascii);
        }
    }
}
