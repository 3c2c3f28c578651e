//! Renders the rules for `nft -f`.

use std::fmt::Write;

use super::plan::{FORGET_SECONDS, IcmpType, LIMITS, Match, NETWORK_V4, NETWORK_V6, NETWORKS, PlannedRule, Verdict};
use super::{OPEN_SETS, TABLE, comment};
use crate::host::Family;

/// Capacity of each set of openings, in elements.
const OPENINGS: u32 = 131_072;

/// Renders the table. Loading the text creates the table if it does not exist, and replaces its
/// rules in one step. The sets are only declared, so they keep their elements.
pub(super) fn render(head: &str, rules: &[PlannedRule], explain: bool) -> String {
    let mut text =
        format!("#!/usr/sbin/nft -f\n{head}\ntable inet {TABLE}\nflush table inet {TABLE}\n\ntable inet {TABLE} {{\n");
    let [open4, open6] = OPEN_SETS;
    text += "\t# openings, with timeouts: address, protocol, port\n";
    for (name, address) in [(open4, "ipv4_addr"), (open6, "ipv6_addr")] {
        text += &set(name, &format!("{address} . inet_proto . inet_service"), OPENINGS, "timeout", "");
    }
    if rules.iter().any(|rule| rule.matches.iter().any(|match_| matches!(match_, Match::AtMost(_)))) {
        text += &format!("\t# rate of answers to each source network: /{NETWORK_V4} in IPv4, /{NETWORK_V6} in IPv6\n");
        let forget = format!("\t\ttimeout {FORGET_SECONDS}s\n");
        for limit in LIMITS {
            for (number, address) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
                text += &set(&format!("{}{number}", limit.name), address, NETWORKS, "dynamic,timeout", &forget);
            }
        }
    }
    text += "\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n";
    for (at, rule) in rules.iter().enumerate() {
        if explain {
            // Equivalent rules for IPv4 and IPv6 are explained once.
            let is_explained = at
                .checked_sub(1)
                .and_then(|before| rules.get(before))
                .is_some_and(|before| before.without == rule.without);
            if !is_explained {
                let _ = write!(text, "\n{}", comment("\t\t", rule.without));
            }
        }
        let _ = writeln!(text, "\t\t{} comment \"{}\"", line(rule), rule.why);
    }
    text + "\t}\n}\n"
}

fn set(name: &str, kind: &str, size: u32, flags: &str, more: &str) -> String {
    format!("\tset {name} {{\n\t\ttype {kind}\n\t\tsize {size}\n\t\tflags {flags}\n{more}\t}}\n")
}

fn line(rule: &PlannedRule) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(|match_| matching(match_, rule.family)).collect();
    let [open4, open6] = OPEN_SETS;
    let verdict = match (&rule.verdict, rule.family) {
        (Verdict::Accept, _) => "accept".into(),
        (Verdict::AcceptOpened, Family::V6) => format!("ip6 saddr . meta l4proto . th dport @{open6} accept"),
        (Verdict::AcceptOpened, _) => format!("ip saddr . meta l4proto . th dport @{open4} accept"),
        // Only packets of the other family get here, but an explicit match makes the rule clear.
        (Verdict::Drop, Family::V6) if rule.matches.is_empty() => "meta nfproto ipv6 drop".into(),
        (Verdict::Drop, _) => "drop".into(),
        (Verdict::Reset, _) => "reject with tcp reset".into(),
        (Verdict::PortUnreachable, _) => "reject with icmpx type port-unreachable".into(),
        (Verdict::ProtocolUnreachable, _) => "meta nfproto ipv4 reject with icmp type prot-unreachable".into(),
    };
    words.push(verdict);
    words.join(" ")
}

fn matching(match_: &Match, family: Family) -> String {
    match match_ {
        Match::Loopback => "iif \"lo\"".into(),
        Match::Known => "ct state established,related".into(),
        Match::OpensNothing => "tcp flags & (rst | ack) != 0".into(),
        Match::Tcp => "meta l4proto tcp".into(),
        Match::Udp => "meta l4proto udp".into(),
        Match::Icmp => "ip protocol icmp".into(),
        Match::Icmpv6 => "meta nfproto ipv6 meta l4proto ipv6-icmp".into(),
        Match::Igmp => "ip protocol igmp".into(),
        Match::IcmpTypes(types) => format!("icmp type {{ {} }}", names(types)),
        Match::Icmpv6Types(types) => format!("icmpv6 type {{ {} }}", names(types)),
        Match::Hops(hops) if family == Family::V6 => format!("ip6 hoplimit {hops}"),
        Match::Hops(hops) => format!("ip ttl {hops}"),
        Match::Dhcpv6Answer => "ip6 saddr fe80::/10 udp sport 547 udp dport 546".into(),
        Match::AtMost(limit) => {
            let (number, network) = if family == Family::V6 {
                (6, format!("ip6 saddr & {}", std::net::Ipv6Addr::from(!0 << (128 - NETWORK_V6))))
            } else {
                (4, format!("ip saddr & {}", std::net::Ipv4Addr::from(!0 << (32 - NETWORK_V4))))
            };
            let (name, rate, burst) = (limit.name, limit.per_second, limit.burst);
            format!("update @{name}{number} {{ {network} limit rate {rate}/second burst {burst} packets }}")
        }
        Match::Ports(protocol, ranges) => {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            format!("{protocol} dport {{ {} }}", ranges.join(", "))
        }
    }
}

fn names(types: &[IcmpType]) -> String {
    types.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")
}
