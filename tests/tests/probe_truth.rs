//! Our probe and nmap side by side, on everything that a probe can meet.

use std::sync::OnceLock;

use portknock_tests::{Answer, Answers, Case, CaseId, Family, Matrix, Scan, Truth};

/// What nmap says of all cases, on a matrix of its own. It is asked once for each kind of scan.
fn nmap(scan: Scan) -> &'static Answers {
    static SYN: OnceLock<Answers> = OnceLock::new();
    static CONNECT: OnceLock<Answers> = OnceLock::new();
    static UDP: OnceLock<Answers> = OnceLock::new();
    let (answers, families) = match scan {
        Scan::Syn => (&SYN, &Family::BOTH[..]),
        // On a wire without delay, ICMPv6 errors come while the socket is still locked by connect(2), and count only
        // when the SYN is repeated after a second. Whether nmap still waits then is a matter of timing.
        Scan::Connect => (&CONNECT, &[Family::V4][..]),
        Scan::Udp => (&UDP, &Family::BOTH[..]),
    };
    answers.get_or_init(|| Matrix::new().nmap(scan, families))
}

/// What `portknock probe` says of all cases, likewise.
fn ours(scan: Scan) -> &'static Answers {
    static SYN: OnceLock<Answers> = OnceLock::new();
    static CONNECT: OnceLock<Answers> = OnceLock::new();
    static UDP: OnceLock<Answers> = OnceLock::new();
    let answers = match scan {
        Scan::Syn => &SYN,
        Scan::Connect => &CONNECT,
        Scan::Udp => &UDP,
    };
    answers.get_or_init(|| Matrix::new().portknock(scan))
}

/// Where we know better than `nmap -sS`, and what.
const BETTER: &[(&str, &str)] = &[
    // The kernel knows after three seconds that nobody has this address. nmap does not ask about the ports of a host that
    // does not answer for its address.
    ("host-absent-onlink", "filtered, host-unreach"),
    // This machine cannot send at all, which is an error. nmap takes that for an absent host, too.
    ("local-route-unreachable", "error, no-route"),
    ("local-route-prohibit", "error, no-route"),
    ("local-route-blackhole", "error, no-route"),
    // This machine's own firewall drops the probe. nmap says so on the terminal only.
    ("local-output-drop", "filtered, perm-denied"),
    ("local-output-reject", "filtered, perm-denied"),
];

/// Where an ICMP error comes after three seconds. Whether we wait so long depends on what else is probed; nmap does not.
const LATE_ERROR: &[&str] = &["host-absent-routed", "dnat-dead-host"];
const LATE_ERROR_SEEN_OR_NOT: [&str; 2] = ["filtered, host-unreach", "filtered, no-response"];

/// Where a connection tells something else than a SYN: connect(2) does not say what this machine's own firewall drops.
const OTHER_BY_CONNECT: &[(&str, &str)] =
    &[("local-output-drop", "filtered, no-response"), ("local-input-drop", "filtered, no-response")];

fn listed(list: &[(&'static str, &'static str)], case: &CaseId) -> Option<&'static str> {
    list.iter().find(|(name, _)| *name == case.name).map(|&(_, answer)| answer)
}

/// What is wrong with our answers for a protocol, when nmap's are the truth but for [`BETTER`]; `translated` gives the word
/// that our scan has for what the truth says of a case.
fn differences(ours: &Answers, nmap: &Answers, translated: impl Fn(&CaseId, String) -> String) -> Vec<String> {
    let mut differences = Vec::new();
    for (case, theirs) in nmap {
        let theirs = theirs.to_string();
        let better = listed(BETTER, case);
        let right = translated(case, better.map_or_else(|| theirs.clone(), String::from));
        let Some(ours) = ours.get(case).map(Answer::to_string) else {
            // Else it was left out aloud on one matrix, and so on both.
            differences.push(format!("{case}: we say nothing; nmap: {theirs}"));
            continue;
        };
        let late = LATE_ERROR.contains(&case.name.as_str()) && LATE_ERROR_SEEN_OR_NOT.contains(&ours.as_str());
        if ours != right && !late {
            differences.push(format!("{case}: we say {ours}; right is {right}; nmap: {theirs}"));
        }
        if better == Some(&theirs) {
            differences.push(format!("{case}: nmap says the same by now: {theirs}"));
        }
    }
    differences
}

#[test]
fn by_syn_we_say_what_nmap_says() {
    let differences = differences(ours(Scan::Syn), nmap(Scan::Syn), |_, answer| answer);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// That takes in the exact ICMP errors, and that a port behind "port unreachable" is filtered, where `nmap -sT` sees but a
/// refused connection.
#[test]
fn by_connections_we_say_what_nmap_says_by_syn() {
    let by_connect = |case: &CaseId, answer: String| {
        listed(OTHER_BY_CONNECT, case).map_or_else(|| answer.replace("reset", "conn-refused"), String::from)
    };
    let differences = differences(ours(Scan::Connect), nmap(Scan::Syn), by_connect);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn by_udp_we_say_what_nmap_says() {
    let differences = differences(ours(Scan::Udp), nmap(Scan::Udp), |_, answer| answer);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What nmap is known to get wrong would be noticed here.
#[test]
fn our_states_are_the_right_ones_of_the_table() {
    let Some(table) = Truth::read() else { return };
    let mut differences = Vec::new();
    for truth in &table {
        let Some(right) = &truth.state else { continue };
        let scans = if truth.nmap_connect.is_some() { &[Scan::Syn, Scan::Connect][..] } else { &[Scan::Udp] };
        for &scan in scans {
            let hidden = scan == Scan::Connect && listed(OTHER_BY_CONNECT, &truth.id).is_some();
            // What this kernel cannot do is left out aloud.
            if let Some(ours) = ours(scan).get(&truth.id).filter(|ours| ours.state != *right && !hidden) {
                differences.push(format!("{}: {scan:?}: {ours}; the table: {right}", truth.id));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Where `nmap -sT` may have given up before the kernel repeats the SYN, or not.
const CONNECT_DEPENDS_ON_TIMING: &str = "drop-first-syn";

/// That nmap says the same now shows that the matrix is what the table was made from.
#[test]
fn nmap_says_what_the_table_says() {
    let Some(table) = Truth::read() else { return };
    let known = Case::all();
    let mut differences = Vec::new();
    let mut compare = |truth: &Truth, scan: Scan, expected: &Answer| {
        // What was not asked, or was left out aloud since this kernel cannot do it, is not compared.
        if let Some(answer) = nmap(scan).get(&truth.id).filter(|answer| *answer != expected) {
            differences.push(format!("{}: {scan:?}: {answer}; the table: {expected}", truth.id));
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
