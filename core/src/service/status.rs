//! The sizes and counters of a service.

use std::fmt;

use crate::engine::EngineStats;
use crate::exec::CommandResultKind;

/// The current sizes of a service, and its counters since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Doors of the configuration.
    pub doors: usize,
    /// Attempts, openings and knocks.
    pub engine: EngineStats,
    /// Packets that passed the kernel's filter.
    pub packets: u64,
    /// Packets that were lost in the kernel's buffer or at the interface.
    pub drops: u64,
    /// Packets that passed the filter but that no door uses: a sample of the other traffic, for the
    /// scan guard.
    pub filtered: u64,
    /// Counters of the commands.
    pub commands: CommandCounts,
    /// Commands that are running.
    pub commands_running: usize,
    /// Commands that are waiting for their turn.
    pub commands_waiting: usize,
    /// True if the state file contains every opening.
    pub saving: bool,
    /// True if a program synchronises the clock of this machine; `None` if no door has keys.
    pub clock_synchronised: Option<bool>,
}

/// Counters of commands since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandCounts {
    /// Commands that were started.
    pub run: u64,
    /// Commands that ended with a status other than 0, could not be started, or were lost.
    pub failed: u64,
}

impl CommandCounts {
    pub(super) fn count(&mut self, outcome: &CommandResultKind) {
        match outcome {
            CommandResultKind::Started => self.run += 1,
            CommandResultKind::Finished(status) => self.failed += u64::from(!status.success()),
            CommandResultKind::NotStarted(_) | CommandResultKind::Lost(_) => self.failed += 1,
            CommandResultKind::StillRunning | CommandResultKind::Delayed(_) | CommandResultKind::Dropped => {}
        }
    }
}

/// The log line.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EngineStats { attempts, openings, knocks, evicted, refused, bogus, .. } = self.engine;
        write!(
            f,
            "status: doors {}, attempts {attempts} ({evicted} evicted, {refused} refused), openings {openings}{}, \
             packets {}, knocks {knocks}{}, drops {}, commands {} running {} waiting",
            self.doors,
            if self.saving { "" } else { " (not saved)" },
            self.packets,
            if bogus == 0 { String::new() } else { format!(" ({bogus} bogus)") },
            self.drops,
            self.commands_running,
            self.commands_waiting,
        )
    }
}
