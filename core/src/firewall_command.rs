//! What a door's command does to the packet filter, as far as its words show it.
//!
//! The programs that are read: iptables, ip6tables, nft, ufw and firewall-cmd. Whatever else a command runs is not
//! understood, and neither are variables and substitutions of the shell.

mod firewalld;
mod iptables;
mod nft;
mod shell;
mod ufw;

/// A change of the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Where the change happens.
    pub(crate) chain: Chain,
    /// The IP versions that the rule is for: IPv4 and IPv6.
    pub(crate) versions: [bool; 2],
    /// What happens.
    pub(crate) what: What,
    /// The sources that the rule is for.
    pub(crate) source: Source,
}

/// A chain, by the names that the kernel has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// A chain of iptables' and ip6tables' table `filter`.
    Iptables(String),
    /// A chain of a table of nft: family, table, chain.
    Nft([String; 3]),
    /// A set of a table of nft: family, table, set.
    NftSet([String; 3]),
}

/// What happens in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A rule that accepts is put at this place.
    Accept(Place, Matches),
    /// A rule that refuses is removed, or all that refused is opened.
    StopRefusing,
}

/// Where a rule is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// After the last rule.
    End,
    /// Before the rule with this index, counted from 0.
    Before(usize),
    /// Where ufw has its rule with this number, counted from 1.
    Numbered(usize),
    /// Not known.
    Somewhere,
}

/// Which packets an accepting rule fits, apart from the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matches {
    /// The match options in the words of iptables, without the source.
    pub(crate) iptables: String,
    /// The ports that the rule names, with the name of the protocol; without a name both TCP and UDP.
    pub(crate) ports: Vec<(Option<&'static str>, u16)>,
}

/// The sources of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Any address.
    Any,
    /// The address that knocked.
    Knocker,
    /// Addresses that the command names.
    Fixed,
}

/// What a command does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The changes of the packet filter that are understood.
    pub(crate) changes: Vec<Change>,
    /// False if the command runs something that is not understood and that could change the packet filter.
    pub(crate) understood: bool,
}

/// Reads a command as it is in the configuration, with `%IP%` and `%NET%` in it.
pub(crate) fn read(command: &str) -> Effect {
    let Some(commands) = shell::simple_commands(command) else { return Effect::default() };
    let mut effect = Effect { changes: Vec::new(), understood: true };
    for words in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((program, arguments)) = program(&words) else { continue };
        let changes = match program {
            "iptables" => iptables::read(arguments, [true, false]),
            "ip6tables" => iptables::read(arguments, [false, true]),
            "nft" => nft::read(arguments),
            "ufw" => ufw::read(arguments),
            "firewall-cmd" => firewalld::read(arguments),
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

/// Programs that leave the packet filter as it is.
const REPORTS: [&str; 10] = ["echo", "logger", "true", ":", "sleep", "date", "mail", "printf", "cat", "touch"];

/// True if a command runs only programs that have nothing to do with the packet filter.
pub(crate) fn only_reports(command: &str) -> bool {
    shell::simple_commands(command).is_some_and(|commands| {
        commands.iter().all(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            program(&words).is_none_or(|(program, _)| REPORTS.contains(&program))
        })
    })
}

/// The name of the program without its directory and without what only starts it, and its arguments.
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

/// Whether a word that names a source means the address that knocked.
fn source(word: &str) -> Source {
    match word {
        word if names_the_knocker(word) => Source::Knocker,
        "any" | "0/0" | "0.0.0.0/0" | "0.0.0.0" | "::/0" | "::" => Source::Any,
        _ => Source::Fixed,
    }
}

/// True if the text has the address that knocked or its network in it, or a variable of the shell, which may be that address.
fn names_the_knocker(text: &str) -> bool {
    text.contains("%IP%") || text.contains("%NET%") || text.contains('$')
}

/// The ports of a list of iptables or ufw as in `22,80:81`; long ranges are left out.
fn ports(protocol: Option<&'static str>, list: &str) -> Vec<(Option<&'static str>, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once([':', '-']).unwrap_or((part, part));
        Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
    };
    let ranges = list.split(',').filter_map(range).filter(|(first, last)| last.saturating_sub(*first) < 16);
    ranges.flat_map(|(first, last)| first..=last).map(|port| (protocol, port)).collect()
}

