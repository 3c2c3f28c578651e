//! What the rules mean that `iptables-save` writes.

use super::chain::{Action, Base, Chain, Rule, Table};
use super::packet::{Packet, Truth};

/// The chains that packets to this host come through, which the kernel calls itself.
const BASE_CHAINS: [&str; 2] = ["PREROUTING", "INPUT"];

/// Targets that let the packet go on.
const GO_ON: &[&str] = &[
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

/// The output of a program of iptables.
#[derive(Clone, Debug)]
pub(super) struct IptablesDump {
    pub(super) program: &'static str,
    pub(super) ipv6: bool,
    /// True for the older iptables, whose rules nft does not list.
    pub(super) legacy: bool,
    pub(super) text: String,
}

/// The names of the tables that the program tells of.
pub(super) fn table_names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix('*')).collect()
}

/// The tables, judged for a packet.
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
            let base = BASE_CHAINS.contains(&name).then_some(Base { accepts, sees_all: true });
            table.chains.entry(name.into()).or_default().base = base;
        } else if words.next() == Some("-A") {
            let chain: &mut Chain = table.chains.entry(words.next().unwrap_or_default().into()).or_default();
            chain.rules.push(rule(line, packet));
        }
    }
    tables
}

/// What is known of a line as in `-A INPUT -p tcp -m tcp --dport 22 -j DROP`.
pub(super) fn rule(line: &str, packet: &Packet) -> Rule {
    let mut words = words(line).into_iter().skip(2).peekable();
    let mut fits = Truth::Yes;
    let mut action = Action::Continue;
    while let Some(word) = words.next() {
        let negated = word == "!";
        let option = if negated { words.next().unwrap_or_default() } else { word };
        if let "-j" | "-g" = option.as_str() {
            action = target(&words.next().unwrap_or_default(), option == "-g");
            // What follows are options of the target.
            break;
        }
        // What people write may begin like an option.
        let mut values: Vec<String> = (option == "--comment").then(|| words.next()).flatten().into_iter().collect();
        while let Some(value) = words.next_if(|word| !word.starts_with("--") && !is_short_option(word) && word != "!") {
            values.push(value);
        }
        let truth = match option.as_str() {
            // With `! --update` the rule fits those that come less often.
            "--hitcount" if line.contains("! --update") || line.contains("! --rcheck") => Truth::Maybe,
            option => holds(option, &values, packet),
        };
        fits = fits.and(if negated { truth.not() } else { truth });
    }
    Rule { text: line.into(), fits, action }
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
        name if GO_ON.contains(&name) => Action::Continue,
        chain if goto => Action::Goto(chain.into()),
        chain => Action::Jump(chain.into()),
    }
}

/// Whether an option of a rule holds.
fn holds(option: &str, values: &[String], packet: &Packet) -> Truth {
    let value = values.first().map(String::as_str).unwrap_or_default();
    let listed = |test: &dyn Fn(&str) -> Truth| Truth::any(value.split(',').map(test));
    match option {
        // Which module the next options belong to. Some look at something without any option.
        "-m" => match value {
            "socket" => Truth::Maybe,
            // The headers of IPv6 that the first packet of a connection does not have.
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
        // On the way in there is no interface to go out by, and nothing of a packet that was put together again is a fragment.
        "-o" | "-f" => Truth::No,
        "--dport" | "--dports" => listed(&|range| has_port(range, packet)),
        "--ctstate" | "--state" => listed(&|state| (state == "NEW").into()),
        "--syn" => Truth::Yes,
        "--tcp-flags" => {
            let only_syn = |flags: &String| flags.split(',').any(|flag| flag == "SYN" || flag == "ALL");
            let set = values.get(1).map(String::as_str).unwrap_or_default();
            (if values.first().is_some_and(only_syn) { set == "SYN" } else { set == "NONE" }).into()
        }
        // Each packet is noted. One connection does not come as often as a list counts hits.
        "--set" | "--seconds" | "--name" | "--mask" | "--rsource" | "--rdest" => Truth::Yes,
        "--hitcount" if value.parse::<u32>().is_ok_and(|hits| hits > 1) => Truth::No,
        // Not used up, and not exceeded.
        "--limit" | "--limit-burst" | "--hashlimit-upto" | "--hashlimit" => Truth::Yes,
        "--hashlimit-above" | "--connlimit-above" => Truth::No,
        "--connlimit-upto" | "--connlimit-mask" | "--connlimit-saddr" => Truth::Yes,
        option if option.starts_with("--hashlimit-") => Truth::Yes,
        "--icmp-type" | "--icmpv6-type" => Truth::No,
        "--pkt-type" => (value == "unicast").into(),
        "--dst-type" => (value == "LOCAL").into(),
        "--ctdir" => (value == "ORIGINAL").into(),
        // The way back is the way it came.
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

/// The words of a line; what stands in quotes is one.
fn words(line: &str) -> Vec<String> {
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
