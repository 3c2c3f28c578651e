//! The rules of matching and opening (`docs/semantics.md`), implemented as plainly as possible:
//! lists that are walked from the front each time. Optimisations of the engine must not show.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use portknock_core::{
    Config, Door, DoorId, EngineStats, Event, EventKind, FailReason, Knock, LocalAddresses, Opening, Protocol,
    Sequence, Step, TcpFlags, Timestamp,
};

/// Number of elements that a set of the kernel can hold.
const GATE_ELEMENTS: usize = 131_072;

/// The state kept for one source at one door.
#[derive(Clone, Debug)]
struct Held {
    source: IpAddr,
    door: usize,
    since: Timestamp,
    kind: HeldKind,
}

#[derive(Clone, Debug)]
enum HeldKind {
    Attempt {
        stage: usize,
        /// Source port and sequence number of the last matched step.
        segment: (u16, u32),
        /// Distinct ports that no door uses, in the order of the hits.
        hits: Vec<(Protocol, u16)>,
    },
    Cooldown,
}

#[derive(Debug)]
pub(crate) struct Model {
    config: Config,
    local: LocalAddresses,
    now: Timestamp,
    /// Oldest first.
    held: Vec<Held>,
    /// Oldest first.
    openings: Vec<Opening>,
    reported: Vec<Vec<Event>>,
    knocks: u64,
    unused: u64,
    evicted: u64,
    refused: u64,
}

