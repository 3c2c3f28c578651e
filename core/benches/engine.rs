//! Nanoseconds a packet, frame to events, with many attempts alive.
//!
//! `hit`: a packet of a source with an attempt. `miss`: a packet to a port that no door uses from a source without one.
//! `flood`: a first knock of a new source, while the oldest attempt runs out.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use portknock_core::{Config, Door, Engine, LinkType, Protocol, Sequence, Step, Timestamp};

const ATTEMPTS: [u32; 4] = [1, 1_000, 100_000, 1_000_000];

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
    first: Frame,
    now: Timestamp,
    next_source: u32,
}

impl Load {
    /// Attempts come evenly and each lives for `attempts` milliseconds, so that as many are alive in a steady flood.
    fn new(attempts: u32) -> Self {
        let step = |port: u16| Step { port: port.try_into().unwrap(), protocol: Protocol::Tcp };
        let mut door = Door::new("ssh", Some(Sequence::new([7000, 8000, 9000].map(step).to_vec()).unwrap()));
        door.seq_timeout = Duration::from_millis(attempts.into());
        let mut load = Self {
            engine: Engine::new(&Config { doors: vec![door], ..Config::default() }),
            first: Frame::to_port(7000),
            now: Timestamp::from_secs(1),
            next_source: 0,
        };
        (0..attempts).for_each(|_| load.flood());
        load
    }

    fn flood(&mut self) {
        self.now = self.now.saturating_add(Duration::from_millis(1));
        self.engine.feed(LinkType::Ethernet, self.now, self.first.from(self.next_source));
        self.next_source = self.next_source.wrapping_add(1);
        while let Some(event) = self.engine.poll_event() {
            black_box(event);
        }
    }
}

fn engine(criterion: &mut Criterion) {
    for attempts in ATTEMPTS {
        let mut group = criterion.benchmark_group("engine");
        group.throughput(Throughput::Elements(1));
        let mut load = Load::new(attempts);
        let mut i = 0_u32;
        group.bench_function(BenchmarkId::new("hit", attempts), |bencher| {
            bencher.iter(|| {
                // A large odd stride touches the attempts in no order that a cache could guess.
                i = i.wrapping_add(0x9e37_79b1);
                let source = u32::try_from((u64::from(i) * u64::from(attempts)) >> 32).unwrap_or(0);
                load.engine.feed(LinkType::Ethernet, load.now, load.first.from(source));
            });
        });
        let mut other = Frame::to_port(443);
        group.bench_function(BenchmarkId::new("miss", attempts), |bencher| {
            bencher.iter(|| {
                i = i.wrapping_add(0x9e37_79b1);
                load.engine.feed(LinkType::Ethernet, load.now, other.from(i | 0x8000_0000));
            });
        });
        group.bench_function(BenchmarkId::new("flood", attempts), |bencher| bencher.iter(|| load.flood()));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = engine
}
criterion_main!(benches);
