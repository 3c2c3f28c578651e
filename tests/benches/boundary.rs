//! Cost of the boundary to C: nanoseconds per packet through `portknock_engine_feed`, and with its
//! events through `portknock_engine_next_event`. The same run measures the engine from Rust: bare,
//! and in the lock that a Rust program puts around it if several threads use it, as every C handle
//! allows.
//!
//! Run by `make bench`, which prints the figures as a table and writes them to
//! `target/bench/boundary.json`. Both sides get the same frames, rounds and times. The figure is
//! the fastest of many runs, because the load of a busy machine is not a cost of the boundary.

use std::fmt::Write;
use std::fs;
use std::ops::DerefMut;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use etherparse::PacketBuilder;
use parking_lot::{Mutex, MutexGuard};
use portknock_core::{Engine, LinkType, Timestamp, config};
use portknock_tests::{Build, C, Linked, Output, save_figures};

const DOOR: &str = "[door]\nsequence = 7000,8000,9000\nseq_timeout = 3600\ntcpflags = syn\n";
/// Number of frames that a run feeds.
const FRAMES: usize = 120_000;
const RUNS: usize = 41;

fn main() {
    let c = C::install();
    let directory = tempfile::tempdir().expect("a directory");
    let door = directory.path().join("knockd.conf");
    fs::write(&door, DOOR).expect("the directory can be written to");
    let program = |linked| {
        let build = Build { compiler: "gcc", standard: "c99", linked, more: &["-O2"] };
        c.compile(&C::source("tests/c/feed.c"), build)
    };
    let (shared, linked_static) = (program(Linked::Shared), program(Linked::Static));
    let config = config::parse(DOOR.as_bytes()).config.expect("the configuration is valid");
    let mut json = Vec::new();
    println!(
        "{:<52} {:>8} {:>12} {:>10} {:>10} {:>12} {:>12}",
        "ns a packet", "Rust", "Rust, lock", "C, shared", "C, static", "shared / Rust", "/ Rust, lock"
    );
    for (what, sources, ports, events) in [
        ("no door's port, 1,000 sources without an attempt", 1_000, &[443][..], false),
        ("no door's port, 60,000 sources without an attempt", 60_000, &[443], false),
        ("a knock, 1,000 sources with an attempt", 1_000, &[7000], false),
        ("a knock, 60,000 sources with an attempt", 60_000, &[7000], false),
        ("complete sequences of 1,000 sources, with their events", 1_000, &[7000, 8000, 9000], true),
    ] {
        let frames = frames(sources, ports);
        let file = directory.path().join("frames");
        fs::write(&file, with_lengths(&frames)).expect("the directory can be written to");
        let rust = from_rust(Engine::new(&config), &frames, events);
        let locked = from_rust(&Mutex::new(Engine::new(&config)), &frames, events);
        let arguments = Arguments { door: &door, frames: &file, rounds: FRAMES / frames.len(), events };
        let [shared, linked_static] = [&shared, &linked_static].map(|program| from_c(c, program, &arguments));
        println!(
            "{what:<52} {rust:>8.1} {locked:>12.1} {shared:>10.1} {linked_static:>10.1} {:>12.2} {:>12.2}",
            shared / rust,
            shared / locked
        );
        let mut row = String::new();
        write!(
            row,
            "{{\"case\": \"{what}\", \"rust_ns\": {rust:.2}, \"rust_lock_ns\": {locked:.2}, \"c_shared_ns\": {shared:.2}, \"c_static_ns\": {linked_static:.2}}}"
        )
        .expect("a string grows");
        json.push(row);
    }
    save_figures("boundary", &json);
}

/// A SYN of each source to each of these ports, port by port, with the sources in an order that
/// resembles chance.
fn frames(sources: u16, ports: &[u16]) -> Vec<Vec<u8>> {
    let frame = |port: u16, source: u16| {
        let [high, low] = source.to_be_bytes();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, high, low], [192, 0, 2, 1], 64);
        let mut frame = Vec::new();
        builder.tcp(40_000, port, 1, 512).syn().write(&mut frame, &[]).expect("a vector grows");
        frame
    };
    let mut order: Vec<u16> = (0..sources).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    ports.iter().flat_map(|&port| order.iter().map(move |&source| frame(port, source))).collect()
}

fn with_lengths(frames: &[Vec<u8>]) -> Vec<u8> {
    let length = |frame: &Vec<u8>| u16::try_from(frame.len()).expect("a short frame").to_ne_bytes();
    frames.iter().flat_map(|frame| [&length(frame), frame.as_slice()].concat()).collect()
}

/// An engine, with or without a layer in front of it.
trait Reach {
    type Reached<'a>: DerefMut<Target = Engine>
    where
        Self: 'a;
    fn reach(&mut self) -> Self::Reached<'_>;
}

impl Reach for Engine {
    type Reached<'a> = &'a mut Engine;
    fn reach(&mut self) -> &mut Engine {
        self
    }
}

impl Reach for &Mutex<Engine> {
    type Reached<'a>
        = MutexGuard<'a, Engine>
    where
        Self: 'a;
    fn reach(&mut self) -> MutexGuard<'_, Engine> {
        self.lock()
    }
}

fn from_rust(mut engine: impl Reach, frames: &[Vec<u8>], events: bool) -> f64 {
    let mut now = 1_000_000_000;
    let rounds = FRAMES / frames.len();
    let mut fastest = f64::INFINITY;
    for run in 0..RUNS {
        let begin = Instant::now();
        for frame in (0..rounds).flat_map(|_| frames) {
            now += 1_000;
            engine.reach().feed(LinkType::Ethernet, Timestamp::from_nanos(now), frame);
            while events && engine.reach().poll_event().is_some() {}
        }
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let count = (rounds * frames.len()) as f64;
        let took = begin.elapsed().as_secs_f64() * 1e9 / count;
        // The first run fills the engine.
        if run > 0 {
            fastest = took.min(fastest);
        }
        while engine.reach().poll_event().is_some() {}
    }
    fastest
}

/// Arguments and input of the C program.
struct Arguments<'a> {
    door: &'a Path,
    frames: &'a Path,
    rounds: usize,
    events: bool,
}

fn from_c(c: &C, program: &Path, arguments: &Arguments<'_>) -> f64 {
    let mut command: Command = c.command(program);
    command.arg(arguments.door).arg(arguments.frames).arg(arguments.rounds.to_string());
    let output = Output::of(command.args(arguments.events.then_some("events")));
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.trim().parse().expect("a number")
}
