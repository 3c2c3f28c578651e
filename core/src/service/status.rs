//! A service in numbers.

use std::fmt;

use crate::engine::EngineStats;
use crate::exec::CommandResultKind;

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
    /// Packets among those that came through, but that no door uses: a sample of the others, for the scan guard.
    pub filtered: u64,
    /// Commands that were started, and how many of them failed or could not be started.
    pub commands: CommandCounts,
    /// Commands that run.
    pub commands_running: usize,
    /// Commands that wait for their turn.
    pub commands_waiting: usize,
    /// True where the state file has every opening.
    pub saving: bool,
}

/// What became of commands since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts {
    /// Commands that were started.
    pub run: u64,
    /// Commands that ended otherwise than with status 0, could not be started, or got lost.
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
