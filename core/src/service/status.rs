//! A service in numbers.

use std::fmt;

use crate::engine::EngineStats;

/// What a service holds now, and what it counted since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Doors of the configuration.
    pub doors: usize,
    /// Attempts, openings and knocks.
    pub engine: EngineStats,
    /// Packets that came through the filter.
    pub packets: u64,
    /// Packets that were lost, in the kernel's buffer or at the interface.
    pub drops: u64,
    /// Commands that run.
    pub commands_running: usize,
    /// Commands that wait for their turn.
    pub commands_waiting: usize,
    /// True where the state file has every opening.
    pub saving: bool,
}

/// The line for a log.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EngineStats { attempts, openings, knocks, evicted, refused, .. } = self.engine;
        write!(
            f,
            "status: doors {}, attempts {attempts} ({evicted} evicted, {refused} refused), openings {openings}{}, \
             packets {}, knocks {knocks}, drops {}, commands {} running {} waiting",
            self.doors,
            if self.saving { "" } else { " (not saved)" },
            self.packets,
            self.drops,
            self.commands_running,
            self.commands_waiting,
        )
    }
}
