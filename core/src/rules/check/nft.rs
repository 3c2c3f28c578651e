//! What the rules mean that `nft -j list ruleset` writes (libnftables-json(5)).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::chain::{Action, Base, Chain, Rule, Table};
use super::packet::{Packet, Truth};

/// The objects of what nft writes.
pub(super) fn objects(json: &str) -> Result<Vec<Value>, String> {
    let mut value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    match value.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => Ok(objects),
        _ => Err("there is no list `nftables` in it".into()),
    }
}

/// Whether a table of this IP version has parts of rules that only iptables knows.
pub(super) fn has_foreign_rules(objects: &[Value], ipv6: bool) -> bool {
    let family = if ipv6 { "ip6" } else { "ip" };
    objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .any(|rule| text(rule, "family") == family && statements(rule).any(|(name, _)| name == "xt"))
}

/// The tables, judged for a packet. Those of iptables that it tells of itself are left out: `told` has their names.
pub(super) fn tables(objects: &[Value], text_listing: &str, packet: &Packet, told: &[&str]) -> Vec<Table> {
    let families = if packet.ipv6 { ["ip6", "inet", "netdev"] } else { ["ip", "inet", "netdev"] };
    let own = families[0];
    let meets = |object: &Value| {
        families.contains(&text(object, "family"))
            && !(text(object, "family") == own && told.contains(&table_name(object)))
    };
    let listing = Listing::read(text_listing);
    let sets = Sets::of(objects);
    let mut tables: BTreeMap<(&str, &str), Table> = BTreeMap::new();
    for object in objects.iter().filter_map(|object| object.get("table")).filter(|object| meets(object)) {
        let (family, name) = (text(object, "family"), text(object, "name"));
        if !listing.asleep.contains(&(family, name)) {
            let has_gate_chain = family == own && name == "filter";
            let table = Table { name: format!("table {family} {name}"), has_gate_chain, ..Table::default() };
            tables.insert((family, name), table);
        }
    }
    for chain in objects.iter().filter_map(|object| object.get("chain")) {
        if let Some(table) = tables.get_mut(&(text(chain, "family"), text(chain, "table"))) {
            let base = matches!(text(chain, "hook"), "ingress" | "prerouting" | "input")
                .then(|| Base { accepts: text(chain, "policy") != "drop", sees_all: text(chain, "hook") != "ingress" });
            table.chains.insert(text(chain, "name").into(), Chain { base, rules: Vec::new() });
        }
    }
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let place = (text(rule, "family"), text(rule, "table"));
        let Some(table) = tables.get_mut(&place) else { continue };
        let handle = rule["handle"].as_u64().unwrap_or_default();
        let text_of = listing.rules.get(&(place.0, place.1, handle)).copied();
        let name = text_of.map_or_else(|| format!("the rule with handle {handle}"), Into::into);
        let judge = Judge { packet, sets: &sets, family: place.0, table: place.1 };
        let chain = table.chains.entry(text(rule, "chain").into()).or_default();
        let judged = judge.rule(rule).into_iter();
        chain.rules.extend(judged.map(|(fits, action)| Rule { text: name.clone(), fits, action }));
    }
    tables.into_values().collect()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

/// The table that an object is, or is in.
fn table_name(object: &Value) -> &str {
    object.get("table").and_then(Value::as_str).unwrap_or_else(|| text(object, "name"))
}

/// The statements of a rule: their names and what they say.
fn statements(rule: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|one| one.as_object()?.iter().next()).map(|(name, value)| (name.as_str(), value))
}

/// What `nft -a list ruleset` tells and its JSON does not.
#[derive(Default)]
struct Listing<'a> {
    /// The rules as people write them, by family, table and handle.
    rules: BTreeMap<(&'a str, &'a str, u64), &'a str>,
    /// The tables that are switched off, by family and name.
    asleep: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Listing<'a> {
    fn read(text: &'a str) -> Self {
        let mut listing = Self::default();
        let mut table = ("", "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("table ") {
                let mut words = rest.split_whitespace();
                table = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            } else if line.starts_with("\tflags ") && line.contains("dormant") {
                listing.asleep.insert(table);
            } else if let Some((rule, handle)) =
                line.strip_prefix("\t\t").and_then(|line| line.rsplit_once(" # handle "))
            {
                listing.rules.extend(handle.parse().map(|handle| ((table.0, table.1, handle), rule)));
            }
        }
        listing
    }
}

