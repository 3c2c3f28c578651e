//! What a packet costs: portknockd beside the original knockd, with and without `TZ` or its waiting, and beside a program
//! that only counts packets, which is the floor under all of them.
//!
//! Run by `make bench`, which prints this as a table and writes it to `target/bench/traffic.json`. All peers listen on cables
//! of their own and take turns; figures are medians.
//!
//! - `process µs` is CPU time of the process, its work in the kernel included, for a packet that it saw.
//! - `sender µs` is what a packet costs its sender more than just before where nobody captures: the filter in the kernel
//!   and the copy into the buffer. At 5,000 packets a second and less it drowns in the sender's own sleeping and waking.
//! - `both` in the ratios is the sum of the two.
//! - `lost %` of the packets found no room in the buffer.
//!
//! The counting program and portknockd see a packet within a millisecond. knockd waits 50 ms for more of them, 25 ms on
//! average, which spares it wake-ups; to compare at equal latency there is also a knockd whose capture does not wait
//! (`tests/c/at_once.c`). Without `TZ` it looks at `/etc/localtime` for each packet.
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
/// So many packets are sent in a run at so many a second; 0 is as fast as it goes.
const RATES: [(u32, u32); 4] = [(500, 200), (5_000, 3_000), (100_000, 60_000), (0, 120_000)];
/// The first of those who knock before, and how many of them do so at one rate.
const FIRST: u32 = 0xac10_0000;
const KNOCKED_AT_ONCE: u32 = 5_000;
/// So many knockers have attempts.
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
    bench.compare(&mut table, &Traffic { what: "whole sequences", kind: Kind::Whole, alive: 0 });
    table.save();
}

struct Traffic<'a> {
    what: &'a str,
    kind: Kind,
    /// So many sources have made a first knock before.
    alive: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To ports of no door.
    Irrelevant,
    /// First knocks of those who have made one before.
    Again,
    /// First knocks of others.
    New,
    /// All knocks of many sources, one source after the other.
    Whole,
}

impl Traffic<'_> {
    /// What `blast` is told.
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

    /// How many packets knockd has seen when it has logged so many stages; `None` where it logs nothing.
    fn seen_by_knockd(&self, stages: usize) -> Option<u64> {
        match self.kind {
            Kind::Irrelevant => None,
            // It ends an attempt at the first of them and begins another at the second where nobody else knocks meanwhile.
            Kind::Again if self.alive == 1 => Some(2 * stages as u64),
            Kind::Again | Kind::New | Kind::Whole => Some(stages as u64),
        }
    }

    /// False where knockd, which walks all attempts at each packet, would be busy all the time or take minutes to get there.
    fn is_for(&self, who: Who, rate: u32, packets: u32) -> bool {
        let alive = if self.kind == Kind::New { self.alive + packets / 2 } else { self.alive };
        let busy = f64::from(if rate == 0 { 400_000 } else { rate }) * walk_micros(alive) / 1e6;
        match who {
            Who::Counting | Who::Ours => true,
            // New knockers come to a daemon of their own each time, which takes minutes with very many before them.
            Who::TheirsAtOnce | Who::TheirsWithZone => {
                alive <= 1 || (busy < 0.9 && (self.kind != Kind::New || alive <= 20_000))
            }
            // Where the walk is long, the look at a file makes no difference.
            Who::Theirs => alive <= 1 || (busy < 0.9 && alive <= 5_000),
        }
    }
}

/// Microseconds that knockd takes for a packet with so many attempts alive, roughly.
fn walk_micros(alive: u32) -> f64 {
    2.0 + 0.0065 * f64::from(alive)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Counting,
    Ours,
    TheirsAtOnce,
    TheirsWithZone,
    Theirs,
}

impl Who {
    const ALL: [Self; 5] = [Self::Counting, Self::Ours, Self::TheirsAtOnce, Self::TheirsWithZone, Self::Theirs];

    fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting (1 ms)",
            Self::Ours => "portknockd (1 ms)",
            Self::TheirsAtOnce => "knockd with TZ (0 ms)",
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

/// One of those that are compared, on a cable of its own.
struct Peer {
    who: Who,
    lab: Lab,
    program: Program,
}

impl Peer {
    fn start(who: Who, alive: u32) -> Self {
        let lab = quiet_lab();
        let program = program(who, &lab, alive);
        Self { who, lab, program }
    }

    fn id(&self) -> u32 {
        match &self.program {
            Program::Counter(counter) => counter.id(),
            Program::Ours(daemon) | Program::Theirs(daemon) => daemon.id(),
        }
    }

