//! Cost of a packet: portknockd compared with the original knockd, with and without `TZ` or its
//! waiting, and with a program that only counts packets, which is the floor of all of them.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/traffic.json`. All programs listen on their own links and take turns. Figures are
//! medians.
//!
//! - `process µs` is the CPU time of the process per packet that it has read, including its work in
//!   the kernel.
//! - `sender µs` is the additional cost of a packet for its sender, compared with a run just before
//!   without a capture: the filter in the kernel and the copy into the buffer. At 5,000 packets a
//!   second and less it is lost in the sender's own sleeping and waking.
//! - `both` in the ratios is the sum of the two.
//! - `lost %` is the part of the packets that found no room in the buffer.
//!
//! The counting program and portknockd read a packet within a millisecond. knockd waits 50 ms for
//! more packets, 25 ms on average, which saves wake-ups. For a comparison at equal latency there is
//! also a knockd whose capture does not wait (`tests/c/immediate.c`). Without `TZ` knockd reads
//! `/etc/localtime` for each packet.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::cell::Cell;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::LazyLock;

use portknock_tests::{C, Counter, Daemon, Lab, Sent, Table, cost, median, ports_but, ratio};

const RUNS: usize = 3;
const DOOR: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 3600
    tcpflags    = syn
";
/// Number of packets in a run, and packets per second; 0 is as fast as possible.
const RATES: [(u32, u32); 4] = [(500, 200), (5_000, 3_000), (100_000, 60_000), (0, 120_000)];
/// First source of the preceding first knocks, and their rate in packets per second.
const FIRST: u32 = 0xac10_0000;
const KNOCK_BATCH: u32 = 5_000;
/// Number of sources with an attempt.
const ALIVE: [u32; 4] = [1, 1_000, 10_000, 65_000];

const COLUMNS: [&str; 7] =
    ["process µs", "sender µs", "lost %", "process / counting", "both / counting", "process / ours", "both / ours"];

fn main() {
    let bench = Bench::new();
    let mut table = Table::new("traffic", &COLUMNS);
    bench.compare(&mut table, &Traffic { what: "irrelevant", kind: Kind::Irrelevant, alive: 0 });
    for alive in ALIVE {
        let what = format!("first knock again, {alive} alive");
        bench.compare(&mut table, &Traffic { what: &what, kind: Kind::Again, alive });
    }
    for alive in ALIVE {
        let what = format!("new first knock, {alive} alive before");
        bench.compare(&mut table, &Traffic { what: &what, kind: Kind::New, alive });
    }
    bench.compare(&mut table, &Traffic { what: "complete sequences", kind: Kind::Whole, alive: 0 });
    table.save();
}

struct Traffic<'a> {
    what: &'a str,
    kind: Kind,
    /// Number of sources that have made a first knock before.
    alive: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To ports of no door.
    Irrelevant,
    /// First knocks of sources that have made one before.
    Again,
    /// First knocks of other sources.
    New,
    /// All knocks of many sources, one source after the other.
    Whole,
}

impl Traffic<'_> {
    /// Arguments of `pktgen`.
    fn args(&self, packets: u32) -> String {
        match self.kind {
            Kind::Irrelevant => {
                let ports = ports_but(&HashSet::from([7000, 8000, 9000]));
                format!("--from 172.24.0.0 --sources 100 --count {packets} --ports {ports}")
            }
            Kind::Again => {
                let first = Ipv4Addr::from_bits(FIRST);
                format!("--from {first} --sources {} --count {packets} --ports 7000", self.alive)
            }
            Kind::New => format!("--from 172.24.0.0 --sources {packets} --ports 7000"),
            Kind::Whole => format!("--from 172.24.0.0 --sources {} --ports 7000,8000,9000", packets / 3),
        }
    }

    /// Number of packets that knockd has read when it has logged this number of stages; `None` if
    /// it logs nothing.
    fn seen_by_knockd(&self, stages: usize) -> Option<u64> {
        match self.kind {
            Kind::Irrelevant => None,
            // It ends an attempt at the first packet, and begins another one at the second if no
            // other source knocks in between.
            Kind::Again if self.alive == 1 => Some(2 * stages as u64),
            Kind::Again | Kind::New | Kind::Whole => Some(stages as u64),
        }
    }

    /// False if knockd, which walks all attempts at each packet, would be busy all the time or need
    /// minutes to get there.
    fn is_for(&self, competitor: Competitor, rate: u32, packets: u32) -> bool {
        let alive = if self.kind == Kind::New { self.alive + packets / 2 } else { self.alive };
        let busy = f64::from(if rate == 0 { 400_000 } else { rate }) * walk_micros(alive) / 1e6;
        match competitor {
            Competitor::Counting | Competitor::Ours => true,
            // New sources always meet a new daemon, which takes minutes if very many sources must
            // come before them.
            Competitor::TheirsImmediate | Competitor::TheirsWithZone => {
                alive <= 1 || (busy < 0.9 && (self.kind != Kind::New || alive <= 20_000))
            }
            // If the walk is long, reading the file makes no difference.
            Competitor::Theirs => alive <= 1 || (busy < 0.9 && alive <= 5_000),
        }
    }
}

