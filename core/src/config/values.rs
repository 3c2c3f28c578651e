//! Parses the values of keys, except sequences, `open` and `Gate`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::model::FlagMask;
use super::quoted::quoted;
use super::slice::{Slice, is_space};
use super::time_sequence::{WINDOW_SECONDS, WINDOW_SECONDS_TEXT};
use crate::network::parse_address_or_network;
use crate::packet::TcpFlags;

/// Maximum of all times, in seconds: ten years. Times of this size cannot overflow in sums.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

/// Maximum length of an interface name, in bytes: the kernel's `IFNAMSIZ` without the final zero.
const MAX_INTERFACE_NAME: usize = 15;

/// Maximum length of a socket's path, in bytes: the kernel's 107 bytes, less the suffix of its
/// temporary name.
const MAX_SOCKET_PATH: usize = 100;

/// The value of `ControlSocket` that means no socket.
pub(super) const NO_SOCKET: &str = "none";

/// Parses whole seconds, from 1 to ten years.
pub(super) fn seconds(value: Slice<'_>, found: &mut Findings) -> Option<Duration> {
    seconds_in(value, 1..=MAX_SECONDS, found)
}

/// Parses whole seconds in this range.
pub(super) fn seconds_in(value: Slice<'_>, range: RangeInclusive<u64>, found: &mut Findings) -> Option<Duration> {
    let help = match *range.end() {
        MAX_SECONDS => format!("times are from 1 to {MAX_SECONDS} seconds (ten years)"),
        most => format!("write a number of seconds from {} to {most}", range.start()),
    };
    seconds_that(value, |seconds| range.contains(&seconds), help, found)
}

/// Parses the length of a window of a time sequence.
pub(super) fn window_seconds(value: Slice<'_>, found: &mut Findings) -> Option<Duration> {
    let help = format!("the length of a window is {WINDOW_SECONDS_TEXT} seconds");
    seconds_that(value, |seconds| WINDOW_SECONDS.contains(&seconds), help, found)
}

/// Parses whole seconds for which `is_valid` is true; `help` describes them.
fn seconds_that(
    value: Slice<'_>,
    is_valid: impl Fn(u64) -> bool,
    help: String,
    found: &mut Findings,
) -> Option<Duration> {
    let text = value.text().strip_prefix('+').unwrap_or(value.text());
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit.trim_matches(is_space).to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(60 * 60),
        "d" | "day" | "days" => Some(24 * 60 * 60),
        _ => None,
    };
    let (false, Some(scale)) = (digits.is_empty(), scale) else {
        let message = format!("{} is not a number of seconds", quoted(value.text()));
        found
            .push(Diagnostic::error(codes::NOT_SECONDS, value.span(), message).help("write whole seconds, as in `15`"));
        return None;
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(scale));
    let Some(seconds) = seconds.filter(|&seconds| is_valid(seconds)) else {
        let message = format!("{} is out of range", quoted(value.text()));
        found.push(Diagnostic::error(codes::NUMBER_RANGE, value.span(), message).help(help));
        return None;
    };
    if !unit.is_empty() {
        let help = format!("write `{seconds}`");
        let diagnostic = match scale {
            1 => Diagnostic::warning(codes::SECONDS_UNIT, value.span(), "times are in seconds and have no unit"),
            _ => {
                let message =
                    format!("times are in seconds: the original knockd reads {} as {digits} s", quoted(value.text()));
                Diagnostic::error(codes::SECONDS_UNIT, value.span(), message)
            }
        };
        found.push(diagnostic.help(help).fix(value.span(), seconds.to_string()));
    }
    Some(Duration::from_secs(seconds))
}

/// Parses a whole number in this range.
pub(super) fn number(value: Slice<'_>, range: RangeInclusive<u32>, found: &mut Findings) -> Option<u32> {
    let number = value.text().parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        let message = format!("{} is not a number from {} to {}", quoted(value.text()), range.start(), range.end());
        found.push(Diagnostic::error(codes::NUMBER_RANGE, value.span(), message));
    }
    number
}

/// Parses one of two words.
pub(super) fn choice<T: Copy>(value: Slice<'_>, choices: [(&str, T); 2], found: &mut Findings) -> Option<T> {
    let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.text()));
    if chosen.is_none() {
        let [(first, _), (second, _)] = choices;
        let message = format!("{} is neither `{first}` nor `{second}`", quoted(value.text()));
        found.push(Diagnostic::error(codes::UNKNOWN_CHOICE, value.span(), message));
    }
    chosen.map(|(_, chosen)| *chosen)
}

/// Parses `yes` or `no`, or a synonym.
pub(super) fn switch(value: Slice<'_>, found: &mut Findings) -> Option<bool> {
    const ON: [&str; 4] = ["yes", "true", "on", "1"];
    const OFF: [&str; 4] = ["no", "false", "off", "0"];
    let is_in = |words: [&str; 4]| words.iter().any(|word| word.eq_ignore_ascii_case(value.text()));
    match (is_in(ON), is_in(OFF)) {
        (false, false) => choice(value, [("yes", true), ("no", false)], found),
        (on, _) => Some(on),
    }
}

