//! Parses a door's command for its changes to the packet filter.
//!
//! The parsers support iptables, ip6tables, nft, ufw and firewall-cmd. Other programs, and
//! variables and substitutions of the shell, are not understood.

mod firewalld;
mod iptables;
mod nft;
mod shell;
mod ufw;

/// A change of the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The chain or set that changes.
    pub(crate) object: ChangedObject,
    /// Whether the rule applies to IPv4 and to IPv6.
    pub(crate) versions: [bool; 2],
    /// The kind of change.
    pub(crate) kind: ChangeKind,
    /// The sources that the rule matches.
    pub(crate) source: Source,
}

/// A chain or set, by its names in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangedObject {
    /// A chain of the table `filter` of iptables and ip6tables.
    Iptables(String),
    /// A chain of an nft table: family, table, chain.
    Nft([String; 3]),
    /// A set of an nft table: family, table, set.
    NftSet([String; 3]),
}

/// The kind of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    /// Inserts a rule that accepts packets at this position.
    Accept(RulePosition, Matches),
    /// Removes a rule that refuses packets, or all such rules, or changes a policy to accept.
    StopRefusing,
}

/// The position of a new rule in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RulePosition {
    /// After the last rule.
    End,
    /// Before the rule with this index, counted from 0.
    Before(usize),
    /// At ufw's rule with this number, counted from 1.
    Numbered(usize),
    /// Unknown.
    Unknown,
}

/// The matches of an accepting rule, except its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    /// The match options as options of iptables, without the source.
    pub(crate) iptables: String,
    /// The ports in the rule, with the name of the protocol; `None` means both TCP and UDP.
    pub(crate) ports: Vec<(Option<&'static str>, u16)>,
}

/// The sources of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Any address.
    Any,
    /// The address that knocked, or its network.
    Client,
    /// Other addresses.
    Fixed,
}

/// The effect of a command on the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The changes of the packet filter that are understood.
    pub(crate) changes: Vec<Change>,
    /// False if the command runs something that is not understood and that could change the packet
    /// filter.
    pub(crate) understood: bool,
}

/// Parses a command of the configuration, before `%IP%` and `%NET%` are replaced.
pub(crate) fn parse(command: &str) -> Effect {
    let Some(commands) = shell::simple_commands(command) else { return Effect::default() };
    let mut effect = Effect { changes: Vec::new(), understood: true };
    for words in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((program, arguments)) = program(&words) else { continue };
        let changes = match program {
            "iptables" => iptables::parse(arguments, [true, false]),
            "ip6tables" => iptables::parse(arguments, [false, true]),
            "nft" => nft::parse(arguments),
            "ufw" => ufw::parse(arguments),
            "firewall-cmd" => firewalld::parse(arguments),
            program if REPORTS.contains(&program) => Some(Vec::new()),
            _ => None,
        };
        match changes {
            Some(changes) => effect.changes.extend(changes),
            None => effect.understood = false,
        }
    }
    effect
}

/// Programs that do not change the packet filter.
const REPORTS: [&str; 10] = ["echo", "logger", "true", ":", "sleep", "date", "mail", "printf", "cat", "touch"];

/// Returns true if a command runs only programs that do not change the packet filter.
pub(crate) fn only_reports(command: &str) -> bool {
    shell::simple_commands(command).is_some_and(|commands| {
        commands.iter().all(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            program(&words).is_none_or(|(program, _)| REPORTS.contains(&program))
        })
    })
}

/// Returns the name of the program without its directory, and its arguments. Skips variables and
/// programs that only start another program, such as `sudo`.
fn program<'a>(mut words: &'a [&'a str]) -> Option<(&'a str, &'a [&'a str])> {
    loop {
        let (first, rest) = words.split_first()?;
        let name = first.rsplit('/').next().unwrap_or(first);
        let is_variable = first.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        match name {
            _ if is_variable => words = rest,
            "sudo" | "doas" | "exec" | "nohup" | "env" => {
                let options = rest.iter().take_while(|word| word.starts_with('-')).count();
                words = &rest[options..];
            }
            "iptables-legacy" | "iptables-nft" => return Some(("iptables", rest)),
            "ip6tables-legacy" | "ip6tables-nft" => return Some(("ip6tables", rest)),
            _ => return Some((name, rest)),
        }
    }
}

/// Returns the sources that a source argument means.
fn source(word: &str) -> Source {
    match word {
        word if contains_client(word) => Source::Client,
        "any" | "0/0" | "0.0.0.0/0" | "0.0.0.0" | "::/0" | "::" => Source::Any,
        _ => Source::Fixed,
    }
}

/// Returns true if the text contains the address that knocked or its network, or a shell variable,
/// which may be that address.
fn contains_client(text: &str) -> bool {
    text.contains("%IP%") || text.contains("%NET%") || text.contains('$')
}

/// Parses a port list of iptables or ufw, as in `22,80:81`. Ranges of more than 16 ports are left
/// out.
fn ports(protocol: Option<&'static str>, list: &str) -> Vec<(Option<&'static str>, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once([':', '-']).unwrap_or((part, part));
        Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
    };
    let ranges = list.split(',').filter_map(range).filter(|(first, last)| last.saturating_sub(*first) < 16);
    ranges.flat_map(|(first, last)| first..=last).map(|port| (protocol, port)).collect()
}

