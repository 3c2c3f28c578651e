//! The rules of the packet filter, in order, with their reasons.

use super::{AllowedPorts, PortRange};
use crate::config::Refusal;
use crate::host::Family;
use crate::packet::Protocol;

/// One rule of the packet filter. The verdict applies to packets that match all of `matches`.
pub(super) struct PlannedRule {
    pub(super) family: Family,
    pub(super) matches: Vec<Match>,
    pub(super) verdict: Verdict,
    /// The reason for the rule, on one short line. The kernel stores it as the rule's comment.
    pub(super) why: &'static str,
    /// The consequences without the rule.
    pub(super) without: &'static str,
}

/// A property of packets that a rule matches.
pub(super) enum Match {
    Loopback,
    /// Belongs to a tracked connection.
    Known,
    /// Is a TCP segment with ACK or RST, which opens no connection.
    OpensNothing,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Igmp,
    IcmpTypes(&'static [IcmpType]),
    Icmpv6Types(&'static [IcmpType]),
    /// Has this TTL or hop limit.
    Hops(u8),
    /// Is a message from a DHCPv6 server on the link to the client.
    Dhcpv6Answer,
    /// Is within this rate.
    AtMost(&'static Limit),
    Ports(Protocol, Vec<PortRange>),
}

pub(super) enum Verdict {
    Accept,
    /// Accepts packets for which there is an opening.
    AcceptOpened,
    Drop,
    Reset,
    PortUnreachable,
    ProtocolUnreachable,
}

/// A type of ICMP or ICMPv6.
pub(super) struct IcmpType {
    pub(super) name: &'static str,
    pub(super) number: u8,
}

/// A rate limit for each network of sources.
///
/// A common limit for all sources would disclose openings. An attacker that spoofs the source of a
/// packet could measure, by the remainder of the limit, whether the host answered: the answer shows
/// for which addresses a door is open. In addition, one scanner would consume the limit of all
/// other clients.
pub(super) struct Limit {
    /// The name of the limited packets.
    pub(super) name: &'static str,
    /// Rate, in packets per second.
    pub(super) per_second: u32,
    /// Maximum burst, in packets.
    pub(super) burst: u32,
}

/// Prefix lengths of the source networks that have separate limits, in bits.
pub(super) const NETWORK_V4: u8 = 24;
pub(super) const NETWORK_V6: u8 = 56;
/// Maximum number of networks with a limit at the same time. The host does not answer further
/// networks.
pub(super) const NETWORKS: u32 = 65_536;
/// Time after the last packet of a network at which the kernel discards its limit, in seconds. The
/// burst has been refilled by then.
pub(super) const FORGET_SECONDS: u32 = 10;

pub(super) const LIMITS: [&Limit; 2] = [&RESETS, &ECHOES];
const RESETS: Limit = Limit { name: "resets", per_second: 1_000, burst: 2_000 };
const ECHOES: Limit = Limit { name: "echoes", per_second: 20, burst: 40 };

const fn icmp(name: &'static str, number: u8) -> IcmpType {
    IcmpType { name, number }
}

const ERRORS_V4: &[IcmpType] =
    &[icmp("destination-unreachable", 3), icmp("time-exceeded", 11), icmp("parameter-problem", 12)];
const ERRORS_V6: &[IcmpType] = &[
    icmp("destination-unreachable", 1),
    icmp("packet-too-big", 2),
    icmp("time-exceeded", 3),
    icmp("parameter-problem", 4),
];
const NEIGHBOURS: &[IcmpType] =
    &[icmp("nd-router-advert", 134), icmp("nd-neighbor-solicit", 135), icmp("nd-neighbor-advert", 136)];
const GROUP_QUERY: &[IcmpType] = &[icmp("mld-listener-query", 130)];
const ECHO_V4: &[IcmpType] = &[icmp("echo-request", 8)];
const ECHO_V6: &[IcmpType] = &[icmp("echo-request", 128)];

/// Returns all rules in order. The first rule that matches a packet decides.
pub(super) fn rules(refusal: Refusal, allow: &AllowedPorts) -> Vec<PlannedRule> {
    let mut rules = needed();
    if refusal == Refusal::Reject {
        rules.extend(pings());
    }
    rules.extend(doors());
    rules.extend(allowed(allow));
    rules.extend(match refusal {
        Refusal::Reject => refusals(),
        Refusal::Drop => vec![silence()],
    });
    rules
}

use Family::{Any, V4, V6};

fn rule(
    family: Family,
    matches: Vec<Match>,
    verdict: Verdict,
    why: &'static str,
    without: &'static str,
) -> PlannedRule {
    PlannedRule { family, matches, verdict, why, without }
}

/// Returns the rules that every host needs.
fn needed() -> Vec<PlannedRule> {
    vec![
        rule(
            Any,
            vec![Match::Loopback],
            Verdict::Accept,
            "loopback: programs of this host communicate with each other",
            "Without this rule, databases, resolvers, mail and all other programs that connect to localhost hang or fail.",
        ),
        rule(
            Any,
            vec![Match::Known],
            Verdict::Accept,
            "answers to connections of this host, accepted connections, and errors about both",
            "Without this rule, no connection to the outside works, names cannot be resolved, and a client that knocked loses \
             its connection when the opening ends.",
        ),
        rule(
            V4,
            vec![Match::IcmpTypes(ERRORS_V4)],
            Verdict::Accept,
            "ICMP errors: path MTU discovery, unreachable, time exceeded",
            "Without this rule, large transfers stall if a link on the path accepts only smaller packets, and programs notice \
             errors only by timeouts. The kernel checks whether an error belongs to a packet that this host sent.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(ERRORS_V6)],
            Verdict::Accept,
            "ICMPv6 errors: path MTU discovery (packet too big), unreachable, time exceeded",
            "Without this rule, large transfers stall: IPv6 routers do not fragment packets, they notify the sender.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(NEIGHBOURS), Match::Hops(255)],
            Verdict::Accept,
            "neighbour discovery and router advertisements, from this link only (hop limit 255)",
            "Without this rule, no neighbour on the link finds this host's hardware address, and IPv6 stops working within a \
             minute. A hop limit of 255 shows that no router has forwarded the packet.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(GROUP_QUERY), Match::Hops(1)],
            Verdict::Accept,
            "multicast queries of the router on this link, so that switches keep forwarding to this host",
            "Without this rule, a switch with multicast snooping stops forwarding neighbour solicitations after some minutes.",
        ),
        rule(
            V4,
            vec![Match::Igmp, Match::Hops(1)],
            Verdict::Accept,
            "multicast queries of the router on this link, so that switches keep forwarding to this host",
            "Without this rule, a switch with multicast snooping stops forwarding the groups that this host has joined.",
        ),
        rule(
            V6,
            vec![Match::Dhcpv6Answer],
            Verdict::Accept,
            "DHCPv6: the server answers from an address that this host did not query, so it is not tracked",
            "Without this rule, a host that gets its IPv6 address by DHCPv6 loses it.",
        ),
    ]
}

/// Returns the rules for ping and other ICMP of a host that answers.
fn pings() -> Vec<PlannedRule> {
    let answered = "ping: answered, up to a rate for each network of sources";
    let reason = "A host that refuses connections but does not answer ping is conspicuous, and administrators want to ping it. \
                  The rate prevents attackers from flooding other hosts by pings with spoofed sources.";
    let dropped = "all other ICMP gets no answer: no host answers ICMP with an error";
    let why_dropped =
        "Without this rule, the last rule would answer ICMP with `protocol unreachable`, which no real host does.";
    vec![
        rule(V4, vec![Match::IcmpTypes(ECHO_V4), Match::AtMost(&ECHOES)], Verdict::Accept, answered, reason),
        rule(V6, vec![Match::Icmpv6Types(ECHO_V6), Match::AtMost(&ECHOES)], Verdict::Accept, answered, reason),
        rule(V4, vec![Match::Icmp], Verdict::Drop, dropped, why_dropped),
        rule(V6, vec![Match::Icmpv6], Verdict::Drop, dropped, why_dropped),
        rule(
            V4,
            vec![Match::Igmp],
            Verdict::Drop,
            "other IGMP gets no answer: no host refuses it",
            "Without this rule, the last rule would answer IGMP with `protocol unreachable`, which no real host does.",
        ),
    ]
}

/// Returns the rules that accept packets for which a knock made an opening.
fn doors() -> Vec<PlannedRule> {
    [V4, V6]
        .into_iter()
        .map(|family| {
            rule(
                family,
                vec![],
                Verdict::AcceptOpened,
                "doors: the ports that are open for this source because it has knocked",
                "Knocks take effect here. The rule is before all refusals. It does not affect the ports that are open to everyone.",
            )
        })
        .collect()
}

/// Returns the rules for the ports that are open to every client.
fn allowed(allow: &AllowedPorts) -> Vec<PlannedRule> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .map(|protocol| (protocol, allow.ranges(protocol)))
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(protocol, ranges)| {
            rule(
                Any,
                vec![Match::Ports(protocol, ranges)],
                Verdict::Accept,
                "open to everyone",
                "The ports of --allow. A port of a door does not belong here: it would be open without a knock.",
            )
        })
        .collect()
}

/// Returns the rules that answer as a host without listeners does.
fn refusals() -> Vec<PlannedRule> {
    let native =
        "TCP that opens no connection: the kernel itself refuses it or knows the connection; up to the same rate";
    let why_native = "A segment with ACK or RST opens no connection on any port. If it belongs to no connection, the kernel answers \
                      with a reset, whether the port has a listener or not. Without this rule, loading the rules would reset \
                      connections that connection tracking does not know, including the connection over which you load them. \
                      Late segments would also occasionally reset a working connection.";
    let reset = "TCP: refused like a port without a listener, up to a rate for each network of sources";
    let why_reset = "Every port gives the same answer: a protected port looks like a port without a listener. The rate prevents \
                     attackers from sending resets to other hosts by segments with spoofed sources. It is far above normal use; \
                     it slows down a scan of all ports, and to the scan all ports look alike.";
    vec![
        rule(V4, vec![Match::OpensNothing, Match::AtMost(&RESETS)], Verdict::Accept, native, why_native),
        rule(V6, vec![Match::OpensNothing, Match::AtMost(&RESETS)], Verdict::Accept, native, why_native),
        rule(V4, vec![Match::Tcp, Match::AtMost(&RESETS)], Verdict::Reset, reset, why_reset),
        rule(V6, vec![Match::Tcp, Match::AtMost(&RESETS)], Verdict::Reset, reset, why_reset),
        rule(
            Any,
            vec![Match::Tcp],
            Verdict::Drop,
            "TCP beyond that rate: no answer, so that this host does not reflect packets to spoofed sources",
            "Without this rule, the following rules would answer the packets beyond the rate.",
        ),
        rule(
            Any,
            vec![Match::Udp],
            Verdict::PortUnreachable,
            "UDP: refused like a port without a listener; the kernel limits the rate itself (icmp_ratelimit)",
            "The rule has no limit: the kernel limits these errors like those for ports without a listener (IPv4: one a second \
             for each source), and a second limit would make the two differ.",
        ),
        rule(
            V4,
            vec![],
            Verdict::ProtocolUnreachable,
            "other protocols: refused like an unsupported protocol; the kernel limits the rate itself",
            "SCTP, GRE and all others. The kernel also limits these errors.",
        ),
        rule(
            V6,
            vec![],
            Verdict::Drop,
            "other protocols over IPv6: no answer, because no packet filter can send the right one",
            "A host without a packet filter would answer `parameter problem`, which neither nft nor ip6tables can send.",
        ),
    ]
}

/// Returns the last rule of a host that answers no packet.
fn silence() -> PlannedRule {
    rule(
        Any,
        vec![],
        Verdict::Drop,
        "all other packets, including ping, get no answer: this host looks absent",
        "Every port and protocol stays silent. A single answer, even to a ping, would disclose that a host exists and hides its \
         ports.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_into_the_kernel() {
        for refusal in [Refusal::Reject, Refusal::Drop] {
            for rule in rules(refusal, &"22,U:53".parse().unwrap()) {
                // nft accepts comments of 127 bytes, iptables of 255.
                assert!((1..=127).contains(&rule.why.len()), "{}", rule.why);
                assert!(!rule.why.contains(['"', '\\', '\n', '`']) && rule.why.is_ascii(), "{}", rule.why);
                assert!(!rule.without.is_empty(), "{}", rule.why);
            }
        }
    }
}
