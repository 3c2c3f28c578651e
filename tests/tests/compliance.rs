//! One test for each `Scenario` of `portknock_tests`, which runs the original knockd and portknockd on
//! one link. A scenario with a deliberate difference also fails when the two begin to agree.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use portknock_tests::{ClientScenario, Scenario, require};

/// Number of scenarios that run at the same time by default: most of them wait for something.
const SCENARIO_THREADS: usize = 12;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SCENARIO_THREADS);
    if !arguments.list {
        require("nmap");
    }
    let daemons = Scenario::all().into_iter().map(|row| trial(row.name, move || row.run()));
    let clients = ClientScenario::all().into_iter().map(|row| trial(row.name, move || row.run()));
    libtest_mimic::run(&arguments, daemons.chain(clients).collect()).exit_code()
}

/// A test that fails if `run` panics.
fn trial(name: &str, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        run();
        Ok(())
    })
}
