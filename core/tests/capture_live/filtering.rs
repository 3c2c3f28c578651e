//! Packets that the kernel filters out.

use std::time::{Duration, Instant};

use portknock_core::capture::CaptureNotice;
use portknock_core::config::{Door, Sequence};
use portknock_core::{Protocol, TcpFlags};

use crate::support::*;

#[test]
fn the_kernel_drops_irrelevant_packets() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    let mut far = Injector::new("far0");
    far.send(&syn(7001));
    far.send(&ethernet(&[], &ipv4(TCP, &segment(7000, TcpFlags::ACK))));
    far.send(&ethernet(&[], &ipv4(TCP, &segment(7000, TcpFlags::SYN | TcpFlags::ACK))));
    far.send(&ethernet(&[], &ipv4(UDP, &segment(7000, TcpFlags::NONE))));
    far.send(&ethernet(&[], &ipv4(ICMP, &segment(7000, TcpFlags::SYN))));
    far.send(&ethernet(&[], &ipv6(58, &segment(7000, TcpFlags::SYN))));
    let mut fragment = ipv4(TCP, &segment(7000, TcpFlags::SYN));
    fragment[7] = 1;
    far.send(&ethernet(&[], &fragment));
    // Packets that this end sends.
    Injector::new("wire0").send(&syn(7000));
    listener.settle();
    assert_eq!(listener.frames, 0);
    let options = [[TCP, 0, 1, 4, 0, 0, 0, 0].as_slice(), &segment(8000, TcpFlags::SYN)].concat();
    far.send(&ethernet(&[], &ipv6(60, &options)));
    far.send(&ethernet(&[], &ipv6(TCP, &segment(7000, TcpFlags::SYN))));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 8000), (Protocol::Tcp, 7000)]);
    assert_eq!(listener.frames, 2);
}

#[test]
fn a_new_filter_replaces_the_old_one() {
    if !in_namespace() {
        return;
    }
    let mut listener = Listener::open(&["lo"]);
    let door = Door::new("other", Some(Sequence::new([step(7001, Protocol::Udp)]).unwrap()));
    listener.set.set_filter(filter_of(vec![door]));
    send_udp("127.0.0.1:9000");
    send_udp("127.0.0.1:7001");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 7001)]);
    assert_eq!(listener.frames, 1);
}

#[test]
fn a_thousand_doors_start_immediately_and_exactly() {
    if !in_namespace() {
        return;
    }
    let port = |index: u16| 1 + index * 21;
    let door = |index: u16| {
        let steps = [0, 1, 2].map(|offset| step(port(index * 3 + offset), Protocol::Udp));
        Door::new("door", Some(Sequence::new(steps).unwrap()))
    };
    let start = Instant::now();
    let mut listener = Listener::open_with(&["lo", "any"], filter_of((0..1000).map(door).collect()));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    if listener.notices != ["listening on any"] {
        // Linux before 6.7 allows less memory for filters.
        assert!(listener.notices[0].contains("the filter was cut to"), "{:?}", listener.notices);
    }
    for index in [0, 1, 1500, 2999] {
        send_udp(&format!("127.0.0.1:{}", port(index)));
    }
    let ports: Vec<u16> = listener.take_ports().into_iter().map(|(_, port)| port).collect();
    assert_eq!(ports, [0, 1, 1500, 2999].map(port));
}

#[test]
fn a_kernel_with_less_room_gets_a_coarser_filter() {
    if !in_namespace() {
        return;
    }
    // Since Linux 6.7 each namespace has a separate limit.
    if std::fs::write("/proc/sys/net/core/optmem_max", "12000").is_err() {
        eprintln!("this kernel does not let the test lower its limit");
        return;
    }
    let door = |index: u16| {
        let steps = [step(1000 + index * 20, Protocol::Udp), step(1007 + index * 20, Protocol::Udp)];
        Door::new("door", Some(Sequence::new(steps).unwrap()))
    };
    let mut listener = Listener::open_with(&["lo"], filter_of((0..1000).map(door).collect()));
    let [coarse, listening] = &listener.notices[..] else { panic!("{:?}", listener.notices) };
    assert!(coarse.starts_with("lo: the filter was cut to"), "{coarse}");
    assert_eq!(listening, "listening on lo");
    send_udp("127.0.0.1:999");
    send_udp("127.0.0.1:1000");
    send_udp("127.0.0.1:20987");
    send_udp("127.0.0.1:20988");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 1000), (Protocol::Udp, 20_987)]);
    // The same filter again causes no notice; a limit that leaves no room for any filter does.
    listener.notices.clear();
    listener.set.set_filter(filter_of((0..1000).map(door).collect()));
    assert_eq!(listener.set.poll_notice(), None);
    std::fs::write("/proc/sys/net/core/optmem_max", "100").unwrap();
    listener.set.set_filter(filter());
    assert_eq!(
        listener.set.poll_notice(),
        Some(CaptureNotice::CoarseFilter { interface: "lo".into(), instructions: None })
    );
    send_udp("127.0.0.1:9000");
    assert!(listener.take_ports().contains(&(Protocol::Udp, 9000)));
}
