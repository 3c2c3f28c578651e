//! Ports, as all of nmap's scan types see them.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use crate::{Host, Output, require};

/// SYN and UDP, connect, ACK, window, FIN, NULL, Xmas and Maimon.
pub const SCANS: [&str; 8] = ["-sS -sU", "-sT", "-sA", "-sW", "-sF", "-sN", "-sX", "-sM"];

/// The result of one scan for a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// State, reason and time to live, as in `closed reset ttl 64`.
    pub answer: String,
    /// The segments that the port sent: flags, time to live, whether there is a flow label, length
    /// and window; without the numbers that the kernel chooses.
    pub segments: BTreeSet<String>,
}

/// The result of each scan for a port, as in `22/tcp`.
pub type ScanResults = BTreeMap<&'static str, ScanResult>;

/// The results of all scans for these ports of an address. `ports` is nmap's list, as in
/// `T:22,23,U:53`; the result has names as in `22/tcp`. All scans run in parallel.
pub fn scan_all(host: &Host, scans: &[&'static str], address: &str, ports: &str) -> BTreeMap<String, ScanResults> {
    require("nmap");
    let mut all: BTreeMap<String, ScanResults> = BTreeMap::new();
    thread::scope(|scope| {
        let runs: Vec<_> =
            scans.iter().map(|&scan| (scan, scope.spawn(move || run(host, scan, address, ports)))).collect();
        for (scan, run) in runs {
            for (port, result) in run.join().expect("nmap runs") {
                all.entry(port).or_default().insert(scan, result);
            }
        }
    });
    all
}

fn run(host: &Host, scan: &str, address: &str, ports: &str) -> BTreeMap<String, ScanResult> {
    let family = if address.contains(':') { "-6" } else { "-4" };
    let words = format!("{scan} {family} -n -Pn -vvv --reason --packet-trace -p {ports} {address}");
    let output = Output::of(host.command("nmap").args(words.split(' ')));
    assert_eq!(output.code, Some(0), "nmap {words}: {output:?}");
    let mut results: BTreeMap<String, ScanResult> = BTreeMap::new();
    // Answers to the other scans arrive too; they go to other ports.
    let mut sent_from = BTreeSet::new();
    for line in output.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            // 22/tcp closed ssh reset ttl 64
            [port, state, _service, ref reason @ ..] if port.ends_with("/tcp") || port.ends_with("/udp") => {
                results.entry(port.into()).or_default().answer = format!("{state} {}", reason.join(" "));
            }
            ["SENT", _, "TCP", from, ">", ..] => {
                sent_from.insert(from);
            }
            // RCVD (0.1s) TCP 10.0.0.1:22 > 10.0.0.2:41822 RA ttl=64 id=0 iplen=40 seq=0 win=0
            ["RCVD", _, "TCP", from, ">", to, ref fields @ ..] if sent_from.contains(to) => {
                let port = from.rsplit_once(':').expect("nmap writes the port after a colon").1;
                let fields: Vec<&str> = fields
                    .iter()
                    .filter(|field| !field.starts_with("seq="))
                    .map(|&field| if field.starts_with("flow=") && field != "flow=0" { "flow" } else { field })
                    .collect();
                results.entry(format!("{port}/tcp")).or_default().segments.insert(fields.join(" "));
            }
            _ => {}
        }
    }
    results
}
