//! The commands that events ask for. At most one start command of a door and address waits. No
//! start command runs for an opening that is closed by then, and a failed start command leaves
//! nothing open.

use std::net::IpAddr;

use super::turn::key_of;
use super::{Notice, OpeningKey, Service};
use crate::event::{Action, CommandRequest, Event, EventKind, FailReason};
use crate::exec::{CommandId, CommandResult, CommandResultKind};
use crate::journal::OpeningId;
use crate::openings::Opening;
use crate::programs::missing_program;
use crate::time::Timestamp;

/// A start command that waits or runs, and the opening that it belongs to.
#[derive(Debug)]
pub(super) struct Starting {
    opening: OpeningKey,
    /// The stop command that runs before it if the door was open already.
    stop: Option<CommandId>,
    /// True if it has run for so long that other commands of its door and address no longer wait
    /// for it.
    is_slow: bool,
}

/// Exit status of the shell for a program that it cannot execute.
const NOT_EXECUTABLE: i32 = 126;
/// Exit status of the shell for a program that it does not find.
const NOT_FOUND: i32 = 127;

impl Service {
    /// True if a complete knock needs no command, because the same start command waits already.
    pub(super) fn is_absorbed(&self, event: &Event) -> bool {
        let (command, opening) = match &event.kind {
            EventKind::Open { command: Some(command), opening, .. } => (command, opening.as_deref()),
            EventKind::Extend { command: Some(command), opening, .. } => (command, Some(&**opening)),
            _ => return false,
        };
        let (opening, net) = (opening.map(key_of), event.net().unwrap_or(event.ip.into()));
        self.executor.waiting_starts(&event.door, net).any(|(id, request)| {
            request.command == *command && self.starting.get(&id).map(|starting| &starting.opening) == opening.as_ref()
        })
    }

    /// Queues the commands that an event asks for. They start after the next commit.
    pub(super) fn submit(&mut self, event: &Event) {
        let mut stop = None;
        for request in event.command_requests() {
            match (&event.kind, request.action) {
                (EventKind::Close { opening, .. }, _) => self.submit_closing(opening, request),
                (_, Action::Close) => {
                    let id = self.executor.submit(request);
                    self.closing.insert(id, None);
                    stop = Some(id);
                }
                (EventKind::Open { opening, .. }, Action::Open) => {
                    self.submit_start(opening.as_deref(), request, None);
                }
                (EventKind::Extend { opening, .. }, Action::Open) => self.submit_start(Some(opening), request, stop),
                _ => {}
            }
        }
    }

    fn submit_start(&mut self, opening: Option<&Opening>, request: CommandRequest, stop: Option<CommandId>) {
        let id = self.executor.submit(request);
        if let Some(opening) = opening {
            self.starting.insert(id, Starting { opening: key_of(opening), stop, is_slow: false });
        }
    }

    /// Queues the stop command of an opening that ends, if its start command has run.
    fn submit_closing(&mut self, opening: &Opening, request: CommandRequest) {
        // Immediately, because the next event may open the same door again.
        let ends = self.state.as_mut().and_then(|state| state.closing(&request));
        match self.withdraw_start(opening) {
            None => {
                let id = self.executor.submit(request);
                self.closing.insert(id, ends);
            }
            // The stop command that was queued to run before the start command closes the door.
            Some(Starting { stop: Some(stop), .. }) if self.closing.contains_key(&stop) => {
                self.closing.insert(stop, ends);
            }
            Some(_) => self.end_record(ends),
        }
    }

    /// Withdraws the start command of an opening, if it still waits.
    fn withdraw_start(&mut self, opening: &Opening) -> Option<Starting> {
        let key = key_of(opening);
        let is_of_opening =
            |(id, _): &(CommandId, _)| self.starting.get(id).is_some_and(|starting| starting.opening == key);
        let (id, _) = self.executor.waiting_starts(&opening.door, opening.net).find(is_of_opening)?;
        self.executor.withdraw_start(&opening.door, opening.net, id);
        self.starting.remove(&id)
    }

    fn end_record(&mut self, ends: Option<OpeningId>) {
        if let (Some(id), Some(state)) = (ends, &mut self.state) {
            state.closed(id);
        }
    }

