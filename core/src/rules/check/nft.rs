//! Evaluates the rules in the output of `nft -j list ruleset` (libnftables-json(5)).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::chain::{Action, Base, Chain, CheckedRule, Table};
use super::packet::{Packet, Truth};

/// Parses the output of nft into its objects.
pub(super) fn objects(json: &str) -> Result<Vec<Value>, String> {
    let mut value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    match value.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Err("it does not contain a list `nftables`".into()),
    }
}

/// Returns true if a table of this IP version contains parts of rules that nft cannot list and
/// iptables can.
pub(super) fn has_iptables_rules(objects: &[Value], ipv6: bool) -> bool {
    let family = if ipv6 { "ip6" } else { "ip" };
    objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .any(|rule| text(rule, "family") == family && statements(rule).any(|(name, _)| name == "xt"))
}

/// Returns the tables, evaluated for a packet. Leaves out the tables with these names (`dumped`),
/// for which there is an iptables dump.
pub(super) fn tables(objects: &[Value], text_listing: &str, packet: &Packet, dumped: &[&str]) -> Vec<Table> {
    let families = if packet.ipv6 { ["ip6", "inet", "netdev"] } else { ["ip", "inet", "netdev"] };
    let own = families[0];
    let meets = |object: &Value| {
        families.contains(&text(object, "family"))
            && !(text(object, "family") == own && dumped.contains(&table_name(object)))
    };
    let listing = Listing::parse(text_listing);
    let sets = Sets::of(objects);
    let mut tables: BTreeMap<(&str, &str), Table> = BTreeMap::new();
    for object in objects.iter().filter_map(|object| object.get("table")).filter(|object| meets(object)) {
        let (family, name) = (text(object, "family"), text(object, "name"));
        if !listing.dormant.contains(&(family, name)) {
            let has_gate_chain = family == own && name == "filter";
            let table = Table { name: format!("table {family} {name}"), has_gate_chain, ..Table::default() };
            tables.insert((family, name), table);
        }
    }
    for chain in objects.iter().filter_map(|object| object.get("chain")) {
        if let Some(table) = tables.get_mut(&(text(chain, "family"), text(chain, "table"))) {
            let base = matches!(text(chain, "hook"), "ingress" | "prerouting" | "input").then(|| Base {
                accepts: text(chain, "policy") != "drop",
                has_all_interfaces: text(chain, "hook") != "ingress",
            });
            table.chains.insert(text(chain, "name").into(), Chain { base, rules: Vec::new() });
        }
    }
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let (family, table_name) = (text(rule, "family"), text(rule, "table"));
        let Some(table) = tables.get_mut(&(family, table_name)) else { continue };
        let handle = rule["handle"].as_u64().unwrap_or_default();
        let text_of = listing.rules.get(&(family, table_name, handle)).copied();
        let name = text_of.map_or_else(|| format!("the rule with handle {handle}"), Into::into);
        let evaluator = Evaluator { packet, sets: &sets, family, table: table_name };
        let chain = table.chains.entry(text(rule, "chain").into()).or_default();
        let actions = evaluator.rule(rule).into_iter();
        chain.rules.extend(actions.map(|(matches, action)| CheckedRule { text: name.clone(), matches, action }));
    }
    tables.into_values().collect()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// Returns the name of the table that the object is, or is in.
fn table_name(object: &Value) -> &str {
    object.get("table").and_then(Value::as_str).unwrap_or_else(|| text(object, "name"))
}

/// Returns the statements of a rule: their names and values.
fn statements(rule: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|one| one.as_object()?.iter().next()).map(|(name, value)| (name.as_str(), value))
}

/// The content of `nft -a list ruleset` that the JSON listing lacks.
#[derive(Default)]
struct Listing<'a> {
    /// The text of the rules, by family, table and handle.
    rules: BTreeMap<(&'a str, &'a str, u64), &'a str>,
    /// The tables with the flag `dormant`, by family and name.
    dormant: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Listing<'a> {
    fn parse(text: &'a str) -> Self {
        let mut listing = Self::default();
        let mut table = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("table ") {
                let mut words = rest.split_whitespace();
                table = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            } else if line.starts_with("\tflags ") && line.contains("dormant") {
                listing.dormant.insert(table);
            } else if let Some((rule, handle)) =
                line.strip_prefix("\t\t").and_then(|line| line.rsplit_once(" # handle "))
            {
                listing.rules.extend(handle.parse().map(|handle| ((table.0, table.1, handle), rule)));
            }
        }
        listing
    }
}

