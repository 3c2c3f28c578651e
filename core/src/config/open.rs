//! Parses the values of `open`, `open_prefix` and `Gate`.

use std::num::NonZeroU16;
use std::sync::Arc;

use super::codes;
use super::diagnostic::Diagnostic;
use super::findings::Findings;
use super::model::{Gate, GateSets, OpenPrefix, TableFamily};
use super::quoted::quoted;
use super::slice::{Slice, is_space};
use crate::packet::{OpenPort, Protocol};

/// Maximum number of ports in the `open` of a door in a configuration file.
pub const MAX_OPEN_PORTS: usize = 64;

/// Maximum length of a name in the kernel, in bytes, without the final zero.
const MAX_NAME: usize = 255;

/// Parses a list of ports with their protocols, as in `tcp/22,udp/51820`. Duplicates are removed.
pub(super) fn ports(value: Slice<'_>, found: &mut Findings) -> Option<Arc<[OpenPort]>> {
    let mut ports: Vec<OpenPort> = Vec::new();
    let mut good = true;
    for part in value.split(',') {
        match port(part.trim(), found) {
            Some(port) if ports.contains(&port) => {}
            Some(port) => ports.push(port),
            None => good = false,
        }
    }
    if ports.len() > MAX_OPEN_PORTS {
        let message = format!("the door opens {} ports; the maximum is {MAX_OPEN_PORTS}", ports.len());
        let help = "remove ports, or use several doors";
        found.push(Diagnostic::error(codes::NOT_AN_OPEN_PORT, value.span(), message).help(help));
        good = false;
    }
    good.then(|| ports.into())
}

