//! Wake-ups, floods and drops.

use std::time::{Duration, Instant};

use crate::support::*;

#[test]
fn a_lone_packet_wakes_once_and_a_busy_link_once_a_millisecond() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    listener.settle();
    listener.wakes = 0;
    listener.settle();
    assert_eq!(listener.wakes, 0, "nothing happened");
    let mut far = Injector::new("far0");
    far.send(&syn(7000));
    listener.settle();
    assert_eq!((listener.wakes, listener.frames), (1, 1));

    let start = Instant::now();
    let sender = std::thread::spawn(move || {
        let frame = syn(7000);
        while start.elapsed() < Duration::from_millis(500) {
            for _ in 0..20 {
                far.send(&frame);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    listener.settle();
    let elapsed = start.elapsed();
    sender.join().unwrap();
    assert!(listener.frames > 5_000, "{}", listener.frames);
    let most = usize::try_from(elapsed.as_millis()).unwrap() + 20;
    assert!(listener.wakes < most, "{} in {elapsed:?}", listener.wakes);
}

#[test]
fn dropped_packets_are_counted_and_reported() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    listener.notices.clear();
    let mut far = Injector::new("far0");
    let sent = 50_000;
    for _ in 0..sent {
        far.send(&syn(7000));
    }
    listener.run_until("a notice", |listener| !listener.notices.is_empty());
    listener.settle();
    let stats = listener.set.stats();
    assert_eq!(stats.received + stats.dropped, sent);
    assert!(stats.received > 16_000, "the ring holds many: {}", stats.received);
    assert_eq!(stats.received, listener.frames as u64);
    assert_eq!(listener.notices, [format!("wire0: {} packets were dropped because they came too fast", stats.dropped)]);
}

#[test]
fn a_flooded_interface_leaves_time_for_the_others() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0", "lo"]);
    let mut far = Injector::new("far0");
    for _ in 0..8_000 {
        far.send(&syn(7000));
    }
    send_udp("127.0.0.1:9000");
    listener.turn(Duration::from_secs(5));
    assert_eq!(listener.frames, 4096 + 1);
    assert_eq!(listener.knocks.last().unwrap().port, 9000);
    listener.settle();
    assert_eq!(listener.frames, 8_000 + 1);
}
