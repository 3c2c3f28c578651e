//! All situations that a port probe can meet, in one network: listeners, packet filters, missing
//! hosts and missing routes.

mod case;
mod nmap;
mod ours;
mod truth;
mod verdict;

pub use case::{Case, CaseId, Family};
pub use nmap::nmap;
pub use truth::Truth;
pub use verdict::{Verdict, Verdicts};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use portknock_core::Protocol;

use case::{FRIEND, FilterRule, SERVER, SYNPROXY, Service};

use crate::lab::{connect, give, know};
use crate::{Host, Output, Process, Scan, binary, require, skipped};

/// A client, a server that is also its router, and every case between them.
///
/// Some cases remember earlier probes. So each probing program gets its own matrix, and no program
/// is affected by another.
#[derive(Debug)]
pub struct Matrix {
    /// 10.77.0.1 and fd77::1; also 10.77.0.3 and fd77::3, which it uses only on request.
    pub client: Host,
    /// 10.77.0.2 and fd77::2, and the way to all other networks.
    pub server: Host,
    /// Every case.
    pub cases: Vec<Case>,
    _services: Vec<Process>,
}

impl Matrix {
    /// Builds the matrix. A case that the kernel does not support is reported as skipped and
    /// omitted.
    pub fn new() -> Self {
        require("iptables");
        let client = Host::new("client");
        let server = Host::new("server");
        lay_network(&client, &server);
        let mut cases = Case::all();
        let services = start_services(&server, &cases);
        cases.retain(|case| case.id.name != SYNPROXY || can_synproxy(&server, case));
        for family in Family::BOTH {
            let of_family = || cases.iter().filter(|case| case.id.family == family);
            let rules = of_family().filter(|case| case.id.name != SYNPROXY).flat_map(|case| &case.server_rules);
            let loaded =
                [load(&server, family, rules), load(&client, family, of_family().flat_map(|case| &case.client_rules))];
            for output in loaded {
                assert_eq!(output.code, Some(0), "{output:?}");
            }
        }
        Self { client, server, cases, _services: services }
    }

    /// The client's other address, to which the server permits more.
    pub fn friend_address(family: Family) -> &'static str {
        let [v4, v6] = FRIEND;
        family.pick(v4, v6)
    }

    /// The cases of these families and of the scan's protocol.
    fn cases_of(&self, scan: Scan, families: &[Family]) -> Vec<&Case> {
        let wanted = |id: &CaseId| id.protocol == scan.protocol() && families.contains(&id.family);
        self.cases.iter().filter(|case| wanted(&case.id)).collect()
    }

    /// The case of this name.
    pub fn case(&self, name: &str, family: Family, protocol: Protocol) -> &Case {
        let id = CaseId { name: name.into(), family, protocol };
        self.cases.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("there is no case {id}"))
    }
}

impl Default for Matrix {
    fn default() -> Self {
        Self::new()
    }
}

/// The ports to probe at each address.
fn ports_by_address(cases: &[&Case]) -> BTreeMap<IpAddr, BTreeSet<u16>> {
    let mut ports: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for case in cases {
        ports.entry(case.address).or_default().insert(case.port);
    }
    ports
}

fn lay_network(client: &Host, server: &Host) {
    connect((client, "eth0"), (server, "eth0"));
    give(client, "eth0", ["10.77.0.1/24", "fd77::1/64"], "02:00:00:00:00:01");
    give(server, "eth0", ["10.77.0.2/24", "fd77::2/64"], "02:00:00:00:00:02");
    know(client, "eth0", SERVER, "02:00:00:00:00:02");
    know(server, "eth0", ["10.77.0.1", "fd77::1"], "02:00:00:00:00:01");
    know(server, "eth0", FRIEND, "02:00:00:00:00:01");
    // An address whose preferred lifetime is over is used only on request.
    client.ok("ip addr add 10.77.0.3/24 dev eth0
         ip addr add fd77::3/64 dev eth0 preferred_lft 0 nodad
         ip route add 10.77.0.0/16 via 10.77.0.2
         ip route add fd77::/48 via fd77::2
         for route in unreachable:200 prohibit:201 blackhole:202; do
             ip route add ${route%:*} 10.77.${route#*:}.0/24
             ip route add ${route%:*} fd77:0:0:${route#*:}::/64
         done");
    // The limits on ICMP errors would hide one case by another. So the masks of the limited types
    // name no error: with a limit of 0 instead, each IPv4 error would empty the bucket of five that
    // also serves the errors of missing routes. At the far end of the second link no host has an
    // address.
    server.ok("echo 0 > /proc/sys/net/ipv4/icmp_ratemask
         echo 127 > /proc/sys/net/ipv6/icmp/ratemask
         echo 1 > /proc/sys/net/ipv4/ip_forward
         echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         ip link add lan0 type veth peer name lan1
         ip link set lan0 up
         ip link set lan1 up
         ip addr add 10.77.1.1/24 dev lan0
         ip addr add fd77:0:0:1::1/64 dev lan0 nodad
         for route in unreachable:2 prohibit:3 blackhole:4; do
             ip route add ${route%:*} 10.77.${route#*:}.0/24
             ip route add ${route%:*} fd77:0:0:${route#*:}::/64
         done");
}

/// Starts the services at the server's ports.
fn start_services(server: &Host, cases: &[Case]) -> Vec<Process> {
    let occupy = |services: &[(Service, &str)]| {
        let mut command = server.command(binary("occupy"));
        for (service, option) in services {
            // The same port has the same service over both families.
            let of_service = |case: &&Case| case.service == *service && case.id.family == Family::V4;
            let ports: Vec<String> = cases.iter().filter(of_service).map(|case| case.port.to_string()).collect();
            command.arg(option).arg(ports.join(","));
        }
        let process = Process::spawn(&mut command);
        process.wait_for("ready");
        process
    };
    // The shortest queue is soon full.
    let usual = server.ok("cat /proc/sys/net/core/somaxconn; echo 1 > /proc/sys/net/core/somaxconn");
    let full = occupy(&[(Service::Full, "--full")]);
    server.ok(&format!("echo {} > /proc/sys/net/core/somaxconn", usual.trim()));
    let others = [(Service::Accepts, "--accept"), (Service::Answers, "--answer"), (Service::Silent, "--silent")];
    vec![full, occupy(&others)]
}

/// Loads the rules of this case. Reports the case as skipped if the kernel does not support them.
fn can_synproxy(server: &Host, case: &Case) -> bool {
    let output = load(server, case.id.family, &case.server_rules);
    if output.code != Some(0) {
        skipped(&format!("{}: {}", case.id, output.stderr.trim()));
    }
    output.code == Some(0)
}

/// Adds rules to the packet filter.
fn load<'a>(host: &Host, family: Family, rules: impl IntoIterator<Item = &'a FilterRule>) -> Output {
    let mut tables: BTreeMap<&str, String> = BTreeMap::new();
    for rule in rules {
        let lines = tables.entry(rule.table).or_default();
        lines.push_str(&rule.line);
        lines.push('\n');
    }
    let mut text = String::new();
    for (table, lines) in tables {
        write!(text, "*{table}\n{lines}COMMIT\n").expect("a string accepts any text");
    }
    let restore = family.pick("iptables-restore", "ip6tables-restore");
    host.run(&format!("{restore} -w --noflush <<'RULES'\n{text}RULES"))
}
