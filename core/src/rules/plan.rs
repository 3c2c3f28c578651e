//! The rules themselves, in order, with their reasons.

use super::{AllowedPorts, PortRange};
use crate::config::Refusal;
use crate::host::Family;
use crate::packet::Protocol;

/// One rule. A packet that all of `matches` fit meets the verdict.
pub(super) struct Rule {
    pub(super) family: Family,
    pub(super) matches: Vec<Match>,
    pub(super) verdict: Verdict,
    /// Why it is there, in one short line that goes into the kernel with the rule.
    pub(super) why: &'static str,
    /// What breaks without it.
    pub(super) without: &'static str,
}

/// What a rule looks at.
pub(super) enum Match {
    Loopback,
    /// What belongs to a connection or a dialogue that is known.
    Known,
    /// A segment with ACK or RST, which opens no connection.
    OpensNothing,
    Tcp,
    Udp,
    Icmp,
    Icmpv6,
    Igmp,
    IcmpTypes(&'static [IcmpType]),
    Icmpv6Types(&'static [IcmpType]),
    /// The TTL or the hop limit.
    Hops(u8),
    /// From a DHCPv6 server on the link to the client.
    Dhcpv6Answer,
    /// No more than this.
    AtMost(&'static Limit),
    Ports(Protocol, Vec<PortRange>),
}

pub(super) enum Verdict {
    Accept,
    /// Accepts what an opening lets in.
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

/// So many packets a second, counted for each network of sources on its own.
///
/// Not for all sources together: who forges the source of a packet could then see by what is left of the limit whether it was
/// answered, and so for which addresses a door is open; and one scanner would use up everybody's share.
pub(super) struct Limit {
    /// The name for what is counted.
    pub(super) name: &'static str,
    pub(super) per_second: u32,
    pub(super) burst: u32,
}

/// The prefix lengths of the networks that limits are counted for.
pub(super) const NETWORK_V4: u8 = 24;
pub(super) const NETWORK_V6: u8 = 56;
/// For so many networks at once; more are not answered at all.
pub(super) const NETWORKS: u32 = 65_536;
/// A network that was quiet for so many seconds is forgotten. Its burst is full again by then.
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

/// All rules, the first one that fits decides.
pub(super) fn rules(refusal: Refusal, allow: &AllowedPorts) -> Vec<Rule> {
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

fn rule(family: Family, matches: Vec<Match>, verdict: Verdict, why: &'static str, without: &'static str) -> Rule {
    Rule { family, matches, verdict, why, without }
}

/// What no host can do without.
fn needed() -> Vec<Rule> {
    vec![
        rule(
            Any,
            vec![Match::Loopback],
            Verdict::Accept,
            "loopback: programs of this host talk to each other",
            "Without it databases, resolvers, mail and everything else that talks to localhost hangs or is refused.",
        ),
        rule(
            Any,
            vec![Match::Known],
            Verdict::Accept,
            "answers to what this host began, connections let in before, and errors about both",
            "Without it no connection to the outside works, no name is resolved, and whoever came in by a knock is cut off when \
             the opening ends.",
        ),
        rule(
            V4,
            vec![Match::IcmpTypes(ERRORS_V4)],
            Verdict::Accept,
            "ICMP errors: path MTU discovery, unreachable, time exceeded",
            "Without it large transfers stall where a link on the way takes smaller packets only, and errors are noticed by \
             timeouts alone. The kernel looks whether an error belongs to something that was sent.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(ERRORS_V6)],
            Verdict::Accept,
            "ICMPv6 errors: path MTU discovery (packet too big), unreachable, time exceeded",
            "Without it large transfers stall: in IPv6 no router cuts packets up, the sender has to be told.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(NEIGHBOURS), Match::Hops(255)],
            Verdict::Accept,
            "neighbour discovery and router advertisements, from this link only (hop limit 255)",
            "Without it nobody on the link finds this host's hardware address and IPv6 is dead within a minute. A hop limit of \
             255 shows that no router has forwarded the packet.",
        ),
        rule(
            V6,
            vec![Match::Icmpv6Types(GROUP_QUERY), Match::Hops(1)],
            Verdict::Accept,
            "multicast queries of the router on this link, without which switches forget this host",
            "Without it a switch that watches multicast stops passing neighbour solicitations on after some minutes.",
        ),
        rule(
            V4,
            vec![Match::Igmp, Match::Hops(1)],
            Verdict::Accept,
            "multicast queries of the router on this link, without which switches forget this host",
            "Without it a switch that watches multicast stops passing on the groups that this host has joined.",
        ),
        rule(
            V6,
            vec![Match::Dhcpv6Answer],
            Verdict::Accept,
            "DHCPv6: the server answers from an address that was not asked, so it is no known dialogue",
            "Without it a host that gets its IPv6 address by DHCPv6 loses it.",
        ),
    ]
}

/// What a host answers that can be seen.
fn pings() -> Vec<Rule> {
    let answered = "ping is answered, up to a rate for each network of sources";
    let reason = "A host that refuses connections and does not answer ping is odd, and you want to ping it. More than the rate is \
                  not answered, so that nobody can have somebody else flooded by forged pings.";
    let dropped = "all other ICMP gets no answer: no host answers ICMP with an error";
    let why_dropped = "Without it the last rule would answer ICMP by `protocol unreachable`, which no real host does.";
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
            "Without it the last rule would answer IGMP by `protocol unreachable`, which no real host does.",
        ),
    ]
}

/// Where knocks open.
fn doors() -> Vec<Rule> {
    [V4, V6]
        .into_iter()
        .map(|family| {
            rule(
                family,
                vec![],
                Verdict::AcceptOpened,
                "doors: the ports that are open for this source, since it has knocked",
                "Here knocks open. It stands before all refusals, and before the ports for everyone, which it does not concern.",
            )
        })
        .collect()
}

fn allowed(allow: &AllowedPorts) -> Vec<Rule> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .map(|protocol| (protocol, allow.ranges(protocol)))
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(protocol, ranges)| {
            rule(
                Any,
                vec![Match::Ports(protocol, ranges)],
                Verdict::Accept,
                "open for everyone",
                "The ports of --allow. A port of a door does not belong here: it would need no knock.",
            )
        })
        .collect()
}

/// The answers of a host on which nothing listens.
fn refusals() -> Vec<Rule> {
    let native =
        "TCP that opens nothing: the kernel refuses it itself, but knows living connections; up to the same rate";
    let why_native = "A segment with ACK or RST opens no connection, on any port: what belongs to none the kernel answers by a reset, be \
                      there a listener or not. Without it, connections from before these rules, which connection tracking does not \
                      know, would be reset when they are loaded, the one that you load them over among them; and now and then a \
                      healthy connection by a segment that comes late.";
    let reset = "TCP: refused like a port without a listener, up to a rate for each network of sources";
    let why_reset = "The same answer for every port: a port behind a door looks like one on which nothing listens. More than the \
                     rate is not answered, so that forged segments do not have this host throw resets at somebody else. The rate \
                     is far above what people do; a scan of all ports gets slower by it and sees all ports alike.";
    vec![
        rule(V4, vec![Match::OpensNothing, Match::AtMost(&RESETS)], Verdict::Accept, native, why_native),
        rule(V6, vec![Match::OpensNothing, Match::AtMost(&RESETS)], Verdict::Accept, native, why_native),
        rule(V4, vec![Match::Tcp, Match::AtMost(&RESETS)], Verdict::Reset, reset, why_reset),
        rule(V6, vec![Match::Tcp, Match::AtMost(&RESETS)], Verdict::Reset, reset, why_reset),
        rule(
            Any,
            vec![Match::Tcp],
            Verdict::Drop,
            "TCP beyond that rate: no answer, so that forged sources get no reflector",
            "Without it the rules below would answer what is too much.",
        ),
        rule(
            Any,
            vec![Match::Udp],
            Verdict::PortUnreachable,
            "UDP: refused like a port without a listener; the kernel limits the rate itself (icmp_ratelimit)",
            "No limit of its own: the kernel sends these errors as rarely as those for ports without a listener (IPv4: one a second \
             for each source), and a second limit would make the two differ.",
        ),
        rule(
            V4,
            vec![],
            Verdict::ProtocolUnreachable,
            "other protocols: refused like one that this host does not speak; the kernel limits the rate itself",
            "SCTP, GRE and all others. The kernel limits these errors, too.",
        ),
        rule(
            V6,
            vec![],
            Verdict::Drop,
            "other protocols over IPv6: no answer, since no packet filter can send the right one",
            "A host without a packet filter would say `parameter problem`, which neither nft nor ip6tables can.",
        ),
    ]
}

fn silence() -> Rule {
    rule(
        Any,
        vec![],
        Verdict::Drop,
        "everything else gets no answer, ping neither: this host looks absent",
        "The same silence for every port and protocol. One answer, even to a ping, would tell that somebody is there who hides \
         something.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_into_the_kernel() {
        for refusal in [Refusal::Reject, Refusal::Drop] {
            for rule in rules(refusal, &"22,U:53".parse().unwrap()) {
                // nft takes 127 bytes, iptables 255.
                assert!((1..=127).contains(&rule.why.len()), "{}", rule.why);
                assert!(!rule.why.contains(['"', '\\', '\n', '`']) && rule.why.is_ascii(), "{}", rule.why);
                assert!(!rule.without.is_empty(), "{}", rule.why);
            }
        }
    }
}
