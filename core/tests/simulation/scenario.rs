//! The scenario of a seed: a configuration, and the actions on it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use fastrand::Rng;
use portknock_core::{
    Config, Door, DoorId, FlagMask, Knock, LocalAddresses, OpenPort, OpenPrefix, Opening, Options, Protocol, Sequence,
    Step, TcpFlags, Timestamp,
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const TARGET: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const ABSENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
/// The port that some doors open without a command.
const SSH: OpenPort = OpenPort { protocol: Protocol::Tcp, port: NonZeroU16::MIN };

const TICK: Duration = Duration::from_millis(500);
/// Highest port that doors use.
const PORTS: u16 = 6;

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) config: Config,
    pub(crate) actions: Vec<Action>,
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A packet. Its time is that of the clock minus `late`.
    Knock {
        packet: Packet,
        late: Duration,
    },
    /// The knock that advances the source's attempt at this door.
    NextStep {
        source: IpAddr,
        destination: IpAddr,
        door: usize,
        segment: u16,
    },
    /// The previous packet again, as the network or the sender's kernel would repeat it.
    Again,
    /// This number of new sources, at one port.
    Flood {
        first: u16,
        count: u16,
        packet: Packet,
    },
    /// One source at all of these ports.
    Scan {
        packet: Packet,
        ports: std::ops::Range<u16>,
    },
    /// A frame that is not a knock.
    Noise(Vec<u8>),
    /// Time passes, either on a quiet link or noticed only with the next packet.
    Wait {
        span: Duration,
        quietly: bool,
    },
    /// The clock of the timestamps is set back.
    SetBack(Duration),
    Reload(Box<Config>),
    /// Reloads the present configuration.
    ReloadSame,
    SetSequence(DoorId, Option<Sequence>),
    Restore(Vec<(Opening, Duration)>),
    /// Closes one opening by hand: the door with this index among the open ones, and its address.
    Close(usize),
    CloseAll,
    SetLocal(LocalAddresses),
}

/// A knock without its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) step: Step,
    pub(crate) flags: TcpFlags,
    pub(crate) segment: u16,
}

impl Packet {
    pub(crate) fn at(&self, time: Timestamp) -> Knock {
        let is_tcp = self.step.protocol == Protocol::Tcp;
        Knock {
            time,
            source: self.source,
            destination: self.destination,
            port: self.step.port.get(),
            protocol: self.step.protocol,
            flags: if is_tcp { self.flags } else { TcpFlags::NONE },
            source_port: 1000 + self.segment % 2,
            sequence_number: if is_tcp { (self.segment / 2).into() } else { 0 },
        }
    }
}

impl Scenario {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = config(&mut rng);
        let mut latest = config.clone();
        let actions = (0..rng.usize(20..400)).map(|_| action(&mut rng, &mut latest)).collect();
        Self { config, actions }
    }
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// True with this probability in percent.
fn often(rng: &mut Rng, percent: u8) -> bool {
    rng.u8(..100) < percent
}

fn action(rng: &mut Rng, latest: &mut Config) -> Action {
    match rng.u8(..100) {
        0..30 => Action::NextStep {
            source: source(rng),
            destination: destination(rng),
            door: rng.usize(..6),
            segment: rng.u16(..1000),
        },
        30..55 => {
            let late = if often(rng, 10) { span(rng, 8) } else { Duration::ZERO };
            Action::Knock { packet: packet(rng, 2 * PORTS), late }
        }
        55..60 => Action::Again,
        60..65 => Action::Flood { first: rng.u16(..), count: rng.u16(1..30), packet: packet(rng, PORTS) },
        65..70 => {
            let first = PORTS + 1 + rng.u16(..6);
            Action::Scan { packet: packet(rng, PORTS), ports: first..first + rng.u16(1..8) }
        }
        70..72 => Action::Noise((0..rng.usize(..80)).map(|_| rng.u8(..)).collect()),
        72..86 => Action::Wait { span: span(rng, 4), quietly: rng.bool() },
        86..88 => Action::SetBack(span(rng, 6)),
        88..92 => {
            change(rng, latest);
            Action::Reload(Box::new(latest.clone()))
        }
        92..93 => Action::ReloadSame,
        93..95 => Action::SetSequence(DoorId(rng.u16(..6)), often(rng, 90).then(|| sequence(rng, latest))),
        95..96 => Action::Close(rng.usize(..5)),
        96..98 => Action::Restore((0..rng.usize(..4)).map(|_| opening(rng, latest)).collect()),
        98..99 => Action::CloseAll,
        _ => Action::SetLocal(if rng.bool() {
            LocalAddresses::Any
        } else {
            let addresses = [LOCAL, TARGET].into_iter().filter(|_| often(rng, 80));
            LocalAddresses::Only(HashSet::from_iter(addresses.collect::<Vec<_>>()))
        }),
    }
}