/// Parses TCP flags that must be set (`syn`) or clear (`!ack`).
pub(super) fn flags(value: Slice<'_>, found: &mut Findings) -> Option<FlagMask> {
    let mut mask = FlagMask::default();
    let mut good = true;
    let mut words = Vec::new();
    let mut has_spaces = false;
    for part in value.split(',') {
        let word = part.trim();
        has_spaces |= word != part;
        words.push(word.text());
        let name = word.text().strip_prefix('!').unwrap_or(word.text());
        let Some((_, flag)) = FLAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
            let message = match word.is_empty() {
                true => "a TCP flag is missing".to_owned(),
                false => format!("{} is not a TCP flag", quoted(word.text())),
            };
            let help = "the flags are fin, syn, rst, psh, ack and urg, with a `!` before a flag that must be clear; commas separate them";
            found.push(Diagnostic::error(codes::UNKNOWN_FLAG, word.span(), message).help(help));
            good = false;
            continue;
        };
        let excluded = name.len() < word.text().len();
        let (mine, other) = if excluded { (&mut mask.clear, mask.set) } else { (&mut mask.set, mask.clear) };
        *mine = *mine | *flag;
        if other.contains(*flag) {
            let message = format!("`{name}` cannot be both set and clear");
            found.push(
                Diagnostic::error(codes::CONTRADICTING_FLAGS, word.span(), message).help("remove one of the two"),
            );
            good = false;
        }
    }
    if has_spaces && good {
        found.push(
            Diagnostic::warning(codes::SPACE_BETWEEN_FLAGS, value.span(), "there are spaces around the comma")
                .help("remove the spaces: the original knockd refuses them")
                .fix(value.span(), words.join(",")),
        );
    }
    good.then_some(mask)
}

/// The names of the flags in the order in which they are shown.
pub(super) const FLAGS: [(&str, TcpFlags); 6] = [
    ("fin", TcpFlags::FIN),
    ("syn", TcpFlags::SYN),
    ("rst", TcpFlags::RST),
    ("psh", TcpFlags::PSH),
    ("ack", TcpFlags::ACK),
    ("urg", TcpFlags::URG),
];

/// Parses one address.
pub(super) fn address(value: Slice<'_>, found: &mut Findings) -> Option<IpAddr> {
    let address = value.text().parse().ok();
    if address.is_none() {
        let message = format!("{} is not an IP address", quoted(value.text()));
        found.push(Diagnostic::error(codes::NOT_AN_ADDRESS, value.span(), message).help(
            "write the address itself, as in `192.0.2.7` or `2001:db8::7`; portknock does not resolve host names",
        ));
    }
    address
}

/// Parses a list of networks or single addresses.
pub(super) fn networks(value: Slice<'_>, found: &mut Findings) -> Option<Vec<IpNet>> {
    let nets: Vec<Option<IpNet>> = value.split(',').map(|part| network(part.trim(), found)).collect();
    nets.into_iter().collect()
}

fn network(word: Slice<'_>, found: &mut Findings) -> Option<IpNet> {
    let Some(net) = parse_address_or_network(word.text()) else {
        let message = match word.is_empty() {
            true => "a network is missing".to_owned(),
            false => format!("{} is neither a network nor an address", quoted(word.text())),
        };
        found.push(
            Diagnostic::error(codes::NOT_A_NETWORK, word.span(), message)
                .help("write networks as in `192.0.2.0/24,2001:db8::/32`"),
        );
        return None;
    };
    let whole = net.trunc();
    if whole != net {
        let message = format!("{} is an address inside the network `{whole}`", quoted(word.text()));
        let help = format!("write `{whole}`, or only the address, without a prefix length, to allow no other address");
        found.push(
            Diagnostic::warning(codes::HOST_BITS, word.span(), message).help(help).fix(word.span(), whole.to_string()),
        );
    }
    Some(whole)
}

/// Parses the path of a socket; the inner `None` is for [`NO_SOCKET`].
pub(super) fn socket(value: Slice<'_>, found: &mut Findings) -> Option<Option<PathBuf>> {
    if value.text().eq_ignore_ascii_case(NO_SOCKET) {
        return Some(None);
    }
    if value.text().len() > MAX_SOCKET_PATH {
        let message = format!("the path of the socket is longer than {MAX_SOCKET_PATH} bytes");
        let help = "choose a shorter path, as in `/run/portknock/control`";
        found.push(Diagnostic::error(codes::SOCKET_PATH, value.span(), message).help(help));
        return None;
    }
    Some(Some(value.text().into()))
}

