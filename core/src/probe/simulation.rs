//! Runs the schedule against simulated hosts and paths, under a simulated clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::schedule::{Next, Options, Probe, Schedule};
use super::state::{PortState, Reason};
use crate::packet::Protocol;

/// A host and the path to it.
#[derive(Clone)]
struct World {
    ports: String,
    /// The answer of a port; `None` for silence.
    answer: fn(u16) -> Option<(PortState, Reason)>,
    rtt: Duration,
    /// The share of lost packets, in each direction.
    loss: f64,
    /// Capacity of the path in packets per second, with a queue of 100 packets.
    capacity: Option<f64>,
    /// Maximum number of ICMP errors per second, after an initial burst of six.
    icmp_limit: Option<f64>,
    protocol: Protocol,
    timeout: Duration,
    retries: Option<u8>,
    rate: Option<NonZeroU32>,
    seed: u64,
}

impl World {
    fn new(ports: &str, answer: fn(u16) -> Option<(PortState, Reason)>) -> Self {
        Self {
            ports: ports.into(),
            answer,
            rtt: ms(0),
            loss: 0.0,
            capacity: None,
            icmp_limit: None,
            protocol: Protocol::Tcp,
            timeout: ms(3_300),
            retries: None,
            rate: None,
            seed: 1,
        }
    }
}

const OPEN: Option<(PortState, Reason)> = Some((PortState::Open, Reason::SynAck));
const CLOSED: Option<(PortState, Reason)> = Some((PortState::Closed, Reason::Reset));
const UNREACHABLE: Option<(PortState, Reason)> = Some((PortState::Closed, Reason::PortUnreach));

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The result of a run.
#[derive(Debug)]
struct SimulationResult {
    wrong: Vec<u16>,
    packets: usize,
    took: Duration,
}

/// Random numbers by xorshift64*, sufficient for dropping packets.
struct Chance(u64);

impl Chance {
    fn hits(&mut self, share: f64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        (bits as f64 / (1_u64 << 53) as f64) < share
    }
}

/// A token bucket: `rate` tokens per second, in bursts of up to `depth`.
struct Bucket {
    rate: f64,
    depth: f64,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    fn new(rate: f64, depth: f64) -> Self {
        Self { rate, depth, tokens: depth, last: Duration::ZERO }
    }

    fn accepts(&mut self, now: Duration) -> bool {
        self.tokens = self.depth.min(self.tokens + self.rate * (now - self.last).as_secs_f64());
        self.last = now;
        let accepts = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(accepts));
        accepts
    }
}

