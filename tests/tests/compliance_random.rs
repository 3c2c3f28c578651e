//! Random doors and traffic, sent to the original knockd and to portknockd on the same link: the same
//! doors open for the same sources in the same order. `PORTKNOCK_SEED=N` replays a seed.

use std::io::{self, Write};
use std::thread;

use portknock_tests::Run;

/// Seeds for which the two daemons disagreed once. They are played first. Add the seed of each
/// failure that is fixed.
const FAILED_SEEDS: [u64; 2] = [210_783, 5];
/// Number of sources in a run, each a separate case.
const CASES: usize = 300;
/// Number of runs with further seeds. All runs take place at the same time, each with its own doors.
const RUNS: u64 = 8;

#[test]
fn both_open_the_same_doors_for_random_traffic() {
    let (failed, first) = match std::env::var("PORTKNOCK_SEED") {
        Ok(seed) => (&[][..], seed.parse().expect("PORTKNOCK_SEED is a number")),
        // A short number, because people type it.
        Err(_) => (&FAILED_SEEDS[..], fastrand::u64(..1_000_000)),
    };
    // Writes past the test runner, which shows printed text only when a test fails.
    let _ = writeln!(io::stderr(), "random traffic: replay this run with PORTKNOCK_SEED={first}");
    let seeds = failed.iter().copied().chain((0..RUNS).map(|i| first.wrapping_add(i)));
    let results: Vec<_> = thread::scope(|scope| {
        let play = |seed| {
            let run = Run::new(seed, CASES);
            let config = run.config();
            run.play(&config)
        };
        let runs: Vec<_> = seeds.map(|seed| scope.spawn(move || play(seed))).collect();
        runs.into_iter().map(|run| run.join().expect("the run itself reports its failure")).collect()
    });
    for (openings, disagreements) in &results {
        let texts: Vec<_> = disagreements.iter().map(ToString::to_string).collect();
        assert!(texts.is_empty(), "PORTKNOCK_SEED replays the seed\n{}", texts.join("\n"));
        // With fewer openings the traffic would prove little.
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
    // One packet is enough: the first knock.
    assert_eq!(packets.len(), 1, "{text}");
}

#[test]
#[should_panic(expected = "has lost packets")]
fn lost_packets_do_not_count_as_agreement() {
    let run = Run::new(1, 2).losing();
    let config = run.config();
    run.play(&config);
}
