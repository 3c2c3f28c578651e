//! The rules for `nft -f`.

use std::fmt::Write;

use super::plan::{FORGET_SECONDS, IcmpType, LIMITS, Match, NETWORK_V4, NETWORK_V6, NETWORKS, Rule, Verdict};
use super::{OPEN_SETS, TABLE, comment};
use crate::host::Family;

/// So many openings fit into each set.
const OPENINGS: u32 = 131_072;

/// The table is made where it is not there yet, and its rules are replaced in one step. The sets are only declared: what is in
/// them stays.
pub(super) fn render(head: &str, rules: &[Rule], explain: bool) -> String {
    let mut text =
        format!("#!/usr/sbin/nft -f\n{head}\ntable inet {TABLE}\nflush table inet {TABLE}\n\ntable inet {TABLE} {{\n");
    let [open4, open6] = OPEN_SETS;
    text += "\t# who may reach which port, and for how long: address, protocol, port\n";
    for (name, address) in [(open4, "ipv4_addr"), (open6, "ipv6_addr")] {
        text += &set(name, &format!("{address} . inet_proto . inet_service"), OPENINGS, "timeout", "");
    }
    if rules.iter().any(|rule| rule.matches.iter().any(|match_| matches!(match_, Match::AtMost(_)))) {
        text += &format!(
            "\t# how much each network of sources was answered: /{NETWORK_V4} in IPv4, /{NETWORK_V6} in IPv6\n"
        );
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
            // Rules that say the same for IPv4 and IPv6 are explained once.
            let said = at
                .checked_sub(1)
                .and_then(|before| rules.get(before))
                .is_some_and(|before| before.without == rule.without);
            if !said {
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

fn line(rule: &Rule) -> String {
    let mut words: Vec<String> = rule.matches.iter().map(|match_| matching(match_, rule.family)).collect();
    let [open4, open6] = OPEN_SETS;
    let verdict = match (&rule.verdict, rule.family) {
        (Verdict::Accept, _) => "accept".into(),
        (Verdict::AcceptOpened, Family::V6) => format!("ip6 saddr . meta l4proto . th dport @{open6} accept"),
        (Verdict::AcceptOpened, _) => format!("ip saddr . meta l4proto . th dport @{open4} accept"),
        // By the time these come, the other family is all that is left; but a rule should say what it means.
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
