//! The engine against a naive model of the rules, over random configurations and traffic. The model keeps plain lists
//! and walks all of them each time; whatever the engine does for speed must not show.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use portknock_core::config::OnStop;
use portknock_core::{
    Config, Door, Engine, EventKind, FlagMask, Knock, LocalAddresses, Options, Protocol, Sequence, Step, TcpFlags,
    Timestamp,
};
use proptest::prelude::*;

const TICK: Duration = Duration::from_millis(500);
const LOCAL: [u8; 4] = [10, 0, 0, 1];
const TARGET: [u8; 4] = [10, 0, 0, 2];

#[derive(Clone, Debug)]
enum Action {
    Knock { source: u8, to_target: bool, step: Step, flags: u8, segment: u16 },
    Wait(u8),
    Reload(usize),
    CloseAll,
}

/// One attempt, or (stage 0) a cooldown.
#[derive(Clone, Debug)]
struct ModelAttempt {
    source: IpAddr,
    door: usize,
    stage: usize,
    started: Timestamp,
    due: Timestamp,
    segment: (u16, u32),
    scanned: HashSet<(Protocol, u16)>,
    born: u64,
}

struct Model {
    config: Config,
    now: Timestamp,
    attempts: Vec<ModelAttempt>,
    /// (door name, source, stop command) to (closing time, order).
    openings: HashMap<(String, IpAddr, String), (Timestamp, u64)>,
    counter: u64,
    log: Vec<String>,
}

impl Model {
    fn new(config: Config) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            attempts: Vec::new(),
            openings: HashMap::new(),
            counter: 0,
            log: Vec::new(),
        }
    }

    fn say(&mut self, time: Timestamp, door: usize, source: IpAddr, what: &str) {
        let name = self.config.doors[door].name.clone();
        self.log.push(format!("{time} {name} {source} {what}"));
    }

    fn next_born(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        loop {
            let attempt = self.attempts.iter().enumerate().min_by_key(|(_, a)| (a.due, a.door, a.stage == 0, a.born));
            let attempt = attempt.map(|(i, a)| (a.due, i)).filter(|(due, _)| *due <= self.now);
            let opening = self.openings.iter().min_by_key(|(_, (due, _))| *due);
            let opening = opening.map(|(key, (due, _))| (*due, key.clone())).filter(|(due, _)| *due <= self.now);
            match (attempt, opening) {
                (Some((due, i)), opening) if opening.as_ref().is_none_or(|(closing, _)| due <= *closing) => {
                    let gone = self.attempts.remove(i);
                    if gone.stage > 0 {
                        self.say(due, gone.door, gone.source, &format!("timeout {}", gone.stage));
                    }
                }
                (_, Some((due, key))) => {
                    self.openings.remove(&key);
                    self.log.push(format!("{due} {} {} close {}", key.0, key.1, key.2));
                }
                _ => return,
            }
        }
    }

    fn is_used(&self, step: Step) -> bool {
        self.config.doors.iter().any(|door| door.sequence.as_ref().unwrap().steps().contains(&step))
    }

    fn knock(&mut self, knock: &Knock, step: Step) {
        self.advance(knock.time);
        for index in 0..self.config.doors.len() {
            let door = self.config.doors[index].clone();
            let for_door = door.target.map_or(knock.destination == IpAddr::from(LOCAL), |t| t == knock.destination);
            let allowed = door.allow.is_empty() || door.allow.iter().any(|net| net.contains(&knock.source));
            if !for_door || !allowed {
                continue;
            }
            let steps = door.sequence.as_ref().unwrap().steps().to_vec();
            let held = self.attempts.iter().position(|a| a.source == knock.source && a.door == index);
            if !self.is_used(step) {
                if let Some(i) = held.filter(|&i| self.attempts[i].stage > 0)
                    && self.config.options.scan_guard > 0
                    && (knock.protocol == Protocol::Udp || knock.is_connection_request())
                {
                    self.attempts[i].scanned.insert((knock.protocol, knock.port));
                    if self.attempts[i].scanned.len() > usize::from(self.config.options.scan_guard) {
                        let gone = self.attempts.remove(i);
                        self.say(self.now, index, knock.source, &format!("fail {} scan", gone.stage));
                    }
                }
                continue;
            }
            if knock.protocol == Protocol::Tcp && !door.tcpflags.matches(knock.flags) {
                continue;
            }
            let segment = (knock.source_port, knock.sequence_number);
            let mut may_start = held.is_none();
            if let Some(i) = held {
                let attempt = self.attempts[i].clone();
                if attempt.stage == 0 {
                    continue;
                }
                let matched = steps[attempt.stage - 1];
                if knock.protocol == Protocol::Tcp && matched == step && attempt.segment == segment {
                    continue;
                }
                if steps[attempt.stage] == step {
                    self.say(self.now, index, knock.source, &format!("stage {}", attempt.stage + 1));
                    if attempt.stage + 1 == steps.len() {
                        self.attempts.remove(i);
                        self.open(index, knock.source);
                    } else {
                        self.attempts[i].stage += 1;
                        self.attempts[i].segment = segment;
                    }
                } else if matched != step {
                    self.attempts.remove(i);
                    self.say(self.now, index, knock.source, &format!("fail {} wrong-port", attempt.stage));
                    may_start = true;
                }
            }
            if may_start && steps[0] == step {
                if steps.len() == 1 {
                    self.say(self.now, index, knock.source, "stage 1");
                    self.open(index, knock.source);
                } else if self.make_room() {
                    let born = self.next_born();
                    let due = self.now.saturating_add(door.seq_timeout);
                    let scanned = HashSet::new();
                    let (source, started) = (knock.source, self.now);
                    self.attempts.push(ModelAttempt {
                        source,
                        door: index,
                        stage: 1,
                        started,
                        due,
                        segment,
                        scanned,
                        born,
                    });
                    self.say(self.now, index, knock.source, "stage 1");
                }
            }
        }
    }

    fn make_room(&mut self) -> bool {
        if self.attempts.len() < self.config.options.max_attempts as usize {
            return true;
        }
        let oldest = self.attempts.iter().enumerate().filter(|(_, a)| a.stage <= 1).min_by_key(|(_, a)| a.born);
        let Some((i, _)) = oldest else { return false };
        let gone = self.attempts.remove(i);
        if gone.stage == 1 {
            self.say(self.now, gone.door, gone.source, "fail 1 full");
        }
        true
    }

    fn open(&mut self, index: usize, source: IpAddr) {
        let door = self.config.doors[index].clone();
        let born = self.next_born();
        let key = door.stop_command_for(source).map(|stop| (door.name.to_string(), source, stop));
        let closing = (self.now.saturating_add(door.cmd_timeout), born);
        match key {
            Some(key) if self.openings.insert(key.clone(), closing).is_some() => {
                self.say(self.now, index, source, "extend");
            }
            _ => self.say(self.now, index, source, &format!("open {:?}", door.start_command_for(source))),
        }
        if let Some(span) = door.seq_cooldown
            && self.make_room()
        {
            let (started, born) = (self.now, self.next_born());
            self.attempts.push(ModelAttempt {
                source,
                door: index,
                stage: 0,
                started,
                due: started.saturating_add(span),
                segment: (0, 0),
                scanned: HashSet::new(),
                born,
            });
        }
    }

    /// The new configuration keeps the doors' order, so an unchanged door is one that equals the one at its place.
    fn reload(&mut self, config: Config) {
        let mut old = std::mem::take(&mut self.attempts);
        old.sort_by_key(|a| (a.started, a.door));
        let before = std::mem::replace(&mut self.config, config);
        for mut attempt in old {
            let door = attempt.door;
            if before.doors[door] == self.config.doors[door] {
                if self.make_room() {
                    attempt.born = self.next_born();
                    self.attempts.push(attempt);
                } else {
                    self.say(self.now, door, attempt.source, &format!("fail {} full", attempt.stage));
                }
            } else if attempt.stage > 0 {
                self.say(self.now, door, attempt.source, &format!("fail {} reload", attempt.stage));
            }
        }
    }
}

