//! The ports that doors open without a command: what a turn opens and shuts goes to the kernel together.

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

/// How long the own table is left alone after it was made again: one that somebody removes for ever must not keep this
/// process busy. Each time it is twice as long, until the table has been left in peace.
const RESTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(5);

/// The gate, where a door has `open` and nothing is only tried, and what is to be done there.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// Boxed, since the compiler looks at what it holds, where it is none, in a way that valgrind takes for a mistake.
    gate: Option<Box<Gate>>,
    opening: HashMap<Element, (Arc<str>, Duration)>,
    shutting: HashMap<Element, Arc<str>>,
    /// When to look whether the own table is still whole.
    look_at: Option<Timestamp>,
    /// Not before this.
    rests_until: Timestamp,
    rest: Duration,
    /// What is wrong with it was told, and it is still wrong.
    failing: bool,
}

impl Ports {
    /// Opens the gate of a configuration.
    pub(super) fn start(config: &Config) -> Result<Self, GateError> {
        let mut gate = Gate::find(config)?;
        gate.as_mut().map_or(Ok(()), Gate::make)?;
        Ok(Self { gate: gate.map(Box::new), ..Self::default() })
    }

    /// Readable when somebody else has changed the firewall; [`Ports::tell`] is for that. `None` without an own table.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.gate.as_ref()?.watch()
    }

    /// Has the next turn see what became of the own table, where somebody else has changed the firewall.
    pub(super) fn tell(&mut self) {
        if self.gate.as_ref().is_some_and(|gate| gate.was_changed()) {
            self.look_at.get_or_insert(self.rests_until);
        }
    }

    /// Takes up the gate of another configuration, in which what is open stays open. An own table that is not used any more
    /// is removed.
    pub(super) fn replace<'a>(
        &mut self,
        gate: Option<Gate>,
        open: impl Iterator<Item = &'a Opening>,
        notices: &mut VecDeque<Notice>,
    ) {
        let was_own = self.gate.as_ref().is_some_and(|gate| gate.is_own());
        self.gate = gate.map(Box::new);
        let made = match &mut self.gate {
            Some(gate) if gate.is_own() => {
                gate.keep(open.filter(|opening| !opening.open.is_empty()).map(|opening| opening.net));
                gate.make()
            }
            _ if was_own => crate::gate::remove_table().map(drop),
            _ => Ok(()),
        };
        self.failing = made.is_err();
        // Tried again, where there is a table to make.
        self.look_at = self.gate.as_ref().filter(|_| self.failing).map(|_| Timestamp::default());
        notices.extend(made.err().map(Notice::Gate));
    }

    /// Openings of before the start: what the sets have, of doors that no command closes; and those from the state file,
    /// each with its door's ports.
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
            // The kernel does not have the address of the network that knocked.
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

    /// Takes note of what an event asks for, or tells where nothing is to be done. What was reported late is open for what
    /// is left of its time.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp, tells: bool, notices: &mut VecDeque<Notice>) {
        let (opening, opens) = match &event.kind {
            EventKind::Open { opening: Some(opening), .. } | EventKind::Extend { opening, .. } => (opening, true),
            // When its time is over the kernel shuts it.
            EventKind::Close { opening, .. } if event.time < opening.closes_at => (opening, false),
            _ => return,
        };
        if tells && opens {
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
                self.shutting.insert(element, door);
            } else if !left.is_zero() {
                self.opening.insert(element, (door, left));
            }
        }
    }

    /// Shuts ports. What another door holds open, as `holder` returns, is opened again, for as long as that door has: the
    /// kernel may have it for longer.
    fn shut<'a>(
        &mut self,
        holder: impl Fn(&Element) -> Option<&'a Opening>,
        now: Timestamp,
        notices: &mut VecDeque<Notice>,
    ) {
        let (Some(gate), false) = (&mut self.gate, self.shutting.is_empty()) else { return };
        let wanted = std::mem::take(&mut self.shutting);
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
            notices.push_back(Notice::NotShut { door, element, error });
        }
    }

    /// When to come again though nothing happened.
    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        self.look_at
    }

    /// Makes the own table again where somebody flushed all rules: its ports are open to everybody then. True where it did.
    fn look(&mut self, now: Timestamp, notices: &mut VecDeque<Notice>) -> bool {
        let Some(gate) = &mut self.gate else { return false };
        if self.look_at.is_none_or(|due| now < due) {
            return false;
        }
        self.look_at = None;
        match gate.mend() {
            Ok(mended) => {
                self.failing = false;
                if mended {
                    notices.push_back(Notice::GateMadeAgain);
                    let was_in_peace = self.rests_until.saturating_add(*RESTS.end()) < now;
                    self.rest = if was_in_peace { *RESTS.start() } else { (self.rest * 2).min(*RESTS.end()) };
                    self.rests_until = now.saturating_add(self.rest);
                }
                mended
            }
            Err(error) => {
                if !self.failing {
                    notices.push_back(Notice::Gate(error));
                    self.failing = true;
                }
                self.look_at = Some(now.saturating_add(*RESTS.end()));
                false
            }
        }
    }

    /// Opens again what was open in a table that was made again.
    fn reopen<'a>(&mut self, open: impl Iterator<Item = &'a Opening>, now: Timestamp) {
        // One that is over may wait for word of a knock that extended it.
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
        // Somebody has flushed it since the look: the next one makes it again, with all that is to be open.
        let is_gone = gate.is_own() && failed.iter().any(|(_, error)| matches!(error, GateError::NoSet(_)));
        if is_gone || gate.is_paused() {
            self.look_at.get_or_insert(self.rests_until);
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
    /// Opens and shuts the ports of this turn.
    pub(super) fn apply_ports(&mut self, now: Timestamp) {
        let Self { engine, withheld, ports, notices, .. } = self;
        let is_real = |opening: &Opening| !withheld.contains(&key_of(opening));
        if ports.look(now, notices) {
            ports.reopen(engine.openings().filter(|opening| is_real(opening)), now);
        }
        ports.shut(|Element { net, port }| engine.holder(*net, *port, is_real), now, notices);
        ports.open(notices);
    }
}

fn element(opening: &Opening, port: OpenPort) -> Element {
    Element { net: opening.net, port }
}