/// The elements of named sets and maps, by family, table and name.
struct Sets<'a>(BTreeMap<(&'a str, &'a str, &'a str), &'a [Value]>);

impl<'a> Sets<'a> {
    fn of(objects: &'a [Value]) -> Self {
        let sets = objects.iter().filter_map(|object| object.get("set").or_else(|| object.get("map")));
        Self(
            sets.map(|set| {
                let elements = set["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
                ((text(set, "family"), text(set, "table"), text(set, "name")), elements)
            })
            .collect(),
        )
    }
}

/// Evaluates the rules of one table for a packet.
struct Evaluator<'a> {
    packet: &'a Packet<'a>,
    sets: &'a Sets<'a>,
    family: &'a str,
    table: &'a str,
}

impl Evaluator<'_> {
    /// Returns the possible actions of a rule in order: one action, or several if it has a verdict
    /// map.
    fn rule(&self, rule: &Value) -> Vec<(Truth, Action)> {
        let mut matches = Truth::Yes;
        let mut actions = Vec::new();
        for (name, value) in statements(rule) {
            match name {
                "match" => matches = matches.and(self.matches(value)),
                "vmap" => {
                    actions.extend(self.verdict_map(value).into_iter().map(|(truth, act)| (matches.and(truth), act)))
                }
                "counter" | "log" | "comment" | "mangle" | "ct helper" | "ct timeout" | "dup" | "flow" | "last" => {}
                // Limits are assumed not to be exceeded.
                "limit" | "ct count" | "quota" => matches = matches.and((value["inv"] != true).into()),
                "set" | "meter" => matches = matches.and(within_limits(value)),
                "xt" if text(value, "name") == "comment" => {}
                "xt" if text(value, "type") == "match" => matches = Truth::Maybe.and(matches),
                _ => actions.push((matches, action(name, value))),
            }
        }
        actions
    }

    fn verdict_map(&self, map: &Value) -> Vec<(Truth, Action)> {
        let key = &map["key"];
        let pairs = match &map["data"] {
            Value::String(name) => self.elements(name),
            data => data["set"].as_array().map(Vec::as_slice),
        };
        let Some(pairs) = pairs else { return vec![(self.possible(key), Action::Unknown)] };
        let pair = |pair: &Value| {
            let verdict = pair[1].as_object().and_then(|verdict| verdict.iter().next());
            let action = verdict.map_or(Action::Unknown, |(name, value)| action(name, value));
            (self.possible(key).and(self.equals(key, &pair[0])), action)
        };
        pairs.iter().map(pair).collect()
    }

    /// Returns the elements of a set of this table, named as in `@name`.
    fn elements(&self, name: &str) -> Option<&[Value]> {
        self.sets.0.get(&(self.family, self.table, name.trim_start_matches('@'))).copied()
    }

    /// Evaluates a `match` statement.
    fn matches(&self, match_: &Value) -> Truth {
        let (left, right) = (&match_["left"], &match_["right"]);
        let holds = match text(match_, "op") {
            // One of the flags is set, or none of them.
            op @ ("in" | "!") if field(left) == Field::TcpFlags => {
                let one = flag_names(right).map_or(Truth::Maybe, |names| names.contains(&"syn").into());
                if op == "in" { one } else { one.not() }
            }
            "==" | "in" => self.equals(left, right),
            "!=" => self.equals(left, right).not(),
            op => match (field(left), right.as_u64()) {
                (Field::Port, Some(number)) => {
                    let port = u64::from(self.packet.port);
                    match op {
                        "<" => (port < number).into(),
                        ">" => (port > number).into(),
                        "<=" => (port <= number).into(),
                        ">=" => (port >= number).into(),
                        _ => Truth::Maybe,
                    }
                }
                _ => Truth::Maybe,
            },
        };
        self.possible(left).and(holds)
    }

    /// Returns `No` if the packet does not have the field, such as an IPv6 address or a TCP port.
    fn possible(&self, left: &Value) -> Truth {
        if let Some(parts) = left["concat"].as_array() {
            return parts.iter().fold(Truth::Yes, |all, part| all.and(self.possible(part)));
        }
        // IPv6 extension headers that the first packet of a connection does not have.
        if left["exthdr"]["field"].is_string() {
            return Truth::No;
        }
        let unmasked = if left["&"].is_array() { &left["&"][0] } else { left };
        match unmasked["payload"]["protocol"].as_str() {
            Some("ip") => (!self.packet.ipv6).into(),
            Some("ip6") => self.packet.ipv6.into(),
            Some(protocol @ ("tcp" | "udp")) => self.packet.has_protocol(protocol),
            Some("icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "udplite" | "ah" | "esp" | "comp") => Truth::No,
            _ => Truth::Yes,
        }
    }

    /// Evaluates whether the field has this value, or one of these values.
    fn equals(&self, left: &Value, right: &Value) -> Truth {
        if let Some(name) = right.as_str().filter(|name| name.starts_with('@')) {
            let set = name.trim_start_matches('@');
            if self.packet.sets.contains(self.family, self.table, set) {
                return self.packet.knocked.into();
            }
            return self.elements(name).map_or(Truth::Maybe, |elements| self.equals_one_of(left, elements));
        }
        if field(left) == Field::TcpFlags && !right["set"].is_array() {
            return are_tcp_flags(left, right);
        }
        match (right, &right["set"], &right["elem"]["val"]) {
            (Value::Array(values), _, _) | (_, Value::Array(values), _) => self.equals_one_of(left, values),
            (_, _, Value::Null) => self.equals_single(left, right),
            (_, _, value) => self.equals(left, value),
        }
    }

    fn equals_one_of(&self, left: &Value, values: &[Value]) -> Truth {
        Truth::any(values.iter().map(|value| self.equals(left, value)))
    }

    /// Evaluates whether the field has this single value.
    fn equals_single(&self, left: &Value, right: &Value) -> Truth {
        if let (Some(left), Some(right)) = (left["concat"].as_array(), right["concat"].as_array()) {
            return left.iter().zip(right).fold(Truth::Yes, |all, (left, right)| all.and(self.equals(left, right)));
        }
        let written = match right {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let is_one_of = |names: &[&str]| Truth::from(names.contains(&written.as_str()));
        match field(left) {
            Field::Port => self.has_port(right),
            Field::Protocol if right["range"].is_array() => Truth::Maybe,
            Field::Protocol => self.packet.has_protocol(&written),
            Field::Source => match (right["range"][0].as_str(), right["range"][1].as_str(), network(right)) {
                (Some(first), Some(last), _) => self.packet.is_from_between(first, last),
                (_, _, network) => self.packet.is_from(&network),
            },
            Field::Destination => self.packet.is_to(&network(right)),
            Field::Interface if matches!(written.as_str(), "lo" | "loopback") => Truth::No,
            Field::Version if self.packet.ipv6 => is_one_of(&["ipv6", "ip6"]),
            Field::Version => is_one_of(&["ipv4", "ip"]),
            Field::CtState => is_one_of(&["new"]),
            Field::CtDirection => is_one_of(&["original"]),
            Field::CtStatus if matches!(written.as_str(), "dnat" | "snat") => Truth::No,
            Field::DestinationType => is_one_of(&["host", "unicast", "local"]),
            // The return path is assumed to exist.
            Field::ReturnPath => right.as_bool().map_or(Truth::Maybe, Truth::from),
            _ => Truth::Maybe,
        }
    }

    fn has_port(&self, right: &Value) -> Truth {
        let port = u64::from(self.packet.port);
        match (right.as_u64(), right["range"][0].as_u64(), right["range"][1].as_u64()) {
            (Some(number), ..) => (number == port).into(),
            (_, Some(first), Some(last)) => (first..=last).contains(&port).into(),
            _ => Truth::Maybe,
        }
    }
}

/// Returns an address or a network, as in `10.0.0.0/8`; empty for any other value.
fn network(value: &Value) -> String {
    let prefix = &value["prefix"];
    match (value.as_str(), prefix["addr"].as_str(), prefix["len"].as_u64()) {
        (Some(address), ..) => address.into(),
        (_, Some(address), Some(length)) => format!("{address}/{length}"),
        _ => String::new(),
    }
}

/// The property of the packet that a match examines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Port,
    Protocol,
    Source,
    Destination,
    Interface,
    Version,
    CtState,
    CtDirection,
    CtStatus,
    TcpFlags,
    DestinationType,
    ReturnPath,
    Other,
}