impl Model {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            local: LocalAddresses::Any,
            now: Timestamp::default(),
            held: Vec::new(),
            openings: Vec::new(),
            reported: Vec::new(),
            knocks: 0,
            unused: 0,
            evicted: 0,
            refused: 0,
        }
    }

    /// Events since the last call, in order; events of one group have no order among each other.
    pub(crate) fn take_reported(&mut self) -> Vec<Vec<Event>> {
        std::mem::take(&mut self.reported)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn openings(&self) -> &[Opening] {
        &self.openings
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::default();
        (stats.attempts, stats.openings) = (self.held.len(), self.openings.len());
        (stats.knocks, stats.unused) = (self.knocks, self.unused);
        (stats.evicted, stats.refused) = (self.evicted, self.refused);
        stats
    }

    /// The time of the next event that needs no packet.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let ends = self.held.iter().map(|held| self.end_of(held));
        ends.chain(self.openings.iter().map(|opening| opening.closes_at)).min()
    }

    /// The step that the source's attempt at a door waits for.
    pub(crate) fn next_step(&self, source: IpAddr, door: usize) -> Option<Step> {
        let steps = self.config.doors.get(door)?.sequence.as_ref()?.steps();
        let stage = self.held.iter().find_map(|held| match held.kind {
            HeldKind::Attempt { stage, .. } if (held.source, held.door) == (source, door) => Some(stage),
            _ => None,
        });
        steps.get(stage.unwrap_or(0)).copied()
    }

    pub(crate) fn set_local_addresses(&mut self, local: LocalAddresses) {
        self.local = local;
    }

    /// Timeouts and closings occur in the order of their due times. For equal times the rules
    /// define no order. The engine's order is: attempts in the order of the doors and of their
    /// ages, then closings in any order.
    pub(crate) fn advance(&mut self, to: Timestamp) {
        self.now = self.now.max(to);
        while let Some(due) = self.next_due().filter(|due| *due <= self.now) {
            for door in 0..self.config.doors.len() {
                while let Some(i) = self.held.iter().position(|held| held.door == door && self.end_of(held) == due) {
                    let gone = self.held.remove(i);
                    if let HeldKind::Attempt { stage, .. } = gone.kind {
                        self.report_at(due, door, gone.source, EventKind::Timeout { stage: small(stage) });
                    }
                }
            }
            let group = self.close(|opening| opening.closes_at == due, due);
            self.reported.extend((!group.is_empty()).then_some(group));
        }
    }

    pub(crate) fn close_all(&mut self, now: Timestamp) {
        self.advance(now);
        while let Some(first) = self.openings.iter().map(|opening| opening.closes_at).min() {
            let group = self.close(|opening| opening.closes_at == first, self.now);
            self.reported.push(group);
        }
    }

    pub(crate) fn close_by_hand(&mut self, door: &str, ip: IpAddr, now: Timestamp) {
        self.advance(now);
        let group = self.close(|opening| &*opening.door == door && opening.net.contains(&ip), self.now);
        self.reported.extend((!group.is_empty()).then_some(group));
    }

    pub(crate) fn restore(&mut self, openings: &[Opening]) {
        let mut openings = openings.to_vec();
        openings.sort_by_key(|opening| opening.closes_at);
        for opening in openings {
            match self.openings.iter().position(|held| is_same(held, &opening)) {
                Some(i) if self.openings[i].closes_at >= opening.closes_at => continue,
                Some(i) => drop(self.openings.remove(i)),
                None => {}
            }
            self.openings.push(opening);
        }
    }

    pub(crate) fn knock(&mut self, knock: &Knock) {
        self.advance(knock.time);
        self.knocks += 1;
        let impossible = ["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8", "::ffff:0:0/96"];
        if impossible.iter().any(|network| network.parse::<IpNet>().unwrap().contains(&knock.source)) {
            return;
        }
        let is_used_by = |door: &Door| steps_of(door).iter().any(|step| is_step(knock, *step));
        let doors = 0..self.config.doors.len();
        self.unused += u64::from(!self.config.doors.iter().any(is_used_by));
        let is_taken_at = |door: usize| self.takes(knock, door) && is_used_by(&self.config.doors[door]);
        let is_seen = doors.clone().any(is_taken_at);
        let mut spent = Vec::new();
        for door in doors.filter(|door| self.takes(knock, *door)).collect::<Vec<_>>() {
            if !is_seen {
                self.guard(knock, door);
            } else if self.step(knock, door) {
                spent.push(door);
            }
        }
        for door in spent {
            self.fail_all_at(door);
        }
    }

    /// The door continues with this sequence.
    pub(crate) fn set_sequence(&mut self, door: DoorId, sequence: Option<Sequence>) {
        let index = usize::from(door.0);
        let Some(door) = self.config.doors.get_mut(index) else { return };
        let is_other = door.sequence != sequence;
        door.sequence = sequence;
        if is_other {
            self.fail_all_at(index);
        }
    }

    /// Doors that did not change keep their state. State that no longer fits is evicted as in a
    /// flood: the oldest first, and for equal ages in the order of the old doors, then of the ends.
    pub(crate) fn reload(&mut self, config: &Config, now: Timestamp) {
        self.advance(now);
        let of = |config: &Config| (config.options.max_attempts.max(1), config.options.scan_guard);
        if self.config.doors == config.doors && of(&self.config) == of(config) {
            self.config = config.clone();
            return;
        }
        let mut before = std::mem::take(&mut self.held);
        before.sort_by_key(|held| (held.since, held.door, self.end_of(held), matches!(held.kind, HeldKind::Cooldown)));
        let old = std::mem::replace(&mut self.config, config.clone());
        let mut indices: Vec<Option<usize>> = Vec::new();
        for door in &old.doors {
            let index = (0..config.doors.len()).find(|i| config.doors[*i] == *door && !indices.contains(&Some(*i)));
            indices.push(index);
        }
        for mut held in before {
            let Some(index) = indices[held.door] else {
                if let HeldKind::Attempt { stage, .. } = held.kind {
                    let kind = EventKind::Fail { stage: small(stage), reason: FailReason::Reload };
                    let door = old.doors[held.door].name.clone();
                    self.reported.push(vec![Event { time: self.now, door, ip: held.source, kind }]);
                }
                continue;
            };
            held.door = index;
            if let HeldKind::Attempt { hits, .. } = &mut held.kind {
                // A guard with a lower limit has now seen the maximum number of ports.
                hits.truncate(config.options.scan_guard.into());
            }
            if self.make_room(index) {
                self.held.push(held);
            } else if let HeldKind::Attempt { stage, .. } = held.kind {
                self.report(index, held.source, EventKind::Fail { stage: small(stage), reason: FailReason::Full });
            }
        }
    }

    /// One knock at a port that some door uses and that is relevant to this door. Returns true if
    /// the knock consumed the door's sequence.
    fn step(&mut self, knock: &Knock, door: usize) -> bool {
        let first = network(knock.source, &self.config.doors[door]).addr();
        let is_cooldown =
            |held: &Held| (held.source, held.door) == (first, door) && matches!(held.kind, HeldKind::Cooldown);
        if self.held.iter().any(is_cooldown) {
            return false;
        }
        let steps = steps_of(&self.config.doors[door]).to_vec();
        let is_here = |held: &Held| (held.source, held.door) == (knock.source, door);
        let Some(i) = self.held.iter().position(is_here) else {
            return steps.first().is_some_and(|first| is_step(knock, *first)) && self.start(knock, door);
        };
        let HeldKind::Attempt { stage, segment, .. } = &mut self.held[i].kind else { return false };
        let matched = is_step(knock, steps[*stage - 1]);
        if knock.protocol == Protocol::Tcp && matched && *segment == (knock.source_port, knock.sequence_number) {
            return false;
        }
        if is_step(knock, steps[*stage]) {
            *stage += 1;
            *segment = (knock.source_port, knock.sequence_number);
            let stage = *stage;
            self.report(door, knock.source, EventKind::Stage { stage: small(stage), steps: small(steps.len()) });
            if stage < steps.len() {
                return false;
            }
            self.held.remove(i);
            return self.open(knock, door);
        }
        if matched {
            return false;
        }
        let stage = small(*stage);
        self.held.remove(i);
        self.report(door, knock.source, EventKind::Fail { stage, reason: FailReason::WrongPort });
        is_step(knock, steps[0]) && self.start(knock, door)
    }

    fn start(&mut self, knock: &Knock, door: usize) -> bool {
        let steps = steps_of(&self.config.doors[door]).len();
        let stage = EventKind::Stage { stage: 1, steps: small(steps) };
        if steps == 1 {
            self.report(door, knock.source, stage);
            return self.open(knock, door);
        }
        if self.make_room(door) {
            let segment = (knock.source_port, knock.sequence_number);
            let kind = HeldKind::Attempt { stage: 1, segment, hits: Vec::new() };
            self.held.push(Held { source: knock.source, door, since: self.now, kind });
            self.report(door, knock.source, stage);
        }
        false
    }

    fn open(&mut self, knock: &Knock, door_index: usize) -> bool {
        let door = self.config.doors[door_index].clone();
        let (ip, door_id) = (knock.source, DoorId(u16::try_from(door_index).unwrap()));
        let net = network(ip, &door);
        // The commands run for the address that opened the door for the network.
        let opened_it = |held: &&Opening| {
            (&held.door, held.net) == (&door.name, net)
                && held.stop_command.is_some()
                && held.stop_command == command_of_stop(held.ip, &door)
        };
        let opener = self.openings.iter().filter(opened_it).map(|held| held.ip);
        let opener = opener.min_by_key(|opener| (*opener != ip, *opener)).unwrap_or(ip);
        let command = command(opener, &door, door.start_command.as_ref(), door.start_command_6.as_ref());
        let opens = command.is_some() || !door.open.is_empty();
        let stop_command = if opens { command_of_stop(opener, &door) } else { None };
        let opening = (stop_command.is_some() || !door.open.is_empty()).then(|| Opening {
            door: door.name.clone(),
            ip: opener,
            closes_at: self.now.saturating_add(door.cmd_timeout),
            stop_command,
            open: door.open.clone(),
            net,
        });
        let open = opening.as_ref().and_then(|new| self.openings.iter().position(|held| is_same(held, new)));
        let kind = match (open, opening.clone().map(Box::new)) {
            (Some(_), Some(opening)) => EventKind::Extend { door_id, command, opening, key: None },
            (_, opening) => EventKind::Open { door_id, command, opening, net, key: None },
        };
        if let Some(open) = open {
            // The cooldown begins now, and its age counts from now.
            self.openings.remove(open);
        } else if opening.is_some() {
            self.make_room_for_opening(&door);
        }
        self.openings.extend(opening);
        self.report(door_index, ip, kind);
        if door.seq_cooldown.is_some() {
            // The cooldown of a network is held for its first address, whose own attempt ends.
            let source = net.addr();
            let is_its_own = |held: &Held| (held.source, held.door) == (source, door_index);
            if let Some(i) = self.held.iter().position(is_its_own)
                && let HeldKind::Attempt { stage, .. } = self.held.remove(i).kind
            {
                self.report(door_index, source, EventKind::Fail { stage: small(stage), reason: FailReason::Reload });
            }
            if self.make_room(door_index) {
                self.held.push(Held { source, door: door_index, since: self.now, kind: HeldKind::Cooldown });
            }
        }
        let is_spent = door.one_time_sequences.is_some();
        if is_spent {
            self.config.doors[door_index].sequence = None;
        }
        is_spent
    }

    /// The scan guard, for a packet that no door accepts at its port and that this door would
    /// accept at another port.
    fn guard(&mut self, knock: &Knock, door: usize) {
        let limit = usize::from(self.config.options.scan_guard);
        if limit == 0 || !steps_of(&self.config.doors[door]).iter().any(|step| step.protocol == knock.protocol) {
            return;
        }
        let is_here = |held: &Held| (held.source, held.door) == (knock.source, door);
        let Some(i) = self.held.iter().position(is_here) else { return };
        let HeldKind::Attempt { stage, hits, .. } = &mut self.held[i].kind else { return };
        if hits.contains(&(knock.protocol, knock.port)) {
            return;
        }
        hits.push((knock.protocol, knock.port));
        if hits.len() > limit {
            let stage = small(*stage);
            self.held.remove(i);
            self.report(door, knock.source, EventKind::Fail { stage, reason: FailReason::Scan });
        }
    }

    /// The oldest attempt at stage 1 or cooldown is evicted, at the door that holds most (the first
    /// of several). If that door has none, its oldest attempt is evicted for a door that holds
    /// fewer even after the addition; otherwise one at the newcomer's own door is evicted.
    fn make_room(&mut self, door: usize) -> bool {
        if self.held.len() < self.config.options.max_attempts.max(1) as usize {
            return true;
        }
        let at = |door: usize| self.held.iter().filter(|held| held.door == door).count();
        let mut most = 0;
        for other in 0..self.config.doors.len() {
            if at(other) > at(most) {
                most = other;
            }
        }
        let gives_way = |held: &Held| matches!(held.kind, HeldKind::Cooldown | HeldKind::Attempt { stage: 1, .. });
        let first_step = |door: usize| self.held.iter().position(|held| held.door == door && gives_way(held));
        let found = match first_step(most) {
            Some(i) => Some(i),
            None if at(door) + 1 < at(most) => self.held.iter().position(|held| held.door == most),
            None => first_step(door),
        };
        let Some(i) = found else {
            self.refused += 1;
            return false;
        };
        let gone = self.held.remove(i);
        if let HeldKind::Attempt { stage, .. } = gone.kind {
            self.evicted += 1;
            self.report(gone.door, gone.source, EventKind::Fail { stage: small(stage), reason: FailReason::Full });
        }
        true
    }

    /// A door has at most `MaxOpenings` openings, and no more than fit into the kernel's set if all
    /// doors with `open` have the same number. The oldest openings are closed.
    fn make_room_for_opening(&mut self, door: &Door) {
        let ports: usize = self.config.doors.iter().map(|door| door.open.len()).sum();
        let share = if door.open.is_empty() { usize::MAX } else { (GATE_ELEMENTS / ports).max(1) };
        let limit = share.min(self.config.options.max_openings as usize);
        while self.openings.iter().filter(|opening| opening.door == door.name).count() >= limit {
            let oldest = self.openings.iter().position(|opening| opening.door == door.name).unwrap();
            let opening = self.openings.remove(oldest);
            let (door, ip) = (opening.door.clone(), opening.ip);
            let kind = EventKind::Close { opening: Box::new(opening), reason: Some(FailReason::Full) };
            self.reported.push(vec![Event { time: self.now, door, ip, kind }]);
        }
    }

    fn fail_all_at(&mut self, door: usize) {
        let is_attempt = |held: &Held| held.door == door && matches!(held.kind, HeldKind::Attempt { .. });
        while let Some(i) = self.held.iter().position(is_attempt) {
            let gone = self.held.remove(i);
            if let HeldKind::Attempt { stage, .. } = gone.kind {
                self.report(door, gone.source, EventKind::Fail { stage: small(stage), reason: FailReason::Reload });
            }
        }
    }

    fn close(&mut self, which: impl Fn(&Opening) -> bool, time: Timestamp) -> Vec<Event> {
        let gone: Vec<Opening> = self.openings.iter().filter(|opening| which(opening)).cloned().collect();
        self.openings.retain(|opening| !which(opening));
        let event = |opening: Opening| {
            let (door, ip) = (opening.door.clone(), opening.ip);
            Event { time, door, ip, kind: EventKind::Close { opening: Box::new(opening), reason: None } }
        };
        gone.into_iter().map(event).collect()
    }

    fn is_relevant(&self, knock: &Knock, door: usize) -> bool {
        let Door { target, allow, .. } = &self.config.doors[door];
        let is_for_door = match (target, &self.local) {
            (Some(target), _) => *target == knock.destination,
            (None, LocalAddresses::Any) => true,
            (None, LocalAddresses::Only(addresses)) => addresses.contains(&knock.destination),
        };
        is_for_door && (allow.is_empty() || allow.iter().any(|net| net.contains(&knock.source)))
    }

    /// The packet's flags and addresses match the door.
    fn takes(&self, knock: &Knock, door: usize) -> bool {
        has_flags(knock, &self.config.doors[door]) && self.is_relevant(knock, door)
    }

    fn end_of(&self, held: &Held) -> Timestamp {
        let door = &self.config.doors[held.door];
        held.since.saturating_add(match held.kind {
            HeldKind::Attempt { .. } => door.seq_timeout,
            HeldKind::Cooldown => door.seq_cooldown.unwrap_or(Duration::ZERO),
        })
    }

    fn report(&mut self, door: usize, ip: IpAddr, kind: EventKind) {
        self.report_at(self.now, door, ip, kind);
    }

    fn report_at(&mut self, time: Timestamp, door: usize, ip: IpAddr, kind: EventKind) {
        let door = self.config.doors[door].name.clone();
        self.reported.push(vec![Event { time, door, ip, kind }]);
    }
}

