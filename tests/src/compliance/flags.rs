//! `tcpflags`.

use super::scenario::Act::{self, Pktgen};
use super::{OPENED, Scenario, door, plain};

/// A name, a mask, segments that do not count, and segments that do: each opens the door once.
type Mask = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const ANSWERS: &str = "no client sends them by itself; port scans could pass unseen with them, or the server's own connections would end attempts";

macro_rules! knock {
    ($flags:literal) => {
        concat!("--ports 7000,8000 --flags ", $flags)
    };
}

const MASKS: &[Mask] = &[
    ("the_flag_fin", "fin", &[knock!("SRPAU")], &[knock!("F"), knock!("FA")]),
    ("the_flag_syn", "syn", &[knock!("FRPAU")], &[knock!("S")]),
    ("the_flag_rst", "rst", &[knock!("FSPAU")], &[knock!("R")]),
    ("the_flag_psh", "psh", &[knock!("FSRAU")], &[knock!("P")]),
    ("the_flag_ack", "ack", &[knock!("FSRPU")], &[knock!("A")]),
    ("the_flag_urg", "urg", &[knock!("FSRPA")], &[knock!("U")]),
    ("not_the_flag_fin", "!fin", &[knock!("FSRPAU")], &[knock!("PAU")]),
    ("not_the_flag_syn", "!syn", &[knock!("FSRPAU")], &[knock!("FPAU")]),
    ("not_the_flag_rst", "!rst", &[knock!("FSRPAU")], &[knock!("FPAU")]),
    ("not_the_flag_psh", "!psh", &[knock!("FSRPAU")], &[knock!("FAU")]),
    ("not_the_flag_ack", "!ack", &[knock!("FSRPAU")], &[knock!("FSPU")]),
    ("not_the_flag_urg", "!urg", &[knock!("FSRPAU")], &[knock!("FPA")]),
    ("two_flags", "syn,ack", &[knock!("S"), knock!("A"), knock!("F")], &[knock!("SA"), knock!("SAP")]),
    ("a_flag_and_not_another", "syn,!ack", &[knock!("SA"), knock!("A"), knock!("F")], &[knock!("S"), knock!("SU")]),
    (
        "not_any_of_three_flags",
        "!syn,!ack,!rst",
        &[knock!("S"), knock!("SA"), knock!("RA")],
        &[knock!("F"), knock!("FPU"), knock!("''")],
    ),
];

pub(super) fn scenarios() -> Vec<Scenario> {
    let of_mask = |&(name, mask, wrong, right): &Mask| {
        let acts: Vec<Act> = wrong.iter().chain(right).map(|args| Pktgen(args)).collect();
        Scenario::same(name, door("7000,8000", &format!("tcpflags = {mask}")), &acts, &vec![OPENED; right.len()])
    };
    let mut scenarios: Vec<Scenario> = MASKS.iter().map(of_mask).collect();
    scenarios.extend([
        Scenario::same(
            "no_flags",
            door("7000,8000,9000", ""),
            &[Pktgen("--ports 7000 --flags A"), Pktgen("--ports 8000 --flags FP"), Pktgen("--ports 9000 --flags ''")],
            &[OPENED],
        ),
        Scenario::same(
            "answers_to_packets_of_the_server",
            door("7000,8000", "tcpflags = syn"),
            &[Pktgen(knock!("SA")), Pktgen(knock!("SR"))],
            &[OPENED, OPENED],
        )
        .differs(&[], ANSWERS),
        Scenario::same(
            "answers_at_a_door_without_flags",
            door("7000,8000", ""),
            &[Pktgen(knock!("SA")), Pktgen(knock!("R"))],
            &[OPENED, OPENED],
        )
        .differs(&[], ANSWERS),
        Scenario::same(
            "flags_are_for_tcp_only",
            door("7000,8000:udp", "tcpflags = fin"),
            &[Pktgen("--ports 7000 --flags F"), Pktgen("--udp --ports 8000")],
            &[OPENED],
        ),
        Scenario::same(
            "packets_with_other_flags_are_ignored",
            plain(),
            &[Pktgen("--ports 7000"), Pktgen("--ports 9000 --flags A"), Pktgen("--ports 8000,9000")],
            &[OPENED],
        ),
        Scenario::same(
            "flags_over_ipv6",
            door("7000,8000", "tcpflags = fin,!ack"),
            &[
                Pktgen("--from fd00::2 --to fd00::1 --ports 7000,8000 --flags FA"),
                Pktgen("--from fd00::2 --to fd00::1 --ports 7000,8000 --flags FP"),
            ],
            &["fd00::2: door"],
        ),
        Scenario::same(
            "doors_with_different_flags",
            "[a]\nsequence = 1000,2000\ntcpflags = syn\n[b]\nsequence = 1000,2000\ntcpflags = ack\n",
            &[Pktgen("--ports 1000,2000"), Pktgen("--ports 1000,2000 --flags A")],
            &["10.0.0.2: a", "10.0.0.2: b"],
        ),
    ]);
    scenarios
}
