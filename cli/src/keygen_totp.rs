//! `portknock keygen --totp`: makes the secret of an authenticator app, for the app and the server.

use std::io::{self, IsTerminal, Write as _};

use portknock_core::Printable;
use portknock_core::keys::is_name;
use portknock_core::totp::TotpSecret;

use crate::output::{print, print_error};
use crate::{SUCCESS, USAGE, qr};

/// Lowest port that is suggested for a fixed step.
const LOWEST_PORT: u32 = 1024;

/// Makes a secret. The exit status is as that of [`crate::keygen::run`].
pub(crate) fn run(name: &str, digits: u8, draw: bool) -> u8 {
    if !is_name(name) {
        print_error("portknock", "a name has 1 to 64 bytes of printable characters without spaces");
        return USAGE;
    }
    // The numbers of another secret are as random as those of the system.
    let (secret, random) = match (TotpSecret::generate(), TotpSecret::generate()) {
        (Ok(secret), Ok(random)) => (secret, random),
        (Err(error), _) | (_, Err(error)) => return print_error("portknock", error),
    };
    let uri = secret.to_uri(name, digits);
    print(format!("{}\n", *uri).as_bytes());
    let status = if draw { draw_code(&uri) } else { SUCCESS };
    print_next_steps(name, &sequence(&random, digits));
    status
}

/// Draws the URI as a QR code. Standard output is for the server.
fn draw_code(uri: &str) -> u8 {
    match qr::render(uri, io::stderr().is_terminal()) {
        Ok(image) => {
            // Standard output has the same content.
            let _ = io::stderr().write_all(image.as_bytes());
            SUCCESS
        }
        Err(error) => print_error("portknock", format_args!("cannot draw a QR code: {error}")),
    }
}

/// Returns a sequence with two random fixed steps and the digits of the code in two random ranges.
fn sequence(random: &TotpSecret, digits: u8) -> String {
    let number = |index: u64, below: u32| random.code(index, 9) % below;
    let half = digits / 2;
    let size = 10_u32.pow(half.into());
    // Prefixes of ranges of ports from 10,000 to 59,999.
    let (low, count) = (10_000 / size, 50_000 / size);
    let first = number(0, count);
    let second = (first + 1 + number(1, count - 1)) % count;
    let prefixes = [low + first, low + second];
    let is_free = |port: &u32| prefixes.iter().all(|prefix| port / size != *prefix);
    let ports = (2..).map(|index| LOWEST_PORT + number(index, 65_536 - LOWEST_PORT)).filter(is_free).take(2);
    let code = prefixes.iter().map(|prefix| format!("{prefix}{}", "?".repeat(half.into())));
    ports.map(|port| port.to_string()).chain(code).collect::<Vec<_>>().join(",")
}

fn print_next_steps(name: &str, sequence: &str) {
    let name = Printable(name);
    print_error(
        "portknock",
        "the line on standard output is the secret: add it to the authenticator app, and write it into a file on the \
         server, to which these lines of a door refer; the ports are random",
    );
    let door = format!(
        "    [{name}]\n    sequence = {sequence}\n    totp_secret = /etc/portknock/{name}.totp\n    tcpflags = syn,!ack\n    open = tcp/22\n"
    );
    // There is no other place to report an error of this write.
    let _ = io::stderr().write_all(door.as_bytes());
    print_error(
        "portknock",
        "the client opens http://HOST:PORT in a browser for each port in turn, with the digits of the code instead of \
         the question marks",
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use portknock_core::config::parse;

    use super::*;

    #[test]
    fn the_suggested_sequences_have_no_warnings() {
        for digits in [6, 8] {
            for _ in 0..500 {
                let sequence = sequence(&TotpSecret::generate().unwrap(), digits);
                let text = format!("[a]\nsequence = {sequence}\ntotp_secret = /s\n");
                let parsed = parse(text.as_bytes());
                assert_eq!(parsed.report.diagnostics, [], "{sequence}");
                let code = parsed.config.unwrap().doors[0].code.clone().unwrap();
                assert_eq!((code.digits(), code.fixed().len()), (digits, 2), "{sequence}");
            }
        }
    }
}
