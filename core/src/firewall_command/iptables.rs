//! Parses commands of iptables and ip6tables.

use super::{Change, ChangeKind, ChangedObject, Matches, RulePosition, Source, ports, protocol, source};

/// The long and short forms of the options that the parser uses.
const LONG: &[(&str, &str)] = &[
    ("--append", "-A"),
    ("--insert", "-I"),
    ("--delete", "-D"),
    ("--policy", "-P"),
    ("--flush", "-F"),
    ("--source", "-s"),
    ("--src", "-s"),
    ("--protocol", "-p"),
    ("--proto", "-p"),
    ("--in-interface", "-i"),
    ("--jump", "-j"),
    ("--table", "-t"),
    ("--match", "-m"),
    ("--wait", "-w"),
    ("--destination-port", "--dport"),
    ("--destination-ports", "--dports"),
];

/// Returns the changes of the command with these arguments, or `None` if it is not understood.
pub(super) fn parse(arguments: &[&str], versions: [bool; 2]) -> Option<Vec<Change>> {
    let words: Vec<&str> = arguments.iter().flat_map(|word| short(word)).collect();
    let mut action = None;
    let mut chain = None;
    let mut position = RulePosition::Before(0);
    let mut from = Source::Any;
    let mut target = None;
    let mut matches = Matches::default();
    let mut kept: Vec<&str> = Vec::new();
    let mut new_connections = true;
    let mut of_input = true;
    let mut at = 0;
    while let Some(&word) = words.get(at) {
        let value = words.get(at + 1).copied();
        at += 2;
        match word {
            "-A" | "-I" | "-D" | "-P" | "-F" => {
                action = Some(word);
                chain = value;
                let number = words.get(at).and_then(|number| number.parse::<usize>().ok());
                match (word, number) {
                    ("-I", Some(number)) => {
                        position = RulePosition::Before(number.saturating_sub(1));
                        at += 1;
                    }
                    // The rule with this number is unknown.
                    ("-D", Some(_)) => return Some(Vec::new()),
                    ("-A", _) => position = RulePosition::End,
                    ("-P", _) => {
                        target = words.get(at).copied();
                        at += 1;
                    }
                    _ => {}
                }
            }
            "-t" => of_input &= value == Some("filter"),
            "-w" => at -= usize::from(value.is_none_or(|value| value.parse::<u32>().is_err())),
            "-s" => from = source(value?),
            "-j" => target = value,
            _ => {
                // The values are the words up to the next option; flags such as `--syn` have none.
                let values = words[at - 1..].iter().take_while(|word| !word.starts_with('-') && **word != "!").count();
                kept.push(word);
                kept.extend(&words[at - 1..at - 1 + values]);
                at = at - 1 + values;
                match word {
                    "-i" => of_input &= value != Some("lo"),
                    "--ctstate" | "--state" => new_connections = value.is_some_and(|states| states.contains("NEW")),
                    "--match-set" => from = Source::Fixed,
                    "--dport" | "--dports" => matches.ports = ports(None, value?),
                    _ => {}
                }
            }
        }
    }
    let named = kept.iter().position(|word| *word == "-p").and_then(|at| kept.get(at + 1));
    let named = named.and_then(|name| protocol(name));
    matches.ports.iter_mut().for_each(|(protocol, _)| *protocol = named);
    matches.iptables = kept.join(" ");
    let chain = chain.unwrap_or("INPUT");
    let passes_input = !matches!(chain, "OUTPUT" | "POSTROUTING" | "PREROUTING");
    if !(of_input && new_connections && passes_input) {
        return Some(Vec::new());
    }
    let kind = match (action, target) {
        (Some("-A" | "-I"), Some("ACCEPT")) => ChangeKind::Accept(position, matches),
        (Some("-D"), Some("DROP" | "REJECT")) | (Some("-P"), Some("ACCEPT")) | (Some("-F"), _) => {
            ChangeKind::StopRefusing
        }
        // A chain of the administrator, which may accept.
        (Some("-A" | "-I"), Some(target)) if !target.bytes().all(|byte| byte.is_ascii_uppercase()) => return None,
        _ => return Some(Vec::new()),
    };
    Some(vec![Change { object: ChangedObject::Iptables(chain.into()), versions, kind, source: from }])
}

/// Returns an option in its short form, with its value as a separate word.
fn short(word: &str) -> impl Iterator<Item = &str> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (word, None),
    };
    let name = LONG.iter().find(|(long, _)| *long == name).map_or(name, |(_, short)| short);
    [Some(name), value].into_iter().flatten()
}
