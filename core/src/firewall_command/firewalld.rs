//! Commands of firewall-cmd, which has the rules of each zone in chains of its own.

use super::{Chain, Change, Matches, Place, Source, What, ports, protocol, source};

/// What the command with these arguments does; `None` if it is not understood, as without a zone: which one is the
/// default is not known.
pub(super) fn read(arguments: &[&str]) -> Option<Vec<Change>> {
    let mut zone = None;
    let mut changes = Vec::new();
    let mut words = arguments.iter().copied();
    let mut rules = Vec::new();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (word, None),
        };
        match option {
            "--zone" => zone = value.or_else(|| words.next()),
            "--add-rich-rule" => rules.push(rich_rule(value.or_else(|| words.next())?)?),
            "--add-port" => rules.push(port_rule(value.or_else(|| words.next())?)?),
            "--timeout" if value.is_none() => {
                words.next();
            }
            "--timeout" | "-q" | "--quiet" => {}
            // It closes, or tells.
            "--remove-rich-rule" | "--remove-port" | "--remove-service" | "--remove-source" | "--state" => {
                return Some(Vec::new());
            }
            // `--permanent` opens nothing before a reload; services and sources of zones have their own rules.
            _ => return None,
        }
    }
    let chain = |zone: &str| Chain::Nft(["inet".into(), "firewalld".into(), format!("filter_IN_{zone}_allow")]);
    for (versions, source, matches) in rules {
        let what = What::Accept(Place::End, matches);
        // A rule for everybody is one in every zone.
        let chain = match zone {
            Some(zone) => chain(zone),
            None if source == Source::Any => chain(""),
            None => return None,
        };
        changes.push(Change { chain, versions, what, source });
    }
    Some(changes)
}

type Rule = ([bool; 2], Source, Matches);

/// A rule as in `22/tcp`.
fn port_rule(text: &str) -> Option<Rule> {
    let (port, name) = text.split_once('/')?;
    Some(([true, true], Source::Any, of_port(port, protocol(name)?)))
}

/// A rule as in `rule family="ipv4" source address="%IP%" port port="22" protocol="tcp" accept`.
fn rich_rule(text: &str) -> Option<Rule> {
    let mut versions = [true, true];
    let mut from = Source::Any;
    let (mut port, mut named) = (None, None);
    let words: Vec<&str> = text.split_whitespace().collect();
    for word in &words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.trim_matches(['"', '\'']);
        match name {
            "family" => versions = [value == "ipv4", value == "ipv6"],
            "address" => from = source(value),
            "port" if !value.is_empty() => port = Some(value),
            "protocol" => named = protocol(value),
            "rule" | "source" | "port" | "accept" | "drop" | "reject" => {}
            // A service, a priority, a log.
            _ => return None,
        }
    }
    if !words.contains(&"accept") {
        return None;
    }
    let matches = match (port, named) {
        (Some(port), Some(name)) => of_port(port, name),
        (None, None) => Matches::default(),
        _ => return None,
    };
    Some((versions, from, matches))
}

fn of_port(port: &str, name: &'static str) -> Matches {
    let iptables = format!("-p {name} --dport {}", port.replace('-', ":"));
    Matches { iptables, ports: ports(Some(name), port) }
}