/// What is in named sets and maps, by family, table and name.
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

/// Judges the rules of one table.
struct Judge<'a> {
    packet: &'a Packet<'a>,
    sets: &'a Sets<'a>,
    family: &'a str,
    table: &'a str,
}

impl Judge<'_> {
    /// What the rule may do, in order: one action, or several where it has a map of verdicts.
    fn rule(&self, rule: &Value) -> Vec<(Truth, Action)> {
        let mut fits = Truth::Yes;
        let mut actions = Vec::new();
        for (name, value) in statements(rule) {
            match name {
                "match" => fits = fits.and(self.matches(value)),
                "vmap" => {
                    actions.extend(self.verdict_map(value).into_iter().map(|(truth, act)| (fits.and(truth), act)))
                }
                "counter" | "log" | "comment" | "mangle" | "ct helper" | "ct timeout" | "dup" | "flow" | "last" => {}
                // Limits are not used up.
                "limit" | "ct count" | "quota" => fits = fits.and((value["inv"] != true).into()),
                "set" | "meter" => fits = fits.and(within_limits(value)),
                "xt" if text(value, "name") == "comment" => {}
                "xt" if text(value, "type") == "match" => fits = Truth::Maybe.and(fits),
                _ => actions.push((fits, action(name, value))),
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
            (self.possible(key).and(self.fits(key, &pair[0])), action)
        };
        pairs.iter().map(pair).collect()
    }

    /// The elements of a set of this table, named as in `@name`.
    fn elements(&self, name: &str) -> Option<&[Value]> {
        self.sets.0.get(&(self.family, self.table, name.trim_start_matches('@'))).copied()
    }

    fn matches(&self, match_: &Value) -> Truth {
        let (left, right) = (&match_["left"], &match_["right"]);
        let fits = match text(match_, "op") {
            // One of the flags, or none of them.
            op @ ("in" | "!") if field(left) == Field::TcpFlags => {
                let one = flag_names(right).map_or(Truth::Maybe, |names| names.contains(&"syn").into());
                if op == "in" { one } else { one.not() }
            }
            "==" | "in" => self.fits(left, right),
            "!=" => self.fits(left, right).not(),
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
        self.possible(left).and(fits)
    }

    /// No where the packet does not have what is looked at: an IPv6 address, a TCP port.
    fn possible(&self, left: &Value) -> Truth {
        if let Some(parts) = left["concat"].as_array() {
            return parts.iter().fold(Truth::Yes, |all, part| all.and(self.possible(part)));
        }
        // The headers of IPv6 that the first packet of a connection does not have.
        if left["exthdr"]["field"].is_string() {
            return Truth::No;
        }
        let looked_at = if left["&"].is_array() { &left["&"][0] } else { left };
        match looked_at["payload"]["protocol"].as_str() {
            Some("ip") => (!self.packet.ipv6).into(),
            Some("ip6") => self.packet.ipv6.into(),
            Some(protocol @ ("tcp" | "udp")) => self.packet.has_protocol(protocol),
            Some("icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "udplite" | "ah" | "esp" | "comp") => Truth::No,
            _ => Truth::Yes,
        }
    }

    /// Whether what is looked at has this value, or one of these values.
    fn fits(&self, left: &Value, right: &Value) -> Truth {
        if let Some(name) = right.as_str().filter(|name| name.starts_with('@')) {
            let set = name.trim_start_matches('@');
            if self.packet.sets.contains(self.family, self.table, set) {
                return self.packet.knocked.into();
            }
            return self.elements(name).map_or(Truth::Maybe, |elements| self.fits_one_of(left, elements));
        }
        if field(left) == Field::TcpFlags && !right["set"].is_array() {
            return are_tcp_flags(left, right);
        }
        match (right, &right["set"], &right["elem"]["val"]) {
            (Value::Array(values), _, _) | (_, Value::Array(values), _) => self.fits_one_of(left, values),
            (_, _, Value::Null) => self.has(left, right),
            (_, _, value) => self.fits(left, value),
        }
    }

    fn fits_one_of(&self, left: &Value, values: &[Value]) -> Truth {
        Truth::any(values.iter().map(|value| self.fits(left, value)))
    }

    /// Whether what is looked at has this one value.
    fn has(&self, left: &Value, right: &Value) -> Truth {
        if let (Some(left), Some(right)) = (left["concat"].as_array(), right["concat"].as_array()) {
            return left.iter().zip(right).fold(Truth::Yes, |all, (left, right)| all.and(self.fits(left, right)));
        }
        let written = match right {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let is = |yes: &[&str]| Truth::from(yes.contains(&written.as_str()));
        match field(left) {
            Field::Port => self.has_port(right),
            Field::Protocol if right["range"].is_array() => Truth::Maybe,
            Field::Protocol => self.packet.has_protocol(&written),
            Field::From => match (right["range"][0].as_str(), right["range"][1].as_str(), network(right)) {
                (Some(first), Some(last), _) => self.packet.is_from_between(first, last),
                (_, _, network) => self.packet.is_from(&network),
            },
            Field::To => self.packet.is_to(&network(right)),
            Field::Interface if matches!(written.as_str(), "lo" | "loopback") => Truth::No,
            Field::Version if self.packet.ipv6 => is(&["ipv6", "ip6"]),
            Field::Version => is(&["ipv4", "ip"]),
            Field::CtState => is(&["new"]),
            Field::CtDirection => is(&["original"]),
            Field::CtStatus if matches!(written.as_str(), "dnat" | "snat") => Truth::No,
            Field::Addressee => is(&["host", "unicast", "local"]),
            // Whether there is a way back: it is taken for granted.
            Field::WayBack => right.as_bool().map_or(Truth::Maybe, Truth::from),
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

/// An address or a network, as in `10.0.0.0/8`; empty for anything else.
fn network(value: &Value) -> String {
    let prefix = &value["prefix"];
    match (value.as_str(), prefix["addr"].as_str(), prefix["len"].as_u64()) {
        (Some(address), ..) => address.into(),
        (_, Some(address), Some(length)) => format!("{address}/{length}"),
        _ => String::new(),
    }
}

/// What a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Port,
    Protocol,
    From,
    To,
    Interface,
    Version,
    CtState,
    CtDirection,
    CtStatus,
    TcpFlags,
    Addressee,
    WayBack,
    Other,
}

fn field(left: &Value) -> Field {
    let payload = &left["payload"];
    let fib = &left["fib"];
    match (payload["protocol"].as_str(), payload["field"].as_str()) {
        (Some("tcp" | "udp" | "th"), Some("dport")) => return Field::Port,
        (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => return Field::Protocol,
        (Some("ip" | "ip6"), Some("saddr")) => return Field::From,
        (Some("ip" | "ip6"), Some("daddr")) => return Field::To,
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
        (Some("pkttype"), ..) => Field::Addressee,
        (_, Some("state"), _) => Field::CtState,
        (_, Some("direction"), _) => Field::CtDirection,
        (_, Some("status"), _) => Field::CtStatus,
        (_, _, Some("type")) if flags.iter().any(|flag| flag == "daddr") => Field::Addressee,
        (_, _, Some("oif")) if flags.iter().any(|flag| flag == "saddr") => Field::WayBack,
        _ => Field::Other,
    }
}

/// Whether these flags, or those of them that the mask leaves, are the ones that the packet has: SYN alone.
fn are_tcp_flags(left: &Value, right: &Value) -> Truth {
    let masked = match &left["&"][1] {
        Value::Null => Some(true),
        mask => flag_names(mask).map(|mask| mask.contains(&"syn")),
    };
    match (masked, flag_names(right)) {
        (Some(true), Some(wanted)) => (wanted == ["syn"]).into(),
        (Some(false), Some(wanted)) => wanted.is_empty().into(),
        _ => Truth::Maybe,
    }
}

/// As in `syn`, `["syn", "ack"]`, `{"|": ["syn", "ack"]}` and 0 for none.
fn flag_names(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(values) => values.iter().map(Value::as_str).collect(),
        Value::Object(_) => value["|"].as_array()?.iter().map(Value::as_str).collect(),
        Value::String(name) => Some(vec![name]),
        value => (value.as_u64() == Some(0)).then(Vec::new),
    }
}

/// An element is put into a set as long as its own limits are not used up.
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
