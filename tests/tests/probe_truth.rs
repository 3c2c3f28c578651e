//! Our probe and nmap compared, on every situation that a probe can meet.

use std::sync::OnceLock;

use portknock_tests::{Case, CaseId, Family, Matrix, Scan, Truth, Verdict, Verdicts};

/// nmap's verdicts about all cases, on its own matrix. nmap runs once for each method.
fn nmap(scan: Scan) -> &'static Verdicts {
    static SYN: OnceLock<Verdicts> = OnceLock::new();
    static CONNECT: OnceLock<Verdicts> = OnceLock::new();
    static UDP: OnceLock<Verdicts> = OnceLock::new();
    let (verdicts, families) = match scan {
        Scan::Syn => (&SYN, &Family::BOTH[..]),
        // On a link without delay, ICMPv6 errors arrive while the socket is still locked by
        // connect(2), and count only when the SYN is repeated after a second. It depends on timing
        // whether nmap still waits then.
        Scan::Connect => (&CONNECT, &[Family::V4][..]),
        Scan::Udp => (&UDP, &Family::BOTH[..]),
    };
    verdicts.get_or_init(|| Matrix::new().nmap(scan, families))
}

/// The verdicts of `portknock probe` about all cases, likewise.
fn ours(scan: Scan) -> &'static Verdicts {
    static SYN: OnceLock<Verdicts> = OnceLock::new();
    static CONNECT: OnceLock<Verdicts> = OnceLock::new();
    static UDP: OnceLock<Verdicts> = OnceLock::new();
    let verdicts = match scan {
        Scan::Syn => &SYN,
        Scan::Connect => &CONNECT,
        Scan::Udp => &UDP,
    };
    verdicts.get_or_init(|| Matrix::new().portknock(scan))
}

/// Cases for which we have better information than `nmap -sS`, and our verdict.
const BETTER: &[(&str, &str)] = &[
    // The kernel finds after three seconds that no host has this address. nmap does not ask about
    // the ports of a host that does not answer for its address.
    ("host-absent-onlink", "filtered, host-unreach"),
    // This machine cannot send at all, which is an error. For nmap this is an absent host, too.
    ("local-route-unreachable", "error, no-route"),
    ("local-route-prohibit", "error, no-route"),
    ("local-route-blackhole", "error, no-route"),
    // This machine's own firewall drops the probe. nmap reports that on the terminal only.
    ("local-output-drop", "filtered, perm-denied"),
    ("local-output-reject", "filtered, perm-denied"),
];

/// Cases with an ICMP error after three seconds. Our probe waits that long only if other probes
/// still run; nmap does not.
const LATE_ERROR: &[&str] = &["host-absent-routed", "dnat-dead-host"];
const LATE_ERROR_SEEN_OR_NOT: [&str; 2] = ["filtered, host-unreach", "filtered, no-response"];

/// Cases in which a connection gives another result than a SYN: connect(2) does not report packets
/// that this machine's own firewall drops.
const OTHER_BY_CONNECT: &[(&str, &str)] =
    &[("local-output-drop", "filtered, no-response"), ("local-input-drop", "filtered, no-response")];

fn listed(list: &[(&'static str, &'static str)], case: &CaseId) -> Option<&'static str> {
    list.iter().find(|(name, _)| *name == case.name).map(|&(_, verdict)| verdict)
}

/// Our wrong verdicts for a protocol, compared with nmap's except for [`BETTER`]; `translated`
/// gives the word of our scan for the true word of a case.
fn differences(ours: &Verdicts, nmap: &Verdicts, translated: impl Fn(&CaseId, String) -> String) -> Vec<String> {
    let mut differences = Vec::new();
    for (case, theirs) in nmap {
        let theirs = theirs.to_string();
        let better = listed(BETTER, case);
        let right = translated(case, better.map_or_else(|| theirs.clone(), String::from));
        let Some(ours) = ours.get(case).map(Verdict::to_string) else {
            // Otherwise it was reported as skipped on one matrix, and so on both.
            differences.push(format!("{case}: we have no verdict; nmap: {theirs}"));
            continue;
        };
        let late = LATE_ERROR.contains(&case.name.as_str()) && LATE_ERROR_SEEN_OR_NOT.contains(&ours.as_str());
        if ours != right && !late {
            differences.push(format!("{case}: our verdict is {ours}; the correct one is {right}; nmap: {theirs}"));
        }
        if better == Some(&theirs) {
            differences.push(format!("{case}: nmap has the same verdict by now: {theirs}"));
        }
    }
    differences
}

#[test]
fn by_syn_our_verdicts_equal_those_of_nmap() {
    let differences = differences(ours(Scan::Syn), nmap(Scan::Syn), |_, verdict| verdict);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// That includes the exact ICMP errors, and that a port is filtered if the error is "port
/// unreachable", for which `nmap -sT` sees only a refused connection.
#[test]
fn by_connections_our_verdicts_equal_those_of_nmap_by_syn() {
    let by_connect = |case: &CaseId, verdict: String| {
        listed(OTHER_BY_CONNECT, case).map_or_else(|| verdict.replace("reset", "conn-refused"), String::from)
    };
    let differences = differences(ours(Scan::Connect), nmap(Scan::Syn), by_connect);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn by_udp_our_verdicts_equal_those_of_nmap() {
    let differences = differences(ours(Scan::Udp), nmap(Scan::Udp), |_, verdict| verdict);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A known error of nmap would be noticed here.
#[test]
fn our_states_are_the_correct_ones_of_the_table() {
    let Some(table) = Truth::read() else { return };
    let mut differences = Vec::new();
    for truth in &table {
        let Some(right) = &truth.state else { continue };
        let scans = if truth.nmap_connect.is_some() { &[Scan::Syn, Scan::Connect][..] } else { &[Scan::Udp] };
        for &scan in scans {
            let hidden = scan == Scan::Connect && listed(OTHER_BY_CONNECT, &truth.id).is_some();
            // A case that this kernel does not support is reported as skipped.
            if let Some(ours) = ours(scan).get(&truth.id).filter(|ours| ours.state != *right && !hidden) {
                differences.push(format!("{}: {scan:?}: {ours}; the table: {right}", truth.id));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Cases in which `nmap -sT` may have given up before the kernel repeats the SYN, or not.
const CONNECT_DEPENDS_ON_TIMING: &str = "drop-first-syn";

/// The same verdicts of nmap today show that the matrix matches the one that the table was made
/// from.
#[test]
fn nmaps_verdicts_equal_the_table() {
    let Some(table) = Truth::read() else { return };
    let known = Case::all();
    let mut differences = Vec::new();
    let mut compare = |truth: &Truth, scan: Scan, expected: &Verdict| {
        // Cases that were not probed, or that were reported as skipped because this kernel does not
        // support them, are not compared.
        if let Some(verdict) = nmap(scan).get(&truth.id).filter(|verdict| *verdict != expected) {
            differences.push(format!("{}: {scan:?}: {verdict}; the table: {expected}", truth.id));
        }
    };
    for truth in &table {
        assert!(known.iter().any(|case| case.id == truth.id), "the matrix lacks {}", truth.id);
        match &truth.nmap_connect {
            None => compare(truth, Scan::Udp, &truth.nmap),
            Some(by_connect) => {
                compare(truth, Scan::Syn, &truth.nmap);
                if truth.id.name != CONNECT_DEPENDS_ON_TIMING {
                    compare(truth, Scan::Connect, by_connect);
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(table.len() >= 88, "only {} rows", table.len());
}
