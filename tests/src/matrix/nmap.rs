//! nmap, and its verdicts about the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;

use super::{Case, Family, Matrix, Verdict, Verdicts, ports_by_address};
use crate::{Host, Output, Scan, UNPRIVILEGED, require};

impl Matrix {
    /// nmap's verdicts about all cases of these families and of the scan's protocol.
    pub fn nmap(&self, scan: Scan, families: &[Family]) -> Verdicts {
        let cases = self.cases_of(scan, families);
        // One run for all cases with the same ports to probe: the server's, and those of all other
        // addresses.
        let mut batches: BTreeMap<(Family, BTreeSet<u16>), Vec<IpAddr>> = BTreeMap::new();
        for (address, ports) in ports_by_address(&cases) {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            batches.entry((family, ports)).or_default().push(address);
        }
        let seen: BTreeMap<(IpAddr, u16), Verdict> = thread::scope(|scope| {
            let runs: Vec<_> = batches
                .iter()
                .map(|((_, ports), addresses)| scope.spawn(move || nmap(&self.client, scan, addresses, ports)))
                .collect();
            runs.into_iter().flat_map(|run| run.join().expect("nmap runs")).collect()
        });
        let verdict = |case: &Case| {
            let down = || Verdict::new(Verdict::HOST_DOWN, "");
            (case.id.clone(), seen.get(&(case.address, case.port)).cloned().unwrap_or_else(down))
        };
        cases.into_iter().map(verdict).collect()
    }
}

/// nmap's verdicts about these ports of these addresses, all of one family; none about hosts that
/// it considers down.
pub fn nmap(host: &Host, scan: Scan, addresses: &[IpAddr], ports: &BTreeSet<u16>) -> BTreeMap<(IpAddr, u16), Verdict> {
    require("nmap");
    let mut words: Vec<String> = Vec::new();
    match scan {
        Scan::Syn => words.extend(["nmap", "-sS"].map(String::from)),
        Scan::Udp => words.extend(["nmap", "-sU"].map(String::from)),
        Scan::Connect => {
            words.extend(UNPRIVILEGED.iter().chain(&["nmap", "--unprivileged", "-sT"]).copied().map(String::from));
        }
    }
    // With `-v` three times nmap lists each port, however many are equal.
    words.extend(["-n", "-Pn", "-vvv", "--reason", "-oX", "-", "-p"].map(String::from));
    words.push(ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
    if addresses.iter().any(IpAddr::is_ipv6) {
        words.push("-6".into());
    }
    words.extend(addresses.iter().map(IpAddr::to_string));
    let output = Output::of(host.command(&words[0]).args(&words[1..]));
    assert!(output.code == Some(0) && output.stdout.contains("exit=\"success\""), "{words:?}: {output:?}");
    parse(&output.stdout)
}

/// The ports in nmap's XML.
fn parse(xml: &str) -> BTreeMap<(IpAddr, u16), Verdict> {
    let mut verdicts = BTreeMap::new();
    for host in xml.split("<host ").skip(1) {
        let address = attribute(host, "addr").parse().expect("nmap gives an address to each host");
        for port in host.split("<port ").skip(1) {
            let number = attribute(port, "portid").parse().expect("nmap numbers ports");
            verdicts.insert((address, number), Verdict::new(attribute(port, "state"), attribute(port, "reason")));
        }
    }
    verdicts
}

/// The first attribute of this name.
fn attribute<'a>(xml: &'a str, name: &str) -> &'a str {
    let value = xml.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.unwrap_or_else(|| panic!("no attribute `{name}` in {xml}")).0
}