    /// Handles the results of commands. If a failed start command ends an opening, the engine has
    /// events afterwards.
    pub(super) fn handle_results(&mut self, now: Timestamp) {
        while let Some(outcome) = self.executor.poll_result() {
            self.commands.count(&outcome.kind);
            if outcome.kind.is_final()
                && let Some(ends) = self.closing.remove(&outcome.id)
            {
                self.end_record(ends);
            }
            self.handle_start_result(&outcome, now);
            let is_summarised = match &outcome.kind {
                CommandResultKind::Started => self.summaries.started(&outcome.request.door),
                CommandResultKind::Dropped => {
                    self.summaries.dropped(&outcome.request.door, now);
                    true
                }
                _ => false,
            };
            if !is_summarised {
                let failed_program = failed_program(&outcome);
                self.notices.push_back(Notice::Command(outcome));
                self.notices.extend(failed_program);
            }
        }
    }

    /// Handles the result of a start command. A start command that fails leaves nothing open: the
    /// opening ends, and its stop command removes what the start command may have done before it
    /// failed. If another start command for the opening waits, that command opens the door again
    /// instead. A start command that has run for so long that the stop command did not wait for it
    /// may have opened the door after the stop command; the stop command then runs again.
    fn handle_start_result(&mut self, outcome: &CommandResult, now: Timestamp) {
        let failed = match &outcome.kind {
            CommandResultKind::Finished(status) => !status.success(),
            CommandResultKind::NotStarted(_) | CommandResultKind::Dropped => true,
            CommandResultKind::Lost(_) => false,
            CommandResultKind::StillRunning => {
                self.starting.entry(outcome.id).and_modify(|starting| starting.is_slow = true);
                return;
            }
            CommandResultKind::Started | CommandResultKind::Delayed(_) => return,
        };
        let Some(Starting { opening, is_slow, .. }) = self.starting.remove(&outcome.id) else { return };
        if is_slow {
            return self.close_again(opening, outcome.request.ip);
        }
        let CommandRequest { door, net, .. } = &outcome.request;
        let mut waiting = self.executor.waiting_starts(door, *net);
        let opens_again =
            waiting.any(|(id, _)| self.starting.get(&id).is_some_and(|starting| starting.opening == opening));
        if failed && !opens_again {
            let (door, net, stop_command) = opening;
            self.engine.close_early(&door, net, stop_command.as_deref(), Some(FailReason::Command), now);
        }
    }

    /// Runs the stop command of an opening again, unless the door is open and will be closed by
    /// that command.
    fn close_again(&mut self, (door, net, stop_command): OpeningKey, ip: IpAddr) {
        if let Some(command) = stop_command.filter(|command| !self.engine.is_open(&door, net, command)) {
            let id = self.executor.submit(CommandRequest { door, ip, action: Action::Close, command, net, key: None });
            self.closing.insert(id, None);
        }
    }

    /// Closes openings that would be kept at a stop, but whose start commands have not run.
    pub(super) fn close_not_started(&mut self, now: Timestamp) {
        for (id, Starting { opening: (door, net, stop_command), .. }) in &self.starting {
            if self.executor.waiting_starts(door, *net).any(|(waiting, _)| waiting == *id) {
                self.engine.close_early(door, *net, stop_command.as_deref(), None, now);
            }
        }
    }

    /// Withdraws the start commands that wait, because the service stops.
    pub(super) fn withdraw_starts(&mut self) {
        let count = self.executor.withdraw_starts();
        if count > 0 {
            self.notices.push_back(Notice::NotRun(count));
        }
    }
}

/// Returns a notice if the shell could not run a program of the command. The shell reports that
/// only to its standard error, which may not be logged.
fn failed_program(outcome: &CommandResult) -> Option<Notice> {
    let CommandResultKind::Finished(status) = &outcome.kind else { return None };
    let is_found = match status.code()? {
        NOT_FOUND => false,
        NOT_EXECUTABLE => true,
        _ => return None,
    };
    let CommandRequest { door, command, .. } = &outcome.request;
    Some(Notice::FailedProgram { door: door.clone(), program: missing_program(command).map(str::to_owned), is_found })
}
