//! The table of `portknock_tests::Scenario`s, each run against the original knockd and portknockd
//! on one wire. A scenario where the two differ on purpose fails too when they begin to agree.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portknock_tests::{ClientScenario, Lab, Scenario, require};

/// So many run at a time: most of them wait for something.
const AT_A_TIME: usize = 12;

#[test]
fn daemons_do_what_the_table_says() {
    require("nmap");
    let scenarios = Scenario::all();
    let next = AtomicUsize::new(0);
    let failed: Vec<&str> = thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                // A thread of its own, so that one that panics does not end the others; it has said
                // why.
                if scope.spawn(|| scenario.run()).join().is_err() {
                    failed.push(scenario.name);
                }
            }
            failed
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it only starts others")).collect()
    });
    assert!(failed.is_empty(), "these are not as the table says, see above: {failed:?}");
}

#[test]
fn clients_do_what_the_table_says() {
    let lab = Lab::pair();
    for scenario in ClientScenario::all() {
        scenario.run(&lab);
    }
}

#[test]
fn the_table_is_sound() {
    let faults: Vec<_> = Scenario::all()
        .iter()
        .filter_map(Scenario::fault)
        .chain(ClientScenario::all().iter().filter_map(ClientScenario::fault))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
    let (daemons, clients) = (Scenario::all(), ClientScenario::all());
    let names: Vec<_> = daemons.iter().map(|row| row.name).chain(clients.iter().map(|row| row.name)).collect();
    let different: BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "a name stands twice");
    assert!(daemons.len() >= 100 && clients.len() >= 30);
}
