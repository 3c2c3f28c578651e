//! Parses commands of ufw, which has separate chains for the rules of its users.

use super::{Change, ChangeKind, ChangedObject, Matches, RulePosition, Source, ports, protocol, source};

/// Returns the changes of the command with these arguments, or `None` if it is not understood.
pub(super) fn parse(arguments: &[&str]) -> Option<Vec<Change>> {
    let mut words = arguments.iter().copied().filter(|word| !word.starts_with("--")).peekable();
    let mut position = RulePosition::End;
    match words.peek() {
        Some(&"insert") => {
            position = RulePosition::Numbered(words.nth(1)?.parse().ok()?);
        }
        Some(&"prepend") => {
            position = RulePosition::Before(0);
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
            // `22`, `22/tcp`, the name of a service, or an address of this host after `to`.
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
        object: ChangedObject::Iptables(chain.into()),
        versions,
        kind: ChangeKind::Accept(position, matches.clone()),
        source: from,
    };
    Some(changes.map(change).into())
}