/// Approximate microseconds that knockd needs for a packet with this number of live attempts.
fn walk_micros(alive: u32) -> f64 {
    2.0 + 0.0065 * f64::from(alive)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Competitor {
    Counting,
    Ours,
    TheirsImmediate,
    TheirsWithZone,
    Theirs,
}

impl Competitor {
    const ALL: [Self; 5] = [Self::Counting, Self::Ours, Self::TheirsImmediate, Self::TheirsWithZone, Self::Theirs];

    fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting (1 ms)",
            Self::Ours => "portknockd (1 ms)",
            Self::TheirsImmediate => "knockd with TZ (0 ms)",
            Self::TheirsWithZone => "knockd with TZ (50 ms)",
            Self::Theirs => "knockd (50 ms)",
        }
    }
}

enum Program {
    Counter(Counter),
    Ours(Daemon),
    Theirs(Daemon),
}

/// One of the compared programs, on its own link.
struct Peer {
    competitor: Competitor,
    lab: Lab,
    program: Program,
}

impl Peer {
    fn start(competitor: Competitor, alive: u32) -> Self {
        let lab = quiet_lab();
        let program = program(competitor, &lab, alive);
        Self { competitor, lab, program }
    }

    fn id(&self) -> u32 {
        match &self.program {
            Program::Counter(counter) => counter.id(),
            Program::Ours(daemon) | Program::Theirs(daemon) => daemon.id(),
        }
    }

    /// Number of packets that it has read, and number that it has lost, as far as it reports them.
    fn seen(&self, traffic: &Traffic<'_>) -> (Option<u64>, Option<u64>) {
        match &self.program {
            Program::Counter(counter) => {
                let (counted, drops) = counter.counted();
                (Some(counted), Some(drops))
            }
            Program::Ours(daemon) => (Some(daemon.status("packets")), Some(daemon.status("drops"))),
            Program::Theirs(daemon) => (traffic.seen_by_knockd(daemon.count(": Stage ")), None),
        }
    }
}

/// A link whose receiving end discards packets, so that answers cost nothing.
fn quiet_lab() -> Lab {
    let lab = Lab::pair();
    lab.ignore_at_the_server();
    lab
}

/// Starts it, and lets this number of sources make a first knock.
fn program(competitor: Competitor, lab: &Lab, alive: u32) -> Program {
    let program = match competitor {
        Competitor::Counting => Program::Counter(Counter::start(&lab.server)),
        Competitor::Ours => {
            // The door opens for each of the complete sequences.
            let config = format!("[options]\nMaxOpenings = 1000000\n{DOOR}");
            Program::Ours(Daemon::portknockd(&lab.server, &config))
        }
        Competitor::TheirsImmediate => {
            static IMMEDIATE: LazyLock<PathBuf> =
                LazyLock::new(|| C::compile_alone("tests/c/immediate.c", &["-shared", "-fPIC", "-lpcap"]));
            let preload = format!("LD_PRELOAD={}", IMMEDIATE.display());
            Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "TZ=UTC0", &preload], DOOR))
        }
        Competitor::TheirsWithZone => Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "TZ=UTC0"], DOOR)),
        Competitor::Theirs => Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "-u", "TZ"], DOOR)),
    };
    let (Program::Ours(daemon) | Program::Theirs(daemon)) = &program else { return program };
    for first in (0..alive).step_by(KNOCK_BATCH as usize) {
        let rate = match &program {
            // Less than half of its capacity.
            Program::Theirs(_) => (400_000.0 / walk_micros(first + KNOCK_BATCH)).min(10_000.0),
            _ => 50_000.0,
        };
        let (from, sources) = (Ipv4Addr::from_bits(FIRST + first), KNOCK_BATCH.min(alive - first));
        lab.pktgen(&format!("--from {from} --sources {sources} --ports 7000 --rate {rate:.0}"));
    }
    if alive > 0 {
        cost::settle(daemon.id());
        let knocked = match &program {
            Program::Ours(daemon) => daemon.status("attempts"),
            _ => daemon.count(": Stage 1") as u64,
        };
        assert!(knocked >= u64::from(alive) * 9 / 10, "only {knocked} of {alive} first knocks were seen");
    }
    program
}

