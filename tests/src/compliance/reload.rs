//! SIGHUP.

use super::scenario::Act::{Fence, Knock, Reload, Segments};
use super::{OPENED, Scenario, plain};

pub(super) fn scenarios() -> Vec<Scenario> {
    let knock = Knock("10.0.0.1 7000 8000 9000");
    vec![
        Scenario::same(
            "a_reload_with_another_sequence",
            plain(),
            &[Reload("[door]\nsequence = 7001,8001\n"), knock, Knock("10.0.0.1 7001 8001")],
            &[OPENED],
        ),
        Scenario::same(
            "a_reload_with_another_door",
            plain(),
            &[Reload("[other]\nsequence = 7000,8000,9000\n"), knock],
            &["10.0.0.2: other"],
        ),
        Scenario::same("a_reload_without_a_change", plain(), &[knock, Fence, Reload(""), knock], &[OPENED, OPENED]),
        Scenario::same(
            "a_reload_with_another_command",
            plain(),
            &[Reload("[door]\nsequence = 7000,8000,9000\ncommand = echo new > %DIR%/said\n"), knock],
            &["new"],
        )
        .watching_file("said"),
        Scenario::same("a_reload_with_an_error", plain(), &[Reload("[door]\nsequnce = 1\n")], &["has ended"])
            .watching_life()
            .differs(&["runs"], "a mistake must not lock you out"),
        Scenario::same(
            "attempts_over_a_reload",
            plain(),
            &[Segments(&[7000, 8000]), Fence, Reload(""), Segments(&[9000])],
            &[],
        )
        .differs(&[OPENED], "a reload should not affect clients"),
    ]
}
