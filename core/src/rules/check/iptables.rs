//! Evaluates the rules in the output of `iptables-save`.

use super::chain::{Action, Base, Chain, CheckedRule, Table};
use super::packet::{Packet, Truth};

/// The base chains for packets to this host.
const BASE_CHAINS: [&str; 2] = ["PREROUTING", "INPUT"];

/// Targets after which the packet continues with the next rule.
const CONTINUING_TARGETS: &[&str] = &[
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "SECMARK",
    "CONNSECMARK",
    "TCPMSS",
    "TCPOPTSTRIP",
    "AUDIT",
    "TRACE",
    "CHECKSUM",
    "DSCP",
    "TOS",
    "TTL",
    "HL",
    "CLASSIFY",
    "SET",
    "LED",
    "RATEEST",
    "IDLETIMER",
    "TEE",
];

/// The output of one of the iptables programs.
#[derive(Clone, Debug)]
pub(super) struct IptablesDump {
    pub(super) program: &'static str,
    pub(super) ipv6: bool,
    /// True for legacy iptables, whose rules nft does not list.
    pub(super) legacy: bool,
    pub(super) text: String,
}

/// Returns the names of the tables in the output.
pub(super) fn table_names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix('*')).collect()
}

/// Returns the tables, evaluated for a packet.
pub(super) fn tables(dump: &IptablesDump, packet: &Packet) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in dump.text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let has_gate_chain = name == "filter";
            let name = format!("table {name} of {}", dump.program.trim_end_matches("-save"));
            tables.push(Table { name, has_gate_chain, ..Table::default() });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        let mut words = line.split_whitespace();
        if let Some(name) = line.strip_prefix(':').and_then(|line| line.split_whitespace().next()) {
            let accepts = words.nth(1) != Some("DROP");
            let base = BASE_CHAINS.contains(&name).then_some(Base { accepts, has_all_interfaces: true });
            table.chains.entry(name.into()).or_default().base = base;
        } else if words.next() == Some("-A") {
            let chain: &mut Chain = table.chains.entry(words.next().unwrap_or_default().into()).or_default();
            chain.rules.push(rule(line, packet));
        }
    }
    tables
}

/// Evaluates a rule as in `-A INPUT -p tcp -m tcp --dport 22 -j DROP`.
pub(super) fn rule(line: &str, packet: &Packet) -> CheckedRule {
    let mut words = split_words(line).into_iter().skip(2).peekable();
    let mut matches = Truth::Yes;
    let mut action = Action::Continue;
    while let Some(word) = words.next() {
        let negated = word == "!";
        let option = if negated { words.next().unwrap_or_default() } else { word };
        if let "-j" | "-g" = option.as_str() {
            action = target(&words.next().unwrap_or_default(), option == "-g");
            // The options of the target follow.
            break;
        }
        // A comment can begin like an option.
        let mut values: Vec<String> = (option == "--comment").then(|| words.next()).flatten().into_iter().collect();
        while let Some(value) = words.next_if(|word| !word.starts_with("--") && !is_short_option(word) && word != "!") {
            values.push(value);
        }
        let truth = match option.as_str() {
            // With `! --update` the rule matches sources below the limit.
            "--hitcount" if line.contains("! --update") || line.contains("! --rcheck") => Truth::Maybe,
            option => holds(option, &values, packet),
        };
        matches = matches.and(if negated { truth.not() } else { truth });
    }
    CheckedRule { text: line.into(), matches, action }
}

fn is_short_option(word: &str) -> bool {
    word.len() == 2 && word.starts_with('-') && word.as_bytes()[1].is_ascii_alphabetic()
}

fn target(name: &str, goto: bool) -> Action {
    match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" | "TARPIT" => Action::Drop,
        "RETURN" => Action::Return,
        "QUEUE" | "NFQUEUE" | "CT" | "NOTRACK" | "DNAT" | "REDIRECT" | "NETMAP" | "SNAT" | "MASQUERADE" | "TPROXY"
        | "SYNPROXY" | "CLUSTERIP" | "DNPT" | "SNPT" | "ECN" => Action::Unknown,
        name if CONTINUING_TARGETS.contains(&name) => Action::Continue,
        chain if goto => Action::Goto(chain.into()),
        chain => Action::Jump(chain.into()),
    }
}

/// Evaluates a match option of a rule.
fn holds(option: &str, values: &[String], packet: &Packet) -> Truth {
    let value = values.first().map(String::as_str).unwrap_or_default();
    let listed = |test: &dyn Fn(&str) -> Truth| Truth::any(value.split(',').map(test));
    match option {
        // The module of the next options. Some modules match even without options.
        "-m" => match value {
            "socket" => Truth::Maybe,
            // IPv6 extension headers that the first packet of a connection does not have.
            "rt" | "frag" | "dst" | "hbh" | "mh" => Truth::No,
            _ => Truth::Yes,
        },
        "-p" => {
            if value == "all" {
                Truth::Yes
            } else {
                packet.has_protocol(value)
            }
        }
        "-s" => listed(&|network| packet.is_from(network)),
        "-d" => listed(&|network| packet.is_to(network)),
        "-i" if value == "lo" => Truth::No,
        "-i" if value == "+" => Truth::Yes,
        // An incoming packet has no output interface, and a reassembled packet is not a fragment.
        "-o" | "-f" => Truth::No,
        "--dport" | "--dports" => listed(&|range| has_port(range, packet)),
        "--ctstate" | "--state" => listed(&|state| (state == "NEW").into()),
        "--syn" => Truth::Yes,
        "--tcp-flags" => {
            let only_syn = |flags: &String| flags.split(',').any(|flag| flag == "SYN" || flag == "ALL");
            let set = values.get(1).map(String::as_str).unwrap_or_default();
            (if values.first().is_some_and(only_syn) { set == "SYN" } else { set == "NONE" }).into()
        }
        // `--set` records every packet and matches. A single connection does not reach the hit
        // count of a list.
        "--set" | "--seconds" | "--name" | "--mask" | "--rsource" | "--rdest" => Truth::Yes,
        "--hitcount" if value.parse::<u32>().is_ok_and(|hits| hits > 1) => Truth::No,
        // Rate limits are assumed not to be exceeded.
        "--limit" | "--limit-burst" | "--hashlimit-upto" | "--hashlimit" => Truth::Yes,
        "--hashlimit-above" | "--connlimit-above" => Truth::No,
        "--connlimit-upto" | "--connlimit-mask" | "--connlimit-saddr" => Truth::Yes,
        option if option.starts_with("--hashlimit-") => Truth::Yes,
        "--icmp-type" | "--icmpv6-type" => Truth::No,
        "--pkt-type" => (value == "unicast").into(),
        "--dst-type" => (value == "LOCAL").into(),
        "--ctdir" => (value == "ORIGINAL").into(),
        // The return path is assumed to be the same.
        "--invert" => Truth::No,
        "--loose" | "--validmark" | "--accept-local" | "--comment" => Truth::Yes,
        _ => Truth::Maybe,
    }
}

fn has_port(range: &str, packet: &Packet) -> Truth {
    let (first, last) = range.split_once(':').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&packet.port).into(),
        _ => Truth::Maybe,
    }
}

/// Splits a line into words; quoted text is one word.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
