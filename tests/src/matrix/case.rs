//! The cases that a port or an address can be.

use std::fmt;
use std::net::IpAddr;

use portknock_core::Protocol;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The one of the two values that belongs to this family.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// `ipv4` or `ipv6`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("ipv4", "ipv6"))
    }
}

/// The identity of a case, in the words of the table of known answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaseId {
    /// Its name, as in `reject-tcp-reset`.
    pub name: String,
    /// IPv4 or IPv6.
    pub family: Family,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// As in `drop over ipv4 and tcp`.
impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {} and {}", self.name, self.family, self.protocol)
    }
}

/// One case: a port of the server, or a port of an address without a host that answers.
#[derive(Clone, Debug)]
pub struct Case {
    /// Identity of the case.
    pub id: CaseId,
    /// The probed address.
    pub address: IpAddr,
    /// The probed port.
    pub port: u16,
    pub(super) service: Service,
    /// The rules of the server's packet filter for it.
    pub(super) server_rules: Vec<FilterRule>,
    /// The rules of the client's own packet filter for it.
    pub(super) client_rules: Vec<FilterRule>,
}

/// The service at a port of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Nothing.
    Nothing,
    /// TCP: it accepts connections.
    Accepts,
    /// TCP: it listens but never accepts, and its queue of waiting connections is full.
    Full,
    /// UDP: it answers each datagram.
    Answers,
    /// UDP: it receives datagrams and never answers.
    Silent,
}

/// A rule for the packet filter.
#[derive(Clone, Debug)]
pub(super) struct FilterRule {
    /// The table of the rule.
    pub(super) table: &'static str,
    /// Its line for `iptables-restore`.
    pub(super) line: String,
}

/// The server: it is on the client's link, and the router to everything else.
pub(super) const SERVER: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// The source address that the server accepts if it refuses the client's usual one.
pub(super) const FRIEND: [&str; 2] = ["10.77.0.3", "fd77::3"];
/// An address, reached through the server, that no host has.
const DEAD: [&str; 2] = ["10.77.1.98", "fd77:0:0:1::98"];

