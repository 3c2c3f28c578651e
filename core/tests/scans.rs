//! No port scan opens a door, whatever the flags of its segments and the order of its ports, with
//! or without the capture filter in front of the engine.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use fastrand::Rng;
use portknock_core::internals::PortFilter;
use portknock_core::{Config, Door, Engine, EventKind, FlagMask, Knock, Protocol, Sequence, Step, TcpFlags, Timestamp};

const FLAGS: [TcpFlags; 6] = [TcpFlags::FIN, TcpFlags::SYN, TcpFlags::RST, TcpFlags::PSH, TcpFlags::ACK, TcpFlags::URG];

fn segments() -> impl Iterator<Item = TcpFlags> {
    (0..64).map(TcpFlags::from_bits)
}

fn steps(ports: [u16; 3], protocol: Protocol) -> Sequence {
    Sequence::new(ports.map(|port| Step { port: port.try_into().unwrap(), protocol })).unwrap()
}

fn door(ports: [u16; 3], tcpflags: FlagMask) -> Door {
    Door { tcpflags, ..Door::new("door", Some(steps(ports, Protocol::Tcp))) }
}

/// A door for each order of the three ports.
fn all_orders([a, b, c]: [u16; 3], tcpflags: FlagMask) -> Vec<Door> {
    let orders = [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]];
    orders.into_iter().map(|ports| door(ports, tcpflags)).collect()
}

/// Every mask that names at most two flags.
fn masks() -> Vec<FlagMask> {
    let one = |flag: TcpFlags, is_set: bool| match is_set {
        true => FlagMask { set: flag, clear: TcpFlags::NONE },
        false => FlagMask { set: TcpFlags::NONE, clear: flag },
    };
    let ones: Vec<_> = FLAGS.iter().flat_map(|&flag| [one(flag, true), one(flag, false)]).collect();
    let both = |a: &FlagMask, b: &FlagMask| FlagMask { set: a.set | b.set, clear: a.clear | b.clear };
    let mut masks = vec![FlagMask::default()];
    masks.extend(ones.iter().flat_map(|a| ones.iter().map(|b| both(a, b))));
    masks.retain(|mask| mask.set.bits() & mask.clear.bits() == 0);
    masks.dedup();
    masks
}

/// A source that scans.
struct Scanner {
    engine: Engine,
    filter: Option<PortFilter>,
    packets: u32,
}

impl Scanner {
    fn new(doors: Vec<Door>, secret: Option<u32>) -> Self {
        let config = Config { doors, ..Config::default() };
        let filter = secret.map(|secret| PortFilter::new(&config, secret));
        Self { engine: Engine::new(&config), filter, packets: 0 }
    }

    fn send(&mut self, protocol: Protocol, port: u16, flags: TcpFlags) {
        self.packets += 1;
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(protocol, port, flags)) {
            return;
        }
        self.engine.handle_knock(&Knock {
            time: Timestamp::from_nanos(u64::from(self.packets) * 1_000),
            source: [192, 0, 2, 7].into(),
            destination: [192, 0, 2, 1].into(),
            port,
            protocol,
            flags,
            source_port: 40_000,
            sequence_number: self.packets,
        });
    }

    /// Rising, falling, random and interleaved sweeps, several of each. Returns the number of doors
    /// they opened.
    fn sweep(&mut self, ports: &[u16], mut packet: impl FnMut(&mut Self, u16), rng: &mut Rng) -> usize {
        let mut shuffled = ports.to_vec();
        rng.shuffle(&mut shuffled);
        let from_both_ends = ports.iter().zip(ports.iter().rev()).flat_map(|(low, high)| [*low, *high]);
        let by_sevens = (0..7).flat_map(|first| ports.iter().skip(first).step_by(7).copied());
        let rising = || ports.iter().copied();
        let falling = || ports.iter().rev().copied();
        let sweeps = rising().chain(rising()).chain(rising()).chain(falling()).chain(falling()).chain(falling());
        for port in sweeps.chain(shuffled).chain(from_both_ends.take(ports.len())).chain(by_sevens) {
            packet(self, port);
        }
        let events = std::iter::from_fn(|| self.engine.poll_event());
        events.filter(|event| matches!(event.kind, EventKind::Open { .. })).count()
    }
}

