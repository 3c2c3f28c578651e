//! Parses the text of a sequence: `7000,8000:udp,9000`.

use std::num::NonZeroU16;
use std::ops::Range;

use super::codes;
use super::diagnostic::{Diagnostic, Report};
use super::findings::Findings;
use super::quoted::quoted;
use super::slice::{Slice, is_space};
use super::steps::{MAX_STEPS, Sequence, SequenceError, Step};
use crate::packet::Protocol;

/// Parses one sequence, as in a line of a one-time file. The syntax is that of the value of
/// `sequence =`, including a comment.
///
/// # Errors
/// Returns all findings in the text, with spans as byte offsets in `text`.
pub fn parse_sequence(text: &str) -> Result<Sequence, Report> {
    let mut found = Findings::default();
    let (value, _) = Slice::new(text, 0).trim().split_comment();
    match parse(value, &mut found) {
        Some(sequence) if !found.has_errors() => Ok(sequence),
        _ => Err(found.into_report(text.len())),
    }
}

/// One step as it is written.
pub(super) struct Token<'a> {
    pub(super) port: Slice<'a>,
    /// The words after the colons.
    protocols: Vec<Slice<'a>>,
    /// True for `7264/udp`, `udp/7264` and `udp:7264`, which are not knockd's spelling.
    respelled: bool,
}

/// Parses a sequence without a comment; returns `None` if there is an error.
pub(super) fn parse(value: Slice<'_>, found: &mut Findings) -> Option<Sequence> {
    if value.is_empty() {
        found.push(
            Diagnostic::error(codes::NO_VALUE, value.span(), "the sequence is empty")
                .help("write the ports in order, as in `sequence = 7342,1201:udp,23045`"),
        );
        return None;
    }
    let (tokens, complete) = tokens(value, found)?;
    let steps: Vec<Option<Step>> = tokens.iter().map(|token| step(token, found)).collect();
    let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
    if complete { Sequence::new(steps).ok() } else { None }
}

/// Splits a sequence into its steps; false if a step is missing. Returns `None` if there are too many.
pub(super) fn tokens<'a>(value: Slice<'a>, found: &mut Findings) -> Option<(Vec<Token<'a>>, bool)> {
    let mut tokens = Vec::new();
    let mut complete = true;
    let mut space_separated = false;
    for (i, part) in value.split(',').enumerate() {
        if part.trim().is_empty() {
            found.push(empty_step(part, i == 0));
            complete = false;
        }
        let before = tokens.len();
        tokenize(part.trim(), &mut tokens);
        space_separated |= tokens.len() > before + 1;
    }
    if space_separated {
        found.push(
            Diagnostic::warning(codes::SPACE_BETWEEN_STEPS, value.span(), "spaces separate the steps")
                .help("separate the steps by commas: the original knockd stops reading at a space")
                .fix(value.span(), joined(&tokens)),
        );
    }
    if let Some(first_too_many) = tokens.get(MAX_STEPS) {
        let span = first_too_many.port.start()..value.end();
        let message = SequenceError::TooLong(tokens.len()).to_string();
        found.push(Diagnostic::error(codes::TOO_MANY_STEPS, span, message).help("shorten the sequence"));
        return None;
    }
    Some((tokens, complete))
}

/// Splits the text between two commas: one step, or several that spaces separate.
fn tokenize<'a>(part: Slice<'a>, tokens: &mut Vec<Token<'a>>) {
    let ends_word = |c| is_space(c) || c == ':';
    let mut rest = part;
    while !rest.is_empty() {
        let (port, tail) = rest.take_until(ends_word);
        rest = tail.trim_start();
        let mut protocols = Vec::new();
        while rest.text().starts_with(':') {
            let (protocol, tail) = rest.split_at(1).1.trim_start().take_until(ends_word);
            protocols.push(protocol);
            rest = tail.trim_start();
        }
        tokens.push(Token::new(port, protocols));
    }
}

impl<'a> Token<'a> {
    /// Creates a step from these words, with port and protocol swapped if the protocol comes first.
    fn new(word: Slice<'a>, mut protocols: Vec<Slice<'a>>) -> Self {
        let mut port = word;
        if protocols.is_empty()
            && let Some((head, tail)) = word.split_once('/')
            && (is_protocol(head) || is_protocol(tail))
        {
            port = head;
            protocols.push(tail);
        }
        if let [other] = &mut protocols[..]
            && is_protocol(port)
            && !is_protocol(*other)
        {
            std::mem::swap(&mut port, other);
        }
        Self { port, protocols, respelled: port != word }
    }

    /// Returns the step in knockd's spelling.
    fn text(&self) -> String {
        let words = std::iter::once(&self.port).chain(&self.protocols);
        words.map(|word| word.text()).collect::<Vec<_>>().join(":")
    }
}

fn is_protocol(word: Slice<'_>) -> bool {
    ["tcp", "udp"].iter().any(|name| word.text().eq_ignore_ascii_case(name))
}

/// Returns the steps as they are written, with commas between them.
fn joined(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(Token::text).collect::<Vec<_>>().join(",")
}

fn empty_step(part: Slice<'_>, first: bool) -> Diagnostic {
    // The comma to remove: the comma before the step, or for the first step the comma after it.
    let span: Range<usize> = if first { part.start()..part.end() + 1 } else { part.start() - 1..part.end() };
    Diagnostic::error(codes::EMPTY_STEP, span.clone(), "a port is missing at this comma")
        .help("remove the comma, or write the missing port")
        .fix(span, "")
}

