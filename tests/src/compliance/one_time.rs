//! `one_time_sequences`.

use super::Scenario;
use super::scenario::Act::{Knock, Pause};

const CONFIG: &str = "[door]\none_time_sequences = %DIR%/sequences\ncommand = true\n";
const THREE: &[(&str, &str)] = &[("sequences", "# mine\n 1000,2000,3000\n 1003:udp,2003:udp\n 1005,2005\n")];

pub(super) fn scenarios() -> Vec<Scenario> {
    let opened = "10.0.0.2: door";
    let acts = [
        Knock("10.0.0.1 1003:udp 2003:udp"),
        Knock("10.0.0.1 1000 2000 3000"),
        // portknockd opens such a door at most once a second.
        Pause(1200),
        Knock("10.0.0.1 1000 2000 3000"),
        Knock("10.0.0.1 1003:udp 2003:udp"),
    ];
    vec![
        Scenario::same("one_time_sequences_in_their_order", CONFIG, &acts, &[opened, opened]).with_files(THREE),
        Scenario::same(
            "used_one_time_sequences_in_their_file",
            CONFIG,
            &acts,
            &["# mine", "#1000,2000,3000", "#1003:udp,2003:udp", " 1005,2005"],
        )
        .with_files(THREE)
        .watching_file("sequences"),
        Scenario::same("the_end_of_the_one_time_sequences", CONFIG, &[Knock("10.0.0.1 1000 2000")], &["has ended"])
            .with_files(&[("sequences", " 1000,2000\n")])
            .watching_life()
            .differs(&["runs"], "one door should not close the others"),
        Scenario::same("a_file_of_used_one_time_sequences", CONFIG, &[], &["refuses to start"])
            .with_files(&[("sequences", "#1000,2000\n")]),
        Scenario::same("no_file_of_one_time_sequences", CONFIG, &[], &["refuses to start"]),
        Scenario::same("a_bad_line_among_the_one_time_sequences", CONFIG, &[], &["runs"])
            .with_files(&[("sequences", " 1000,2000\n 12x,5\n")])
            .watching_life()
            .differs(&["refuses to start", "PK053"], "the door would fail later, when the line is next"),
    ]
}