fn steps_of(door: &Door) -> &[Step] {
    door.sequence.as_ref().map_or(&[], |sequence| sequence.steps())
}

fn is_step(knock: &Knock, step: Step) -> bool {
    (knock.protocol, knock.port) == (step.protocol, step.port.get())
}

fn has_flags(knock: &Knock, door: &Door) -> bool {
    let each = [TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::PSH, TcpFlags::ACK, TcpFlags::URG];
    let has = |flag| bits(knock.flags, flag);
    let asks_for = |flag| bits(door.tcpflags.set, flag);
    // A segment that a host sends by itself, as an answer, counts only if the door names its flags.
    let is_answer = has(TcpFlags::RST) && !asks_for(TcpFlags::RST)
        || has(TcpFlags::SYN) && has(TcpFlags::ACK) && !asks_for(TcpFlags::ACK);
    knock.protocol == Protocol::Udp
        || !is_answer
            && each.into_iter().all(|flag| match (asks_for(flag), bits(door.tcpflags.clear, flag)) {
                (true, _) => has(flag),
                (false, true) => !has(flag),
                (false, false) => true,
            })
}

fn bits(flags: TcpFlags, flag: TcpFlags) -> bool {
    flags.bits() & flag.bits() != 0
}

fn is_same(a: &Opening, b: &Opening) -> bool {
    (&a.door, a.net, &a.stop_command) == (&b.door, b.net, &b.stop_command)
}

