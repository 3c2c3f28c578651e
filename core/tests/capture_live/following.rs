//! Interfaces and addresses that appear and disappear.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portknock_core::Protocol;

use crate::support::*;

#[test]
fn interfaces_appear_and_disappear() {
    if !in_namespace() {
        return;
    }
    let mut listener = Listener::open(&["lo", "wire0"]);
    assert_eq!(listener.notices, ["listening on lo", "waiting for wire0: there is no such interface"]);
    listener.notices.clear();

    make_wire();
    // The interface is created first and then set up: two changes, which the capture may see as
    // one.
    listener.run_until("appears", |listener| listener.notices.iter().any(|text| text == "listening on wire0"));
    listener.notices.clear();
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    run("ip link set wire0 down");
    assert_eq!(listener.take_new_notices(), ["no longer listening on wire0: the interface is down"]);
    run("ip link set wire0 address 02:00:00:00:00:01");
    assert!(listener.take_new_notices().is_empty(), "no notice is repeated");
    run("ip link set wire0 up");
    assert_eq!(listener.take_new_notices(), ["listening on wire0"]);
    Injector::new("far0").send(&syn(8000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 8000)]);

    run("ip link del wire0");
    let notices = listener.take_new_notices();
    assert_eq!(notices.last().unwrap(), "no longer listening on wire0: there is no such interface", "{notices:?}");
    assert_eq!(notices.len(), 1);
    make_wire();
    listener.run_until("comes back", |listener| listener.notices.iter().any(|text| text == "listening on wire0"));
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    // The other interface was not disturbed.
    send_udp("127.0.0.1:9000");
    assert_eq!(listener.take_ports(), [(Protocol::Udp, 9000)]);
    let stats = listener.set.stats();
    assert_eq!(stats.interfaces.iter().map(|one| one.received).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn changes_between_two_polls_are_followed() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    // Down and up again before the capture polls, then another interface under the same name.
    run("ip link set wire0 down");
    run("ip link set wire0 up");
    listener.settle();
    Injector::new("far0").send(&syn(7000));
    listener.run_until("after down and up", |listener| listener.knocks.len() == 1);
    run("ip link del wire0");
    make_wire();
    listener.settle();
    Injector::new("far0").send(&syn(8000));
    listener.run_until("after the replacement", |listener| listener.knocks.len() == 2);
    assert_eq!(listener.knocks[1].port, 8000);
}

#[test]
fn frames_that_waited_when_the_interface_disappeared_are_not_lost() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    let mut injector = Injector::new("far0");
    // More frames than one turn reads.
    let many = 6_000;
    (0..many).for_each(|_| injector.send(&syn(7000)));
    run("ip link set wire0 down");
    assert_eq!(listener.take_ports(), vec![(Protocol::Tcp, 7000); many]);
    assert_eq!(listener.notices.last().unwrap(), "no longer listening on wire0: the interface is down");
}

#[test]
fn addresses_are_known_before_the_frames_that_follow_them() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    assert!(listener.set.take_address_change());
    listener.settle();
    listener.set.take_address_change();
    let address: IpAddr = "10.0.0.1".parse().unwrap();
    assert!(!listener.set.local_addresses().contains(&address));
    assert!(listener.set.local_addresses().contains(&"127.0.0.1".parse().unwrap()));

    run("ip addr add 10.0.0.1/24 dev wire0");
    Injector::new("far0").send(&syn(7000));
    assert_eq!(listener.set.turn(&mut |_| panic!("the address is reported first")).unwrap(), 0);
    assert!(listener.set.take_address_change());
    assert!(!listener.set.take_address_change());
    assert!(listener.set.local_addresses().contains(&address));
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);

    run("ip addr del 10.0.0.1/24 dev wire0");
    listener.settle();
    assert!(listener.set.take_address_change());
    assert!(!listener.set.local_addresses().contains(&address));
}

#[test]
fn thousands_of_addresses_are_followed() {
    if !in_namespace() {
        return;
    }
    let mut listener = Listener::open(&["lo"]);
    let batch: String = (0..4000).map(|n| format!("addr add 10.1.{}.{}/32 dev lo\n", n / 250, n % 250 + 1)).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    run(&format!("ip -batch {}", file.path().display()));
    let start = Instant::now();
    listener.settle();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let addresses: &HashSet<IpAddr> = listener.set.local_addresses();
    assert_eq!(addresses.len(), 4000 + 2);
    assert!(listener.wakes < 20, "one poll for a burst of changes, not {}", listener.wakes);
}
