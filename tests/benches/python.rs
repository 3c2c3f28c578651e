//! Cost of a packet from Python, compared with the engine and the replay of Rust and with scapy in
//! the same role, on one capture in one run.
//!
//! Run by `make bench`, which makes the environment that `PORTKNOCK_PYTHON` names, prints the
//! figures as a table and writes them to `target/bench/python.json`. Figures are those of the
//! fastest of several runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use etherparse::PacketBuilder;
use portknock_core::replay::replay;
use portknock_core::{Config, Engine, EventKind, LinkType, LocalAddresses, Timestamp, config};
use portknock_tests::{Output, capture_header, capture_record, save_figures};

const DOOR: &str = "[door]\nsequence = 7000,8000,9000\nseq_timeout = 3600\ntcpflags = syn\n";
const PACKETS: u32 = 100_000;
const RUNS: usize = 15;

fn main() {
    let Some(python) = std::env::var_os("PORTKNOCK_PYTHON") else {
        eprintln!("PORTKNOCK_PYTHON has to name a Python with portknock and scapy; `make bench` makes one");
        std::process::exit(1);
    };
    let directory = tempfile::tempdir().expect("a directory");
    let (door, capture) = (directory.path().join("knockd.conf"), directory.path().join("capture.pcap"));
    fs::write(&door, DOOR).expect("the directory can be written to");
    let config = config::parse(DOOR.as_bytes()).config.expect("the configuration is valid");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/benches/speed.py");
    println!(
        "{:<40} {:>8} {:>10} {:>10} {:>8} {:>12} {:>8} {:>10} {:>10}",
        "ns a packet", "engine", "feed_many", "ratio", "feed", "Rust replay", "replay", "scapy", "/ replay"
    );
    let mut json = Vec::new();
    for (what, every) in [("no packet for a door", 0), ("one in a hundred is a step of a knock", 100)] {
        let frames = frames(every);
        let records = frames.iter().flat_map(|(time, frame)| capture_record(time.as_nanos(), frame));
        fs::write(&capture, capture_header(1).into_iter().chain(records).collect::<Vec<_>>())
            .expect("the directory can be written to");
        let (engine, openings) = fastest(|| by_engine(&config, &frames));
        let (rust_replay, replayed) = fastest(|| by_replay(&config, &capture));
        let output = Output::of(Command::new(&python).arg(&script).arg(&door).arg(&capture));
        assert_eq!(output.code, Some(0), "{output:?}");
        let theirs: serde_json::Value = serde_json::from_str(&output.stdout).expect("one JSON object");
        assert_eq!((theirs["openings"].as_u64(), Some(replayed)), (Some(openings), Some(openings)));
        let [feed, feed_many, replay, scapy] =
            ["feed", "feed_many", "replay", "scapy"].map(|name| theirs[name].as_f64().expect("a number"));
        println!(
            "{what:<40} {engine:>8.1} {feed_many:>10.1} {:>10.2} {feed:>8.1} {rust_replay:>12.1} {replay:>8.1} {scapy:>10.0} \
             {:>10.0}",
            feed_many / engine,
            scapy / replay
        );
        json.push(format!(
            "{{\"case\": \"{what}\", \"engine_ns\": {engine:.2}, \"feed_many_ns\": {feed_many:.2}, \"feed_ns\": {feed:.2}, \
             \"rust_replay_ns\": {rust_replay:.2}, \"replay_ns\": {replay:.2}, \"scapy_ns\": {scapy:.0}}}"
        ));
    }
    save_figures("python", &json);
}

/// SYNs of a thousand sources, one microsecond apart, to a port of no door, except one in `every`:
/// those are the next steps of their source.
fn frames(every: u32) -> Vec<(Timestamp, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut stages = vec![0; 1_000];
    let frame = |i: u32| {
        let source = random.u16(0..1_000);
        let mut port = 443;
        if every > 0 && i.is_multiple_of(every) {
            let stage = &mut stages[usize::from(source)];
            port = [7000, 8000, 9000][*stage];
            *stage = (*stage + 1) % 3;
        }
        let [high, low] = source.to_be_bytes();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, high, low], [192, 0, 2, 1], 64);
        let mut frame = Vec::new();
        builder.tcp(40_000, port, i, 512).syn().write(&mut frame, &[]).expect("a vector grows");
        (Timestamp::from_nanos(1_000_000_000_000 + u64::from(i) * 1_000), frame)
    };
    (0..PACKETS).map(frame).collect()
}

/// Nanoseconds per packet of the fastest run, and the openings of each.
fn fastest(mut run: impl FnMut() -> u64) -> (f64, u64) {
    let mut fastest = f64::INFINITY;
    let mut openings = 0;
    for _ in 0..RUNS {
        let begin = Instant::now();
        openings = run();
        fastest = fastest.min(begin.elapsed().as_secs_f64() * 1e9 / f64::from(PACKETS));
    }
    (fastest, openings)
}

fn by_engine(config: &Config, frames: &[(Timestamp, Vec<u8>)]) -> u64 {
    let mut engine = Engine::new(config);
    let mut openings = 0;
    for (time, frame) in frames {
        engine.feed(LinkType::Ethernet, *time, frame);
        while let Some(event) = engine.poll_event() {
            openings += u64::from(matches!(event.kind, EventKind::Open { .. }));
        }
    }
    openings
}

fn by_replay(config: &Config, capture: &Path) -> u64 {
    let mut openings = 0;
    let result = replay(config, LocalAddresses::Any, capture, |event| {
        openings += u64::from(matches!(event.kind, EventKind::Open { .. }));
    });
    result.expect("the capture can be read");
    openings
}