/// What the engine told, in the model's words.
fn told(engine: &mut Engine) -> Vec<String> {
    let mut log = Vec::new();
    while let Some(event) = engine.poll_event() {
        let what = match event.kind {
            EventKind::Stage { stage, .. } => format!("stage {stage}"),
            EventKind::Open { command, .. } => format!("open {command:?}"),
            EventKind::Extend { .. } => "extend".to_string(),
            EventKind::Close { command } => format!("close {command}"),
            EventKind::Timeout { stage } => format!("timeout {stage}"),
            EventKind::Fail { stage, reason } => format!("fail {stage} {reason}"),
        };
        log.push(format!("{} {} {} {what}", event.time, event.door, event.ip));
    }
    log
}

/// The time at the head of a line that tells of a closing.
fn closing_time(line: &str) -> Option<&str> {
    line.contains(" close ").then(|| line.split(' ').next()).flatten()
}

fn step() -> impl Strategy<Value = Step> {
    (1..=6u16, any::<bool>()).prop_map(|(port, udp)| Step {
        port: port.try_into().unwrap(),
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
    })
}

fn door() -> impl Strategy<Value = Door> {
    let masks = prop_oneof![
        Just(FlagMask::default()),
        Just(FlagMask { set: TcpFlags::SYN, clear: TcpFlags::NONE }),
        Just(FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK }),
    ];
    (
        prop::collection::vec(step(), 1..4),
        masks,
        1..8u32,
        prop::option::weighted(0.5, 1..8u32),
        prop::option::weighted(0.2, 1..6u32),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(steps, tcpflags, seq, cmd, cooldown, has_target, has_allow)| {
            let mut door = Door::new("", Some(Sequence::new(steps).unwrap()));
            door.tcpflags = tcpflags;
            door.seq_timeout = TICK * seq;
            door.start_command = Some("open %IP%".into());
            if let Some(cmd) = cmd {
                door.cmd_timeout = TICK * cmd;
                door.stop_command = Some("close %IP%".into());
            }
            door.seq_cooldown = cooldown.map(|span| TICK * span);
            door.target = has_target.then(|| TARGET.into());
            if has_allow {
                door.allow = vec!["10.0.1.2/31".parse().unwrap()];
            }
            door
        })
}

