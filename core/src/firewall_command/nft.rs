//! Commands of nft.

use super::{Chain, Change, Matches, Place, Source, What, names_the_knocker, ports, protocol, source};

/// What the command with these arguments does; `None` if it is not understood.
pub(super) fn read(arguments: &[&str]) -> Option<Vec<Change>> {
    // nft joins its arguments and takes them apart itself, quoted or not.
    let text = arguments.join(" ");
    let text = text.replace(['{', '}'], " ");
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.starts_with('-')).collect();
    let name = |at: usize| words.get(at).map(|word| (*word).to_owned());
    match words.get(..2)? {
        ["delete" | "destroy" | "flush" | "list", _] => Some(Vec::new()),
        ["add" | "create", "element"] => {
            let from = if words.get(5..)?.iter().any(|word| names_the_knocker(word)) {
                Source::Knocker
            } else {
                Source::Fixed
            };
            let set = Chain::NftSet([name(2)?, name(3)?, name(4)?]);
            let what = What::Accept(Place::Somewhere, Matches::default());
            Some(vec![Change { chain: set, versions: [true, true], what, source: from }])
        }
        [verb @ ("add" | "insert"), "rule"] => {
            let chain = Chain::Nft([name(2)?, name(3)?, name(4)?]);
            let place = match *verb {
                _ if matches!(words.get(5), Some(&("position" | "handle" | "index"))) => Place::Somewhere,
                "insert" => Place::Before(0),
                _ => Place::End,
            };
            rule(words.get(5..)?, chain, place)
        }
        _ => None,
    }
}

/// A rule with these statements.
fn rule(words: &[&str], chain: Chain, place: Place) -> Option<Vec<Change>> {
    let Chain::Nft([family, _, name]) = &chain else { return None };
    if !words.contains(&"accept") {
        // A verdict that refuses opens nothing; a jump may.
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
    Some(vec![Change { chain, versions, what: What::Accept(place, matches), source: from }])
}
