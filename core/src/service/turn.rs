//! One round of a service's work: packets, time, events, files, commands.

use super::one_time::Next;
use super::{Notice, OpeningKey, Service, ServiceError};
use crate::config::{DoorId, Sequence};
use crate::event::{Event, EventKind};
use crate::journal::StateFile;
use crate::openings::Opening;
use crate::time::Timestamp;

impl Service {
    /// One round of work; never waits for anything but the disk.
    pub(super) fn turn(&mut self) -> Result<(), ServiceError> {
        if self.stopped {
            return Ok(());
        }
        if self.stop_limit.is_none() {
            self.poll_packets()?;
        }
        self.work()
    }

    /// A round without a look at packets.
    pub(super) fn work(&mut self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        self.executor.reap(now)?;
        self.take_outcomes(now);
        loop {
            self.take_events(now);
            if self.stop_limit.is_some() {
                self.withdraw_starts();
            }
            self.commit(now);
            self.apply_ports(now);
            self.executor.start_next(now);
            self.take_outcomes(now);
            // Those that could not be started at all.
            if !self.engine.has_events() {
                break;
            }
        }
        // Some have ended already: those that could not be started at all.
        self.commit(now);
        self.summaries.report(now, &mut self.notices);
        self.check_stopped(now);
        self.arm()
    }

    /// Turns the engine's events into notices, records in the state file, changes of ports, and commands.
    fn take_events(&mut self, now: Timestamp) {
        while let Some(mut event) = self.engine.poll_event() {
            let allowed = match &event.kind {
                EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } => self.use_up(*door_id, &event),
                _ => true,
            };
            if !self.is_real(&mut event, allowed) {
                continue;
            }
            if let (Some(state), EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. }) =
                (&mut self.state, &event.kind)
            {
                state.opened(opening, self.clock.read());
            }
            let is_absorbed = self.is_absorbed(&event);
            let is_summarised = self.summaries.take(&event, is_absorbed, now);
            let dry = !self.options.run_commands;
            self.ports.note(&event, now, dry && !is_summarised, &mut self.notices);
            if is_summarised {
                self.notices.push_back(Notice::SummarisedEvent(event.clone()));
            } else {
                self.notices.push_back(Notice::Event(event.clone()));
            }
            if dry && !is_summarised {
                self.notices.extend(event.command_requests().map(Notice::CommandSkipped));
            } else if !dry && !is_absorbed {
                self.submit(&event);
            }
        }
    }

    /// Keeps the engine's openings apart from those that a one-time file forbade; false for an event to be silent
    /// about.
    fn is_real(&mut self, event: &mut Event, allowed: bool) -> bool {
        match &event.kind {
            EventKind::Open { opening, .. } if !allowed => {
                self.withheld.extend(opening.as_deref().map(key_of));
                false
            }
            // The door was opened by an earlier knock. The engine closes it by the later time all the same.
            EventKind::Extend { .. } if !allowed => false,
            // What was forbidden before is granted now.
            EventKind::Extend { door_id, command, opening } if self.withheld.remove(&key_of(opening)) => {
                let (door_id, command, net, opening) = (*door_id, command.clone(), opening.net, Some(opening.clone()));
                event.kind = EventKind::Open { door_id, command, opening, net };
                true
            }
            EventKind::Close { opening, .. } => !self.withheld.remove(&key_of(opening)),
            _ => true,
        }
    }

    /// Uses up the sequence of a one-time door; true where its command may run.
    fn use_up(&mut self, door_id: DoorId, event: &Event) -> bool {
        if !self.options.run_commands {
            if let Some(sequence) = self.one_time.current(door_id) {
                self.set_sequence(door_id, Some(sequence));
            }
            return true;
        }
        let Some((marked, next)) = self.one_time.use_up(door_id) else { return true };
        let allowed = marked.is_ok();
        if let Err(error) = marked {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: Some(event.ip), error });
        }
        let next = self.or_none(door_id, next);
        self.set_sequence(door_id, next);
        if allowed {
            self.tell_if_used_up(door_id);
        }
        allowed
    }

    /// Gives doors the sequences whose turn it is by now: those that the files had when they were opened may have been used
    /// since, by what was still seen of the doors before.
    pub(super) fn read_sequences_again(&mut self) {
        for (door_id, next) in self.one_time.read_again() {
            let next = self.or_none(door_id, next);
            if self.config.doors[usize::from(door_id.0)].sequence != next {
                self.set_sequence(door_id, next);
            }
        }
    }

    /// No sequence, and word of it, where the next one cannot be read.
    fn or_none(&mut self, door_id: DoorId, next: Next) -> Option<Sequence> {
        next.unwrap_or_else(|error| {
            let door = self.config.doors[usize::from(door_id.0)].name.clone();
            self.notices.push_back(Notice::OneTime { door, ip: None, error });
            None
        })
    }

    fn set_sequence(&mut self, door_id: DoorId, sequence: Option<Sequence>) {
        if let Some(door) = self.config.doors.get_mut(usize::from(door_id.0)) {
            door.sequence.clone_from(&sequence);
        }
        self.packet_source.set_sequence(&self.config, door_id);
        self.engine.set_sequence(door_id, sequence);
    }

    fn tell_if_used_up(&mut self, door_id: DoorId) {
        let door = &self.config.doors[usize::from(door_id.0)];
        if let (None, Some(path)) = (&door.sequence, &door.one_time_sequences) {
            self.notices.push_back(Notice::UsedUp { door: door.name.clone(), path: path.clone() });
        }
    }

    pub(super) fn tell_used_up(&mut self) {
        for i in 0..self.config.doors.len() {
            self.tell_if_used_up(DoorId(u16::try_from(i).unwrap_or(u16::MAX)));
        }
    }

    fn commit(&mut self, now: Timestamp) {
        let Some(state) = &mut self.state else { return };
        state.commit(now);
        while let Some(notice) = state.poll_notice() {
            self.notices.push_back(Notice::State(notice));
        }
    }

    fn check_stopped(&mut self, now: Timestamp) {
        let Some(limit) = self.stop_limit else { return };
        let (running, waiting) = (self.executor.running(), self.executor.waiting());
        if running + waiting == 0 {
            self.stopped = true;
        } else if limit <= now {
            self.stopped = true;
            self.notices.push_back(Notice::LeftBehind { running, waiting });
        }
    }

    /// Makes the descriptor readable when something is due.
    fn arm(&mut self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let engine = match self.packet_source.closing_time_left() {
            _ if self.stop_limit.is_some() => None,
            Some(waits) => Some(now.saturating_add(waits)),
            None => self.engine.poll_timeout(),
        };
        let state = self.state.as_ref().and_then(StateFile::poll_timeout);
        let ports = self.ports.poll_timeout();
        let (commands, summaries) = (self.executor.poll_timeout(), self.summaries.poll_timeout());
        let due = [engine, commands, state, ports, summaries, self.stop_limit].into_iter().flatten().min();
        // Most turns leave the next due time as it was, and a system call is dear.
        if due != self.armed || due.is_some_and(|due| due <= now) {
            self.timer.arm(due.map(|due| due.saturating_since(now)))?;
            self.armed = due;
        }
        Ok(())
    }
}

pub(super) fn key_of(opening: &Opening) -> OpeningKey {
    (opening.door.clone(), opening.net, opening.stop_command.clone())
}