/// Microseconds per packet, and the part of the packets that got lost.
#[derive(Clone, Copy)]
struct Run {
    process: f64,
    sender: f64,
    lost: Option<f64>,
}

struct Bench {
    /// A link without a capture.
    alone: Lab,
    /// The number of the next segment, so that no segment counts as the repetition of another.
    next_segment: Cell<u32>,
}

impl Bench {
    fn new() -> Self {
        Self { alone: quiet_lab(), next_segment: Cell::new(KNOCK_BATCH) }
    }

    fn compare(&self, table: &mut Table, traffic: &Traffic<'_>) {
        let (slowest, fewest) = RATES[0];
        let here = Competitor::ALL.into_iter().filter(|competitor| traffic.is_for(*competitor, slowest, fewest));
        let alive = if traffic.kind == Kind::New { 0 } else { traffic.alive };
        let mut peers: Vec<_> = here.map(|competitor| Peer::start(competitor, alive)).collect();
        for (rate, packets) in RATES {
            let mut runs: [Vec<Run>; Competitor::ALL.len()] = Default::default();
            for _ in 0..RUNS {
                let args = format!("{} --rate {rate}", traffic.args(packets));
                let alone = sender_micros(&self.alone.pktgen(&args));
                for peer in peers.iter_mut().filter(|peer| traffic.is_for(peer.competitor, rate, packets)) {
                    if traffic.kind == Kind::New {
                        peer.program = program(peer.competitor, &peer.lab, traffic.alive);
                    }
                    runs[peer.competitor as usize].push(self.run(peer, traffic, (&args, packets), alone));
                }
            }
            let pace = if rate == 0 { "at top speed".to_owned() } else { format!("at {rate}/s") };
            show(table, &format!("{}, {pace}", traffic.what), &runs);
        }
    }

    fn run(&self, peer: &Peer, traffic: &Traffic<'_>, (args, packets): (&str, u32), alone: f64) -> Run {
        let first = self.next_segment.get();
        self.next_segment.set(first.wrapping_add(packets));
        let (seen_before, lost_before) = peer.seen(traffic);
        cost::settle(peer.id());
        let before = cost::cpu(peer.id());
        let sent = peer.lab.pktgen(&format!("{args} --first-segment {first}"));
        cost::settle(peer.id());
        let spent = cost::cpu(peer.id()) - before;
        let (seen, lost) = peer.seen(traffic);
        let seen = seen.zip(seen_before).map(|(now, before)| now - before);
        let lost = lost.zip(lost_before).map(|(now, before)| now - before);
        if let (Some(seen), Some(lost)) = (seen, lost)
            && traffic.kind != Kind::Irrelevant
        {
            assert!(seen + lost >= sent.packets, "{}: {seen} seen and {lost} lost of {sent:?}", peer.competitor.name());
        }
        // A packet that the filter dropped counts as handled, too.
        let handled = match seen {
            Some(seen) if traffic.kind != Kind::Irrelevant => seen.min(sent.packets),
            _ => sent.packets,
        };
        let lost = lost.or_else(|| seen.map(|seen| sent.packets.saturating_sub(seen)));
        Run {
            process: spent.as_secs_f64() * 1e6 / handled.max(1) as f64,
            sender: sender_micros(&sent) - alone,
            lost: lost.map(|lost| lost as f64 * 100.0 / sent.packets as f64),
        }
    }
}

fn sender_micros(sent: &Sent) -> f64 {
    sent.cpu.as_secs_f64() * 1e6 / sent.packets as f64
}

fn show(table: &mut Table, what: &str, runs: &[Vec<Run>; Competitor::ALL.len()]) {
    let middle = |competitor: Competitor, value: &dyn Fn(&Run) -> Option<f64>| {
        median(&runs[competitor as usize].iter().filter_map(value).collect::<Vec<_>>())
    };
    let process = |competitor| middle(competitor, &|run| Some(run.process));
    let both = |competitor| middle(competitor, &|run| Some(run.process + run.sender));
    for competitor in Competitor::ALL {
        let sender = middle(competitor, &|run| Some(run.sender));
        let lost = middle(competitor, &|run| run.lost);
        let [counting, ours] = [Competitor::Counting, Competitor::Ours]
            .map(|other| [ratio(process(competitor), process(other)), ratio(both(competitor), both(other))]);
        let figures = [process(competitor), sender, lost, counting[0], counting[1], ours[0], ours[1]];
        table.row(what, competitor.name(), &figures);
    }
}
