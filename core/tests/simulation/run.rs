//! Plays a scenario to the engine and to the model.

use std::collections::BTreeMap;

use portknock_core::{Config, Engine, Event, EventKind, Knock, LinkType, Opening, Timestamp};

use crate::model::Model;
use crate::scenario::{Action, Packet, Scenario};

pub(crate) struct Run<'a> {
    scenario: &'a Scenario,
    engine: Engine,
    /// Gets the same input and must report the same events, because nothing depends on the seed of
    /// a hash table.
    twin: Engine,
    model: Model,
    /// The clock of the packets' timestamps.
    clock: Timestamp,
    last: Option<Knock>,
    seen: BTreeMap<String, usize>,
    speaks: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(scenario: &'a Scenario, speaks: bool) -> Self {
        let Scenario { config, .. } = scenario;
        if speaks {
            println!("{}", show(config));
        }
        Self {
            scenario,
            engine: Engine::new(config),
            twin: Engine::new(config),
            model: Model::new(config),
            clock: Timestamp::from_secs(1000),
            last: None,
            seen: BTreeMap::new(),
            speaks,
        }
    }

    /// Plays all actions. Returns the number of events of each kind, or the difference.
    pub(crate) fn play(mut self) -> Result<BTreeMap<String, usize>, String> {
        for (i, action) in self.scenario.actions.iter().enumerate() {
            if self.speaks {
                println!("{i}: at {} {action:?}", self.clock);
            }
            self.act(action);
            self.compare().map_err(|difference| format!("action {i}: {difference}"))?;
        }
        *self.seen.entry("refused".into()).or_default() += usize::try_from(self.model.stats().refused).unwrap();
        Ok(self.seen)
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Knock { packet, late } => {
                let late = u64::try_from(late.as_nanos()).unwrap();
                self.knock(packet.at(Timestamp::from_nanos(self.clock.as_nanos() - late)));
            }
            Action::NextStep { source, destination, door, segment } => {
                if let Some(step) = self.model.next_step(*source, *door) {
                    let flags = self.model.config().doors[*door].tcpflags.set;
                    let packet = Packet { source: *source, destination: *destination, step, flags, segment: *segment };
                    self.knock(packet.at(self.clock));
                }
            }
            Action::Again => {
                if let Some(knock) = self.last {
                    self.knock(Knock { time: self.clock, ..knock });
                }
            }
            Action::Flood { first, count, packet } => {
                for host in 0..*count {
                    let [high, low] = first.wrapping_add(host).to_be_bytes();
                    self.knock(Packet { source: [10, 1, high, low].into(), ..*packet }.at(self.clock));
                }
            }
            Action::Scan { packet, ports } => {
                for port in ports.clone() {
                    let mut packet = *packet;
                    packet.step.port = port.try_into().unwrap();
                    self.knock(packet.at(self.clock));
                }
            }
            Action::Noise(frame) => {
                self.each(|engine, clock| engine.feed(LinkType::Ethernet, clock, frame));
                self.model.advance(self.clock);
            }
            Action::Wait { span, quietly } => {
                self.clock = self.clock.saturating_add(*span);
                if *quietly {
                    self.each(Engine::handle_timeout);
                    self.model.advance(self.clock);
                }
            }
            Action::SetBack(span) => {
                let back = u64::try_from(span.as_nanos()).unwrap();
                self.clock = Timestamp::from_nanos(self.clock.as_nanos() - back);
            }
            Action::Reload(config) => {
                self.each(|engine, clock| engine.reload(config, clock));
                self.model.reload(config, self.clock);
            }
            Action::ReloadSame => {
                let config = self.model.config().clone();
                self.each(|engine, clock| engine.reload(&config, clock));
                self.model.reload(&config, self.clock);
            }
            Action::SetSequence(door, sequence) => {
                self.each(|engine, _| engine.set_sequence(*door, sequence.clone()));
                self.model.set_sequence(*door, sequence.clone());
            }
            Action::Restore(openings) => {
                let at = |(opening, span): &(Opening, _)| Opening {
                    closes_at: self.clock.saturating_add(*span),
                    ..opening.clone()
                };
                let openings: Vec<_> = openings.iter().map(at).collect();
                self.each(|engine, _| engine.restore_openings(openings.clone()));
                self.model.restore(&openings);
            }
            Action::Close(place) => {
                let Some(Opening { door, ip, .. }) = self.model.openings().get(*place).cloned() else { return };
                self.each(|engine, clock| {
                    engine.close(&door, ip, clock);
                });
                self.model.close_by_hand(&door, ip, self.clock);
            }
            Action::CloseAll => {
                self.each(Engine::close_all);
                self.model.close_all(self.clock);
            }
            Action::SetLocal(local) => {
                self.each(|engine, _| engine.set_local_addresses(local.clone()));
                self.model.set_local_addresses(local.clone());
            }
        }
    }

    fn knock(&mut self, knock: Knock) {
        self.each(|engine, _| engine.handle_knock(&knock));
        self.model.knock(&knock);
        self.last = Some(knock);
    }

    fn each(&mut self, act: impl Fn(&mut Engine, Timestamp)) {
        act(&mut self.engine, self.clock);
        act(&mut self.twin, self.clock);
    }

    fn compare(&mut self) -> Result<(), String> {
        let reported: Vec<Event> = std::iter::from_fn(|| self.engine.poll_event()).collect();
        let twin: Vec<Event> = std::iter::from_fn(|| self.twin.poll_event()).collect();
        let expected = self.model.take_reported();
        for event in &reported {
            let what = match &event.kind {
                EventKind::Fail { reason, .. } => format!("fail {reason}"),
                EventKind::Close { reason: Some(reason), .. } => format!("close {reason}"),
                kind => kind.as_str().into(),
            };
            *self.seen.entry(what).or_default() += 1;
            if self.speaks {
                println!("    {} {event}", event.time);
            }
        }
        let mut rest = &reported[..];
        let mut is_same = reported == twin;
        for group in &expected {
            let (head, tail) = rest.split_at(group.len().min(rest.len()));
            is_same &= head.len() == group.len() && group.iter().all(|event| head.contains(event));
            rest = tail;
        }
        if !is_same || !rest.is_empty() {
            let twin = lines(&twin);
            let expected: Vec<Event> = expected.into_iter().flatten().collect();
            return Err(format!(
                "\nreported:\n{}by its twin:\n{twin}expected:\n{}",
                lines(&reported),
                lines(&expected)
            ));
        }
        differ("stats", &self.engine.stats(), &self.model.stats())?;
        differ("next due time", &self.engine.poll_timeout(), &self.model.next_due())?;
        differ("doors", &self.engine.doors(), &&self.model.config().doors[..])?;
        let mut openings: Vec<_> = self.engine.openings().cloned().collect();
        let mut expected = self.model.openings().to_vec();
        for list in [&mut openings, &mut expected] {
            list.sort_by(|a, b| (a.ip, a.net, &a.door, &a.stop_command).cmp(&(b.ip, b.net, &b.door, &b.stop_command)));
        }
        differ("openings", &openings, &expected)
    }
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, expected: &T) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("{what}: {is:#?}\nexpected: {expected:#?}")) }
}

fn lines(events: &[Event]) -> String {
    events.iter().map(|Event { time, door, ip, kind }| format!("    {time} {door} {ip} {kind:?}\n")).collect()
}

/// The doors, one on each line.
pub(crate) fn show(config: &Config) -> String {
    let doors = config.doors.iter().map(|door| format!("{door:?}\n"));
    format!("{:?}\n", config.options) + &doors.collect::<String>()
}
