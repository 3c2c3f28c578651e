//! Several doors at once.

use super::Scenario;
use super::scenario::Act::{Blast, Knock, Segments};

const APART: &str = "doors do not disturb each other";
const ANY_PORT: &str = "a port of a door ends an attempt, whatever flags or address that other door asks for";

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
            &[Blast("--ports 1000"), Blast("--ports 4000 --flags A"), Blast("--ports 2000")],
            &[a],
        )
        .differs(&[], ANY_PORT),
        Scenario::same(
            "a_port_of_a_door_with_another_target",
            "[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\ntarget = 10.0.0.9\n",
            &[Segments(&[1000, 4000, 2000])],
            &[a],
        )
        .differs(&[], ANY_PORT),
    ]
}
