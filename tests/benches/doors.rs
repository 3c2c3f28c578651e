//! Cost of many doors: the time to start, and the cost of a packet to a port that no door uses.
//! portknockd with and without its scan guard is compared with the original knockd.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/doors.json`. Figures are medians. `process µs` is the daemon's CPU time per
//! packet. `sender µs` is the additional cost of a packet for its sender, compared with a link
//! without a capture; this is the filter in the kernel. `added µs` is the sum of both. `lost`
//! counts since the start. knockd has `TZ` set. With three thousand doors its start takes minutes,
//! so it is omitted unless `PORTKNOCK_BENCH_SLOW` is set.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::env;
use std::fmt::Write;
use std::time::Instant;

use portknock_tests::{Daemon, Lab, Output, Table, cost, median, ports_but, ratio};

const DOORS: [u32; 5] = [1, 100, 590, 1_000, 3_000];
const RUNS: usize = 3;
/// Number of packets in a run, and packets per second; 0 is as fast as possible.
const RATES: [(u32, u32); 3] = [(5_000, 3_000), (100_000, 60_000), (0, 120_000)];

fn main() {
    let columns = &["start ms", "process µs", "sender µs", "added µs", "/ portknockd", "lost"];
    let mut table = Table::new("doors", columns);
    let lab = Lab::pair();
    let floor: Vec<_> = (0..5).map(|_| timed(|| Output::of(&mut lab.server.command("true"))).0).collect();
    table.row("start", "floor: `true` in a namespace", &[median(&floor), None, None, None, None, None]);
    for doors in DOORS {
        let here = Competitor::ALL.into_iter().filter(|competitor| competitor.is_for(doors));
        let peers: Vec<_> = here.map(|competitor| Peer::start(competitor, doors)).collect();
        let ours = peers.first().and_then(|peer| peer.started);
        for peer in &peers {
            let ratio = ratio(peer.started, ours);
            table.row(
                &format!("start, {doors} doors"),
                peer.competitor.name(),
                &[peer.started, None, None, None, ratio, None],
            );
        }
        packets(&mut table, doors, &peers);
    }
    table.save();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Competitor {
    Ours,
    OursWithoutGuard,
    Theirs,
}

impl Competitor {
    const ALL: [Self; 3] = [Self::Ours, Self::OursWithoutGuard, Self::Theirs];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "portknockd",
            Self::OursWithoutGuard => "portknockd, ScanGuard = 0",
            Self::Theirs => "knockd",
        }
    }

    fn is_for(self, doors: u32) -> bool {
        self != Self::Theirs || doors <= 1_000 || env::var_os("PORTKNOCK_BENCH_SLOW").is_some()
    }

    fn start(self, lab: &Lab, config: &str) -> Daemon {
        match self {
            Self::Ours | Self::OursWithoutGuard => Daemon::portknockd(&lab.server, config),
            Self::Theirs => Daemon::knockd_under(&lab.server, &["env", "TZ=UTC0"], config),
        }
    }
}

/// A port of a door. All ports are different and spread over the whole range.
fn port(door: u32, step: u32) -> u16 {
    u16::try_from(1 + (door * 3 + step) * 27_449 % 65_521).expect("less than 65,522")
}

fn config(doors: u32, competitor: Competitor) -> String {
    let mut config = String::new();
    if competitor == Competitor::OursWithoutGuard {
        config += "[options]\nScanGuard = 0\n";
    }
    for door in 0..doors {
        let [a, b, c] = [0, 1, 2].map(|step| port(door, step));
        writeln!(config, "[door{door}]\nsequence = {a},{b},{c}\ntcpflags = syn\ncommand = true")
            .expect("a string grows");
    }
    config
}

/// A daemon on its own link.
struct Peer {
    competitor: Competitor,
    lab: Lab,
    daemon: Daemon,
    /// Duration of its start in milliseconds.
    started: Option<f64>,
}

impl Peer {
    fn start(competitor: Competitor, doors: u32) -> Self {
        let lab = quiet_lab();
        let config = config(doors, competitor);
        let (first, daemon) = timed(|| competitor.start(&lab, &config));
        let mut times = vec![first];
        // From five hundred doors on knockd needs seconds.
        if competitor != Competitor::Theirs || doors < 500 {
            times.extend((1..5).map(|_| timed(|| competitor.start(&lab, &config)).0));
        }
        Self { competitor, lab, daemon, started: median(&times) }
    }

    /// Microseconds per packet in the daemon, and at the sender.
    fn run(&self, args: &str) -> [f64; 2] {
        let pid = self.daemon.id();
        cost::settle(pid);
        let before = cost::cpu(pid);
        let sent = self.lab.pktgen(args);
        cost::settle(pid);
        [cost::cpu(pid) - before, sent.cpu].map(|time| time.as_secs_f64() * 1e6 / sent.packets as f64)
    }
}

/// A link whose receiving end discards packets, so that answers cost nothing.
fn quiet_lab() -> Lab {
    let lab = Lab::pair();
    lab.ignore_at_the_server();
    lab
}

/// Measures packets to ports of no door, with each daemon and without any.
fn packets(table: &mut Table, doors: u32, peers: &[Peer]) {
    let alone = quiet_lab();
    let ports = ports_but(&(0..doors * 3).map(|i| port(i / 3, i % 3)).collect());
    for (rate, packets) in RATES {
        let args = format!("--from 172.24.0.0 --sources 100 --count {packets} --rate {rate} --ports {ports}");
        let mut without = Vec::new();
        let mut runs = vec![[Vec::new(), Vec::new()]; peers.len()];
        for _ in 0..RUNS {
            let sent = alone.pktgen(&args);
            without.push(sent.cpu.as_secs_f64() * 1e6 / sent.packets as f64);
            for (peer, [process, sender]) in peers.iter().zip(&mut runs) {
                let [in_process, at_sender] = peer.run(&args);
                process.push(in_process);
                sender.push(at_sender);
            }
        }
        let without = median(&without);
        let pace = if rate == 0 { "at top speed".to_owned() } else { format!("at {rate}/s") };
        let mut ours = None;
        for (peer, [process, sender]) in peers.iter().zip(&runs) {
            let process = median(process);
            let sender = median(sender).zip(without).map(|(with, without)| with - without);
            let added = process.zip(sender).map(|(process, sender)| process + sender);
            ours = ours.or(added);
            let lost = (peer.competitor != Competitor::Theirs).then(|| peer.daemon.status("drops") as f64);
            let figures = [None, process, sender, added, ratio(added, ours), lost];
            table.row(&format!("no door's port, {doors} doors, {pace}"), peer.competitor.name(), &figures);
        }
    }
}

/// Duration in milliseconds, and the result.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begin = Instant::now();
    let result = work();
    (begin.elapsed().as_secs_f64() * 1e3, result)
}
