//! The daemon beside the original knockd on the same cable: CPU time a packet, time to start, memory.
//!
//! Run by `make bench`, which prints this as a table and writes it to `target/bench/live.json`. CPU time is the kernel's
//! own accounting of the process; every figure of portknockd stands beside knockd's from the same run. knockd runs with
//! `TZ` set (`make bench` sets it), without which it reads `/etc/localtime` at each packet.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, Output, binary, save_figures};

const DOOR: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 3600
    tcpflags    = syn
    command     = true
";

/// How many packets a measurement sends, and how fast.
const PACKETS: u32 = 10_000;
const RATE: u32 = 5_000;

#[derive(Clone, Copy)]
enum Peer {
    Ours,
    Theirs,
}

fn main() {
    let mut table = Table::default();
    for sources in [1, 1_000, 10_000] {
        let row = |peer| first_knock_cost(peer, sources);
        table.row(&format!("first knock, {sources} attempts alive, CPU µs"), row(Peer::Ours), Some(row(Peer::Theirs)));
    }
    // knockd walks all attempts at each packet and would take minutes to get this far.
    table.row("first knock, 100000 attempts alive, CPU µs", first_knock_cost(Peer::Ours, 100_000), None);
    for doors in [1, 590] {
        let row = |peer| irrelevant_cost(peer, doors);
        let what = format!("packet to a port of no door, {doors} doors, CPU µs");
        table.row(&what, row(Peer::Ours), Some(row(Peer::Theirs)));
    }
    for doors in [1, 100, 590, 1_000] {
        let row = |peer| start_time(peer, doors);
        table.row(&format!("start with {doors} doors, ms"), row(Peer::Ours), Some(row(Peer::Theirs)));
    }
    for sources in [1, 1_000] {
        let row = |peer| memory(peer, sources);
        table.row(&format!("memory, {sources} attempts alive, MiB"), row(Peer::Ours), Some(row(Peer::Theirs)));
    }
    table.row("memory, 1000000 attempts alive, MiB", memory(Peer::Ours, 1_000_000), None);
    save_figures("live", &table.json);
}

fn start(peer: Peer, lab: &Lab, config: &str) -> Daemon {
    match peer {
        Peer::Ours => Daemon::portknockd(&lab.server, config),
        Peer::Theirs => Daemon::knockd(&lab.server, config),
    }
}

/// Microseconds of CPU for a new source's first knock while `alive` others have attempts.
fn first_knock_cost(peer: Peer, alive: u32) -> f64 {
    let lab = Lab::pair();
    let daemon = start(peer, &lab, DOOR);
    blast(&lab, &format!("--from 172.16.0.0 --sources {alive} --ports 7000 --rate {RATE}"));
    settle(&daemon);
    let seen = || daemon.count("Stage 1");
    assert!(seen() >= alive as usize * 9 / 10, "{} of {alive} first knocks were seen", seen());
    let (before, cpu) = (seen(), cpu_nanos(daemon.id()));
    blast(&lab, &format!("--from 172.24.0.0 --sources {PACKETS} --ports 7000 --rate {RATE}"));
    settle(&daemon);
    // knockd drops what it cannot keep up with; only what it saw counts.
    (cpu_nanos(daemon.id()) - cpu) as f64 / (seen() - before) as f64 / 1000.0
}

/// Microseconds of CPU in the daemon for a packet to a port that no door uses.
fn irrelevant_cost(peer: Peer, doors: u32) -> f64 {
    let lab = Lab::pair();
    let daemon = start(peer, &lab, &many_doors(doors));
    let cpu = cpu_nanos(daemon.id());
    // No door of `many_doors` uses a port above 65,521.
    let ports: Vec<_> = (65_522..=65_535).map(|port: u16| port.to_string()).collect();
    blast(&lab, &format!("--from 172.24.0.0 --count {PACKETS} --ports {} --rate {RATE}", ports.join(",")));
    settle(&daemon);
    (cpu_nanos(daemon.id()) - cpu) as f64 / f64::from(PACKETS) / 1000.0
}

/// Waits until the daemon has nothing left to do: no CPU time for a tenth of a second.
fn settle(daemon: &Daemon) {
    loop {
        let before = cpu_nanos(daemon.id());
        std::thread::sleep(Duration::from_millis(100));
        if cpu_nanos(daemon.id()) - before < 2_000_000 {
            return;
        }
    }
}

/// Milliseconds from the start of the process until it listens.
fn start_time(peer: Peer, doors: u32) -> f64 {
    let lab = Lab::pair();
    let mut config = String::new();
    for door in 0..doors {
        let [a, b, c] = [0, 1, 2].map(|step| 1 + (door * 3 + step) * 27_449 % 65_521);
        writeln!(config, "[door{door}]\nsequence = {a},{b},{c}\ntcpflags = syn\ncommand = true")
            .expect("a string grows");
    }
    let begin = Instant::now();
    let _daemon = start(peer, &lab, &config);
    begin.elapsed().as_secs_f64() * 1000.0
}

/// Doors with three ports each, all different and spread over the whole range.
fn many_doors(doors: u32) -> String {
    let mut config = String::new();
    for door in 0..doors {
        let [a, b, c] = [0, 1, 2].map(|step| 1 + (door * 3 + step) * 27_449 % 65_521);
        writeln!(config, "[door{door}]\nsequence = {a},{b},{c}\ntcpflags = syn\ncommand = true")
            .expect("a string grows");
    }
    config
}

/// Mebibytes in memory, with this many attempts alive.
fn memory(peer: Peer, attempts: u32) -> f64 {
    let lab = Lab::pair();
    let daemon = start(peer, &lab, DOOR);
    blast(&lab, &format!("--from 172.16.0.0 --sources {attempts} --ports 7000 --rate 50000"));
    settle(&daemon);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells the size");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

fn blast(lab: &Lab, args: &str) {
    let mut command: Command = lab.client.command(binary("blast"));
    let sent = Output::of(command.args(["--interface", "eth0"]).args(args.split(' ')));
    assert_eq!(sent.code, Some(0), "blast {args}: {}", sent.stderr);
}

/// Time that the process has spent on a CPU, by the kernel's accounting.
fn cpu_nanos(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the daemon runs");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("the first field is a number")
}

#[derive(Default)]
struct Table {
    json: Vec<String>,
}

impl Table {
    fn row(&mut self, what: &str, ours: f64, theirs: Option<f64>) {
        if self.json.is_empty() {
            println!("{:<52} {:>10} {:>10} {:>14}", "", "portknockd", "knockd", "knockd / ours");
        }
        let shown = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        let ratio = theirs.map(|theirs| theirs / ours);
        println!("{what:<52} {ours:>10.2} {:>10} {:>14}", shown(theirs), shown(ratio));
        let theirs = theirs.map_or("null".into(), |theirs| format!("{theirs:.3}"));
        self.json.push(format!("{{\"what\": \"{what}\", \"portknockd\": {ours:.3}, \"knockd\": {theirs}}}"));
    }
}
