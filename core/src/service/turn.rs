//! One round of a service's work: packets, time, events, files, commands.

use super::clock::packet_time;
use super::{Notice, OpeningKey, Service, ServiceError};
use crate::config::DoorId;
use crate::decode::decode;
use crate::engine::LocalAddresses;
use crate::event::{Action, CommandRequest, Event, EventKind};
use crate::filter::PortFilter;
use crate::journal::{OpeningId, StateFile};
use crate::openings::Opening;
use crate::time::Timestamp;

/// So many knocks are kept back at most while a capture is read: those that are handled together cost less.
pub(super) const KNOCKS_AT_ONCE: usize = 256;

impl Service {
    /// One round of work; never waits for anything but the disk.
    pub(super) fn turn(&mut self) -> Result<(), ServiceError> {
        if self.stopped {
            return Ok(());
        }
        if self.stop_limit.is_none() {
            self.take_packets()?;
        }
        let now = self.clock.now();
        self.executor.reap(now)?;
        self.take_outcomes();
        let requests = self.take_events();
        self.commit(now);
        for (request, ends) in requests {
            let id = self.executor.submit(request);
            self.closing.extend(ends.map(|ends| (id, ends)));
        }
        self.executor.start_next(now);
        self.take_outcomes();
        // Some have ended already: those that could not be started at all.
        self.commit(now);
        self.check_stopped(now);
        self.arm()
    }

    /// Feeds the engine with what was captured, and moves its time on.
    fn take_packets(&mut self) -> Result<(), ServiceError> {
        let mut clocks = self.clock.read();
        let before = clocks.now;
        let Self { engine, capture, clock, options, notices, knocks, .. } = self;
        let mut last = Timestamp::default();
        let mut on_frame = |link_type, stamp, frame: &[u8]| {
            if stamp > clocks.wall {
                clocks = clock.read();
            }
            let time = packet_time(stamp, &clocks);
            last = last.max(time);
            let Some(knock) = decode(link_type, time, frame) else { return };
            if options.ipv4_only && knock.source.is_ipv6() {
                return;
            }
            if options.report_knocks {
                notices.push_back(Notice::Knock(knock));
            }
            knocks.push(knock);
            if knocks.len() == KNOCKS_AT_ONCE {
                engine.handle_knocks(knocks);
                knocks.clear();
            }
        };
        let taken = capture.turn(&mut on_frame);
        engine.handle_knocks(knocks);
        knocks.clear();
        engine.handle_timeout(last);
        let taken = taken?;
        self.packets += taken as u64;
        // Where packets may still wait in the buffer, they may have come before what is due by now. Those that are for
        // new addresses come with the next turn.
        if !self.follow_capture() && taken == 0 {
            self.engine.handle_timeout(before);
        }
        Ok(())
    }

    /// Takes what the capture has to say; true where the machine's addresses changed.
    pub(super) fn follow_capture(&mut self) -> bool {
        while let Some(notice) = self.capture.poll_notice() {
            self.notices.push_back(Notice::Capture(notice));
        }
        let changed = self.capture.take_address_change();
        if changed {
            let addresses = self.capture.local_addresses().clone();
            self.engine.set_local_addresses(LocalAddresses::Only(addresses));
        }
        changed
    }

    /// Turns the engine's events into notices, records in the state file, and the commands to run, stop commands with
    /// the opening that they end.
    fn take_events(&mut self) -> Vec<(CommandRequest, Option<OpeningId>)> {
        let mut requests = Vec::new();
        let mut ports_changed = false;
        while let Some(mut event) = self.engine.poll_event() {
            let allowed = match &event.kind {
                EventKind::Open { door_id, .. } | EventKind::Extend { door_id, .. } => {
                    let (allowed, changed) = self.use_up(*door_id, &event);
                    ports_changed |= changed;
                    allowed
                }
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
            let request = event.command_request();
            self.notices.push_back(Notice::Event(event));
            match request {
                Some(request) if self.options.run_commands => {
                    // At once, since the next event may open the same door again.
                    let ends = match (&mut self.state, request.action) {
                        (Some(state), Action::Close) => state.closing(&request),
                        _ => None,
                    };
                    requests.push((request, ends));
                }
                Some(request) => self.notices.push_back(Notice::CommandSkipped(request)),
                None => {}
            }
        }
        if ports_changed {
            self.capture.set_filter(PortFilter::new(&self.config, self.secret));
        }
        requests
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
            EventKind::Extend { door_id, opening } if self.withheld.remove(&key_of(opening)) => {
                let door = self.config.doors.get(usize::from(door_id.0));
                let command = door.and_then(|door| door.start_command_for(event.ip));
                event.kind = EventKind::Open { door_id: *door_id, command, opening: Some(opening.clone()) };
                true
            }
            EventKind::Close { command } => !self.withheld.remove(&(event.door.clone(), event.ip, command.clone())),
            _ => true,
        }
    }

    /// Uses up the sequence of a one-time door. The first value tells whether its command may run, the second whether
    /// the doors use other ports now.
    fn use_up(&mut self, door_id: DoorId, event: &Event) -> (bool, bool) {
        if !self.options.run_commands {
            if let Some(sequence) = self.one_time.current(door_id) {
                self.engine.set_sequence(door_id, Some(sequence));
            }
            return (true, false);
        }
        let Some((marked, next)) = self.one_time.use_up(door_id) else { return (true, false) };
        let allowed = marked.is_ok();
        if let Err(error) = marked {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: Some(event.ip), error });
        }
        let next = next.unwrap_or_else(|error| {
            self.notices.push_back(Notice::OneTime { door: event.door.clone(), ip: None, error });
            None
        });
        self.engine.set_sequence(door_id, next.clone());
        if let Some(door) = self.config.doors.get_mut(usize::from(door_id.0)) {
            door.sequence = next;
        }
        if allowed {
            self.tell_if_used_up(door_id);
        }
        (allowed, true)
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

    fn take_outcomes(&mut self) {
        while let Some(outcome) = self.executor.poll_outcome() {
            self.commands.count(&outcome.kind);
            if outcome.kind.is_final()
                && let (Some(id), Some(state)) = (self.closing.remove(&outcome.id), &mut self.state)
            {
                state.closed(id);
            }
            self.notices.push_back(Notice::Command(outcome));
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
        let engine = if self.stop_limit.is_none() { self.engine.poll_timeout() } else { None };
        let state = self.state.as_ref().and_then(StateFile::poll_timeout);
        let due = [engine, self.executor.poll_timeout(), state, self.stop_limit].into_iter().flatten().min();
        let now = self.clock.now();
        // Most turns leave the next due time as it was, and a system call is dear.
        if due != self.armed || due.is_some_and(|due| due <= now) {
            self.timer.arm(due.map(|due| due.saturating_since(now)))?;
            self.armed = due;
        }
        Ok(())
    }
}

pub(super) fn key_of(opening: &Opening) -> OpeningKey {
    (opening.door.clone(), opening.ip, opening.stop_command.clone())
}