/// Returns the canonical name of the protocol with this name or number.
fn protocol(name: &str) -> Option<&'static str> {
    match name {
        "tcp" | "6" => Some("tcp"),
        "udp" | "17" => Some("udp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(command: &str) -> Change {
        let mut effect = parse(command);
        assert!(effect.understood, "{command}");
        assert_eq!(effect.changes.len(), 1, "{command}: {effect:?}");
        effect.changes.remove(0)
    }

    fn accept(position: RulePosition, iptables: &str, ports: &[(Option<&'static str>, u16)]) -> ChangeKind {
        ChangeKind::Accept(position, Matches { iptables: iptables.into(), ports: ports.to_vec() })
    }

    #[test]
    fn iptables_commands_are_parsed() {
        let appended = only("/usr/sbin/iptables -A INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT");
        assert_eq!(appended.object, ChangedObject::Iptables("INPUT".into()));
        assert_eq!((appended.versions, appended.source), ([true, false], Source::Client));
        assert_eq!(appended.kind, accept(RulePosition::End, "-p tcp --dport 2222", &[(Some("tcp"), 2222)]));
        let position = |command: &str| match only(command).kind {
            ChangeKind::Accept(position, _) => position,
            kind => panic!("{kind:?}"),
        };
        assert_eq!(position("sudo -n ip6tables -I INPUT -s %IP% -j ACCEPT"), RulePosition::Before(0));
        assert_eq!(only("iptables -I INPUT -s %NET% -j ACCEPT").source, Source::Client);
        assert_eq!(position("iptables -w 5 -I INPUT 3 -s %IP% -j ACCEPT"), RulePosition::Before(2));
        assert_eq!(position("iptables --insert INPUT 1 --source=%IP% --jump ACCEPT"), RulePosition::Before(0));
        let removed = only("iptables -D INPUT -p tcp --dport 21 -j REJECT");
        assert_eq!((removed.kind, removed.source), (ChangeKind::StopRefusing, Source::Any));
        assert_eq!(only("iptables -F").source, Source::Any);
        assert_eq!(only("iptables -P INPUT ACCEPT").kind, ChangeKind::StopRefusing);
        for nothing in [
            "iptables -D INPUT -s %IP% -j ACCEPT",
            "iptables -A INPUT -j DROP",
            "iptables -A OUTPUT -d %IP% -j ACCEPT",
            "iptables -t nat -A PREROUTING -s %IP% -j REDIRECT --to-ports 22",
            "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "iptables -A INPUT -i lo -j ACCEPT",
        ] {
            assert_eq!(parse(nothing), Effect { changes: vec![], understood: true }, "{nothing}");
        }
    }

    #[test]
    fn commands_of_firewall_managers_are_parsed() {
        let ufw = parse("ufw prepend allow from %IP% to any port 22 proto tcp comment 'a knock'");
        let chains: Vec<_> =
            ufw.changes.iter().map(|change| (&change.object, change.versions, change.source)).collect();
        let [four, six] = ["ufw-user-input", "ufw6-user-input"].map(|name| ChangedObject::Iptables(name.into()));
        assert_eq!(chains, [(&four, [true, false], Source::Client), (&six, [false, true], Source::Client)]);
        assert_eq!(ufw.changes[0].kind, accept(RulePosition::Before(0), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        let ufw = parse("ufw insert 1 allow from %IP% to any port 22 proto tcp");
        assert_eq!(ufw.changes[0].kind, accept(RulePosition::Numbered(1), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        let ufw = parse("ufw allow 51820/udp");
        assert_eq!(ufw.changes[0].source, Source::Any);
        assert_eq!(ufw.changes[0].kind, accept(RulePosition::End, "-p udp --dport 51820", &[(Some("udp"), 51_820)]));
        assert_eq!(parse("ufw delete allow from %IP%").changes, []);
        let rich = only(
            "firewall-cmd --zone=public --add-rich-rule='rule family=\"ipv4\" source address=\"%IP%\" port port=\"22\" protocol=\"tcp\" accept' --timeout=3600",
        );
        let chain = ["inet", "firewalld", "filter_IN_public_allow"].map(String::from);
        assert_eq!(
            (rich.object, rich.versions, rich.source),
            (ChangedObject::Nft(chain), [true, false], Source::Client)
        );
        assert_eq!(rich.kind, accept(RulePosition::End, "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        assert_eq!(only("firewall-cmd --zone=public --add-port=22/tcp").source, Source::Any);
        assert!(!parse("firewall-cmd --add-rich-rule='rule source address=%IP% accept'").understood, "which zone?");
        let nft = only("nft insert rule inet filter input ip saddr %IP% tcp dport 22 accept");
        assert_eq!(nft.kind, accept(RulePosition::Before(0), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        assert_eq!((nft.versions, nft.source), ([true, false], Source::Client));
        let set = only("nft add element inet mine open4 '{ %IP% timeout 1h }'");
        assert_eq!(
            (set.object, set.source),
            (ChangedObject::NftSet(["inet", "mine", "open4"].map(String::from)), Source::Client)
        );
    }

    #[test]
    fn several_commands_are_parsed_together_and_other_programs_are_not_understood() {
        let effect = parse("iptables -I INPUT -s %IP% -j ACCEPT && ip6tables -I INPUT -s %IP% -j ACCEPT; logger open");
        assert_eq!((effect.changes.len(), effect.understood), (2, true));
        for unknown in ["/usr/local/bin/open %IP%", "ipset add open %IP%", "a=`b`", "if a; then iptables -F; fi", "'"] {
            assert!(!parse(unknown).understood, "{unknown}");
        }
    }
}
