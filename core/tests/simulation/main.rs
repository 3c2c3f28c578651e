//! The engine compared with a naive model of the rules: hundreds of random configurations, each with
//! hundreds of packets, floods, reloads and steps of the clock, under a simulated clock. After every
//! step both must have the same events and the same state.
//!
//! A failure prints the seed and a short list of the actions that cause it.
//! `PORTKNOCK_SEED=7 cargo test -p portknock-core --test simulation -- --nocapture` replays one
//! seed and prints each step; `0..100000` runs a range.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod model;
mod run;
mod scenario;

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;

use run::Run;
use scenario::{Action, Scenario};

/// Seeds that failed once. They are played first. Add the seed of each failure that is fixed.
const FAILED_SEEDS: [u64; 1] = [463];
/// Seeds that every run of the tests plays, after those that failed once.
const SEEDS: Range<u64> = 0..3000;
const SEED: &str = "PORTKNOCK_SEED";

#[test]
fn the_engine_and_the_model_agree() {
    let Some(asked) = std::env::var_os(SEED) else { return play_all(FAILED_SEEDS.into_iter().chain(SEEDS)) };
    let asked = asked.to_str().unwrap();
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{SEED} is a number or a range, not {asked:?}"));
    match asked.split_once("..") {
        Some((first, end)) => play_all(number(first)..number(end)),
        None => {
            let ended = Run::new(&Scenario::new(number(asked)), true).play();
            assert!(ended.is_ok(), "{}", ended.unwrap_err());
        }
    }
}

fn play_all(seeds: impl Iterator<Item = u64>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut played = 0;
    for seed in seeds {
        played += 1;
        let scenario = Scenario::new(seed);
        match result(&scenario) {
            Ok(counts) => counts.into_iter().for_each(|(what, count)| *seen.entry(what).or_default() += count),
            Err(_) => fail(seed, scenario),
        }
    }
    // A simulation without events finds nothing.
    let is_few = played < 100;
    let all = [
        "close",
        "close full",
        "extend",
        "fail full",
        "fail reload",
        "fail scan",
        "fail wrong-port",
        "open",
        "refused",
    ];
    for what in all.iter().chain(&["stage", "timeout"]) {
        assert!(is_few || seen.get(*what).is_some_and(|count| *count >= 100), "{what} is too rare: {seen:?}");
    }
}

/// Number of events of each kind, or the error.
fn result(scenario: &Scenario) -> Result<BTreeMap<String, usize>, String> {
    let text = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic without a text").to_owned(),
    };
    catch_unwind(|| Run::new(scenario, false).play()).unwrap_or_else(|panic| Err(text(panic)))
}

/// Removes the actions that the failure does not need, and prints the rest.
fn fail(seed: u64, mut scenario: Scenario) -> ! {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut size = scenario.actions.len();
    while size > 0 {
        let mut first = 0;
        while first < scenario.actions.len() {
            let end = (first + size).min(scenario.actions.len());
            let left_out: Vec<Action> = scenario.actions.drain(first..end).collect();
            if result(&scenario).is_ok() {
                scenario.actions.splice(first..first, left_out);
                first = end;
            }
        }
        size /= 2;
    }
    let problem = result(&scenario).err().unwrap_or_default();
    std::panic::set_hook(hook);
    let actions: String = scenario.actions.iter().enumerate().map(|(i, act)| format!("{i}: {act:?}\n")).collect();
    panic!(
        "seed {seed} fails; {SEED}={seed} replays it. These actions are enough:\n{}{actions}{problem}",
        run::show(&scenario.config)
    );
}