/// Two configurations with the same number of doors, some of which are the same.
fn configs() -> impl Strategy<Value = [Config; 2]> {
    let doors = prop::collection::vec((door(), prop::option::weighted(0.3, door())), 1..5);
    (doors, 0..4u8, 1..7u32).prop_map(|(doors, scan_guard, max_attempts)| {
        let options = Options { scan_guard, max_attempts, on_stop: OnStop::Close, ..Options::default() };
        [false, true].map(|changed| {
            let pick = |(i, (old, new)): (usize, &(Door, Option<Door>))| {
                let mut door = new.clone().filter(|_| changed).unwrap_or_else(|| old.clone());
                door.name = format!("door{i}").as_str().into();
                door
            };
            Config { options: options.clone(), doors: doors.iter().enumerate().map(pick).collect() }
        })
    })
}

fn action() -> impl Strategy<Value = Action> {
    let flags = prop_oneof![4 => Just(0x02u8), 1 => Just(0x12u8), 1 => Just(0x10u8)];
    // Ports above 6 are used by no door.
    let any_step = (1..=10u16, any::<bool>()).prop_map(|(port, udp)| Step {
        port: port.try_into().unwrap(),
        protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
    });
    let knock = (1..=4u8, prop::bool::weighted(0.2), any_step, flags, 1..=3u16).prop_map(
        |(source, to_target, step, flags, segment)| Action::Knock { source, to_target, step, flags, segment },
    );
    prop_oneof![
        30 => knock,
        5 => (0..4u8).prop_map(Action::Wait),
        1 => (0..2usize).prop_map(Action::Reload),
        1 => Just(Action::CloseAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_does_what_the_rules_say(configs in configs(), actions in prop::collection::vec(action(), 1..120)) {
        let mut engine = Engine::new(&configs[0]);
        engine.set_local_addresses(LocalAddresses::Only(HashSet::from([LOCAL.into()])));
        let mut model = Model::new(configs[0].clone());
        let mut now = Timestamp::from_secs(100);
        for action in actions {
            match action {
                Action::Knock { source, to_target, step, flags, segment } => {
                    let is_tcp = step.protocol == Protocol::Tcp;
                    let knock = Knock {
                        time: now,
                        source: [10, 0, 1, source].into(),
                        destination: if to_target { TARGET.into() } else { LOCAL.into() },
                        port: step.port.get(),
                        protocol: step.protocol,
                        flags: TcpFlags::from_bits(if is_tcp { flags } else { 0 }),
                        source_port: segment,
                        sequence_number: if is_tcp { 7 } else { 0 },
                    };
                    engine.handle_knock(&knock);
                    model.knock(&knock, step);
                }
                Action::Wait(ticks) => {
                    now = now.saturating_add(TICK * u32::from(ticks));
                    // Half of the time the wait is only seen by the next packet.
                    if ticks % 2 == 0 {
                        engine.handle_timeout(now);
                        model.advance(now);
                    }
                }
                Action::Reload(which) => {
                    engine.reload(&configs[which], now);
                    model.advance(now);
                    model.reload(configs[which].clone());
                }
                Action::CloseAll => {
                    engine.close_all(now);
                    model.advance(now);
                    let mut left: Vec<_> = model.openings.drain().map(|(key, (due, born))| (due, key, born)).collect();
                    left.sort();
                    for (_, key, _) in left {
                        model.log.push(format!("{now} {} {} close {}", key.0, key.1, key.2));
                    }
                }
            }
            let mut told = told(&mut engine);
            let mut expected = std::mem::take(&mut model.log);
            // Closings due at the same nanosecond have no order among each other; everything else has.
            for log in [&mut told, &mut expected] {
                for run in log.chunk_by_mut(|a, b| closing_time(a).is_some() && closing_time(a) == closing_time(b)) {
                    run.sort();
                }
            }
            prop_assert_eq!(told, expected);
            prop_assert_eq!(engine.stats().attempts, model.attempts.len());
            prop_assert_eq!(engine.stats().openings, model.openings.len());
            let next = model.attempts.iter().map(|a| a.due).chain(model.openings.values().map(|o| o.0)).min();
            prop_assert_eq!(engine.poll_timeout(), next);
        }
    }
}
