//! The ports that doors open without a command. The changes of one turn go to the kernel together.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::turn::key_of;
use super::{Notice, Service};
use crate::config::{Config, Door, OpenPort};
use crate::event::{Event, EventKind};
use crate::gate::{Element, Gate, GateError};
use crate::openings::Opening;
use crate::time::Timestamp;

/// Minimum time between two restorations of the managed table, so that a program that keeps
/// removing the table cannot keep this process busy. The time doubles with each restoration, and
/// starts again when the table has not been changed for a while.
const RESTORE_DELAY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(5);

/// The gate, if a door has `open` and the service is not a dry run, and the changes to make there.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Boxed, because the compiler reads the contents of a `None` in a way that valgrind reports as
    /// an error.
    gate: Option<Box<Gate>>,
    opening: HashMap<Element, (Arc<str>, Duration)>,
    closing: HashMap<Element, Arc<str>>,
    /// The time of the next check whether the managed table is complete.
    check_at: Option<Timestamp>,
    /// The earliest time of the next check after a restoration.
    not_before: Timestamp,
    restore_delay: Duration,
    /// True if the last restoration failed; the error has been reported.
    restore_failed: bool,
}

impl Ports {
    /// Opens the gate of a configuration and creates the managed table.
    pub(super) fn start(config: &Config) -> Result<Self, GateError> {
        let mut gate = Gate::find(config)?;
        gate.as_mut().map_or(Ok(()), Gate::make)?;
        Ok(Self { gate: gate.map(Box::new), ..Self::default() })
    }

