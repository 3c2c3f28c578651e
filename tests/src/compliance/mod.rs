//! The one table of what portknock has in common with knockd 0.8 and where it differs on purpose. Each scenario is run
//! against both on one wire. `docs/knockd-compat.md` is for people what this is for the tests.

mod addresses;
mod clients;
mod commands;
mod configuration;
mod doors;
mod flags;
mod one_time;
mod reload;
mod scenario;
mod sequences;
mod sources;
mod timeouts;

use crate::Both;

pub use clients::ClientScenario;
pub use scenario::{Expected, Scenario};

impl Scenario {
    /// All of them.
    pub fn all() -> Vec<Self> {
        [
            sequences::scenarios(),
            flags::scenarios(),
            doors::scenarios(),
            timeouts::scenarios(),
            sources::scenarios(),
            addresses::scenarios(),
            commands::scenarios(),
            one_time::scenarios(),
            reload::scenarios(),
            configuration::scenarios(),
            clients::with_daemons(),
        ]
        .concat()
    }
}

/// A door called `door` with this sequence and these other lines.
fn door(sequence: &str, more: &str) -> String {
    format!("[door]\nsequence = {sequence}\nseq_timeout = 10\n{more}\n")
}

/// The door of most scenarios.
fn plain() -> String {
    door("7000,8000,9000", "tcpflags = syn\ncommand = true")
}

/// The same with another timeout, in seconds.
fn timed(timeout: u32) -> String {
    plain().replace("= 10", &format!("= {timeout}"))
}

/// What most scenarios end with.
const OPENED: &str = Both::OPENED;
