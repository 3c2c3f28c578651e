//! Packets allocate no memory: with warm tables nothing is allocated, and finished attempts leave
//! nothing allocated.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::IpAddr;
use std::time::Duration;

use portknock_core::{Config, Door, Engine, Knock, Protocol, Sequence, Step, TcpFlags, Timestamp};

const SOURCES: u32 = 10_000;
const FINISHED_ATTEMPTS: u32 = 10_000_000;

fn knock(time: Timestamp, source: u32, port: u16) -> Knock {
    Knock {
        time,
        source: IpAddr::from(source.to_be_bytes()),
        destination: [192, 0, 2, 1].into(),
        port,
        protocol: Protocol::Udp,
        flags: TcpFlags::NONE,
        source_port: 1,
        sequence_number: 0,
    }
}

/// One way for an attempt to end for each remainder: at the end of the sequence, by a wrong port,
/// by a scan, by time.
fn run(engine: &mut Engine, now: &mut Timestamp, attempts: u32) {
    for i in 0..attempts {
        *now = now.saturating_add(Duration::from_micros(100));
        let source = 0x0a00_0000 + i % SOURCES;
        engine.handle_knock(&knock(*now, source, 7000));
        match i % 4 {
            0 => engine.handle_knock(&knock(*now, source, 8000)),
            1 => engine.handle_knock(&knock(*now, source, 9000)),
            2 => (0..9).for_each(|port| engine.handle_knock(&knock(*now, source, 100 + port))),
            _ => {}
        }
        while engine.poll_event().is_some() {}
    }
}

#[test]
fn ten_million_finished_attempts_allocate_nothing() {
    let sequence = |ports: &[u16]| {
        let step = |&port: &u16| Step { port: port.try_into().unwrap(), protocol: Protocol::Udp };
        Some(Sequence::new(ports.iter().map(step).collect::<Vec<_>>()).unwrap())
    };
    // Without commands, because each opening allocates their text.
    let mut doors = vec![Door::new("two", sequence(&[7000, 8000])), Door::new("other", sequence(&[9000]))];
    doors[0].seq_timeout = Duration::from_secs(2);
    let mut engine = Engine::new(&Config { doors, ..Config::default() });
    let mut now = Timestamp::from_secs(1);
    run(&mut engine, &mut now, 10 * SOURCES);

    let used = allocation_counter::measure(|| run(&mut engine, &mut now, FINISHED_ATTEMPTS));
    assert_eq!((used.count_total, used.bytes_total), (0, 0));
    engine.handle_timeout(now.saturating_add(Duration::from_secs(10)));
    assert_eq!(engine.stats().attempts, 0);
}
