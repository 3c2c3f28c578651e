//! The text of a sequence: `7000,8000:udp,9000`.

use std::num::NonZeroU16;
use std::ops::Range;

use super::codes;
use super::diagnostic::{Diagnostic, Report};
use super::findings::Findings;
use super::model::{MAX_STEPS, Sequence, Step};
use super::quoted::quoted;
use super::slice::{Slice, is_blank};
use crate::packet::Protocol;

/// Reads one sequence, as in a line of a one-time file: the same text as the value of `sequence =`, comment and all.
///
/// # Errors
/// Returns everything that is wrong with it; the spans are those of `text`.
pub fn parse_sequence(text: &str) -> Result<Sequence, Report> {
    let mut found = Findings::default();
    let (value, _) = Slice::new(text, 0).trim().split_comment();
    match read(value, &mut found) {
        Some(sequence) if !found.has_errors() => Ok(sequence),
        _ => Err(found.into_report(text.len())),
    }
}

/// One step as it is written.
struct Token<'a> {
    port: Slice<'a>,
    /// The words behind the colons.
    protocols: Vec<Slice<'a>>,
    /// True for `7264/udp`, `udp/7264` and `udp:7264`, which are not knockd's spelling.
    respelled: bool,
}

/// Reads a sequence without a comment; `None` where there is an error.
pub(super) fn read(value: Slice<'_>, found: &mut Findings) -> Option<Sequence> {
    if value.is_empty() {
        found.push(
            Diagnostic::error(codes::NO_VALUE, value.span(), "the sequence is empty")
                .help("write the ports in order, as in `sequence = 7342,1201:udp,23045`"),
        );
        return None;
    }
    let mut tokens = Vec::new();
    let mut complete = true;
    let mut blank_separated = false;
    for (i, part) in value.split(',').enumerate() {
        if part.trim().is_empty() {
            found.push(empty_step(part, i == 0));
            complete = false;
        }
        let before = tokens.len();
        tokenize(part.trim(), &mut tokens);
        blank_separated |= tokens.len() > before + 1;
    }
    if blank_separated {
        found.push(
            Diagnostic::warning(codes::BLANK_BETWEEN_STEPS, value.span(), "blanks separate the steps")
                .help("separate them by commas: the original knockd does not read on after a blank")
                .fix(value.span(), joined(&tokens)),
        );
    }
    if let Some(first_too_many) = tokens.get(MAX_STEPS) {
        let message = format!("a sequence has at most {MAX_STEPS} ports, this one has {}", tokens.len());
        found.push(Diagnostic::error(codes::TOO_MANY_STEPS, first_too_many.port.start()..value.end(), message));
        return None;
    }
    let steps: Vec<Option<Step>> = tokens.iter().map(|token| step(token, found)).collect();
    let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
    if complete { Sequence::new(steps).ok() } else { None }
}

/// Splits what stands between two commas: one step, or several that blanks separate.
fn tokenize<'a>(part: Slice<'a>, tokens: &mut Vec<Token<'a>>) {
    let ends_word = |c| is_blank(c) || c == ':';
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
    /// A step of these words, with the port first where the protocol was.
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

    /// The step in knockd's spelling.
    fn text(&self) -> String {
        let words = std::iter::once(&self.port).chain(&self.protocols);
        words.map(|word| word.text()).collect::<Vec<_>>().join(":")
    }
}

fn is_protocol(word: Slice<'_>) -> bool {
    ["tcp", "udp"].iter().any(|name| word.text().eq_ignore_ascii_case(name))
}

/// The steps as they are written, with commas between them.
fn joined(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(Token::text).collect::<Vec<_>>().join(",")
}

fn empty_step(part: Slice<'_>, first: bool) -> Diagnostic {
    // The comma to remove: the one in front, or for the first step the one behind.
    let span: Range<usize> = if first { part.start()..part.end() + 1 } else { part.start() - 1..part.end() };
    Diagnostic::error(codes::EMPTY_STEP, span.clone(), "there is no port at this comma")
        .help("remove the comma, or write the port that is missing")
        .fix(span, "")
}

fn step(token: &Token<'_>, found: &mut Findings) -> Option<Step> {
    let port = port(token.port, found);
    let protocol = protocol(token, found);
    let step = Step { port: port?, protocol: protocol? };
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
    Some(step)
}

fn port(word: Slice<'_>, found: &mut Findings) -> Option<NonZeroU16> {
    let digits = word.text().strip_prefix('+').unwrap_or(word.text());
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = match word.is_empty() {
            true => "the port is missing before the `:`".to_owned(),
            false => format!("{} is not a port number", quoted(word.text())),
        };
        found.push(
            Diagnostic::error(codes::NOT_A_PORT, word.span(), message).help(
                "a step is a number from 1 to 65535, then `:tcp` or `:udp` where wanted; commas separate the steps",
            ),
        );
        return None;
    }
    let port = digits.parse::<u16>().ok().and_then(NonZeroU16::new);
    if port.is_none() {
        let message = format!("there is no port {}", quoted(word.text()));
        found
            .push(Diagnostic::error(codes::PORT_RANGE, word.span(), message).help("ports are numbers from 1 to 65535"));
    }
    port
}

fn protocol(token: &Token<'_>, found: &mut Findings) -> Option<Protocol> {
    let Some(word) = token.protocols.first() else {
        return Some(Protocol::Tcp);
    };
    if let Some(second) = token.protocols.get(1) {
        let span = word.start()..second.end();
        found.push(
            Diagnostic::error(codes::UNKNOWN_PROTOCOL, span, "a step has one protocol, this one has more")
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
        false => format!("{} is not a protocol of knocks", quoted(word.text())),
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
    fn names_each_fault() {
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
    fn takes_32_steps_and_no_more() {
        let steps = |count: usize| vec!["1"; count].join(",");
        assert_eq!(parse_sequence(&steps(32)).unwrap().steps().len(), 32);
        assert_eq!(codes_of(&steps(33)), [codes::TOO_MANY_STEPS]);
    }
}
