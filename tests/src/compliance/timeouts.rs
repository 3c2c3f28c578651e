//! `seq_timeout`: before it, at its limits and after it.

use super::scenario::Act::{Fence, Knock, Pause, Pktgen, Second, Segments};
use super::{OPENED, Scenario, timed};

pub(super) fn scenarios() -> Vec<Scenario> {
    let timeout = "10.0.0.2: door: sequence timeout (stage 1)";
    vec![
        Scenario::same(
            "inside_the_timeout",
            timed(5),
            &[Segments(&[7000]), Pause(1200), Segments(&[8000]), Pause(1200), Segments(&[9000])],
            &[OPENED],
        ),
        // knockd counts whole seconds, so four may be over after 3.98 seconds. Two are left for a
        // loaded machine.
        Scenario::same(
            "late_inside_the_timeout",
            timed(4),
            &[Second, Segments(&[7000, 8000]), Pause(1800), Segments(&[9000])],
            &[OPENED],
        ),
        Scenario::same(
            "the_first_moment_after_the_timeout",
            timed(2),
            &[Segments(&[7000, 8000]), Pause(2050), Segments(&[9000])],
            &[],
        ),
        Scenario::same(
            "knocking_again_after_a_timeout",
            timed(2),
            &[Knock("10.0.0.1 7000 8000"), Pause(3200), Knock("10.0.0.1 9000"), Knock("10.0.0.1 7000 8000 9000")],
            &[OPENED],
        ),
        Scenario::same(
            "the_timeout_counts_from_the_first_step",
            timed(3),
            &[Second, Segments(&[7000]), Pause(1700), Segments(&[8000]), Pause(1700), Segments(&[9000])],
            &[],
        ),
        Scenario::same(
            "two_doors_with_two_timeouts",
            "[b]\nsequence = 1000,2000,4000\nseq_timeout = 20\n[a]\nsequence = 1000,2000,3000\nseq_timeout = 2\n",
            &[Segments(&[1000, 2000]), Pause(3100), Segments(&[65000]), Segments(&[4000])],
            &["10.0.0.2: b"],
        ),
        Scenario::same("a_timeout_in_the_log", timed(1), &[Segments(&[7000]), Pause(2100), Fence], &[timeout])
            .watching_log("timeout"),
        // The last part of one second and the first part of the second after the next.
        Scenario::same(
            "parts_of_seconds",
            timed(2),
            &[Second, Pause(750), Segments(&[7000, 8000]), Pause(1400), Segments(&[9000])],
            &[],
        )
        .differs(&[OPENED], "a short timeout should last as long as written"),
        // Seconds of tolerance on both sides, because a loaded machine starts programs late.
        Scenario::same(
            "a_timed_out_attempt_of_another_source",
            timed(6),
            &[
                Second,
                Pktgen("--from 10.0.0.2 --ports 7000"),
                Pause(3500),
                Pktgen("--from 10.0.0.3 --ports 7000,8000"),
                Pause(3500),
                Pktgen("--from 10.0.0.3 --ports 9000"),
            ],
            &[],
        )
        .differs(&["10.0.0.3: door"], super::sources::OTHERS),
    ]
}
