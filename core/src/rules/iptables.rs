//! Renders the rules for `iptables-restore` and `ip6tables-restore`.

use std::fmt::Write;

use super::plan::{FORGET_SECONDS, IcmpType, Match, NETWORK_V4, NETWORK_V6, NETWORKS, PlannedRule, Verdict};
use super::{OPEN_CHAIN, PortRange, comment};
use crate::host::Family;

/// Renders the rules of one family. Loading the text replaces the whole table `filter` in one step.
pub(super) fn render(head: &str, rules: &[PlannedRule], family: Family, explain: bool) -> String {
    let mut text = format!(
        "{head}\n*filter\n:INPUT DROP [0:0]\n# this host forwards no packets; a router needs its own rules here\n\
         :FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n# the commands of doors insert their rules here\n:{OPEN_CHAIN} - [0:0]\n"
    );
    for rule in rules.iter().filter(|rule| rule.family == Family::Any || rule.family == family) {
        if explain {
            let _ = write!(text, "\n{}", comment("", rule.without));
        }
        for matches in alternatives(rule, family) {
            let _ = writeln!(
                text,
                "-A INPUT{matches} -m comment --comment \"{}\" -j {}",
                rule.why,
                target(&rule.verdict, family)
            );
        }
    }
    text + "COMMIT\n"
}

fn target(verdict: &Verdict, family: Family) -> &'static str {
    match verdict {
        Verdict::Accept => "ACCEPT",
        Verdict::AcceptOpened => OPEN_CHAIN,
        Verdict::Drop => "DROP",
        Verdict::Reset => "REJECT --reject-with tcp-reset",
        Verdict::PortUnreachable if family == Family::V6 => "REJECT --reject-with icmp6-port-unreachable",
        Verdict::PortUnreachable => "REJECT --reject-with icmp-port-unreachable",
        Verdict::ProtocolUnreachable => "REJECT --reject-with icmp-proto-unreachable",
    }
}

/// Returns the match options of the iptables rules for a planned rule. An iptables rule matches
/// only one ICMP type and one range of ports, so there can be several.
fn alternatives(rule: &PlannedRule, family: Family) -> Vec<String> {
    let mut lines = vec![String::new()];
    for match_ in &rule.matches {
        let options = options(match_, family);
        lines = lines.iter().flat_map(|line| options.iter().map(move |more| format!("{line} {more}"))).collect();
    }
    lines
}

fn options(match_: &Match, family: Family) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    match match_ {
        Match::Loopback => one("-i lo"),
        Match::Known => one("-m conntrack --ctstate ESTABLISHED,RELATED"),
        Match::OpensNothing => one("-p tcp -m tcp ! --tcp-flags RST,ACK NONE"),
        Match::Tcp => one("-p tcp"),
        Match::Udp => one("-p udp"),
        Match::Icmp => one("-p icmp"),
        Match::Icmpv6 => one("-p ipv6-icmp"),
        Match::Igmp => one("-p igmp"),
        Match::IcmpTypes(types) => numbers("-p icmp -m icmp --icmp-type", types),
        Match::Icmpv6Types(types) => numbers("-p ipv6-icmp -m icmp6 --icmpv6-type", types),
        Match::Hops(hops) if family == Family::V6 => one(&format!("-m hl --hl-eq {hops}")),
        Match::Hops(hops) => one(&format!("-m ttl --ttl-eq {hops}")),
        Match::Dhcpv6Answer => one("-s fe80::/10 -p udp -m udp --sport 547 --dport 546"),
        Match::AtMost(limit) => {
            let mask = if family == Family::V6 { NETWORK_V6 } else { NETWORK_V4 };
            let forget = FORGET_SECONDS * 1_000;
            one(&format!(
                "-m hashlimit --hashlimit-upto {}/second --hashlimit-burst {} --hashlimit-mode srcip --hashlimit-srcmask \
                 {mask} --hashlimit-name {} --hashlimit-htable-max {NETWORKS} --hashlimit-htable-expire {forget}",
                limit.per_second, limit.burst, limit.name
            ))
        }
        Match::Ports(protocol, ranges) => ranges
            .iter()
            .map(|PortRange { first, last }| format!("-p {protocol} -m {protocol} --dport {first}:{last}"))
            .collect(),
    }
}

fn numbers(option: &str, types: &[IcmpType]) -> Vec<String> {
    types.iter().map(|kind| format!("{option} {}", kind.number)).collect()
}