fn tcp(flags: TcpFlags) -> impl Fn(&mut Scanner, u16) {
    move |scanner, port| scanner.send(Protocol::Tcp, port, flags)
}

#[test]
fn no_sweep_opens_a_door_of_any_mask_with_any_segment() {
    let mut rng = Rng::with_seed(1);
    let ports: Vec<u16> = (32_000..34_000).collect();
    for mask in masks() {
        for flags in segments().filter(|flags| mask.matches(*flags)) {
            for steps in [[32_500, 32_512, 32_530], [32_100, 33_000, 33_900]] {
                let mut scanner = Scanner::new(all_orders(steps, mask), None);
                assert_eq!(scanner.sweep(&ports, tcp(flags), &mut rng), 0, "{mask} {flags:?} {steps:?}");
            }
        }
    }
}

#[test]
fn no_sweep_opens_a_door_through_the_capture_filter() {
    let mut rng = Rng::with_seed(2);
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let mask = |set, clear| FlagMask { set, clear };
    let (syn, ack, fin, rst, none) = (TcpFlags::SYN, TcpFlags::ACK, TcpFlags::FIN, TcpFlags::RST, TcpFlags::NONE);
    let masks = [
        (mask(syn, ack), syn),
        (mask(syn, none), syn),
        (mask(syn, none), syn | TcpFlags::URG),
        (mask(fin, ack), fin),
        (mask(ack, none), ack),
        (mask(syn | ack, none), syn | ack),
        (mask(rst, none), rst | ack),
        (mask(none, none), none),
        (mask(none, none), ack),
        (mask(none, none), fin | ack),
    ];
    for ((mask, flags), secret) in masks.into_iter().zip(0..) {
        for steps in [[40_000, 40_010, 40_020], [7000, 7300, 7560], [7000, 8000, 9000], [1_000, 33_000, 65_000]] {
            // The other door accepts other segments at other ports, and its guard counts nothing
            // here.
            let mut doors = all_orders(steps, mask);
            doors.push(door([steps[0] + 1, steps[1] + 1, steps[2] + 1], self::masks()[secret as usize]));
            let mut scanner = Scanner::new(doors, Some(secret));
            assert_eq!(scanner.sweep(&ports, tcp(flags), &mut rng), 0, "{mask} {flags:?} {steps:?}");
        }
    }
}

#[test]
fn no_sweep_over_both_protocols_opens_a_door() {
    let mut rng = Rng::with_seed(3);
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    for (steps, secret) in [[40_000, 40_011, 40_020], [7000, 8000, 9000]].into_iter().zip(0..) {
        let udp = Door::new("udp", Some(self::steps(steps, Protocol::Udp)));
        let mut mixed = Door::new("mixed", None);
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Udp];
        let mixed_steps =
            [0, 1, 2].map(|i| Step { port: (steps[i] + 100).try_into().unwrap(), protocol: protocols[i] });
        mixed.sequence = Some(Sequence::new(mixed_steps).unwrap());
        let mut scanner = Scanner::new(vec![udp, mixed], Some(secret));
        let both = |scanner: &mut Scanner, port| {
            scanner.send(Protocol::Udp, port, TcpFlags::NONE);
            scanner.send(Protocol::Tcp, port, TcpFlags::SYN);
        };
        assert_eq!(scanner.sweep(&ports, both, &mut rng), 0, "{steps:?}");
    }
}

#[test]
fn no_sweep_opens_one_of_many_narrow_doors() {
    let mut rng = Rng::with_seed(4);
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let syn = FlagMask { set: TcpFlags::SYN, clear: TcpFlags::ACK };
    for (count, secret) in [1, 160, 1_000, 3_000].into_iter().zip(0..) {
        let doors = (0..count).map(|door| 1_000 + door * 21).map(|first| door([first, first + 7, first + 12], syn));
        let mut scanner = Scanner::new(doors.collect(), Some(secret));
        assert_eq!(scanner.sweep(&ports, tcp(TcpFlags::SYN), &mut rng), 0, "{count} doors");
        for port in [1_000, 1_007, 1_012] {
            scanner.send(Protocol::Tcp, port, TcpFlags::SYN);
        }
        assert!(
            std::iter::from_fn(|| scanner.engine.poll_event())
                .any(|event| matches!(event.kind, EventKind::Open { .. }))
        );
    }
}