fn run(world: &World) -> SimulationResult {
    let ports = world.ports.parse().unwrap();
    let options = Options {
        protocol: world.protocol,
        timeout: world.timeout,
        retries: world.retries,
        rate: world.rate,
        seed: world.seed,
    };
    let mut schedule = Schedule::new(&ports, options);
    let mut chance = Chance(world.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut path = world.capacity.map(|rate| Bucket::new(rate, 100.0));
    let mut icmp = world.icmp_limit.map(|rate| Bucket::new(rate, 6.0));
    let mut answers: BinaryHeap<Reverse<(Duration, u16, u16)>> = BinaryHeap::new();
    let mut now = Duration::ZERO;
    let mut packets = 0;
    // Time that the sender needs per packet.
    let cost = Duration::from_micros(5);
    loop {
        while let Some(&Reverse((at, port, number))) = answers.peek()
            && at <= now
        {
            answers.pop();
            let (state, reason) = (world.answer)(port).unwrap();
            schedule.record(Probe { port, number }, state, reason, at);
        }
        match schedule.poll(now) {
            Next::Done => break,
            Next::Wait(until) => {
                assert!(until > now, "a wait until a past time");
                now = answers.peek().map_or(until, |&Reverse((at, ..))| at.min(until)).max(now);
            }
            Next::Send(Probe { port, number }) => {
                packets += 1;
                let answer = (world.answer)(port);
                let is_error = answer.is_some_and(|(_, reason)| reason == Reason::PortUnreach);
                let arrives = !chance.hits(world.loss)
                    && path.as_mut().is_none_or(|path| path.accepts(now))
                    && answer.is_some()
                    && (!is_error || icmp.as_mut().is_none_or(|limit| limit.accepts(now)))
                    && !chance.hits(world.loss);
                if arrives {
                    answers.push(Reverse((now + world.rtt, port, number)));
                }
                now += cost;
            }
        }
    }
    let expected = |port| match ((world.answer)(port), world.protocol) {
        (Some((state, _)), _) => state,
        (None, Protocol::Tcp) => PortState::Filtered,
        (None, Protocol::Udp) => PortState::OpenFiltered,
    };
    let mut wrong: Vec<u16> = schedule
        .results()
        .filter(|&(port, observation)| observation.state != expected(port))
        .map(|(port, _)| port)
        .collect();
    wrong.sort_unstable();
    assert_eq!(schedule.results().count(), ports.iter().len());
    SimulationResult { wrong, packets, took: now }
}

/// Returns the number of wrong ports in each of `runs` runs with different seeds.
fn wrong_in_runs(world: &World, runs: u64) -> Vec<usize> {
    (1..=runs).map(|seed| run(&World { seed, ..world.clone() }).wrong.len()).collect()
}

fn all_closed(_: u16) -> Option<(PortState, Reason)> {
    CLOSED
}

fn three_open(port: u16) -> Option<(PortState, Reason)> {
    if matches!(port, 22 | 80 | 40_000) { OPEN } else { None }
}

fn a_third_each(port: u16) -> Option<(PortState, Reason)> {
    [OPEN, CLOSED, None][usize::from(port % 3)]
}

#[test]
fn a_host_that_answers_is_probed_once() {
    let result = run(&World::new("-", all_closed));
    assert_eq!((result.wrong.len(), result.packets), (0, 65_535));
    // Limited by the sender: 65,535 times 5 µs, and the time to find out that the path carries it.
    assert!(result.took < ms(550), "{:?}", result.took);
}

#[test]
fn a_silent_host_costs_two_probes_a_port() {
    let result = run(&World::new("-", three_open));
    assert!(result.wrong.is_empty());
    // Two for each of the silent ports, one for each of the others, and the checks.
    assert_eq!(result.packets, 2 * 65_532 + 3 + 32);
    assert!(result.took < ms(3_500), "{:?}", result.took);
}

#[test]
fn no_port_is_missed_because_of_loss() {
    let far = |ports, answer, loss| World { rtt: ms(50), loss, ..World::new(ports, answer) };
    let silent: Vec<SimulationResult> =
        (1..=20).map(|seed| run(&World { seed, ..far("-", three_open, 0.05) })).collect();
    assert!(silent.iter().all(|result| result.wrong.is_empty()), "{silent:?}");
    let mut took: Vec<Duration> = silent.iter().map(|result| result.took).collect();
    took.sort();
    assert!(took[10] < ms(7_000) && took[19] < ms(10_000), "{took:?}");
    let closed = run(&far("-", all_closed, 0.05));
    assert!(closed.took < ms(5_000), "{:?}", closed.took);
    assert!(closed.packets < 74_000, "{}", closed.packets);
    let wrong = wrong_in_runs(&far("-", all_closed, 0.05), 20);
    assert!(wrong.iter().sum::<usize>() <= 1, "{wrong:?}");
    for (loss, at_most) in [(0.05, 0), (0.1, 1), (0.2, 4)] {
        let world = far("1-3000", a_third_each, loss);
        let result = run(&world);
        assert!(result.took < ms(4_000), "{loss}: {:?}", result.took);
        let wrong = wrong_in_runs(&world, 50);
        assert!(wrong.iter().all(|&wrong| wrong <= at_most), "{loss}: {wrong:?}");
    }
}

#[test]
fn a_slow_path_causes_no_wrong_results() {
    for capacity in [300.0, 3_000.0, 20_000.0] {
        let world = World { rtt: ms(20), capacity: Some(capacity), ..World::new("1-20000", all_closed) };
        let result = run(&world);
        assert!(result.wrong.is_empty(), "{capacity}: {} wrong", result.wrong.len());
        let at_best = Duration::from_secs_f64(20_000.0 / capacity);
        assert!(result.took < 2 * at_best + ms(2_000), "{capacity}: {:?}", result.took);
        assert!(result.packets < 50_000, "{capacity}: {}", result.packets);
    }
}

/// The duration in tenths of a second.
fn tenths(result: &SimulationResult) -> u128 {
    (result.took.as_millis() + 50) / 100
}

#[test]
fn a_single_filtered_port_lasts_the_timeout_and_four_tries() {
    let result = run(&World::new("22", |_| None));
    assert_eq!((result.packets, tenths(&result)), (4, 33));
    let result = run(&World { timeout: ms(1_000), ..World::new("22", |_| None) });
    assert_eq!((result.packets, tenths(&result)), (4, 10));
    for (retries, packets) in [(0, 1), (1, 2), (2, 3), (9, 10), (255, 256)] {
        let result = run(&World { retries: Some(retries), ..World::new("22", |_| None) });
        assert_eq!((result.packets, tenths(&result)), (packets, 33), "{retries}");
    }
}

#[test]
fn a_silent_port_among_ports_that_answer_has_a_result_soon() {
    let result = run(&World::new("22,80,443", |port| if port == 443 { None } else { OPEN }));
    assert!(result.wrong.is_empty());
    assert!(result.took < ms(600), "{:?}", result.took);
}

#[test]
fn the_given_rate_is_kept_in_all_passes() {
    let rate = NonZeroU32::new(1_000);
    let result = run(&World { rate, ..World::new("1-2000", three_open) });
    assert!(result.wrong.is_empty());
    // A thousand in each second, the first of them immediately.
    assert!(result.took.as_secs_f64() > result.packets as f64 / 1_000.0 - 0.01, "{result:?}");
}

#[test]
fn closed_udp_ports_of_a_host_that_limits_errors_do_not_count_as_silent() {
    let closed = |_| UNREACHABLE;
    let half = |port: u16| if port.is_multiple_of(2) { UNREACHABLE } else { None };
    for (ports, answer, limit, closed_ports) in
        [("1-50", closed as fn(_) -> _, 1.0, 50), ("1-50", half, 1.0, 25), ("1-200", closed, 10.0, 200)]
    {
        let udp = World { protocol: Protocol::Udp, icmp_limit: Some(limit), ..World::new(ports, answer) };
        let result = run(&udp);
        assert_eq!(result.wrong, [0; 0], "{ports} {limit}");
        // Six in a burst, then one after the other, and two passes to see that no more arrive.
        let at_best = f64::from(closed_ports - 6) / limit;
        assert!(result.took.as_secs_f64() < 1.1 * at_best + 6.0, "{ports} {limit}: {:?}", result.took);
    }
}

#[test]
fn silent_udp_ports_are_open_or_filtered() {
    let result = run(&World { protocol: Protocol::Udp, ..World::new("53,123", |_| None) });
    assert!(result.wrong.is_empty());
    assert_eq!(tenths(&result), 33);
}

#[test]
fn blocked_probes_are_not_waited_for() {
    let options = Options { protocol: Protocol::Tcp, timeout: ms(3_300), retries: None, rate: None, seed: 1 };
    let mut schedule = Schedule::new(&"22,23".parse().unwrap(), options);
    let mut now = Duration::ZERO;
    loop {
        match schedule.poll(now) {
            Next::Send(probe) => schedule.blocked(probe),
            Next::Wait(until) => now = until,
            Next::Done => break,
        }
    }
    assert!(now < ms(50), "{now:?}");
    assert!(schedule.results().all(|(_, observation)| observation.reason == Reason::PermDenied));
}

#[test]
fn late_and_more_specific_answers_count() {
    let options = Options { protocol: Protocol::Tcp, timeout: ms(3_300), retries: None, rate: None, seed: 1 };
    let mut schedule = Schedule::new(&"22,23".parse().unwrap(), options);
    let send = |schedule: &mut Schedule, now: Duration| match schedule.poll(now) {
        Next::Send(probe) => probe,
        other => panic!("{other:?}"),
    };
    let first = send(&mut schedule, ms(0));
    let second = send(&mut schedule, ms(1));
    schedule.record(first, PortState::Filtered, Reason::HostUnreach, ms(2));
    schedule.record(first, PortState::Open, Reason::SynAck, ms(3));
    schedule.record(first, PortState::Closed, Reason::Reset, ms(4));
    let again = send(&mut schedule, ms(300 + 1));
    assert_eq!((again.port, again.number), (second.port, 1));
    // The answer to the first probe of a port whose second probe is in flight.
    schedule.record(second, PortState::Closed, Reason::Reset, ms(320));
    assert_eq!(schedule.poll(ms(320)), Next::Done);
    let results: Vec<_> = schedule.results().collect();
    let of = |port| results.iter().find(|(at, _)| *at == port).unwrap().1;
    assert_eq!((of(first.port).state, of(first.port).reason), (PortState::Open, Reason::SynAck));
    assert_eq!((of(second.port).state, of(second.port).rtt), (PortState::Closed, None));
}

#[test]
fn a_syn_ack_after_a_second_has_no_round_trip_time() {
    let rtt = |reason, millis| {
        let options = Options { protocol: Protocol::Tcp, timeout: ms(3_300), retries: Some(0), rate: None, seed: 1 };
        let mut schedule = Schedule::new(&"22".parse().unwrap(), options);
        let Next::Send(probe) = schedule.poll(ms(0)) else { panic!("nothing to send") };
        schedule.record(probe, PortState::Open, reason, ms(millis));
        schedule.results().next().unwrap().1.rtt
    };
    assert_eq!(rtt(Reason::SynAck, 999), Some(ms(999)));
    assert_eq!(rtt(Reason::SynAck, 1_000), None);
    // No host retransmits an RST.
    assert_eq!(rtt(Reason::Reset, 1_500), Some(ms(1_500)));
}