    /// How many packets it has seen and how many it has lost, as far as it can tell.
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

/// A cable whose receiving end forgets packets, so that answers cost nothing.
fn quiet_lab() -> Lab {
    let lab = Lab::pair();
    lab.ignore_at_the_server();
    lab
}

/// Starts it, and has so many sources make a first knock at it.
fn program(who: Who, lab: &Lab, alive: u32) -> Program {
    let program = match who {
        Who::Counting => Program::Counter(Counter::start(&lab.server)),
        Who::Ours => {
            // The door opens for each of the whole sequences.
            let config = format!("[options]\nMaxOpenings = 1000000\n{DOOR}");
            Program::Ours(Daemon::portknockd(&lab.server, &config))
        }
        Who::TheirsAtOnce => {
            static AT_ONCE: LazyLock<PathBuf> =
                LazyLock::new(|| C::compile_alone("tests/c/at_once.c", &["-shared", "-fPIC", "-lpcap"]));
            let preload = format!("LD_PRELOAD={}", AT_ONCE.display());
            Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "TZ=UTC0", &preload], DOOR))
        }
        Who::TheirsWithZone => Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "TZ=UTC0"], DOOR)),
        Who::Theirs => Program::Theirs(Daemon::knockd_under(&lab.server, &["env", "-u", "TZ"], DOOR)),
    };
    let (Program::Ours(daemon) | Program::Theirs(daemon)) = &program else { return program };
    for first in (0..alive).step_by(KNOCKED_AT_ONCE as usize) {
        let rate = match &program {
            // Less than half of what it can do.
            Program::Theirs(_) => (400_000.0 / walk_micros(first + KNOCKED_AT_ONCE)).min(10_000.0),
            _ => 50_000.0,
        };
        let (from, sources) = (Ipv4Addr::from_bits(FIRST + first), KNOCKED_AT_ONCE.min(alive - first));
        lab.blast(&format!("--from {from} --sources {sources} --ports 7000 --rate {rate:.0}"));
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

/// Microseconds a packet, and the part of the packets that got lost.
#[derive(Clone, Copy)]
struct Run {
    process: f64,
    sender: f64,
    lost: Option<f64>,
}

struct Bench {
    /// A cable where nobody captures.
    alone: Lab,
    /// The number of the next segment; none is to be taken for the repetition of another.
    next_segment: Cell<u32>,
}

impl Bench {
    fn new() -> Self {
        Self { alone: quiet_lab(), next_segment: Cell::new(KNOCKED_AT_ONCE) }
    }

    fn compare(&self, table: &mut Table, traffic: &Traffic<'_>) {
        let (slowest, fewest) = RATES[0];
        let here = Who::ALL.into_iter().filter(|who| traffic.is_for(*who, slowest, fewest));
        let alive = if traffic.kind == Kind::New { 0 } else { traffic.alive };
        let mut peers: Vec<_> = here.map(|who| Peer::start(who, alive)).collect();
        for (rate, packets) in RATES {
            let mut runs: [Vec<Run>; Who::ALL.len()] = Default::default();
            for _ in 0..RUNS {
                let args = format!("{} --rate {rate}", traffic.args(packets));
                let alone = sender_micros(&self.alone.blast(&args));
                for peer in peers.iter_mut().filter(|peer| traffic.is_for(peer.who, rate, packets)) {
                    if traffic.kind == Kind::New {
                        peer.program = program(peer.who, &peer.lab, traffic.alive);
                    }
                    runs[peer.who as usize].push(self.run(peer, traffic, (&args, packets), alone));
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
        let sent = peer.lab.blast(&format!("{args} --first-segment {first}"));
        cost::settle(peer.id());
        let spent = cost::cpu(peer.id()) - before;
        let (seen, lost) = peer.seen(traffic);
        let seen = seen.zip(seen_before).map(|(now, before)| now - before);
        let lost = lost.zip(lost_before).map(|(now, before)| now - before);
        if let (Some(seen), Some(lost)) = (seen, lost)
            && traffic.kind != Kind::Irrelevant
        {
            assert!(seen + lost >= sent.packets, "{}: {seen} seen and {lost} lost of {sent:?}", peer.who.name());
        }
        // What a filter kept away was seen to, too.
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

fn show(table: &mut Table, what: &str, runs: &[Vec<Run>; Who::ALL.len()]) {
    let middle = |who: Who, value: &dyn Fn(&Run) -> Option<f64>| {
        median(&runs[who as usize].iter().filter_map(value).collect::<Vec<_>>())
    };
    let process = |who| middle(who, &|run| Some(run.process));
    let both = |who| middle(who, &|run| Some(run.process + run.sender));
    for who in Who::ALL {
        let sender = middle(who, &|run| Some(run.sender));
        let lost = middle(who, &|run| run.lost);
        let [counting, ours] = [Who::Counting, Who::Ours]
            .map(|other| [ratio(process(who), process(other)), ratio(both(who), both(other))]);
        let figures = [process(who), sender, lost, counting[0], counting[1], ours[0], ours[1]];
        table.row(what, who.name(), &figures);
    }
}
