//! Several doors at the same time.

use super::Scenario;
use super::scenario::Act::{Knock, Pktgen, Segments};

const APART: &str = "doors do not disturb each other";

pub(super) fn scenarios() -> Vec<Scenario> {
    let (a, b) = ("10.0.0.2: a", "10.0.0.2: b");
    let two = "[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\n";
    let shared = "[a]\nsequence = 1000,2000,3000\n[b]\nsequence = 1000,2000,4000\n";
    vec![
        Scenario::same("another_doors_port_ends_an_attempt", two, &[Segments(&[1000, 4000, 2000])], &[]),
        Scenario::same("two_doors_one_after_the_other", two, &[Knock("10.0.0.1 3000 4000 1000 2000")], &[b, a]),
        Scenario::same(
            "a_shared_beginning",
            shared,
            &[Segments(&[1000, 2000, 4000]), Segments(&[1000, 2000, 3000])],
            &[b, a],
        ),
        Scenario::same(
            "one_sequence_at_two_doors",
            "[a]\nsequence = 1000,2000\n[b]\nsequence = 1000,2000\n",
            &[Segments(&[1000, 2000])],
            &[a, b],
        ),
        Scenario::same(
            "a_shorter_door_below_a_longer_one",
            "[long]\nsequence = 1000,2000,3000\n[short]\nsequence = 1000,2000\n",
            &[Segments(&[1000, 2000, 3000])],
            &["10.0.0.2: short", "10.0.0.2: long"],
        ),
        Scenario::same(
            "a_longer_door_below_a_shorter_one",
            "[short]\nsequence = 1000,2000\n[long]\nsequence = 1000,2000,3000\n",
            &[Segments(&[1000, 2000, 3000])],
            &["10.0.0.2: short"],
        )
        .differs(&["10.0.0.2: short", "10.0.0.2: long"], APART),
        Scenario::same(
            "a_door_among_a_hundred",
            (0..100)
                .map(|i| format!("[door{i}]\nsequence = {},{},{}\n", 10_000 + 4 * i, 9_999 + 4 * i, 10_001 + 4 * i))
                .collect::<String>(),
            &[Segments(&[10_200, 10_199, 10_201])],
            &["10.0.0.2: door50"],
        ),
        Scenario::same(
            "two_doors_of_one_name",
            "[a]\nsequence = 1000,2000\n[a]\nsequence = 3000,4000\n",
            &[Segments(&[1000, 2000, 3000, 4000])],
            &[a, a],
        ),
        Scenario::same(
            "a_knock_that_ends_one_doors_attempt_and_begins_anothers",
            two,
            &[Segments(&[1000, 3000, 4000])],
            &[],
        )
        .differs(&[b], APART),
        Scenario::same(
            "a_knock_that_is_a_step_of_one_door_and_begins_anothers",
            "[a]\nsequence = 1000,2000,3000\n[b]\nsequence = 2000,3000\n",
            &[Segments(&[1000, 2000, 3000])],
            &[a],
        )
        .differs(&[a, b], APART),
        Scenario::same(
            "a_port_of_a_door_with_other_flags",
            "[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\ntcpflags = syn\n",
            &[Pktgen("--ports 1000"), Pktgen("--ports 4000 --flags A"), Pktgen("--ports 2000")],
            &[a],
        ),
        Scenario::same(
            "a_port_of_a_door_with_another_target",
            "[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\ntarget = 10.0.0.9\n",
            &[Segments(&[1000, 4000, 2000])],
            &[a],
        ),
        Scenario::same(
            "an_established_session_with_ports_of_other_doors",
            "[admin]\nsequence = 7001:udp,9002:udp,8003:udp\n[wake]\nsequence = 25565\ntcpflags = syn\n[close]\nsequence = 22\n\
             tcpflags = fin\n",
            &[
                Pktgen("--udp --ports 7001"),
                Pktgen("--ports 25565,22 --flags PA"),
                Pktgen("--udp --ports 9002"),
                Pktgen("--ports 22,25565 --flags A"),
                Pktgen("--udp --ports 8003"),
            ],
            &["10.0.0.2: admin"],
        ),
        Scenario::same(
            "the_end_of_a_session_with_another_doors_port",
            "[admin]\nsequence = 7001:udp,9002:udp\n[close]\nsequence = 22,23\ntcpflags = fin\n",
            &[Pktgen("--udp --ports 7001"), Pktgen("--ports 23 --flags FA"), Pktgen("--udp --ports 9002")],
            &[],
        ),
    ]
}