/// The protocol of this name.
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
        let mut effect = read(command);
        assert!(effect.understood, "{command}");
        assert_eq!(effect.changes.len(), 1, "{command}: {effect:?}");
        effect.changes.remove(0)
    }

    fn accept(place: Place, iptables: &str, ports: &[(Option<&'static str>, u16)]) -> What {
        What::Accept(place, Matches { iptables: iptables.into(), ports: ports.to_vec() })
    }

    #[test]
    fn iptables_commands_are_read() {
        let appended = only("/usr/sbin/iptables -A INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT");
        assert_eq!(appended.chain, Chain::Iptables("INPUT".into()));
        assert_eq!((appended.versions, appended.source), ([true, false], Source::Knocker));
        assert_eq!(appended.what, accept(Place::End, "-p tcp --dport 2222", &[(Some("tcp"), 2222)]));
        let place = |command: &str| match only(command).what {
            What::Accept(place, _) => place,
            what => panic!("{what:?}"),
        };
        assert_eq!(place("sudo -n ip6tables -I INPUT -s %IP% -j ACCEPT"), Place::Before(0));
        assert_eq!(only("iptables -I INPUT -s %NET% -j ACCEPT").source, Source::Knocker);
        assert_eq!(place("iptables -w 5 -I INPUT 3 -s %IP% -j ACCEPT"), Place::Before(2));
        assert_eq!(place("iptables --insert INPUT 1 --source=%IP% --jump ACCEPT"), Place::Before(0));
        let removed = only("iptables -D INPUT -p tcp --dport 21 -j REJECT");
        assert_eq!((removed.what, removed.source), (What::StopRefusing, Source::Any));
        assert_eq!(only("iptables -F").source, Source::Any);
        assert_eq!(only("iptables -P INPUT ACCEPT").what, What::StopRefusing);
        for nothing in [
            "iptables -D INPUT -s %IP% -j ACCEPT",
            "iptables -A INPUT -j DROP",
            "iptables -A OUTPUT -d %IP% -j ACCEPT",
            "iptables -t nat -A PREROUTING -s %IP% -j REDIRECT --to-ports 22",
            "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "iptables -A INPUT -i lo -j ACCEPT",
        ] {
            assert_eq!(read(nothing), Effect { changes: vec![], understood: true }, "{nothing}");
        }
    }

    #[test]
    fn commands_of_managers_are_read() {
        let ufw = read("ufw prepend allow from %IP% to any port 22 proto tcp comment 'a knock'");
        let chains: Vec<_> = ufw.changes.iter().map(|change| (&change.chain, change.versions, change.source)).collect();
        let [four, six] = ["ufw-user-input", "ufw6-user-input"].map(|name| Chain::Iptables(name.into()));
        assert_eq!(chains, [(&four, [true, false], Source::Knocker), (&six, [false, true], Source::Knocker)]);
        assert_eq!(ufw.changes[0].what, accept(Place::Before(0), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        let ufw = read("ufw insert 1 allow from %IP% to any port 22 proto tcp");
        assert_eq!(ufw.changes[0].what, accept(Place::Numbered(1), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        let ufw = read("ufw allow 51820/udp");
        assert_eq!(ufw.changes[0].source, Source::Any);
        assert_eq!(ufw.changes[0].what, accept(Place::End, "-p udp --dport 51820", &[(Some("udp"), 51_820)]));
        assert_eq!(read("ufw delete allow from %IP%").changes, []);
        let rich = only(
            "firewall-cmd --zone=public --add-rich-rule='rule family=\"ipv4\" source address=\"%IP%\" port port=\"22\" protocol=\"tcp\" accept' --timeout=3600",
        );
        let chain = ["inet", "firewalld", "filter_IN_public_allow"].map(String::from);
        assert_eq!((rich.chain, rich.versions, rich.source), (Chain::Nft(chain), [true, false], Source::Knocker));
        assert_eq!(rich.what, accept(Place::End, "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        assert_eq!(only("firewall-cmd --zone=public --add-port=22/tcp").source, Source::Any);
        assert!(!read("firewall-cmd --add-rich-rule='rule source address=%IP% accept'").understood, "which zone?");
        let nft = only("nft insert rule inet filter input ip saddr %IP% tcp dport 22 accept");
        assert_eq!(nft.what, accept(Place::Before(0), "-p tcp --dport 22", &[(Some("tcp"), 22)]));
        assert_eq!((nft.versions, nft.source), ([true, false], Source::Knocker));
        let set = only("nft add element inet mine open4 '{ %IP% timeout 1h }'");
        assert_eq!(
            (set.chain, set.source),
            (Chain::NftSet(["inet", "mine", "open4"].map(String::from)), Source::Knocker)
        );
    }

    #[test]
    fn several_commands_are_read_together_and_others_are_not_understood() {
        let effect = read("iptables -I INPUT -s %IP% -j ACCEPT && ip6tables -I INPUT -s %IP% -j ACCEPT; logger open");
        assert_eq!((effect.changes.len(), effect.understood), (2, true));
        for unknown in ["/usr/local/bin/open %IP%", "ipset add open %IP%", "a=`b`", "if a; then iptables -F; fi", "'"] {
            assert!(!read(unknown).understood, "{unknown}");
        }
    }
}
