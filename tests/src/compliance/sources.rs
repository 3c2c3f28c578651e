//! Several sources at the same time.

use super::scenario::Act::{Client, Pktgen};
use super::{OPENED, Scenario, plain};

pub(super) const OTHERS: &str = "an attacker could keep others out by knocking";

pub(super) fn scenarios() -> Vec<Scenario> {
    let first = Pktgen("--from 10.0.0.3 --ports 7000");
    let second = Pktgen("--from 10.0.0.2 --ports 7000");
    let finish = Pktgen("--from 10.0.0.2 --ports 8000,9000");
    vec![
        Scenario::same(
            "sources_one_after_another",
            plain(),
            &[Pktgen("--from 10.0.0.10 --sources 5 --ports 7000,8000,9000")],
            &["10.0.0.10: door", "10.0.0.11: door", "10.0.0.12: door", "10.0.0.13: door", "10.0.0.14: door"],
        ),
        // No source finishes before the others' last packet, so that all stages are compared.
        Scenario::same(
            "sources_with_simultaneous_attempts",
            plain(),
            &[
                Pktgen("--from 10.0.0.10 --sources 20 --ports 7000"),
                Pktgen("--from fd00::10 --sources 20 --to fd00::1 --ports 7000"),
                Pktgen("--from 10.0.0.10 --sources 20 --ports 8000"),
                Pktgen("--from fd00::10 --sources 20 --to fd00::1 --ports 8000"),
            ],
            &[],
        ),
        Scenario::same(
            "sources_that_finish_in_turn_from_the_youngest",
            plain(),
            &[first, second, Pktgen("--from 10.0.0.2 --ports 8000,9000"), Pktgen("--from 10.0.0.3 --ports 8000,9000")],
            &[OPENED, "10.0.0.3: door"],
        ),
        Scenario::same(
            "a_younger_attempt_of_another_source_that_fails",
            plain(),
            &[second, first, Pktgen("--from 10.0.0.3 --ports 9000"), finish],
            &[OPENED],
        ),
        Scenario::same(
            "one_sequence_by_two_sources_halves",
            plain(),
            &[Pktgen("--from 10.0.0.3 --ports 7000,8000"), Pktgen("--from 10.0.0.2 --ports 9000")],
            &[],
        ),
        Scenario::same(
            "an_older_attempt_of_another_source_that_succeeds",
            plain(),
            &[first, second, Pktgen("--from 10.0.0.3 --ports 8000,9000"), finish],
            &["10.0.0.3: door"],
        )
        .differs(&["10.0.0.3: door", OPENED], OTHERS),
        Scenario::same(
            "an_older_attempt_of_another_source_that_fails",
            plain(),
            &[first, second, Pktgen("--from 10.0.0.3 --ports 9000"), finish],
            &[],
        )
        .differs(&[OPENED], OTHERS),
        Scenario::same(
            "a_rising_port_scan",
            plain(),
            &[Client("nmap -n -Pn -r -p 6000-10000 10.0.0.1 > /dev/null")],
            &[OPENED],
        )
        .differs(&[], "`nmap -r` opens the door of knockd's manual"),
    ]
}
