//! The table of the behaviour that portknock shares with knockd 0.8 and of the deliberate
//! differences. Each scenario runs both on one link. `docs/knockd-compat.md` is the same table for
//! people.

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
    /// All scenarios.
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

/// A door called `door` with this sequence and these further lines.
fn door(sequence: &str, more: &str) -> String {
    format!("[door]\nsequence = {sequence}\nseq_timeout = 10\n{more}\n")
}

/// The door of most scenarios.
fn plain() -> String {
    door("7000,8000,9000", "tcpflags = syn\ncommand = true")
}

/// The same door with another timeout, in seconds.
fn timed(timeout: u32) -> String {
    plain().replace("= 10", &format!("= {timeout}"))
}

/// The result of most scenarios.
const OPENED: &str = Both::OPENED;
