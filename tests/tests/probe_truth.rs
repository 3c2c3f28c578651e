//! Our probe and nmap side by side, on everything that a probe can meet.

use std::sync::OnceLock;

use portknock_tests::{Answer, Answers, Case, Family, Matrix, NmapScan, Truth};

/// What nmap says of all cases, on a matrix of its own. It is asked once for each kind of scan.
fn nmap(scan: NmapScan) -> &'static Answers {
    static SYN: OnceLock<Answers> = OnceLock::new();
    static CONNECT: OnceLock<Answers> = OnceLock::new();
    static UDP: OnceLock<Answers> = OnceLock::new();
    let (answers, families) = match scan {
        NmapScan::Syn => (&SYN, &Family::BOTH[..]),
        // On a wire without delay, ICMPv6 errors come while the socket is still locked by connect(2), and count only
        // when the SYN is repeated after a second. Whether nmap still waits then is a matter of timing.
        NmapScan::Connect => (&CONNECT, &[Family::V4][..]),
        NmapScan::Udp => (&UDP, &Family::BOTH[..]),
    };
    answers.get_or_init(|| Matrix::new().nmap(scan, families))
}

/// Where `nmap -sT` may have given up before the kernel repeats the SYN, or not.
const CONNECT_DEPENDS_ON_TIMING: &str = "drop-first-syn";

/// That nmap says the same now shows that the matrix is what the table was made from.
#[test]
fn nmap_says_what_the_table_says() {
    let Some(table) = Truth::read() else { return };
    let known = Case::all();
    let mut differences = Vec::new();
    let mut compare = |truth: &Truth, scan: NmapScan, expected: &Answer| {
        // What was not asked, or was left out aloud since this kernel cannot do it, is not compared.
        if let Some(answer) = nmap(scan).get(&truth.id).filter(|answer| *answer != expected) {
            differences.push(format!("{}: {scan:?}: {answer}; the table: {expected}", truth.id));
        }
    };
    for truth in &table {
        assert!(known.iter().any(|case| case.id == truth.id), "the matrix lacks {}", truth.id);
        match &truth.nmap_connect {
            None => compare(truth, NmapScan::Udp, &truth.nmap),
            Some(by_connect) => {
                compare(truth, NmapScan::Syn, &truth.nmap);
                if truth.id.name != CONNECT_DEPENDS_ON_TIMING {
                    compare(truth, NmapScan::Connect, by_connect);
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(table.len() >= 88, "only {} rows", table.len());
}