    /// Readable when another program has changed the firewall; call [`Ports::schedule_check`] then.
    /// `None` without a managed table.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.gate.as_ref()?.watch()
    }

    /// Makes a later turn check the managed table, if another program has changed the firewall.
    pub(super) fn schedule_check(&mut self) {
        if self.gate.as_ref().is_some_and(|gate| gate.was_changed()) {
            self.check_at.get_or_insert(self.not_before);
        }
    }

    /// Replaces the gate by that of another configuration, in which the ports of `open` stay open.
    /// Removes a managed table that is no longer used.
    pub(super) fn replace<'a>(
        &mut self,
        gate: Option<Gate>,
        open: impl Iterator<Item = &'a Opening>,
        notices: &mut VecDeque<Notice>,
    ) {
        let was_own = self.gate.as_ref().is_some_and(|gate| gate.is_managed());
        self.gate = gate.map(Box::new);
        let made = match &mut self.gate {
            Some(gate) if gate.is_managed() => {
                gate.keep(open.filter(|opening| !opening.open.is_empty()).map(|opening| opening.net));
                gate.make()
            }
            _ if was_own => crate::gate::remove_table().map(drop),
            _ => Ok(()),
        };
        self.restore_failed = made.is_err();
        // A table that could not be created is tried again.
        self.check_at = self.gate.as_ref().filter(|_| self.restore_failed).map(|_| Timestamp::default());
        notices.extend(made.err().map(Notice::Gate));
    }

    /// Returns the openings from before the start: those in the kernel's sets, for doors that no
    /// command closes, and those of the state file, with the ports of their doors.
    pub(super) fn adopt(
        &mut self,
        config: &Config,
        mut saved: Vec<Opening>,
        now: Timestamp,
    ) -> Result<Vec<Opening>, GateError> {
        let Some(gate) = &mut self.gate else { return Ok(saved) };
        let doors = || config.doors.iter().filter(|door| !door.open.is_empty());
        for opening in &mut saved {
            let is_same = |stop: Option<String>| stop.is_some() && stop == opening.stop_command;
            let is_of = |door: &&Door| {
                door.name == opening.door
                    && door.network_of(opening.ip) == opening.net
                    && is_same(door.stop_command_for(opening.ip))
            };
            let door = doors().find(is_of);
            opening.open = door.map_or_else(|| opening.open.clone(), |door| door.open.clone());
        }
        let mut sources: HashMap<IpNet, HashMap<OpenPort, Duration>> = HashMap::new();
        for (Element { net, port }, left) in gate.read()? {
            sources.entry(net).or_default().insert(port, left);
        }
        for (net, open) in sources {
            // The kernel's set contains the network, but not the address that knocked.
            let ip = net.addr();
            let opens_for_it = |door: &&Door| door.network_of(ip) == net && door.stop_command_for(ip).is_none();
            for door in doors().filter(opens_for_it) {
                let left: Option<Vec<Duration>> = door.open.iter().map(|port| open.get(port).copied()).collect();
                if let Some(left) = left.and_then(|left| left.into_iter().min()) {
                    let (door, open) = (door.name.clone(), door.open.clone());
                    let closes_at = now.saturating_add(left);
                    saved.push(Opening { door, ip, closes_at, stop_command: None, open, net });
                }
            }
        }
        Ok(saved)
    }

    /// Queues the changes that an event asks for and, if `is_reported`, reports the ports that
    /// would be opened. An opening that was reported late is open for the rest of its time.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp, is_reported: bool, notices: &mut VecDeque<Notice>) {
        let (opening, opens) = match &event.kind {
            EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. } => (opening, true),
            // At its closing time the kernel closes it.
            EventKind::Close { opening, .. } if event.time < opening.closes_at => (opening, false),
            _ => return,
        };
        if is_reported && opens {
            let open = opening.open.iter().map(|port| (opening.door.clone(), element(opening, *port)));
            notices.extend(open.map(|(door, element)| Notice::OpenSkipped { door, element }));
        }
        if self.gate.is_none() {
            return;
        }
        let left = opening.closes_at.saturating_since(now);
        for port in opening.open.iter() {
            let (door, element) = (opening.door.clone(), element(opening, *port));
            if !opens {
                self.opening.remove(&element);
                self.closing.insert(element, door);
            } else if !left.is_zero() {
                self.opening.insert(element, (door, left));
            }
        }
    }

    /// Closes ports. A port that another door holds open, as `holder` returns, is opened again for
    /// the remaining time of that door, because the kernel's element may last longer.
    fn close<'a>(
        &mut self,
        holder: impl Fn(&Element) -> Option<&'a Opening>,
        now: Timestamp,
        notices: &mut VecDeque<Notice>,
    ) {
        let (Some(gate), false) = (&mut self.gate, self.closing.is_empty()) else { return };
        let wanted = std::mem::take(&mut self.closing);
        for element in wanted.keys() {
            let Some(opening) = holder(element).filter(|opening| opening.closes_at > now) else { continue };
            let left = opening.closes_at.saturating_since(now);
            let (door, longest) = self.opening.entry(*element).or_insert_with(|| (opening.door.clone(), left));
            if *longest < left {
                (*door, *longest) = (opening.door.clone(), left);
            }
        }
        let elements: Vec<Element> = wanted.keys().copied().collect();
        for (element, error) in gate.remove(&elements) {
            let door = wanted.get(&element).cloned().unwrap_or_default();
            notices.push_back(Notice::NotClosed { door, element, error });
        }
    }

    /// The time at which the next turn is due without other events.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.check_at
    }

    /// Restores the managed table if another program removed or changed it, because its ports are
    /// open to any host then. Returns true if it did.
    fn restore_table(&mut self, now: Timestamp, notices: &mut VecDeque<Notice>) -> bool {
        let Some(gate) = &mut self.gate else { return false };
        if self.check_at.is_none_or(|due| now < due) {
            return false;
        }
        self.check_at = None;
        match gate.repair() {
            Ok(restored) => {
                self.restore_failed = false;
                if restored {
                    notices.push_back(Notice::TableRestored);
                    let was_unchanged = self.not_before.saturating_add(*RESTORE_DELAY.end()) < now;
                    self.restore_delay = if was_unchanged {
                        *RESTORE_DELAY.start()
                    } else {
                        (self.restore_delay * 2).min(*RESTORE_DELAY.end())
                    };
                    self.not_before = now.saturating_add(self.restore_delay);
                }
                restored
            }
            Err(error) => {
                if !self.restore_failed {
                    notices.push_back(Notice::Gate(error));
                    self.restore_failed = true;
                }
                self.check_at = Some(now.saturating_add(*RESTORE_DELAY.end()));
                false
            }
        }
    }

    /// Opens the ports of these openings again after the table was restored.
    fn reopen<'a>(&mut self, open: impl Iterator<Item = &'a Opening>, now: Timestamp) {
        // An overdue opening may still wait for the reader to report a knock that extended it.
        for opening in open.filter(|opening| opening.closes_at > now) {
            let left = opening.closes_at.saturating_since(now);
            let ports = opening.open.iter().map(|port| (element(opening, *port), (opening.door.clone(), left)));
            self.opening.extend(ports);
        }
    }

    fn open(&mut self, notices: &mut VecDeque<Notice>) {
        let (Some(gate), false) = (&mut self.gate, self.opening.is_empty()) else { return };
        let opening = std::mem::take(&mut self.opening);
        let failed = gate.add(&opening.iter().map(|(element, (_, left))| (*element, *left)).collect::<Vec<_>>());
        // Another program has removed the table since the check. The next check restores it, with
        // all ports that are to be open.
        let is_gone = gate.is_managed() && failed.iter().any(|(_, error)| matches!(error, GateError::NoSet(_)));
        if is_gone || gate.is_paused() {
            self.check_at.get_or_insert(self.not_before);
        }
        if is_gone {
            return;
        }
        let failed: HashMap<Element, GateError> = failed.into_iter().collect();
        for (element, (door, _)) in opening {
            if let Some(error) = failed.get(&element) {
                notices.push_back(Notice::NotOpened { door, element, error: error.clone() });
            }
        }
    }
}

impl Service {
    /// Opens and closes the ports of this turn.
    pub(super) fn apply_ports(&mut self, now: Timestamp) {
        let Self { engine, withheld, ports, notices, .. } = self;
        let is_real = |opening: &Opening| !withheld.contains(&key_of(opening));
        if ports.restore_table(now, notices) {
            ports.reopen(engine.openings().filter(|opening| is_real(opening)), now);
        }
        ports.close(|Element { net, port }| engine.holder(*net, *port, is_real), now, notices);
        ports.open(notices);
    }
}

fn element(opening: &Opening, port: OpenPort) -> Element {
    Element { net: opening.net, port }
}
