//! Parses commands of firewall-cmd. firewalld has separate chains for the rules of each zone.

use super::{Change, ChangeKind, ChangedObject, Matches, RulePosition, Source, ports, protocol, source};

/// Returns the changes of the command with these arguments, or `None` if it is not understood. A
/// rule for certain sources without a zone is not understood, because the default zone is unknown.
pub(super) fn parse(arguments: &[&str]) -> Option<Vec<Change>> {
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
            // These options close ports or print the state.
            "--remove-rich-rule" | "--remove-port" | "--remove-service" | "--remove-source" | "--state" => {
                return Some(Vec::new());
            }
            // `--permanent` opens nothing before a reload. Services and sources of zones have
            // separate rules.
            _ => return None,
        }
    }
    let chain = |zone: &str| ChangedObject::Nft(["inet".into(), "firewalld".into(), format!("filter_IN_{zone}_allow")]);
    for (versions, source, matches) in rules {
        let kind = ChangeKind::Accept(RulePosition::End, matches);
        // A rule without a source opens for every address, whatever the zone is.
        let object = match zone {
            Some(zone) => chain(zone),
            None if source == Source::Any => chain(""),
            None => return None,
        };
        changes.push(Change { object, versions, kind, source });
    }
    Some(changes)
}

type ParsedRule = ([bool; 2], Source, Matches);

/// Parses a rule as in `22/tcp`.
fn port_rule(text: &str) -> Option<ParsedRule> {
    let (port, name) = text.split_once('/')?;
    Some(([true, true], Source::Any, of_port(port, protocol(name)?)))
}

/// Parses a rule as in `rule family="ipv4" source address="%IP%" port port="22" protocol="tcp"
/// accept`.
fn rich_rule(text: &str) -> Option<ParsedRule> {
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
            // A service, a priority, or a log statement.
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