fn port(word: Slice<'_>, found: &mut Findings) -> Option<OpenPort> {
    let (protocol, number) = word.text().split_once('/').unwrap_or((word.text(), ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let (Some(protocol), true) = (protocol, digits) else {
        let message = match word.is_empty() {
            true => "a port is missing".to_owned(),
            false => format!("{} is not a port with a protocol", quoted(word.text())),
        };
        let help = "write ports as in `tcp/22,udp/51820`";
        found.push(Diagnostic::error(codes::NOT_AN_OPEN_PORT, word.span(), message).help(help));
        return None;
    };
    let port = number.parse::<NonZeroU16>().ok();
    if port.is_none() {
        let message = format!("the port in {} is out of range", quoted(word.text()));
        found
            .push(Diagnostic::error(codes::PORT_RANGE, word.span(), message).help("ports are numbers from 1 to 65535"));
    }
    port.map(|port| OpenPort { protocol, port })
}

/// Parses one or two prefix lengths, as in `24,56` for IPv4 and IPv6, or `24` for IPv4 alone.
pub(super) fn prefix(value: Slice<'_>, found: &mut Findings) -> Option<OpenPrefix> {
    let parts: Vec<Slice<'_>> = value.split(',').map(Slice::trim).collect();
    let (four, six) = match *parts.as_slice() {
        [four] => (length(four, Version::IPV4, found), Some(Version::IPV6.address)),
        [four, six] => (length(four, Version::IPV4, found), length(six, Version::IPV6, found)),
        _ => {
            let message = format!("{} has more than two prefix lengths", quoted(value.text()));
            found.push(Diagnostic::error(codes::NOT_A_PREFIX, value.span(), message).help(PREFIX_HELP));
            return None;
        }
    };
    Some(OpenPrefix { ipv4: four?, ipv6: six? })
}

const PREFIX_HELP: &str =
    "write the lengths for IPv4 and IPv6 as in `24,56`; `24` alone opens for IPv4 networks and single IPv6 addresses";

/// The valid prefix lengths of an IP version.
struct Version {
    name: &'static str,
    /// The length of the widest network that a door opens for.
    widest: u8,
    /// A prefix shorter than this length causes a warning.
    wide: u8,
    /// The length for a single address.
    address: u8,
}

impl Version {
    const IPV4: Self = Self { name: "IPv4", widest: 8, wide: 16, address: 32 };
    const IPV6: Self = Self { name: "IPv6", widest: 16, wide: 32, address: 128 };
}

fn length(word: Slice<'_>, version: Version, found: &mut Findings) -> Option<u8> {
    let Version { name, widest, wide, address } = version;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(word.text()) {
        let message = match word.is_empty() {
            true => format!("the {name} prefix length is missing"),
            false => format!("{} is not an {name} prefix length", quoted(word.text())),
        };
        let diagnostic = Diagnostic::error(codes::NOT_A_PREFIX, word.span(), message).help(PREFIX_HELP);
        found.push(match word.text().strip_prefix('/').filter(|number| is_number(number)) {
            Some(number) => diagnostic.fix(word.span(), number),
            None => diagnostic,
        });
        return None;
    }
    let Some(length) = word.text().parse().ok().filter(|length| (widest..=address).contains(length)) else {
        let message = format!("the {name} prefix length {} is not from {widest} to {address}", quoted(word.text()));
        found.push(Diagnostic::error(codes::NUMBER_RANGE, word.span(), message).help(PREFIX_HELP));
        return None;
    };
    if length < wide {
        let message = format!("the {name} network /{length} is very large: one knock gives access to every host in it");
        let help = format!("use a prefix length of {wide} or more; `allow` also limits the network");
        found.push(Diagnostic::warning(codes::WIDE_PREFIX, word.span(), message).help(help));
    }
    Some(length)
}

/// Parses `own`, or `set FAMILY TABLE SET4 SET6`.
pub(super) fn gate(value: Slice<'_>, found: &mut Findings) -> Option<Gate> {
    let words: Vec<&str> = value.text().split(is_space).filter(|word| !word.is_empty()).collect();
    let (message, help) = match *words.as_slice() {
        [own] if own.eq_ignore_ascii_case("own") => return Some(Gate::Own),
        [set, family, table, set4, set6] if set.eq_ignore_ascii_case("set") => {
            let names = [table, set4, set6];
            match (family_of(family), names.iter().find(|name| !is_name(name))) {
                (Some(_), None) if set4 == set6 => (
                    format!("{} cannot be both sets: one has IPv4 addresses, the other IPv6 addresses", quoted(set4)),
                    "name two sets, as in `set inet filter open4 open6`",
                ),
                (Some(family), None) => {
                    let [table, set4, set6] = names.map(str::to_owned);
                    return Some(Gate::Sets(GateSets { family, table, set4, set6 }));
                }
                (None, _) => (
                    format!("{} is not a table family", quoted(family)),
                    "the families are inet, ip, ip6, bridge and netdev",
                ),
                (_, Some(name)) => (
                    format!("{} cannot be the name of a table or a set", quoted(name)),
                    "a name begins with a letter, and consists of letters, digits, and any of `/\\_.-`",
                ),
            }
        }
        _ => (
            format!("{} is not a gate", quoted(value.text())),
            "write `own`, or `set FAMILY TABLE SET4 SET6` as in `set inet filter open4 open6`",
        ),
    };
    found.push(Diagnostic::error(codes::NOT_A_GATE, value.span(), message).help(help));
    None
}

fn family_of(word: &str) -> Option<TableFamily> {
    Some(match word.to_ascii_lowercase().as_str() {
        "inet" => TableFamily::Inet,
        "ip" => TableFamily::Ip,
        "ip6" => TableFamily::Ip6,
        "bridge" => TableFamily::Bridge,
        "netdev" => TableFamily::Netdev,
        _ => return None,
    })
}

/// Returns true for a name that nft accepts (see nft(8), "lexical conventions").
fn is_name(word: &str) -> bool {
    word.len() <= MAX_NAME
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "/\\_.-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Returns the codes of the findings for these lines of a door and of `[options]`.
    fn codes_of(door: &str, options: &str) -> Vec<&'static str> {
        let text = format!("[options]\n{options}\n[a]\nsequence = 7342,1201:udp,23045\n{door}\n");
        parse(text.as_bytes()).report.diagnostics.iter().map(|found| found.code).collect()
    }

    #[test]
    fn ports_have_a_protocol_and_are_opened_once() {
        let parsed = parse(b"[a]\nsequence = 7342,1201:udp,23045\nopen = tcp/22, UDP/51820,tcp/22 # both\n");
        assert!(parsed.report.diagnostics.is_empty(), "{:?}", parsed.report);
        let door = &parsed.config.unwrap().doors[0];
        assert_eq!(door.open.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tcp/22", "udp/51820"]);
        for bad in ["22", "tcp/", "tcp/ssh", "tcp/+22", "sctp/22", "tcp/22,", "tcp 22", "22/tcp"] {
            assert_eq!(codes_of(&format!("open = {bad}"), ""), [codes::NOT_AN_OPEN_PORT], "{bad}");
        }
        for bad in ["tcp/0", "udp/65536", "udp/99999999999"] {
            assert_eq!(codes_of(&format!("open = {bad}"), ""), [codes::PORT_RANGE], "{bad}");
        }
        let many: Vec<String> = (1..=MAX_OPEN_PORTS + 1).map(|port| format!("tcp/{port}")).collect();
        assert_eq!(codes_of(&format!("open = {}", many.join(",")), ""), [codes::NOT_AN_OPEN_PORT]);
    }

    #[test]
    fn a_prefix_is_of_ipv4_alone_or_of_both_versions() {
        let read = |value: &str| {
            let text = format!("[a]\nsequence = 7342,1201:udp,23045\nopen = tcp/22\nopen_prefix = {value}\n");
            let parsed = parse(text.as_bytes());
            assert_eq!(parsed.report.diagnostics, [], "{value}");
            let config = parsed.config.unwrap();
            assert_eq!(parse(config.to_string().as_bytes()).config, Some(config.clone()), "{config}");
            config.doors[0].open_prefix.map(|OpenPrefix { ipv4, ipv6 }| (ipv4, ipv6))
        };
        for (value, expected) in [
            ("24,56", (24, 56)),
            ("24", (24, 128)),
            (" 16 , 32 # ours", (16, 32)),
            ("32,128", (32, 128)),
            ("024", (24, 128)),
        ] {
            assert_eq!(read(value), Some(expected), "{value}");
        }
        let of = |value: &str| codes_of(&format!("open = tcp/22\nopen_prefix = {value}"), "");
        for bad in ["/24", "24,/56", "24,", ",56", "24 56", "24,56,64", "255.255.255.0", "x", "-1", "+24"] {
            assert_eq!(of(bad), [codes::NOT_A_PREFIX], "{bad}");
        }
        for bad in ["0", "7", "33", "24,15", "24,129", "24,0", "999"] {
            assert_eq!(of(bad), [codes::NUMBER_RANGE], "{bad}");
        }
        for wide in ["8", "15", "24,31", "24,16"] {
            assert_eq!(of(wide), [codes::WIDE_PREFIX], "{wide}");
        }
        assert_eq!(of("15,31"), [codes::WIDE_PREFIX; 2]);
        let text = b"[a]\nsequence = 7342,1201:udp,23045\nopen = tcp/22\nopen_prefix = /24, /56\n";
        let fixed = crate::config::apply_fixes(text, &parse(text).report);
        assert!(String::from_utf8_lossy(&fixed).ends_with("open_prefix = 24, 56\n"), "{fixed:?}");
    }

    #[test]
    fn a_gate_is_the_managed_table_or_two_sets() {
        for good in ["own", "OWN", "set inet filter open4 open6", "Set  ip6\tfilter open-4 o.p/e_n6"] {
            assert_eq!(codes_of("open = tcp/22", &format!("Gate = {good}")), [""; 0], "{good}");
        }
        for bad in [
            "mine",
            "set",
            "set inet filter open4",
            "set inet filter open4 open6 more",
            "set arp filter open4 open6",
            "set inet 1filter open4 open6",
            "set inet filter open4 {x}",
            "set inet filter open open",
        ] {
            assert_eq!(codes_of("open = tcp/22", &format!("Gate = {bad}")), [codes::NOT_A_GATE], "{bad}");
        }
    }

    #[test]
    fn gate_options_without_an_effect_cause_warnings() {
        assert_eq!(codes_of("", "Gate = own\nGateRefuse = drop"), [codes::USELESS_GATE; 2]);
        let sets = "Gate = set inet a b c";
        assert_eq!(codes_of("open = tcp/22", &format!("{sets}\nGateRefuse = drop")), [codes::USELESS_GATE]);
        assert_eq!(codes_of("open = tcp/22\ntarget = 192.0.2.7", ""), [codes::OPEN_BEYOND_THIS_HOST]);
        assert_eq!(codes_of("open = tcp/22\ntarget = 192.0.2.7", sets), [""; 0]);
        assert_eq!(codes_of("open = tcp/22\ncmd_timeout = 5\nstop_command = x", ""), [""; 0]);
    }
}
