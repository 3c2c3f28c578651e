//! What many doors cost: the time to start, and a packet to a port of none of them; portknockd with and without its scan
//! guard beside the original knockd.
//!
//! Run by `make bench`, which prints this as tables and writes them to `target/bench/start.json` and
//! `target/bench/doors.json`; figures are medians. `process µs` is the daemon's CPU time for a packet, `sender µs` what
//! it costs its sender more than where nobody captures, which is the filter in the kernel; `added µs` is both. knockd has
//! `TZ` set. Its start takes minutes with three thousand doors and is left out then, unless `PORTKNOCK_BENCH_SLOW` is set.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::collections::HashSet;
use std::env;
use std::fmt::Write;
use std::time::Instant;

use portknock_tests::{Daemon, Lab, Output, Table, cost, median, ratio};

const DOORS: [u32; 5] = [1, 100, 590, 1_000, 3_000];
const RUNS: usize = 3;
/// So many packets are sent in a run at so many a second; 0 is as fast as it goes.
const RATES: [(u32, u32); 3] = [(5_000, 3_000), (100_000, 60_000), (0, 120_000)];

fn main() {
    let mut started = Table::new("start", &["ms", "/ portknockd"]);
    let lab = Lab::pair();
    let floor = median_of(5, || millis(|| drop(Output::of(&mut lab.server.command("true")))));
    started.row("start", "floor: `true` in a namespace", &[floor, None]);
    for doors in DOORS {
        let mut ours = None;
        for who in Who::ALL.into_iter().filter(|who| who.is_for(doors)) {
            // From five hundred doors on it takes knockd seconds.
            let runs = if who == Who::Theirs && doors > 500 { 1 } else { 5 };
            let config = config(doors, who);
            let took = median_of(runs, || millis(|| drop(who.start(&lab, &config))));
            ours = ours.or(took);
            started.row(&format!("start with {doors} doors"), who.name(), &[took, ratio(took, ours)]);
        }
    }
    started.save();
    println!();

    let columns = &["process µs", "sender µs", "added µs", "/ portknockd", "lost"];
    let mut table = Table::new("doors", columns);
    for doors in DOORS {
        packets(&mut table, doors);
    }
    table.save();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    OursWithoutGuard,
    Theirs,
}

impl Who {
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

/// A port of a door; all are different and spread over the whole range.
fn port(door: u32, step: u32) -> u32 {
    1 + (door * 3 + step) * 27_449 % 65_521
}

fn config(doors: u32, who: Who) -> String {
    let mut config = String::new();
    if who == Who::OursWithoutGuard {
        config += "[options]\nScanGuard = 0\n";
    }
    for door in 0..doors {
        let [a, b, c] = [0, 1, 2].map(|step| port(door, step));
        writeln!(config, "[door{door}]\nsequence = {a},{b},{c}\ntcpflags = syn\ncommand = true")
            .expect("a string grows");
    }
    config
}

/// Ports that none of so many doors uses, all over the range.
fn other_ports(doors: u32) -> String {
    let used: HashSet<u32> = (0..doors * 3).map(|i| port(i / 3, i % 3)).collect();
    let others = (0..1_000).map(|i| 2 + i * 65).filter(|port| !used.contains(port));
    others.map(|port| port.to_string()).collect::<Vec<_>>().join(",")
}

/// Measures packets to ports of no door, with each daemon on a cable of its own, and one cable without any.
fn packets(table: &mut Table, doors: u32) {
    let here: Vec<Option<Who>> = Who::ALL.into_iter().filter(|who| who.is_for(doors)).map(Some).collect();
    let peers: Vec<_> = [vec![None], here].concat().into_iter().map(|who| Peer::start(who, doors)).collect();
    let ports = other_ports(doors);
    for (rate, packets) in RATES {
        let args = format!("--from 172.24.0.0 --sources 100 --count {packets} --rate {rate} --ports {ports}");
        let mut runs = vec![[Vec::new(), Vec::new()]; peers.len()];
        for _ in 0..RUNS {
            for (peer, [process, sender]) in peers.iter().zip(&mut runs) {
                let [in_process, at_sender] = peer.run(&args);
                process.push(in_process);
                sender.push(at_sender);
            }
        }
        let pace = if rate == 0 { "at top speed".to_owned() } else { format!("at {rate}/s") };
        let mut alone = None;
        let mut ours = None;
        for (peer, [process, sender]) in peers.iter().zip(&runs) {
            let (process, sender) = (median(process), median(sender));
            let Some((who, daemon)) = &peer.daemon else {
                alone = sender;
                continue;
            };
            let sender = sender.zip(alone).map(|(with, without)| with - without);
            let added = process.zip(sender).map(|(process, sender)| process + sender);
            ours = ours.or(added);
            let lost = (*who != Who::Theirs).then(|| daemon.status("drops") as f64);
            let figures = [process, sender, added, ratio(added, ours), lost];
            table.row(&format!("no door's port, {doors} doors, {pace}"), who.name(), &figures);
        }
    }
}

struct Peer {
    lab: Lab,
    daemon: Option<(Who, Daemon)>,
}

impl Peer {
    fn start(who: Option<Who>, doors: u32) -> Self {
        let lab = Lab::pair();
        lab.ignore_at_the_server();
        let daemon = who.map(|who| (who, who.start(&lab, &config(doors, who))));
        Self { lab, daemon }
    }

    /// Microseconds a packet in the daemon, and at the sender.
    fn run(&self, args: &str) -> [f64; 2] {
        let pid = self.daemon.as_ref().map(|(_, daemon)| daemon.id());
        let spent = || pid.map_or(0.0, |pid| cost::cpu(pid).as_secs_f64());
        pid.map(cost::settle);
        let before = spent();
        let sent = self.lab.blast(args);
        pid.map(cost::settle);
        [spent() - before, sent.cpu.as_secs_f64()].map(|seconds| seconds * 1e6 / sent.packets as f64)
    }
}

fn median_of(runs: usize, mut measure: impl FnMut() -> f64) -> Option<f64> {
    median(&(0..runs).map(|_| measure()).collect::<Vec<_>>())
}

/// How long it takes, in milliseconds.
fn millis(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e3
}