/// The network of the address, no wider than the networks of `allow` that have the address.
fn network(ip: IpAddr, door: &Door) -> IpNet {
    let allowed = door.allow.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).min().unwrap_or(0);
    let wanted = match (ip, door.open_prefix) {
        (IpAddr::V4(_), prefix) => prefix.map_or(32, |prefix| prefix.ipv4),
        (IpAddr::V6(_), prefix) => prefix.map_or(128, |prefix| prefix.ipv6),
    };
    IpNet::new(ip, wanted.max(allowed)).unwrap().trunc()
}

fn command_of_stop(ip: IpAddr, door: &Door) -> Option<String> {
    command(ip, door, door.stop_command.as_ref(), door.stop_command_6.as_ref())
}

fn command(ip: IpAddr, door: &Door, plain: Option<&String>, six: Option<&String>) -> Option<String> {
    let text = match (ip, six) {
        (IpAddr::V6(_), Some(six)) => six,
        _ => plain?,
    };
    let with_net = || text.split("%NET%").collect::<Vec<_>>().join(&network(ip, door).to_string());
    (!text.is_empty()).then(|| with_net().split("%IP%").collect::<Vec<_>>().join(&ip.to_string()))
}

fn small(count: usize) -> u8 {
    u8::try_from(count).unwrap()
}
