//! Commands of ufw, which has its users' rules in chains of its own.

use super::{Chain, Change, Matches, Place, Source, What, ports, protocol, source};

/// What the command with these arguments does; `None` if it is not understood.
pub(super) fn read(arguments: &[&str]) -> Option<Vec<Change>> {
    let mut words = arguments.iter().copied().filter(|word| !word.starts_with("--")).peekable();
    let mut place = Place::End;
    match words.peek() {
        Some(&"insert") => {
            place = Place::Numbered(words.nth(1)?.parse().ok()?);
        }
        Some(&"prepend") => {
            place = Place::Before(0);
            words.next();
        }
        _ => {}
    }
    match words.next()? {
        "allow" | "limit" => {}
        "deny" | "reject" | "delete" | "status" | "reload" => return Some(Vec::new()),
        // `disable`, `reset`, `default`, `route`.
        _ => return None,
    }
    let mut from = Source::Any;
    let mut named = None;
    let mut port = None;
    let mut matches = Matches::default();
    while let Some(word) = words.next() {
        match word {
            "in" | "log" | "log-all" | "to" | "any" => {}
            "out" => return Some(Vec::new()),
            "on" => matches.iptables += &format!("-i {} ", words.next()?),
            "from" => from = source(words.next()?),
            "proto" => named = protocol(words.next()?),
            "port" => port = words.next(),
            "app" => return None,
            "comment" => {
                words.next();
            }
            // `22`, `22/tcp`, the name of a service, or an address of this host behind `to`.
            word if port.is_none() => match word.split_once('/') {
                Some((number, name)) if protocol(name).is_some() => {
                    port = Some(number);
                    named = protocol(name);
                }
                _ if !ports(None, word).is_empty() => port = Some(word),
                _ => matches.iptables += &format!("-d {word} "),
            },
            _ => return None,
        }
    }
    if let Some(name) = named {
        matches.iptables += &format!("-p {name} ");
    }
    if let Some(port) = port {
        matches.ports = ports(named, port);
        let option = if port.contains(',') { "--dports" } else { "--dport" };
        matches.iptables += &format!("{option} {port}");
    }
    matches.iptables.truncate(matches.iptables.trim_end().len());
    let changes = [("ufw-user-input", [true, false]), ("ufw6-user-input", [false, true])];
    let change = |(chain, versions): (&str, [bool; 2])| Change {
        chain: Chain::Iptables(chain.into()),
        versions,
        what: What::Accept(place, matches.clone()),
        source: from,
    };
    Some(changes.map(change).into())
}
