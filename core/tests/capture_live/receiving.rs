//! The frames that arrive, for each kind of interface.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use portknock_core::capture::CaptureSet;
use portknock_core::{LinkType, Protocol, TcpFlags, Timestamp};

use crate::support::*;

#[test]
fn knocks_on_loopback_are_seen_once() {
    if !in_namespace() {
        return;
    }
    let before = SystemTime::now();
    let mut listener = Listener::open(&["lo"]);
    assert_eq!(listener.notices, ["listening on lo"]);
    for host in ["127.0.0.1", "[::1]"] {
        send_syn(&format!("{host}:7000"));
        send_syn(&format!("{host}:8000"));
        send_udp(&format!("{host}:9000"));
    }
    listener.settle();
    let nanos = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap();
    let span = Timestamp::from_nanos(nanos(before))..=Timestamp::from_nanos(nanos(SystemTime::now()));
    for knock in &listener.knocks {
        assert!(span.contains(&knock.time), "{span:?} {knock:?}");
        assert!(knock.source.is_loopback() && knock.destination.is_loopback());
        assert_eq!(knock.flags, if knock.protocol == Protocol::Tcp { TcpFlags::SYN } else { TcpFlags::NONE });
    }
    let expected = [(Protocol::Tcp, 7000), (Protocol::Tcp, 8000), (Protocol::Udp, 9000)].repeat(2);
    assert_eq!(listener.frames, 6);
    assert_eq!(listener.take_ports(), expected);
    let stats = listener.set.stats();
    assert_eq!((stats.received, stats.dropped), (6, 0));
    assert!(stats.interfaces[0].listening);
}

#[test]
fn any_sees_every_interface() {
    if !in_namespace() {
        return;
    }
    make_wire();
    // `any` includes the other names.
    let mut listener = Listener::open(&["lo", "any"]);
    assert_eq!(listener.notices, ["listening on any"]);
    send_syn("127.0.0.1:7000");
    send_udp("[::1]:9000");
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)]);
    let mut far = Injector::new("far0");
    far.send(&syn(8000));
    far.send(&ethernet(&[0x8100], &ipv4(TCP, &segment(8000, TcpFlags::SYN))));
    far.send(&ethernet(&[0x88a8], &ipv6(UDP, &segment(9000, TcpFlags::NONE))));
    assert_eq!(
        listener.take_ports(),
        [(Protocol::Tcp, 8000), (Protocol::Tcp, 8000), (Protocol::Udp, 9000)],
        "and not once more when they are sent"
    );
    assert_eq!(listener.frames, 5);
}

#[test]
fn tagged_knocks_are_seen_on_the_link() {
    if !in_namespace() {
        return;
    }
    make_wire();
    let mut listener = Listener::open(&["wire0"]);
    let mut far = Injector::new("far0");
    for tags in [&[][..], &[0x8100], &[0x8100, 0x8100], &[0x88a8, 0x8100, 0x9100], &[0x8100; 5]] {
        far.send(&ethernet(tags, &ipv4(TCP, &segment(7000, TcpFlags::SYN))));
        far.send(&ethernet(tags, &ipv6(UDP, &segment(9000, TcpFlags::NONE))));
    }
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)].repeat(5));
    far.send(&ethernet(&[0x8100], &ipv4(TCP, &segment(7001, TcpFlags::SYN))));
    far.send(&ethernet(&[0x88a8, 0x8100], &ipv4(TCP, &segment(7001, TcpFlags::SYN))));
    listener.settle();
    assert_eq!(listener.frames, 10, "the filter reads the ports after the tags");
}

#[test]
fn tagged_knocks_are_seen_on_a_vlan_interface() {
    if !in_namespace() {
        return;
    }
    make_wire();
    if Command::new("ip")
        .args("link add link wire0 name wire0.5 type vlan id 5".split(' '))
        .output()
        .unwrap()
        .status
        .success()
    {
        run("ip link set wire0.5 up");
        let mut listener = Listener::open(&["wire0.5"]);
        Injector::new("far0").send(&ethernet(&[0x8100], &ipv4(TCP, &segment(7000, TcpFlags::SYN))));
        assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000)]);
    } else {
        eprintln!("SKIPPED: this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)");
    }
}

#[test]
fn interfaces_without_a_link_layer_work() {
    if !in_namespace() {
        return;
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        eprintln!("SKIPPED: /dev/net/tun: {error}");
        return;
    }
    run("ip tuntap add mode tun name tun0");
    run("ip link set tun0 up");
    let mut listener = Listener::open(&["tun0"]);
    let packets = [
        ipv4(TCP, &segment(7000, TcpFlags::SYN)),
        ipv6(UDP, &segment(9000, TcpFlags::NONE)),
        ipv4(TCP, &segment(7001, TcpFlags::SYN)),
    ];
    for packet in packets {
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        // TUNSETIFF with IFF_TUN and IFF_NO_PI.
        let script = format!(
            "import fcntl, os, struct; tun = os.open('/dev/net/tun', os.O_RDWR); \
             fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tun0', 0x1001)); \
             os.write(tun, bytes.fromhex('{hex}'))"
        );
        let output = Command::new("python3").args(["-c", &script]).output().expect("this test needs python3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(listener.take_ports(), [(Protocol::Tcp, 7000), (Protocol::Udp, 9000)]);
    assert_eq!(listener.frames, 2);
}

#[test]
fn link_types_follow_the_interface() {
    if !in_namespace() {
        return;
    }
    for (interface, link_type) in [("lo", LinkType::Ethernet), ("any", LinkType::LinuxSll2)] {
        let mut set = CaptureSet::open(&[interface.into()], filter()).unwrap();
        send_udp("127.0.0.1:9000");
        let mut seen = Vec::new();
        let end = Instant::now() + Duration::from_secs(5);
        while seen.is_empty() && Instant::now() < end {
            set.turn(&mut |frame| seen.push((frame.link_type, frame.origin.is_loopback))).unwrap();
        }
        assert_eq!(seen, [(link_type, true)]);
    }
}
