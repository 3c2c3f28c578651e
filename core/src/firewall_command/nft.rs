//! Parses commands of nft.

use super::{
    Change, ChangeKind, ChangedObject, Matches, RulePosition, Source, contains_client, ports, protocol, source,
};

/// Returns the changes of the command with these arguments, or `None` if it is not understood.
pub(super) fn parse(arguments: &[&str]) -> Option<Vec<Change>> {
    // nft joins its arguments and splits them itself, whether the shell quoted them or not.
    let text = arguments.join(" ");
    let text = text.replace(['{', '}'], " ");
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with('-')).collect();
    let name = |at: usize| words.get(at).map(|word| (*word).to_owned());
    match words.get(..2)? {
        ["delete" | "destroy" | "flush" | "list", _] => Some(Vec::new()),
        ["add" | "create", "element"] => {
            let from =
                if words.get(5..)?.iter().any(|word| contains_client(word)) { Source::Client } else { Source::Fixed };
            let object = ChangedObject::NftSet([name(2)?, name(3)?, name(4)?]);
            let kind = ChangeKind::Accept(RulePosition::Unknown, Matches::default());
            Some(vec![Change { object, versions: [true, true], kind, source: from }])
        }
        [verb @ ("add" | "insert"), "rule"] => {
            let object = ChangedObject::Nft([name(2)?, name(3)?, name(4)?]);
            let position = match *verb {
                _ if matches!(words.get(5), Some(&("position" | "handle" | "index"))) => RulePosition::Unknown,
                "insert" => RulePosition::Before(0),
                _ => RulePosition::End,
            };
            rule(words.get(5..)?, object, position)
        }
        _ => None,
    }
}

/// Returns the changes of a new rule with these statements.
fn rule(words: &[&str], object: ChangedObject, position: RulePosition) -> Option<Vec<Change>> {
    let ChangedObject::Nft([family, _, name]) = &object else { return None };
    if !words.contains(&"accept") {
        // A verdict that refuses opens nothing; a jump can.
        return words.iter().any(|word| matches!(*word, "drop" | "reject")).then(Vec::new);
    }
    if name.eq_ignore_ascii_case("output") {
        return Some(Vec::new());
    }
    let mut versions = [family != "ip6", family != "ip"];
    let mut from = Source::Any;
    let mut matches = Matches::default();
    for pair in words.windows(3) {
        match pair {
            ["ip", "saddr", address] => {
                versions[1] = false;
                from = source(address);
            }
            ["ip6", "saddr", address] => {
                versions[0] = false;
                from = source(address);
            }
            [name @ ("tcp" | "udp"), "dport", port] => {
                matches.ports = ports(protocol(name), port);
                matches.iptables += &format!("-p {name} --dport {port} ");
            }
            ["iif" | "iifname", "lo", _] => return Some(Vec::new()),
            ["iif" | "iifname", interface, _] => matches.iptables += &format!("-i {} ", interface.trim_matches('"')),
            ["ct", "state", states] if !states.contains("new") => return Some(Vec::new()),
            _ => {}
        }
    }
    matches.iptables.truncate(matches.iptables.trim_end().len());
    Some(vec![Change { object, versions, kind: ChangeKind::Accept(position, matches), source: from }])
}
