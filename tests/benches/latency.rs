//! Time from the last knock to the command, wake-ups of an idle daemon, and losses in a stall of
//! two seconds: portknockd compared with the original knockd.
//!
//! Run by `make bench`, which prints the figures as tables and writes them to
//! `target/bench/latency.json` and `target/bench/stall.json`. The command writes a byte into a
//! pipe, for which the client waits: it is the smallest program that can do this, or a line for the
//! shell. The floor is the same command started by the client itself. The excess over the floor is
//! the way through the network and the daemon.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::env;
use std::fs::OpenOptions;
use std::io::Read;
use std::net::UdpSocket;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{C, Daemon, Host, Lab, Output, Table, cost, percentile, ratio};

const TRIES: usize = 200;
const PORTS: [u16; 3] = [7000, 8000, 9000];
/// Duration of the observation of an idle daemon.
const IDLE: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(2);
/// Number of complete sequences that arrive during a stall.
const STALLED: u32 = 667;

/// Starts a daemon with a configuration.
type Start = fn(&Host, &str) -> Daemon;

const DAEMONS: [(&str, Start); 2] = [("portknockd", Daemon::portknockd), ("knockd", Daemon::knockd)];

fn main() {
    // This program again, on the client.
    let args: Vec<_> = env::args().collect();
    match &args[..] {
        [_, role, pipe] if role == "client" => return time_commands(pipe, None),
        [_, role, pipe, command @ ..] if role == "starter" => return time_commands(pipe, Some(command)),
        _ => {}
    }
    latencies();
    stalls();
}

fn latencies() {
    let mut table = Table::new("latency", &["median ms", "p99 ms", "/ portknockd", "idle wake-ups/s"]);
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    let pipe = pipe.to_str().expect("a plain name");
    assert_eq!(Output::of(Command::new("mkfifo").arg(pipe)).code, Some(0), "mkfifo {pipe}");
    let program = format!("{} {pipe}", C::compile_alone("tests/c/mark.c", &["-static"]).display());
    let shell = format!("/bin/sh -c echo>{pipe}");
    for (what, command, in_the_file) in [
        ("last knock to a small program's effect", &program, program.as_str()),
        ("last knock to a shell line's effect", &shell, &format!("echo>{pipe}")),
    ] {
        let door =
            format!("[door]\nsequence = 7000:udp,8000:udp,9000:udp\nseq_timeout = 10\ncommand = {in_the_file}\n");
        let mut ours = None;
        for (program, start) in DAEMONS {
            let lab = Lab::pair();
            let daemon = start(&lab.server, &door);
            let times = times(&lab.client, &["client", pipe]);
            cost::settle(daemon.id());
            let wake_ups = cost::wake_ups(daemon.id());
            sleep(IDLE);
            let wake_ups = (cost::wake_ups(daemon.id()) - wake_ups) as f64 / IDLE.as_secs_f64();
            let median = percentile(&times, 50);
            ours = ours.or(median);
            let figures = [median, percentile(&times, 99), ratio(median, ours), Some(wake_ups)];
            table.row(what, program, &figures);
        }
        let lab = Lab::pair();
        let words: Vec<&str> = ["starter", pipe].into_iter().chain(command.split(' ')).collect();
        let times = times(&lab.client, &words);
        let median = percentile(&times, 50);
        let figures = [median, percentile(&times, 99), ratio(median, ours), None];
        table.row(what, "floor, without network and daemon", &figures);
    }
    table.save();
}

/// Milliseconds of each run.
fn times(client: &Host, role: &[&str]) -> Vec<f64> {
    let itself = env::current_exe().expect("it runs");
    let output = Output::of(client.command(itself).args(role));
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.lines().map(|line| line.parse().expect("a number")).collect()
}

/// Knocks, or starts a command, repeatedly. Prints the milliseconds from there until the pipe has
/// its byte.
fn time_commands(pipe: &str, command: Option<&[String]>) {
    // Opened for writing too, so that reading never reaches the end.
    let mut pipe_end = OpenOptions::new().read(true).write(true).open(pipe).expect("the pipe can be opened");
    let socket = UdpSocket::bind("10.0.0.2:0").expect("an address of this host");
    let [first, second, last] = PORTS.map(|port| ("10.0.0.1", port));
    for _ in 0..TRIES {
        // knockd reads every 50 ms. Knocks must meet any moment in between, and the last command
        // must have ended.
        sleep(Duration::from_micros(fastrand::u64(30_000..80_000)));
        let mut started = None;
        let mut begin = Instant::now();
        if let Some(words) = command {
            started = Some(Command::new(&words[0]).args(&words[1..]).spawn().expect("it starts"));
        } else {
            socket.send_to(b"x", first).expect("a knock is sent");
            socket.send_to(b"x", second).expect("a knock is sent");
            begin = Instant::now();
            socket.send_to(b"x", last).expect("a knock is sent");
        }
        pipe_end.read_exact(&mut [0]).expect("the pipe stays open");
        println!("{:.4}", begin.elapsed().as_secs_f64() * 1e3);
        if let Some(mut child) = started {
            child.wait().expect("the child process");
        }
    }
}

fn stalls() {
    let mut table = Table::new("stall", &["packets", "seen", "lost", "doors opened"]);
    let door = "[door]\nsequence = 7000,8000,9000\nseq_timeout = 10\ntcpflags = syn\n";
    for (program, start) in DAEMONS {
        let lab = Lab::pair();
        lab.ignore_at_the_server();
        let daemon = start(&lab.server, door);
        daemon.signal("STOP");
        let sequences = format!("--from 172.16.0.0 --sources {STALLED} --ports 7000,8000,9000 --rate 1000");
        let sent = lab.pktgen(&sequences);
        sleep(STALL.saturating_sub(sent.took));
        daemon.signal("CONT");
        cost::settle(daemon.id());
        let (packets, seen) = (sent.packets as f64, daemon.count(": Stage ") as f64);
        let opened = daemon.count("OPEN SESAME") as f64;
        let figures = [packets, seen, packets - seen, opened].map(Some);
        table.row("stopped for 2 s, 1,000 packets/s", program, &figures);
    }
    table.save();
}
