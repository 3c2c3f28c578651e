//! Memory of the daemons: idle, with many attempts, and after many finished ones.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/memory.json`. Memory is the resident memory that the kernel reports, in mebibytes.
//! The bytes per attempt are also given for the process that holds the attempts alone. The original
//! needs minutes for many attempts, so it gets fewer.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::fs::File;
use std::net::Ipv4Addr;

use portknock_tests::{Daemon, Host, Lab, Table, cost};

/// A door with three steps, and a door with a single step, which opens immediately.
const DOORS: &str = "
[long]
    sequence    = 7000,8000,9000
    seq_timeout = 3600
    tcpflags    = syn
[short]
    sequence    = 5000
    tcpflags    = syn
";
/// Number of openings after which the log is emptied, so that it fills no disk.
const OPENING_BATCH: u32 = 500_000;

fn main() {
    let mut table = Table::new("memory", &["seen", "MiB", "bytes each", "holder's"]);
    // The door opens for each source of a burst.
    let portknockd =
        |host: &Host, doors: &str| Daemon::portknockd(host, &format!("[options]\nMaxOpenings = 1048576\n{doors}"));
    measure(&mut table, "portknockd", portknockd, &OURS);
    measure(&mut table, "knockd", Daemon::knockd, &THEIRS);
    table.save();
}

/// The load of a daemon.
struct Load {
    alive: u32,
    finished: u32,
    /// First knocks per second, and number of finished attempts: as many as it reads without
    /// losses.
    rates: [u32; 2],
}

const OURS: Load = Load { alive: 1_000_000, finished: 10_000_000, rates: [50_000, 100_000] };
const THEIRS: Load = Load { alive: 10_000, finished: 500_000, rates: [4_000, 12_000] };

fn measure(table: &mut Table, program: &str, start: fn(&Host, &str) -> Daemon, load: &Load) {
    let [rate, finished_rate] = load.rates;
    let lab = Lab::pair();
    lab.ignore_at_the_server();
    let daemon = start(&lab.server, DOORS);
    cost::settle(daemon.id());
    let holder = cost::reader(daemon.id()).unwrap_or(daemon.id());
    let idle = [cost::resident_mib(daemon.id()), cost::resident_mib_alone(holder)];
    table.row("idle", program, &[None, Some(idle[0]), None, None]);
    let mut row = |what: String, seen: usize| {
        let now = [cost::resident_mib(daemon.id()), cost::resident_mib_alone(holder)];
        let each = |i: usize| Some((now[i] - idle[i]) * 1024.0 * 1024.0 / seen as f64);
        table.row(&what, program, &[Some(seen as f64), Some(now[0]), each(0), each(1)]);
    };

    // The original has no status.
    let alive = || match cost::reader(daemon.id()) {
        Some(_) => usize::try_from(daemon.status("attempts")).expect("as many as were sent"),
        None => daemon.count("long: Stage 1"),
    };
    lab.pktgen(&format!("--from 172.16.0.0 --sources 1000 --ports 7000 --rate {rate}"));
    cost::settle(daemon.id());
    row("1,000 attempts".into(), alive());
    lab.pktgen(&format!("--from 172.20.0.0 --sources {} --ports 7000 --rate {rate}", load.alive - 1_000));
    cost::settle(daemon.id());
    row(format!("{} attempts", load.alive), alive());
    drop(daemon);

    let daemon = start(&lab.server, DOORS);
    cost::settle(daemon.id());
    let idle = cost::resident_mib(daemon.id());
    let mut finished = 0;
    for from in (0..load.finished).step_by(OPENING_BATCH as usize) {
        let from = Ipv4Addr::from_bits(0x1000_0000 + from);
        lab.pktgen(&format!("--from {from} --sources {OPENING_BATCH} --ports 5000 --rate {finished_rate}"));
        cost::settle(daemon.id());
        finished += daemon.count("short: OPEN SESAME");
        // It appends, so it begins again at offset 0.
        File::create(daemon.path("log")).expect("the log can be emptied");
    }
    let now = cost::resident_mib(daemon.id());
    let each = (now - idle) * 1024.0 * 1024.0 / finished as f64;
    table.row(
        &format!("{} finished attempts", load.finished),
        program,
        &[Some(finished as f64), Some(now), Some(each), None],
    );
}
