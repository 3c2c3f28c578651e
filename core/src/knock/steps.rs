//! Parsing the steps of a command line.

use std::num::NonZeroU16;

use crate::config::Step;
use crate::packet::Protocol;
use crate::sys::names::service_port;

/// The reason why a text is not a list of steps. The message quotes the invalid part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The port is neither a number from 1 to 65535 nor the name of a service.
    #[error("`{}` is not a port: expected a number from 1 to 65535, or a service name", .0.escape_default())]
    Port(String),
    /// The protocol is neither TCP nor UDP.
    #[error("`{}` is not a protocol: expected `tcp` or `udp`", .0.escape_default())]
    Protocol(String),
}

/// Parses `PORT[:PROTO]`, or several of them separated by commas, as in a sequence of knockd.conf.
/// The protocol is `tcp` (the default) or `udp`, in any case; `PORT/PROTO` and `PROTO/PORT` are
/// equivalent. In contrast to knockd.conf, a service name (`ssh`, see services(5)) is a valid port.
///
/// # Errors
/// Fails at the first invalid part. knockd's client sends a different knock instead: 70000 becomes
/// port 4464, and `80:UDP` or `80:foo` becomes TCP.
pub fn parse_steps(text: &str) -> Result<Vec<Step>, StepError> {
    text.split(',').map(parse_step).collect()
}

fn parse_step(text: &str) -> Result<Step, StepError> {
    let words = text.split_once([':', '/']).map(|(first, second)| match first.to_ascii_lowercase().as_str() {
        "tcp" | "udp" => (second, first),
        _ => (first, second),
    });
    let (port, protocol) = match words {
        None => (text, Protocol::Tcp),
        Some((port, name)) if name.eq_ignore_ascii_case("tcp") => (port, Protocol::Tcp),
        Some((port, name)) if name.eq_ignore_ascii_case("udp") => (port, Protocol::Udp),
        Some((_, name)) => return Err(StepError::Protocol(name.into())),
    };
    let number = if is_name(port) {
        service_port(port).and_then(NonZeroU16::new)
    } else {
        // `parse` accepts a sign, which no port has.
        port.parse().ok().filter(|_| !port.starts_with('+'))
    };
    number.map(|port| Step { port, protocol }).ok_or_else(|| StepError::Port(port.into()))
}

/// Returns true if the text can be a service name, rather than a number or a misplaced option.
fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.contains(|c: char| c.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse_steps(text) {
            Ok(steps) => steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ports_are_parsed_alone_and_in_lists() {
        assert_eq!(shown("7000"), "7000");
        assert_eq!(shown("1:tcp"), "1");
        assert_eq!(shown("65535:UDP"), "65535:udp");
        assert_eq!(shown("7000,8000:udp,9000:tcp"), "7000 8000:udp 9000");
        assert_eq!(shown("7000/tcp,UDP/8000,9000/udp,tcp:1"), "7000 8000:udp 9000:udp 1");
    }

    #[test]
    fn an_error_quotes_the_invalid_part() {
        for port in ["", "0", "65536", "-1", "+1", "12x", "no-such-service", "ssh\0", " 80", "7000,", "\u{1b}[2J"] {
            assert!(
                shown(port).contains("is not a port: expected a number from 1 to 65535, or a service"),
                "{port}: {}",
                shown(port)
            );
            assert!(!shown(port).contains('\u{1b}'));
        }
        for protocol in ["80:", "80:foo", "80:udp:udp", "80: udp"] {
            assert!(shown(protocol).contains("is not a protocol: expected `tcp` or `udp`"), "{protocol}");
        }
    }
}