pub(super) fn step(token: &Token<'_>, found: &mut Findings) -> Option<Step> {
    let port = port(token.port, found);
    let protocol = protocol(token, found);
    let step = Step { port: port?, protocol: protocol? };
    check_spelling(token, found);
    Some(step)
}

/// Warns of a step that is not in knockd's spelling.
pub(super) fn check_spelling(token: &Token<'_>, found: &mut Findings) {
    if let [protocol] = token.protocols[..]
        && token.respelled
    {
        let span = token.port.start().min(protocol.start())..token.port.end().max(protocol.end());
        let text = token.text();
        found.push(
            Diagnostic::warning(codes::STEP_SPELLING, span.clone(), format!("this step is read as `{text}`"))
                .help(format!("write `{text}`: the original knockd reads another port or protocol"))
                .fix(span, text),
        );
    }
}

fn port(word: Slice<'_>, found: &mut Findings) -> Option<NonZeroU16> {
    let digits = word.text().strip_prefix('+').unwrap_or(word.text());
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = match word.is_empty() {
            true => "the port is missing before the `:`".to_owned(),
            false => format!("{} is not a port number", quoted(word.text())),
        };
        found.push(Diagnostic::error(codes::NOT_A_PORT, word.span(), message).help(
            "a step is a number from 1 to 65535, optionally followed by `:tcp` or `:udp`; commas separate the steps",
        ));
        return None;
    }
    let port = digits.parse::<u16>().ok().and_then(NonZeroU16::new);
    if port.is_none() {
        let message = format!("the port {} is out of range", quoted(word.text()));
        found
            .push(Diagnostic::error(codes::PORT_RANGE, word.span(), message).help("ports are numbers from 1 to 65535"));
    }
    port
}

pub(super) fn protocol(token: &Token<'_>, found: &mut Findings) -> Option<Protocol> {
    let Some(word) = token.protocols.first() else {
        return Some(Protocol::Tcp);
    };
    if let Some(second) = token.protocols.get(1) {
        let span = word.start()..second.end();
        found.push(
            Diagnostic::error(codes::UNKNOWN_PROTOCOL, span, "the step has more than one protocol")
                .help("write `tcp` or `udp`; for both, write two steps"),
        );
        return None;
    }
    if word.text().eq_ignore_ascii_case("tcp") {
        return Some(Protocol::Tcp);
    }
    if word.text().eq_ignore_ascii_case("udp") {
        return Some(Protocol::Udp);
    }
    let message = match word.is_empty() {
        true => "the protocol is missing after the `:`".to_owned(),
        false => format!("{} is not a protocol of steps", quoted(word.text())),
    };
    found.push(Diagnostic::error(codes::UNKNOWN_PROTOCOL, word.span(), message).help("write `tcp` or `udp`"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        parse_sequence(text).unwrap().to_string()
    }

    fn codes_of(text: &str) -> Vec<&'static str> {
        parse_sequence(text).unwrap_err().diagnostics.iter().map(|found| found.code).collect()
    }

    #[test]
    fn reads_ports_and_protocols_in_every_accepted_form() {
        assert_eq!(canonical("7000,8000:udp,9000:tcp"), "7000,8000:udp,9000");
        assert_eq!(canonical(" 80 : UDP , +081:Tcp"), "80:udp,81");
        assert_eq!(canonical("6:tcp 1450:udp\t8156"), "6,1450:udp,8156");
        assert_eq!(canonical("1,2 # used, on Monday"), "1,2");
        assert_eq!(canonical("1:udp#x"), "1:udp");
        assert_eq!(canonical("7264/tcp,3981/UDP udp/5410,TCP/80,udp:9"), "7264,3981:udp,5410:udp,80,9:udp");
    }

    #[test]
    fn each_error_has_its_code() {
        for bad in ["abc", "12x", "-1", "0x50", "ssh", "7000;8000", "1-9", "$port", ":udp", "tcp/x", "udp/", "1/2"] {
            assert_eq!(codes_of(bad), [codes::NOT_A_PORT], "{bad}");
        }
        for bad in ["0", "000", "65536", "+99999999999999999999"] {
            assert_eq!(codes_of(bad), [codes::PORT_RANGE], "{bad}");
        }
        for bad in ["1:", "1:sctp", "1:tcp:udp", "1 : : udp"] {
            assert_eq!(codes_of(bad), [codes::UNKNOWN_PROTOCOL], "{bad}");
        }
        for bad in ["1,", ",1", "1,,2", "1, ,2"] {
            assert_eq!(codes_of(bad), [codes::EMPTY_STEP], "{bad}");
        }
        for bad in ["", "  ", "# 1,2"] {
            assert_eq!(codes_of(bad), [codes::NO_VALUE], "{bad}");
        }
        assert_eq!(codes_of("x,0,1:y"), [codes::NOT_A_PORT, codes::PORT_RANGE, codes::UNKNOWN_PROTOCOL]);
    }

    #[test]
    fn accepts_32_steps_and_no_more() {
        let steps = |count: usize| vec!["1"; count].join(",");
        assert_eq!(parse_sequence(&steps(32)).unwrap().steps().len(), 32);
        assert_eq!(codes_of(&steps(33)), [codes::TOO_MANY_STEPS]);
    }
}
