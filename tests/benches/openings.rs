//! Cost of an opening that runs a command, and losses in a burst: portknockd compared with the
//! original knockd, small and large.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/openings.json`. All CPU times are microseconds per opening: the daemon's own,
//! those of its children, and both. The floors are the cost of the children that the bench itself
//! starts. It starts `/bin/true` without a shell, as portknockd does, and with a shell. knockd's
//! children are copies of knockd before they become a shell, and this part grows with knockd.
//! `dropped` is the number of packets that the kernel had no room for since the start, as
//! portknockd reports it.
//!
//! portknockd is large with a million attempts, knockd with thirty thousand, the largest number
//! that it reaches in reasonable time. knockd walks all attempts at each knock, which is most of
//! its cost then.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::fs::File;
use std::process::{self, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Host, Lab, Table, cost, ratio};

const DOORS: &str = "
[measured]
    sequence    = 7000,8000,9000
    seq_timeout = 60
    tcpflags    = syn
    command     = /bin/true
[long]
    sequence    = 6000,6001
    seq_timeout = 3600
    tcpflags    = syn
";
/// Number of complete sequences, each from another source, and packets per second; 0 is as fast as
/// possible.
const LOADS: [(&str, u32, u32); 2] = [("200 openings/s", 500, 600), ("burst of 5,000", 5_000, 0)];
/// Number of starts of the floor's command.
const RUNS: u32 = 500;
/// Duration without any activity that counts as the end.
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);

fn main() {
    let columns =
        &["opened", "lost", "a second", "daemon µs", "children µs", "both µs", "/ portknockd", "MiB", "dropped"];
    let mut table = Table::new("openings", columns);
    floor(&mut table, &["/bin/true"]);
    floor(&mut table, &["/bin/sh", "-c", "/bin/true"]);
    let large = [
        ("portknockd", "--sources 1000000 --ports 6000 --rate 50000"),
        ("knockd", "--sources 30000 --ports 6000 --rate 3000"),
    ];
    for size in ["small", "large"] {
        let mut ours = [None; LOADS.len()];
        for (program, growth) in large {
            let lab = Lab::pair();
            lab.ignore_at_the_server();
            let start: fn(&Host, &str) -> Daemon =
                if program == "knockd" { Daemon::knockd } else { Daemon::portknockd };
            let daemon = start(&lab.server, DOORS);
            if size == "large" {
                lab.pktgen(&format!("--from 16.0.0.0 {growth}"));
                cost::wait_for_the_end(daemon.id(), IDLE_TIMEOUT);
                // It appends, so it begins again at offset 0.
                File::create(daemon.path("log")).expect("the log can be emptied");
            }
            for ((load, ours), from) in LOADS.iter().zip(&mut ours).zip(["172.16.0.0", "172.24.0.0"]) {
                measure(&mut table, (program, size), (&lab, &daemon), (load, from), ours);
            }
        }
    }
    table.save();
}

fn measure(
    table: &mut Table,
    (program, size): (&str, &str),
    (lab, daemon): (&Lab, &Daemon),
    ((what, sequences, rate), from): (&(&str, u32, u32), &str),
    ours: &mut Option<f64>,
) {
    let opened = || daemon.count("measured: OPEN SESAME");
    let (opened_before, [own_before, children_before]) = (opened(), spent(daemon.id()));
    let begin = Instant::now();
    lab.pktgen(&format!("--from {from} --sources {sequences} --ports 7000,8000,9000 --rate {rate}"));
    let took = cost::wait_for_the_end(daemon.id(), IDLE_TIMEOUT) - begin;
    let opened = (opened() - opened_before) as f64;
    let [own, children] = spent(daemon.id());
    let each = |seconds: f64| Some(seconds * 1e6 / opened);
    let both = each(own - own_before + children - children_before);
    *ours = ours.or(both);
    let figures = [
        Some(opened),
        Some(f64::from(*sequences) - opened),
        Some(opened / took.as_secs_f64()),
        each(own - own_before),
        each(children - children_before),
        both,
        ratio(both, *ours),
        Some(cost::resident_mib(daemon.id())),
        (program == "portknockd").then(|| daemon.status("drops") as f64),
    ];
    table.row(what, &format!("{program}, {size}"), &figures);
}

/// Cost of a process that only starts a command, one after the other.
fn floor(table: &mut Table, command: &[&str]) {
    // Updates the kernel's accounting of this process.
    let spent = || {
        sleep(Duration::from_millis(1));
        spent(process::id())
    };
    let begin = Instant::now();
    let before = spent();
    for _ in 0..RUNS {
        let status = Command::new(command[0]).args(&command[1..]).status().expect("it starts");
        assert!(status.success(), "{status}");
    }
    let took = begin.elapsed();
    let after = spent();
    let each = |seconds: f64| seconds * 1e6 / f64::from(RUNS);
    let [own, children] = [0, 1].map(|i| each(after[i] - before[i]));
    let a_second = f64::from(RUNS) / took.as_secs_f64();
    let figures = [Some(f64::from(RUNS)), Some(0.0), Some(a_second), Some(own), Some(children), Some(own + children)];
    table.row(&command.join(" "), "floor", &[figures.as_slice(), &[None; 3]].concat());
}

/// Seconds of CPU time of a process and of its children that have ended.
fn spent(pid: u32) -> [f64; 2] {
    [cost::cpu(pid), cost::cpu_of_children(pid)].map(|time| time.as_secs_f64())
}
