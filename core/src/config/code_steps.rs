//! Parses the text of a sequence with a code: `7391,48213,21???,22???`.

use std::ops::Range;

use super::code_sequence::{CodeSequence, CodeSequenceError, CodeStep};
use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::quoted::quoted;
use super::sequence::{self, Token};
use super::slice::Slice;
use super::steps::Step;

/// Help for a pattern in a wrong form.
const PATTERN_HELP: &str = "write the first digits of the port and then one to four question marks, one for each digit of the code, as in `21???`";

/// Returns true if the value of `sequence` contains digits of a code.
pub(super) fn has_code(value: Slice<'_>) -> bool {
    value.text().contains('?')
}

/// Parses a sequence, without a comment, for which [`has_code`] is true. Returns `None` if there is an
/// error.
pub(super) fn parse(value: Slice<'_>, found: &mut Findings) -> Option<CodeSequence> {
    let (tokens, mut is_valid) = sequence::tokens(value, found)?;
    let (mut fixed, mut code, mut spans): (Vec<Step>, Vec<CodeStep>, Vec<Range<usize>>) = Default::default();
    for token in &tokens {
        let word = token.port;
        if !has_code(word) {
            if !spans.is_empty() {
                let message = format!("the fixed step {} follows the code", quoted(word.text()));
                let help = "move the fixed steps to the front: the code is the end of the sequence";
                found.push(Diagnostic::error(codes::CODE_PATTERN, word.span(), message).help(help));
                is_valid = false;
            }
            match sequence::step(token, found) {
                Some(step) => fixed.push(step),
                None => is_valid = false,
            }
            continue;
        }
        spans.push(word.span());
        match code_step(token, found) {
            Some(step) => code.push(step),
            None => is_valid = false,
        }
    }
    if !is_valid {
        return None;
    }
    let error = match CodeSequence::new(fixed, code) {
        Ok(sequence) => return Some(sequence),
        Err(error) => error,
    };
    let (code, span, help) = match error {
        CodeSequenceError::NoFixedStep => (
            codes::NO_FIXED_STEPS,
            value.span(),
            "begin with two or more secret ports, as in `7391,48213,21???,22???`: without them a port scan sends wrong codes, and the door is silent most of the time",
        ),
        CodeSequenceError::Digits(_) => (
            codes::CODE_DIGITS,
            value.span(),
            "write one question mark for each digit that the app shows, as in `21???,22???`",
        ),
        CodeSequenceError::Overlap(index, _) => (
            codes::CODE_OVERLAP,
            spans[index].clone(),
            "use ranges and ports that differ, as in `7391,48213,21???,22???`",
        ),
        CodeSequenceError::TooLong(_) => (codes::TOO_MANY_STEPS, value.span(), "shorten the sequence"),
    };
    found.push(Diagnostic::error(code, span, error.to_string()).help(help));
    None
}

fn code_step(token: &Token<'_>, found: &mut Findings) -> Option<CodeStep> {
    let word = token.port;
    let protocol = sequence::protocol(token, found);
    let prefix = word.text().trim_end_matches('?');
    let digits = word.text().len() - prefix.len();
    let is_pattern = (1..=4).contains(&digits) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let step = protocol.and_then(|protocol| {
        let prefix = if prefix.is_empty() { 0 } else { prefix.parse().unwrap_or(u16::MAX) };
        CodeStep::new(prefix, u8::try_from(digits).ok()?, protocol)
    });
    if !is_pattern {
        let message = format!("{} is not a port with digits of a code", quoted(word.text()));
        found.push(Diagnostic::error(codes::CODE_PATTERN, word.span(), message).help(PATTERN_HELP));
        return None;
    }
    if step.is_none() && protocol.is_some() {
        let message = format!("a port that {} stands for is out of range", quoted(word.text()));
        let help = "all ports of the pattern must be from 1 to 65535, as those of `21???`";
        found.push(Diagnostic::error(codes::PORT_RANGE, word.span(), message).help(help));
    }
    sequence::check_spelling(token, found);
    step
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn codes_of(sequence: &str) -> Vec<&'static str> {
        let text = format!("[a]\nsequence = {sequence}\ntotp_secret = /s\n");
        parse(text.as_bytes()).report.diagnostics.iter().map(|found| found.code).collect()
    }

    #[test]
    fn sequences_with_codes_are_read_and_printed() {
        for (text, canonical) in [
            ("7391,48213,21???,22???", "7391,48213,21???,22???"),
            (" 7391:udp , 48213,021???:TCP,22???:udp # mine", "7391:udp,48213,21???,22???:udp"),
            ("7391,48213,2????,3????", "7391,48213,2????,3????"),
            ("7391,48213,21??,22??,23??", "7391,48213,21??,22??,23??"),
        ] {
            let text = format!("[a]\nsequence = {text}\ntotp_secret = /s # ours\n");
            let config = parse(text.as_bytes()).config.unwrap();
            assert_eq!(
                config.to_string(),
                format!("[a]\n    sequence = {canonical}\n    totp_secret = /s\n    seq_timeout = 25\n")
            );
            assert_eq!(parse(config.to_string().as_bytes()).config, Some(config));
        }
    }

    #[test]
    fn each_error_has_its_code() {
        for bad in ["7391,48213,2?1??,22???", "7391,48213,21?????,2?", "7391,48213,x??,22???", "7391,48213,-1??,22???"]
        {
            assert_eq!(codes_of(bad), [super::codes::CODE_PATTERN], "{bad}");
        }
        assert_eq!(codes_of("7391,21???,48213,22???"), [super::codes::CODE_PATTERN]);
        for bad in
            ["7391,48213,6????,22??", "7391,48213,???,22???", "7391,48213,0??,2????", "7391,48213,99999???,22???"]
        {
            assert_eq!(codes_of(bad), [super::codes::PORT_RANGE], "{bad}");
        }
        assert_eq!(codes_of("21???,22???"), [super::codes::NO_FIXED_STEPS]);
        for bad in ["7391,48213,21???", "7391,48213,21???,22??", "7391,48213,2????,3????,1?"] {
            assert_eq!(codes_of(bad), [super::codes::CODE_DIGITS], "{bad}");
        }
        for bad in ["21500,48213,21???,22???", "7391,48213,21???,21???"] {
            assert_eq!(codes_of(bad), [super::codes::CODE_OVERLAP], "{bad}");
        }
        assert_eq!(codes_of("7391,48213,21???:sctp,22???"), [super::codes::UNKNOWN_PROTOCOL]);
        assert_eq!(codes_of("7391,48213,21???,,22???"), [super::codes::EMPTY_STEP]);
    }
}
