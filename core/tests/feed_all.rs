//! A batch of frames causes the same events as the same frames one by one.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use etherparse::PacketBuilder;
use portknock_core::config::parse_sequence;
use portknock_core::{Config, Door, Engine, Event, LinkType, Timestamp};

const FRAMES: u32 = 200_000;
/// Number of live attempts, large enough that they do not fit into the processor's caches.
const SOURCES: u32 = 30_000;

fn config() -> Config {
    let door = |name, steps: &str, seconds| {
        let mut door = Door::new(name, Some(parse_sequence(steps).unwrap()));
        door.seq_timeout = Duration::from_secs(seconds);
        door.start_command = Some("open %IP%".into());
        door.stop_command = Some("close %IP%".into());
        door
    };
    let mut config = Config { doors: vec![door("a", "1,2,3", 7), door("b", "1:udp,2", 3)], ..Config::default() };
    config.options.max_attempts = 7_000;
    config.options.scan_guard = 2;
    config
}

/// Frames with their times, some microseconds apart. Some frames are not knocks.
fn frames() -> Vec<(Timestamp, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut now = Timestamp::from_secs(1_000);
    let frame = |_| {
        now = now.saturating_add(Duration::from_micros(random.u64(0..200)));
        let [_, b, c, d] = random.u32(0..SOURCES).to_be_bytes();
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, b, c, d], [192, 0, 2, 1], 64);
        let (port, mut bytes) = (random.u16(1..=5), Vec::new());
        match random.u8(0..8) {
            0 => bytes.extend([random.u8(..); 20]),
            1 => ip.udp(40_000, port).write(&mut bytes, &[]).unwrap(),
            _ => ip.tcp(random.u16(..), port, random.u32(..), 512).syn().write(&mut bytes, &[]).unwrap(),
        }
        (now, bytes)
    };
    (0..FRAMES).map(frame).collect()
}

fn drain(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

#[test]
fn a_batch_of_frames_causes_the_same_events() {
    let frames = frames();
    let (mut alone, mut together) = (Engine::new(&config()), Engine::new(&config()));
    let mut most = 0;
    for (i, batch) in frames.chunks(1_000).enumerate() {
        // Batches of every length, including 0 and 1.
        let (first, rest) = batch.split_at(i % 70);
        for frames in [first, rest] {
            frames.iter().for_each(|(time, frame)| alone.feed(LinkType::Ethernet, *time, frame));
            together.feed_all(LinkType::Ethernet, frames.iter().map(|(time, frame)| (*time, frame.as_slice())));
            assert_eq!(drain(&mut alone), drain(&mut together));
        }
        assert_eq!((alone.stats(), alone.poll_timeout()), (together.stats(), together.poll_timeout()));
        most = most.max(alone.stats().attempts);
    }
    let stats = alone.stats();
    assert!(most == 7_000 && stats.evicted > 0 && stats.openings > 0, "{most} {stats:?}");
}
