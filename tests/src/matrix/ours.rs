//! `portknock probe`, and its verdicts about the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;

use super::{Family, Matrix, Verdict, Verdicts, ports_by_address};
use crate::{Output, Probed, Scan, probe_command};

impl Matrix {
    /// Verdicts of `portknock probe` about all cases of the scan's protocol, all ports of an
    /// address in one run.
    pub fn portknock(&self, scan: Scan) -> Verdicts {
        let cases = self.cases_of(scan, &Family::BOTH);
        let seen: BTreeMap<(IpAddr, u16), Verdict> = thread::scope(|scope| {
            let runs: Vec<_> = ports_by_address(&cases)
                .into_iter()
                .map(|(address, ports)| scope.spawn(move || self.probe(scan, address, &ports)))
                .collect();
            runs.into_iter().flat_map(|run| run.join().expect("portknock runs")).collect()
        });
        let verdict_of = |address, port| seen.get(&(address, port)).cloned();
        let verdicts = cases.iter().map(|case| {
            let verdict = verdict_of(case.address, case.port).unwrap_or_else(|| panic!("no verdict about {}", case.id));
            (case.id.clone(), verdict)
        });
        verdicts.collect()
    }

    fn probe(&self, scan: Scan, address: IpAddr, ports: &BTreeSet<u16>) -> Vec<((IpAddr, u16), Verdict)> {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let output = Output::of(&mut probe_command(&self.client, scan, &format!("{address} {list}")));
        if output.code == Some(0) {
            let of_port = |probed: Probed| ((address, probed.port), probed.verdict);
            return Probed::all(&output.stdout).into_iter().map(of_port).collect();
        }
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
        assert!(output.stderr.starts_with(&format!("portknock: no route to {address}: ")), "{output:?}");
        let [state, reason] = Verdict::NO_ROUTE_HERE;
        ports.iter().map(|&port| ((address, port), Verdict::new(state, reason))).collect()
    }
}