/// Parses a list of interfaces, or `any`. An empty value means the default, and the result is an
/// empty list.
pub(super) fn interfaces(value: Slice<'_>, found: &mut Findings) -> Option<Vec<String>> {
    if value.is_empty() {
        found.push(
            Diagnostic::warning(
                codes::NO_INTERFACE,
                value.span(),
                "`Interface` is empty, so the default `eth0` is used",
            )
            .help("name the interface, as in `Interface = eth0`, or remove the line"),
        );
        return Some(Vec::new());
    }
    let mut names: Vec<String> = Vec::new();
    let mut good = true;
    for part in value.split(',') {
        let name = part.trim();
        if let Some(message) = bad_interface(name.text(), value.text().contains(',')) {
            found.push(
                Diagnostic::error(codes::INTERFACE_NAME, name.span(), message)
                    .help("write names as `ip link` shows them, separated by commas, or `any` alone"),
            );
            good = false;
        } else if !names.iter().any(|known| known == name.text()) {
            names.push(name.text().to_owned());
        }
    }
    good.then_some(names)
}

/// Returns a message if the kernel does not allow an interface of this name.
fn bad_interface(name: &str, in_list: bool) -> Option<String> {
    let why = match name {
        "" => return Some("the name of an interface is missing at this comma".to_owned()),
        "any" if in_list => return Some("`any` means all interfaces and cannot be in a list".to_owned()),
        "." | ".." => "is the name of a directory",
        _ if name.contains('/') => "contains a slash",
        _ if name.chars().any(|c| is_space(c) || c.is_control()) => "contains a space or a control character",
        _ if name.len() > MAX_INTERFACE_NAME => "is longer than 15 bytes",
        _ => return None,
    };
    Some(format!("{} cannot be the name of an interface: it {why}", quoted(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<'a, T>(text: &'a str, read: impl Fn(Slice<'a>, &mut Findings) -> T) -> (T, Vec<&'static str>) {
        let mut found = Findings::default();
        let value = read(Slice::new(text, 0), &mut found);
        let report = found.into_report(text.len());
        (value, report.diagnostics.iter().map(|found| found.code).collect())
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(run("15", seconds), (Some(Duration::from_secs(15)), vec![]));
        assert_eq!(run("+007", seconds), (Some(Duration::from_secs(7)), vec![]));
        assert_eq!(run("315360000", seconds).0, Some(Duration::from_secs(315_360_000)));
        assert_eq!(run("10 sec", seconds), (Some(Duration::from_secs(10)), vec![codes::SECONDS_UNIT]));
        for bad in ["", "abc", "-5", "1.5", "5 5", "1 fortnight", "0x10"] {
            assert_eq!(run(bad, seconds), (None, vec![codes::NOT_SECONDS]), "{bad}");
        }
        for bad in ["0", "315360001", "99999999999999999999999", "4000 d"] {
            assert_eq!(run(bad, seconds), (None, vec![codes::NUMBER_RANGE]), "{bad}");
        }
    }

    #[test]
    fn a_switch_has_synonyms() {
        for (words, on) in [(["yes", "True", "ON", "1"], true), (["no", "false", "off", "0"], false)] {
            for word in words {
                assert_eq!(run(word, switch), (Some(on), vec![]), "{word}");
            }
        }
        for bad in ["maybe", "2", "y", ""] {
            assert_eq!(run(bad, switch), (None, vec![codes::UNKNOWN_CHOICE]), "{bad}");
        }
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        assert_eq!(run("eth0, wlan0,eth0", interfaces).0, Some(vec!["eth0".to_owned(), "wlan0".to_owned()]));
        assert_eq!(run("any", interfaces).0, Some(vec!["any".to_owned()]));
        assert_eq!(run("", interfaces), (Some(vec![]), vec![codes::NO_INTERFACE]));
        for bad in ["/dev/eth0", "eth0 eth1", "abcdefghijklmnop", "any,lo", "lo,", "."] {
            assert_eq!(run(bad, interfaces), (None, vec![codes::INTERFACE_NAME]), "{bad}");
        }
    }

    #[test]
    fn flags_are_set_or_clear() {
        let syn_not_ack = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK };
        assert_eq!(run("SYN,!ack", flags), (Some(syn_not_ack), vec![]));
        assert_eq!(run("syn , !ack", flags), (Some(syn_not_ack), vec![codes::SPACE_BETWEEN_FLAGS]));
        assert_eq!(run("syn,!syn", flags), (None, vec![codes::CONTRADICTING_FLAGS]));
        for bad in ["", "syn,", "syn ack", "ece", "! ack", "!!ack"] {
            assert_eq!(run(bad, flags), (None, vec![codes::UNKNOWN_FLAG]), "{bad}");
        }
    }

    #[test]
    fn networks_are_whole() {
        let nets = |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>());
        assert_eq!(run("10.0.0.0/8, ::1", networks), (nets(&["10.0.0.0/8", "::1/128"]), vec![]));
        assert_eq!(run("10.1.2.3/8", networks), (nets(&["10.0.0.0/8"]), vec![codes::HOST_BITS]));
        for bad in ["", "10.0.0.0/33", "localhost", "10.0.0.0/8,"] {
            assert_eq!(run(bad, networks), (None, vec![codes::NOT_A_NETWORK]), "{bad}");
        }
    }
}
