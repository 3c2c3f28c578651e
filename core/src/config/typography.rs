//! What word processors and web pages make of the ASCII characters of a command, and what was meant.

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::slice::{Slice, is_blank};

/// Warns of each typographic character in a command.
pub(super) fn check(command: Slice<'_>, found: &mut Findings) {
    let mut before = None;
    for (at, c) in command.text().char_indices() {
        let rest = &command.text()[at + c.len_utf8()..];
        let glued = before.is_some_and(|c| !is_blank(c));
        let Some((name, meant)) = meaning(c, glued, rest) else {
            before = Some(c);
            continue;
        };
        before = meant.chars().last();
        let span = command.start() + at..command.start() + at + c.len_utf8();
        found.push(
            Diagnostic::warning(codes::TYPOGRAPHY, span.clone(), format!("there is {name} in the command"))
                .help(format!("the shell does not understand it; write `{meant}`"))
                .fix(span, meant),
        );
    }
}

/// The name of a typographic character and the ASCII text that it was made of; `glued` tells whether it stands right
/// behind a word.
fn meaning(c: char, glued: bool, rest: &str) -> Option<(&'static str, &'static str)> {
    Some(match c {
        // `-p tcp --dport` loses its blank too when a page is set; nothing else makes an em dash behind a word.
        '—' | '―' if glued => ("an em dash", " --"),
        '—' | '―' => ("an em dash", "--"),
        '–' if !glued && starts_long_option(rest) => ("an en dash", "--"),
        '–' => ("an en dash", "-"),
        '‐' | '‑' | '−' => ("a typographic hyphen", "-"),
        '“' | '”' | '„' | '‟' => ("a curly quote", "\""),
        '‘' | '’' | '‚' | '‛' => ("a curly quote", "'"),
        '\u{a0}' | '\u{202f}' | '\u{2007}' => ("a no-break space", " "),
        _ => return None,
    })
}

/// True for `dport`, false for `j`.
fn starts_long_option(rest: &str) -> bool {
    rest.bytes().take_while(u8::is_ascii_alphabetic).take(2).count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typography_is_read_as_it_was_typed() {
        for (command, meant) in [
            ("-p tcp—dport 22", "-p tcp --dport 22"),
            ("-p tcp —dport 22", "-p tcp --dport 22"),
            ("–dport 22 –j X", "--dport 22 -j X"),
            ("1000–2000", "1000-2000"),
            ("echo “a” ‘b’", "echo \"a\" 'b'"),
            ("a\u{a0}–j", "a -j"),
        ] {
            let mut found = Findings::default();
            check(Slice::new(command, 0), &mut found);
            let mut mended = command.to_owned();
            for fix in found.into_report(0).diagnostics.into_iter().rev().filter_map(|found| found.fix) {
                mended.replace_range(fix.span, &fix.replacement);
            }
            assert_eq!(mended, meant);
        }
    }
}