/// A name, the service at the port, and the rules for it. A rule is a table, a chain, and a match
/// with its target; `PORT`, `FRIEND` and `DEAD` stand for the port and for these addresses.
type Port = (&'static str, Service, &'static [&'static str]);

const TCP: &[Port] = &[
    ("open", Service::Accepts, &[]),
    ("closed", Service::Nothing, &[]),
    ("drop", Service::Nothing, &["filter INPUT --dport PORT -j DROP"]),
    ("reject-tcp-reset", Service::Nothing, &["filter INPUT --dport PORT -j REJECT --reject-with tcp-reset"]),
    ("listen-srcfw-drop", Service::Accepts, &["filter INPUT --dport PORT ! -s FRIEND -j DROP"]),
    (
        "listen-srcfw-tcp-reset",
        Service::Accepts,
        &["filter INPUT --dport PORT ! -s FRIEND -j REJECT --reject-with tcp-reset"],
    ),
    ("listen-srcfw-reject-default", Service::Accepts, &["filter INPUT --dport PORT ! -s FRIEND -j REJECT"]),
    (
        "open-ackfilter-stateful",
        Service::Accepts,
        &[
            "filter INPUT --dport PORT -m conntrack --ctstate INVALID -j DROP",
            "filter INPUT --dport PORT ! --syn -m conntrack --ctstate NEW -j DROP",
        ],
    ),
    ("synblock-drop-stateless", Service::Accepts, &["filter INPUT --dport PORT --syn -j DROP"]),
    (
        "synblock-reset-stateless",
        Service::Accepts,
        &["filter INPUT --dport PORT --syn -j REJECT --reject-with tcp-reset"],
    ),
    ("listen-backlog-full", Service::Full, &[]),
    ("closed-rst-suppressed", Service::Nothing, &["filter OUTPUT --sport PORT --tcp-flags RST RST -j DROP"]),
    (
        SYNPROXY,
        Service::Nothing,
        &[
            "raw PREROUTING --dport PORT --syn -j CT --notrack",
            "filter INPUT --dport PORT -m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --sack-perm --timestamp \
             --wscale 7 --mss 1460",
        ],
    ),
    (
        "open-synlimit",
        Service::Accepts,
        &[
            "filter INPUT --dport PORT --syn -m limit --limit 1/s --limit-burst 1 -j ACCEPT",
            "filter INPUT --dport PORT --syn -j DROP",
        ],
    ),
    ("dnat-dead-host", Service::Nothing, &["nat PREROUTING --dport PORT -j DNAT --to-destination DEAD"]),
    (
        "drop-first-syn",
        Service::Accepts,
        &[
            "filter INPUT --dport PORT --syn -m recent --name first --rcheck -j ACCEPT",
            "filter INPUT --dport PORT --syn -m recent --name first --set -j DROP",
        ],
    ),
];

/// The one case whose rules some kernels do not support.
pub(super) const SYNPROXY: &str = "synproxy-closed";

const UDP: &[Port] = &[
    ("open-answers", Service::Answers, &[]),
    ("open-silent", Service::Silent, &[]),
    ("closed", Service::Nothing, &[]),
    ("drop", Service::Nothing, &["filter INPUT --dport PORT -j DROP"]),
    ("open-answers-srcfw-drop", Service::Answers, &["filter INPUT --dport PORT ! -s FRIEND -j DROP"]),
    ("open-answers-srcfw-reject", Service::Answers, &["filter INPUT --dport PORT ! -s FRIEND -j REJECT"]),
];

/// The same for rules in the client's own packet filter.
const TCP_HINDERED_BY_THE_CLIENT: &[Port] = &[
    ("local-output-drop", Service::Accepts, &["filter OUTPUT --dport PORT -j DROP"]),
    ("local-output-reject", Service::Accepts, &["filter OUTPUT --dport PORT -j REJECT"]),
    ("local-input-drop", Service::Accepts, &["filter INPUT --sport PORT -j DROP"]),
];

/// The ICMP errors that REJECT can send over IPv4.
const REJECT_4: &[&str] = &[
    "icmp-port-unreachable",
    "icmp-host-unreachable",
    "icmp-net-unreachable",
    "icmp-proto-unreachable",
    "icmp-net-prohibited",
    "icmp-host-prohibited",
    "icmp-admin-prohibited",
];

/// Those over IPv6.
const REJECT_6: &[&str] = &[
    "icmp6-port-unreachable",
    "icmp6-no-route",
    "icmp6-addr-unreachable",
    "icmp6-adm-prohibited",
    "icmp6-policy-fail",
    "icmp6-reject-route",
];

/// Addresses without a host that answers; see the routes of client and server.
const NO_HOST: &[(&str, [&str; 2])] = &[
    ("host-absent-onlink", ["10.77.0.99", "fd77::99"]),
    ("host-absent-routed", ["10.77.1.99", "fd77:0:0:1::99"]),
    ("route-unreachable", ["10.77.2.9", "fd77:0:0:2::9"]),
    ("route-prohibit", ["10.77.3.9", "fd77:0:0:3::9"]),
    ("route-blackhole", ["10.77.4.9", "fd77:0:0:4::9"]),
    ("route-none", ["10.77.5.9", "fd77:0:0:5::9"]),
    ("local-route-unreachable", ["10.77.200.9", "fd77:0:0:200::9"]),
    ("local-route-prohibit", ["10.77.201.9", "fd77:0:0:201::9"]),
    ("local-route-blackhole", ["10.77.202.9", "fd77:0:0:202::9"]),
];

fn at_server(name: String, family: Family, protocol: Protocol, port: u16, service: Service) -> Case {
    let [v4, v6] = SERVER;
    let address = family.pick(v4, v6).parse().expect("an address");
    let id = CaseId { name, family, protocol };
    Case { id, address, port, service, server_rules: Vec::new(), client_rules: Vec::new() }
}

impl Case {
    /// All cases. Each has its own port at the server, or its own address.
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for family in Family::BOTH {
            let rejects = family.pick(REJECT_4, REJECT_6);
            for (protocol, first_port, ports) in [(Protocol::Tcp, 1000, TCP), (Protocol::Udp, 2000, UDP)] {
                for (port, &(name, service, rules)) in (first_port..).zip(ports) {
                    let mut case = at_server(name.into(), family, protocol, port, service);
                    case.server_rules = rules.iter().map(|rule| case.rule(rule)).collect();
                    cases.push(case);
                }
                for (port, kind) in (first_port + 100..).zip(rejects) {
                    let mut case = at_server(format!("reject-{kind}"), family, protocol, port, Service::Nothing);
                    let rule = format!("filter INPUT --dport PORT -j REJECT --reject-with {kind}");
                    case.server_rules = vec![case.rule(&rule)];
                    cases.push(case);
                }
            }
            for (port, &(name, service, rules)) in (1200..).zip(TCP_HINDERED_BY_THE_CLIENT) {
                let mut case = at_server(name.into(), family, Protocol::Tcp, port, service);
                case.client_rules = rules.iter().map(|rule| case.rule(rule)).collect();
                cases.push(case);
            }
            for (name, [v4, v6]) in NO_HOST {
                let mut case = at_server((*name).into(), family, Protocol::Tcp, 80, Service::Nothing);
                case.address = family.pick(v4, v6).parse().expect("an address");
                cases.push(case);
            }
        }
        cases
    }

    /// A rule of the lists above, for this case.
    fn rule(&self, text: &str) -> FilterRule {
        let [friend, dead] = [FRIEND, DEAD].map(|[v4, v6]| self.id.family.pick(v4, v6));
        let text = text.replace("PORT", &self.port.to_string()).replace("FRIEND", friend).replace("DEAD", dead);
        let mut words = text.splitn(3, ' ');
        let mut word = || words.next().expect("a rule is a table, a chain, and a match with its target");
        let table = match word() {
            "filter" => "filter",
            "nat" => "nat",
            "raw" => "raw",
            other => panic!("there is no table {other}"),
        };
        let (chain, rest) = (word(), word());
        FilterRule { table, line: format!("-A {chain} -p {} {rest}", self.id.protocol) }
    }
}