fn packet(rng: &mut Rng, ports: u16) -> Packet {
    let impossible =
        ["::ffff:10.0.1.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "255.255.255.255", "::", "ff02::1"];
    let flags = [0x02, 0x02, 0x02, 0x02, 0x12, 0x10, 0x14, 0x04, 0x03, 0x11, 0x29, 0x00];
    Packet {
        source: if often(rng, 2) { one_of(rng, &impossible).parse().unwrap() } else { source(rng) },
        destination: destination(rng),
        step: step(rng, ports),
        flags: TcpFlags::from_bits(one_of(rng, &flags)),
        segment: rng.u16(..6),
    }
}

fn source(rng: &mut Rng) -> IpAddr {
    match rng.u8(..6) {
        host @ 0..4 => [10, 0, 1, host].into(),
        host => [0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()].into(),
    }
}

fn destination(rng: &mut Rng) -> IpAddr {
    one_of(rng, &[LOCAL, LOCAL, LOCAL, LOCAL, TARGET, ABSENT])
}

fn step(rng: &mut Rng, ports: u16) -> Step {
    Step {
        port: rng.u16(1..=ports).try_into().unwrap(),
        protocol: if rng.bool() { Protocol::Udp } else { Protocol::Tcp },
    }
}

/// Mostly whole ticks, so that deadlines coincide.
fn span(rng: &mut Rng, ticks: u32) -> Duration {
    let whole = TICK * rng.u32(1..=ticks);
    if often(rng, 30) { whole - Duration::from_nanos(rng.u64(..400_000_000)) } else { whole }
}

/// A sequence, which often begins like another door's.
fn sequence(rng: &mut Rng, others: &Config) -> Sequence {
    let other = (!others.doors.is_empty()).then(|| &others.doors[rng.usize(..others.doors.len())]);
    let mut steps = match other.and_then(|door| door.sequence.as_ref()) {
        Some(sequence) if often(rng, 40) => sequence.steps()[..rng.usize(..=sequence.steps().len())].to_vec(),
        _ => Vec::new(),
    };
    let more = if often(rng, 2) { 32 } else { rng.usize(1..4) };
    steps.extend((0..more).map(|_| step(rng, PORTS)));
    steps.truncate(32);
    Sequence::new(steps).unwrap()
}

fn door(rng: &mut Rng, others: &Config) -> Door {
    let masks = [
        (0x00, 0x00),
        (0x00, 0x10),
        (0x02, 0x00),
        (0x02, 0x10),
        (0x02, 0x15),
        (0x04, 0x00),
        (0x10, 0x00),
        (0x01, 0x00),
        (0x29, 0x00),
    ];
    let (set, clear) = one_of(rng, &masks);
    let sequence = sequence(rng, others);
    let mut door = Door::new(one_of(rng, &["a", "b", "c", "d", "e"]), Some(sequence));
    if often(rng, 20) {
        door.one_time_sequences = Some("/etc/sequences".into());
        if often(rng, 10) {
            door.sequence = None;
        }
    }
    door.tcpflags = FlagMask { set: TcpFlags::from_bits(set), clear: TcpFlags::from_bits(clear) };
    door.seq_timeout = span(rng, 12);
    door.cmd_timeout = span(rng, 12);
    let text = |rng: &mut Rng, text: &str, percent| often(rng, percent).then(|| text.to_owned());
    door.start_command = text(rng, "open %IP%, %NET%, %IP%", 85);
    door.stop_command = text(rng, "close %NET% %IP%", 70);
    door.start_command_6 = one_of(rng, &[None, None, Some(""), Some("open6 %IP%")]).map(str::to_owned);
    door.stop_command_6 = one_of(rng, &[None, None, Some(""), Some("close6")]).map(str::to_owned);
    door.open_prefix = often(rng, 30).then(|| {
        let (ipv4, ipv6) = one_of(rng, &[(31, 64), (30, 128), (8, 16), (32, 120)]);
        OpenPrefix { ipv4, ipv6 }
    });
    door.seq_cooldown = often(rng, 25).then(|| span(rng, 10));
    door.open = if often(rng, 25) { [SSH].into() } else { [].into() };
    door.target = often(rng, 20).then_some(TARGET);
    if often(rng, 20) {
        let nets = ["10.0.1.2/31", "10.0.1.0/32", "2001:db8::/32", "0.0.0.0/0"];
        door.allow = (0..rng.usize(1..3)).map(|_| one_of(rng, &nets).parse().unwrap()).collect();
    }
    door
}

fn options(rng: &mut Rng) -> Options {
    Options {
        scan_guard: one_of(rng, &[0, 1, 2, 3, 4, 8]),
        max_attempts: if often(rng, 20) { 1000 } else { rng.u32(1..12) },
        max_openings: if often(rng, 20) { 1000 } else { rng.u32(1..6) },
        ..Options::default()
    }
}

fn config(rng: &mut Rng) -> Config {
    let mut config = Config { options: options(rng), doors: Vec::new() };
    for _ in 0..rng.usize(1..6) {
        let door = door(rng, &config);
        config.doors.push(door);
    }
    config
}

/// A change of the file between two reloads.
fn change(rng: &mut Rng, config: &mut Config) {
    for _ in 0..rng.usize(1..4) {
        let doors = config.doors.len();
        let any = if doors == 0 { 0 } else { rng.usize(..doors) };
        match rng.u8(..10) {
            0 => config.options = options(rng),
            1 | 2 if doors < 6 => {
                let door = door(rng, config);
                config.doors.insert(any, door);
            }
            3 if doors > 0 => drop(config.doors.remove(any)),
            4 if doors > 0 => config.doors.swap(0, any),
            5 if doors > 0 && doors < 6 => config.doors.push(config.doors[any].clone()),
            6 if doors > 0 => config.doors[any].cmd_timeout = span(rng, 12),
            7 if doors > 0 => config.doors[any].stop_command = Some("close otherwise %IP%".into()),
            8 if doors > 0 => config.doors[any].seq_timeout = span(rng, 12),
            _ => {}
        }
    }
}

/// An opening from before a start, possibly of an existing door, and the time until it closes.
fn opening(rng: &mut Rng, config: &Config) -> (Opening, Duration) {
    let ip = source(rng);
    let door = (!config.doors.is_empty()).then(|| &config.doors[rng.usize(..config.doors.len())]);
    let opening = Opening {
        door: door.map_or_else(|| "gone".into(), |door| door.name.clone()),
        ip,
        closes_at: Timestamp::default(),
        stop_command: door.map_or_else(|| Some("close what is gone".into()), |door| door.stop_command_for(ip)),
        open: door.map_or_else(|| [].into(), |door| door.open.clone()),
        net: door.map_or_else(|| ip.into(), |door| door.network_of(ip)),
    };
    let overdue = often(rng, 30);
    (opening, if overdue { Duration::ZERO } else { span(rng, 12) })
}
