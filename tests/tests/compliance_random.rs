//! Random doors and traffic, the original knockd and portknockd on the same wire: the same doors
//! open for the same sources in the same order. `PORTKNOCK_SEED=N` replays a run.

use std::io::{self, Write};
use std::thread;

use portknock_tests::Run;

/// Sources, each a case of its own, in a run, and runs at a time, each with doors of its own.
const CASES: usize = 300;
const RUNS: u64 = 8;

#[test]
fn both_open_the_same_doors_for_random_traffic() {
    let seed = match std::env::var("PORTKNOCK_SEED") {
        Ok(seed) => seed.parse().expect("PORTKNOCK_SEED is a number"),
        // Not so long that nobody would type it.
        Err(_) => fastrand::u64(..1_000_000),
    };
    // Past the test runner, which shows what is printed only when a test fails.
    let _ = writeln!(io::stderr(), "random traffic: replay this run with PORTKNOCK_SEED={seed}");
    let results: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..RUNS)
            .map(|i| {
                scope.spawn(move || {
                    let run = Run::new(seed.wrapping_add(i), CASES);
                    let config = run.config();
                    run.play(&config)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("a run says itself what is wrong")).collect()
    });
    for (openings, disagreements) in &results {
        let texts: Vec<_> = disagreements.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "replay with PORTKNOCK_SEED={seed}\n{}", texts.join("\n"));
        // Otherwise the traffic says little.
        assert!(*openings > CASES / 2, "only {openings} openings");
    }
}

#[test]
fn a_difference_in_the_configurations_is_found_and_shrunk() {
    let run = Run::new(1, 60);
    // The first door begins with another port at knockd.
    let config = run.config().replacen("sequence = ", "sequence = 60001,", 1);
    let (_, disagreements) = run.play(&config);
    let text = disagreements.first().expect("a disagreement").to_string();
    let packets: Vec<_> =
        text.lines().filter(|line| line.starts_with("  10.0.0.") || line.starts_with("  fd00::")).collect();
    // A first knock, alone, is treated differently.
    assert_eq!(packets.len(), 1, "{text}");
}

#[test]
#[should_panic(expected = "has lost packets")]
fn lost_packets_are_no_agreement() {
    let run = Run::new(1, 2).losing();
    let config = run.config();
    run.play(&config);
}