fn field(left: &Value) -> Field {
    let payload = &left["payload"];
    let fib = &left["fib"];
    match (payload["protocol"].as_str(), payload["field"].as_str()) {
        (Some("tcp" | "udp" | "th"), Some("dport")) => return Field::Port,
        (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => return Field::Protocol,
        (Some("ip" | "ip6"), Some("saddr")) => return Field::Source,
        (Some("ip" | "ip6"), Some("daddr")) => return Field::Destination,
        (Some("tcp"), Some("flags")) => return Field::TcpFlags,
        (Some("ether"), Some("type")) => return Field::Version,
        (Some(_), _) => return Field::Other,
        _ => {}
    }
    if left["&"].is_array() && field(&left["&"][0]) == Field::TcpFlags {
        return Field::TcpFlags;
    }
    let flags = fib["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str(), fib["result"].as_str()) {
        (Some("l4proto"), ..) => Field::Protocol,
        (Some("iif" | "iifname" | "iiftype"), ..) => Field::Interface,
        (Some("nfproto" | "protocol"), ..) => Field::Version,
        (Some("pkttype"), ..) => Field::DestinationType,
        (_, Some("state"), _) => Field::CtState,
        (_, Some("direction"), _) => Field::CtDirection,
        (_, Some("status"), _) => Field::CtStatus,
        (_, _, Some("type")) if flags.iter().any(|flag| flag == "daddr") => Field::DestinationType,
        (_, _, Some("oif")) if flags.iter().any(|flag| flag == "saddr") => Field::ReturnPath,
        _ => Field::Other,
    }
}

/// Evaluates whether these flags, after the mask, are those of the packet: SYN alone.
fn are_tcp_flags(left: &Value, right: &Value) -> Truth {
    let masked = match &left["&"][1] {
        Value::Null => Some(true),
        mask => flag_names(mask).map(|mask| mask.contains(&"syn")),
    };
    match (masked, flag_names(right)) {
        (Some(true), Some(flags)) => (flags == ["syn"]).into(),
        (Some(false), Some(flags)) => flags.is_empty().into(),
        _ => Truth::Maybe,
    }
}

/// Parses flags as in `syn`, `["syn", "ack"]`, `{"|": ["syn", "ack"]}`, and 0 for no flag.
fn flag_names(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        Value::Object(_) => value["|"].as_array()?.iter().map(Value::as_str).collect(),
        Value::String(name) => Some(vec![name]),
        value => (value.as_u64() == Some(0)).then(Vec::new),
    }
}

/// Returns `No` if the statement adds an element only when a limit is exceeded. Limits are assumed
/// not to be exceeded.
fn within_limits(value: &Value) -> Truth {
    let statements = value["stmt"].as_array().map_or(std::slice::from_ref(&value["stmt"]), Vec::as_slice);
    let exceeds = |statement: &Value| ["limit", "ct count", "quota"].iter().any(|name| statement[*name]["inv"] == true);
    (!statements.iter().any(exceeds)).into()
}

fn action(name: &str, value: &Value) -> Action {
    match name {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "continue" => Action::Continue,
        "jump" => Action::Jump(text(value, "target").into()),
        "goto" => Action::Goto(text(value, "target").into()),
        _ => Action::Unknown,
    }
}
