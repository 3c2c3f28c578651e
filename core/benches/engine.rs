//! Nanoseconds per packet, from frame to events, with many live attempts.
//!
//! `hit`: a packet of a source with an attempt. `miss`: a packet to a port that no door uses, from
//! a source without an attempt. `flood`: a first knock of a new source, while the oldest attempt
//! times out. Frames arrive one by one (`Engine::feed`), and in batches (`Engine::feed_all`), as
//! they do on a busy link.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use portknock_core::{Config, Door, Engine, LinkType, Protocol, Sequence, Step, Timestamp};

/// Number of frames in a batch.
const FRAME_BATCH: u32 = 256;
const STRIDE: u32 = 0x9e37_79b1;
const ATTEMPTS: [u32; 4] = [1, 1_000, 100_000, 1_000_000];

/// First source address of a flood. Addresses in 0.0.0.0/8 cannot be sources and would be refused.
const FIRST_SOURCE: u32 = 0x0100_0000;

/// An Ethernet frame with a TCP SYN whose source address can be changed in place.
struct Frame(Vec<u8>);

impl Frame {
    fn to_port(port: u16) -> Self {
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([0; 4], [192, 0, 2, 1], 64).tcp(40_000, port, 1, 512);
        let mut frame = Vec::new();
        builder.syn().write(&mut frame, &[]).unwrap();
        Self(frame)
    }

    fn from(&mut self, source: u32) -> &[u8] {
        self.0[26..30].copy_from_slice(&Ipv4Addr::from(source).octets());
        &self.0
    }
}

struct Load {
    engine: Engine,
    frames: Vec<Frame>,
    now: Timestamp,
    next_source: u32,
}

impl Load {
    /// Attempts arrive evenly, and each one lives for `attempts` milliseconds, so that a steady
    /// flood keeps this number of attempts alive.
    fn new(attempts: u32) -> Self {
        let step = |port: u16| Step { port: port.try_into().unwrap(), protocol: Protocol::Tcp };
        let mut door = Door::new("ssh", Some(Sequence::new([7000, 8000, 9000].map(step).to_vec()).unwrap()));
        door.seq_timeout = Duration::from_millis(attempts.into());
        let mut load = Self {
            engine: Engine::new(&Config { doors: vec![door], ..Config::default() }),
            frames: (0..FRAME_BATCH).map(|_| Frame::to_port(7000)).collect(),
            now: Timestamp::from_secs(1),
            next_source: FIRST_SOURCE,
        };
        (0..attempts).for_each(|_| load.flood(1));
        load
    }

    /// First knocks of new sources, one millisecond apart.
    fn flood(&mut self, count: u32) {
        let (next_source, now) = (self.next_source, self.now);
        self.next_source = next_source.wrapping_add(count);
        self.now = now.saturating_add(Duration::from_millis(count.into()));
        let source = |i: u32| next_source.wrapping_add(i);
        self.feed(count, source, |i| now.saturating_add(Duration::from_millis((i + 1).into())));
    }

    /// Feeds this number of frames.
    fn feed(&mut self, count: u32, source: impl Fn(u32) -> u32, time: impl Fn(u32) -> Timestamp) {
        let frames = (0..count).zip(&mut self.frames).map(|(i, frame)| (time(i), frame.from(source(i))));
        if count == 1 {
            frames.for_each(|(time, frame)| self.engine.feed(LinkType::Ethernet, time, frame));
        } else {
            self.engine.feed_all(LinkType::Ethernet, frames);
        }
        while let Some(event) = self.engine.poll_event() {
            black_box(event);
        }
    }
}

fn engine(criterion: &mut Criterion) {
    for (attempts, count) in ATTEMPTS.into_iter().flat_map(|attempts| [(attempts, 1), (attempts, FRAME_BATCH)]) {
        let mut group = criterion.benchmark_group(if count == 1 { "alone" } else { "together" });
        group.throughput(Throughput::Elements(count.into()));
        let mut load = Load::new(attempts);
        // A large odd stride visits the attempts in an order that no cache can predict.
        let mut i = 0_u32;
        let mut next = || {
            i = i.wrapping_add(count.wrapping_mul(STRIDE));
            i
        };
        group.bench_function(BenchmarkId::new("hit", attempts), |bencher| {
            bencher.iter(|| {
                let first = next();
                let source = |i| (u64::from(STRIDE.wrapping_mul(i).wrapping_add(first)) * u64::from(attempts)) >> 32;
                let now = load.now;
                load.feed(count, |i| FIRST_SOURCE + u32::try_from(source(i)).unwrap(), |_| now);
            });
        });
        load.frames = (0..FRAME_BATCH).map(|_| Frame::to_port(443)).collect();
        group.bench_function(BenchmarkId::new("miss", attempts), |bencher| {
            bencher.iter(|| {
                let first = next();
                let now = load.now;
                // In 128.0.0.0/2: neither a source of the flood nor a multicast address.
                load.feed(count, |i| 0x8000_0000 | STRIDE.wrapping_mul(i).wrapping_add(first) >> 2, |_| now);
            });
        });
        load.frames = (0..FRAME_BATCH).map(|_| Frame::to_port(7000)).collect();
        group.bench_function(BenchmarkId::new("flood", attempts), |bencher| bencher.iter(|| load.flood(count)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = engine
}
criterion_main!(benches);
