//! One turn of a service: packets, time, events, files, ports, commands.

use std::time::Duration;

use super::one_time::Next;
use super::{Notice, OpeningKey, Service, ServiceError};
use crate::config::{DoorId, Sequence};
use crate::event::{Event, EventKind};
use crate::journal::StateFile;
use crate::openings::Opening;
use crate::time::Timestamp;

/// Number of keys and minutes that are tried at one time for a packet of a client whose clock is wrong:
/// half a millisecond.
const SEARCH_BATCH: u32 = 2_000;
/// Number of keys that are tried at one time for a packet without a valid HMAC: half a millisecond.
const WEAK_SEARCH_BATCH: u32 = 16;
/// Time between two batches. Together they use one hundredth of a processor.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);

impl Service {
    /// Does one turn of work. Waits for nothing except the disk.
    pub(super) fn turn(&mut self) -> Result<(), ServiceError> {
        if self.stopped {
            return Ok(());
        }
        if self.stop_deadline.is_none() {
            self.poll_packets()?;
        }
        self.work()
    }

    /// Does one turn of work without reading packets.
    pub(super) fn work(&mut self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        self.executor.reap(now)?;
        self.handle_results(now);
        if self.engine.take_window_change() {
            self.packet_source.set_windows(&self.config, self.engine.windows());
        }
        self.search_clock(now);
        if self.engine.take_hint_change() {
            self.packet_source.set_hints(self.engine.hints());
        }
        loop {
            self.handle_events(now);
            if self.stop_deadline.is_some() {
                self.withdraw_starts();
            }
            self.commit(now);
            self.apply_ports(now);
            self.executor.start_next(now);
            self.handle_results(now);
            // Commands that could not be started may have caused events.
            if !self.engine.has_events() {
                break;
            }
        }
        // Commands that could not be started have ended already.
        self.commit(now);
        self.summaries.report(now, &mut self.notices);
        self.check_stopped(now);
        self.arm()
    }

    /// Continues the search for the clock of a client whose packet has no hint, at a small part of a
    /// processor.
    fn search_clock(&mut self, now: Timestamp) {
        self.search_at = self.search_at.or_else(|| self.engine.search_due(SEARCH_PAUSE));
        if self.search_at.is_some_and(|due| due <= now) {
            self.engine.search_clock(SEARCH_BATCH);
            self.engine.search_weak(WEAK_SEARCH_BATCH);
            self.search_at = self.engine.search_due(SEARCH_PAUSE).map(|due| due.max(now.saturating_add(SEARCH_PAUSE)));
        }
    }

    /// Turns the engine's events into notices, records in the state file, changes of ports, and
    /// commands.
    fn handle_events(&mut self, now: Timestamp) {
        let accepted = self.engine.take_accepted();
        if let Some(state) = &mut self.state {
            accepted.iter().for_each(|knock| state.used(knock));
        }
        while let Some(mut event) = self.engine.poll_event() {
            let allowed = match &event.kind {
                EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } => self.consume(*door_id, &event),
                _ => true,
            };
            if !self.is_reported(&mut event, allowed) {
                continue;
            }
            if let (Some(state), EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. }) =
                (&mut self.state, &event.kind)
            {
                state.opened(opening, self.clock.read());
            }
            let is_absorbed = self.is_absorbed(&event);
            let is_summarised = self.refusals.is_repeated(&event, now) || self.summaries.take(&event, is_absorbed, now);
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

    /// Withholds openings of the engine that a one-time file prevented. Returns false if the event
    /// must not be reported.
    fn is_reported(&mut self, event: &mut Event, allowed: bool) -> bool {
        match &event.kind {
            EventKind::Open { opening, .. } if !allowed => {
                self.withheld.extend(opening.as_deref().map(key_of));
                false
            }
            // An earlier knock opened the door. The engine closes it at the later time in this case
            // too.
            EventKind::Extend { .. } if !allowed => false,
            // The opening was withheld before and counts now.
            EventKind::Extend { door_id, command, opening, key } if self.withheld.remove(&key_of(opening)) => {
                event.kind = EventKind::Open {
                    door_id: *door_id,
                    command: command.clone(),
                    net: opening.net,
                    opening: Some(opening.clone()),
                    key: key.clone(),
                };
                true
            }
            EventKind::Close { opening, .. } => !self.withheld.remove(&key_of(opening)),
            _ => true,
        }
    }

    /// Consumes the sequence of a one-time door. Returns true if the door may open.
    fn consume(&mut self, door_id: DoorId, event: &Event) -> bool {
        if !self.options.run_commands {
            if let Some(sequence) = self.one_time.current(door_id) {
                self.set_sequence(door_id, Some(sequence));
            }
            return true;
        }
        let Some((marked, next)) = self.one_time.consume(door_id) else { return true };
        let allowed = marked.is_ok();
        if let Err(error) = marked {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: Some(event.ip), error });
        }
        let next = self.or_none(door_id, next);
        self.set_sequence(door_id, next);
        if allowed {
            self.report_if_consumed(door_id);
        }
        allowed
    }

    /// Updates the current sequences of the doors from their files: a knock at a door of the old
    /// configuration may have consumed a sequence after the new files were opened.
    pub(super) fn reread_sequences(&mut self) {
        for (door_id, next) in self.one_time.reread() {
            let next = self.or_none(door_id, next);
            if self.config.doors[usize::from(door_id.0)].sequence != next {
                self.set_sequence(door_id, next);
            }
        }
    }

    /// Returns the sequence, or none if it could not be read, which is reported.
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
        self.packet_source.set_sequence(&self.config, self.engine.windows(), door_id);
        self.engine.set_sequence(door_id, sequence);
    }

    fn report_if_consumed(&mut self, door_id: DoorId) {
        let door = &self.config.doors[usize::from(door_id.0)];
        if let (None, Some(path)) = (&door.sequence, &door.one_time_sequences) {
            self.notices.push_back(Notice::SequencesConsumed { door: door.name.clone(), path: path.clone() });
        }
    }

    pub(super) fn report_consumed(&mut self) {
        for i in 0..self.config.doors.len() {
            self.report_if_consumed(DoorId(u16::try_from(i).unwrap_or(u16::MAX)));
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
        let Some(limit) = self.stop_deadline else { return };
        let (running, waiting) = (self.executor.running(), self.executor.waiting());
        if running + waiting == 0 {
            self.stopped = true;
        } else if limit <= now {
            self.stopped = true;
            self.notices.push_back(Notice::LeftBehind { running, waiting });
        }
        if let (true, Some(state)) = (self.stopped, &mut self.state) {
            state.finish(now);
            self.notices.extend(std::iter::from_fn(|| state.poll_notice()).map(Notice::State));
        }
    }

    /// Arms the timer that makes the descriptor readable when something is due.
    fn arm(&mut self) -> Result<(), ServiceError> {
        let now = self.clock.now();
        let engine = match self.packet_source.closing_time_left() {
            _ if self.stop_deadline.is_some() => None,
            Some(waits) => Some(now.saturating_add(waits)),
            None => self.engine.poll_timeout(),
        };
        let search = self.search_at.filter(|_| self.stop_deadline.is_none());
        let state = self.state.as_ref().and_then(StateFile::poll_timeout);
        let ports = self.ports.poll_timeout();
        let (commands, summaries) = (self.executor.poll_timeout(), self.summaries.poll_timeout());
        let due = [engine, search, commands, state, ports, summaries, self.stop_deadline].into_iter().flatten().min();
        // Most turns do not change the next due time, and a system call is expensive.
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
