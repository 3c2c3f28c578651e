//! Frames that no honest host sends: the daemon continues, opens nothing, and accepts an honest
//! knock afterwards.

use std::time::Duration;

use portknock_tests::hostile::{inject, no_knocks, odd_knocks, syn_in_fragments};
use portknock_tests::{Daemon, Lab, Listener, Sniffed, Sniffer, WAIT_TIMEOUT};

/// Two doors that one packet opens, and one that takes three.
const DOORS: &str = "[tcp]\nsequence = 7000\ntcpflags = syn,!ack,!fin,!rst\ncommand = true\n\
    [udp]\nsequence = 7001:udp\ncommand = true\n\
    [three]\nsequence = 7100,7101:udp,7102\nseq_timeout = 30\ntcpflags = syn,!ack\ncommand = true\n";

#[test]
fn no_hostile_frame_opens_a_door_or_ends_the_reader() {
    let lab = Lab::pair();
    for host in [&lab.client, &lab.server] {
        host.ok("ip link set eth0 mtu 9000");
    }
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let reader = daemon.reader();
    let closed = no_knocks(7000, 7001);
    // Each of the other doors has the packet as its first step or its third, and none as its
    // second.
    let odd = [odd_knocks(7100, 7102), odd_knocks(7102, 7100)].concat();
    assert!(closed.len() + odd.len() / 2 > 80, "{} and {}", closed.len(), odd.len());
    for _ in 0..3 {
        inject(&lab.client, &closed);
        inject(&lab.client, &odd);
    }
    lab.knock_from("10.0.0.2", "10.0.0.1", "7100 7101:udp 7102");
    daemon.wait_for("10.0.0.2: three: OPEN SESAME");
    lab.knock_from("fd00::2", "fd00::1", "7001:udp");
    daemon.wait_for("fd00::2: udp: OPEN SESAME");
    let log = daemon.log();
    assert_eq!(daemon.count("OPEN SESAME"), 2, "{log}");
    assert_eq!((daemon.reader(), daemon.count("has ended")), (reader, 0), "{log}");
    // Only the events of single steps.
    let known =
        ["starting up", "listening on", "Stage ", "OPEN SESAME", "running command", "attempt failed", "timeout"];
    for line in log.lines() {
        assert!(known.iter().any(|known| line.contains(known)) && line.is_ascii(), "`{line}` in\n{log}");
    }
    let most = 40 + 3 * 2 * odd.len();
    assert!(log.lines().count() < most, "{} lines and more than {most}:\n{log}", log.lines().count());
}

#[test]
fn the_frames_that_may_count_reach_the_reader() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOORS);
    let frames: Vec<_> = odd_knocks(7000, 7001).into_iter().filter(|(_, frame)| frame.len() < 1_500).collect();
    inject(&lab.client, &frames);
    // Otherwise the other test would prove nothing. If a packet arrives while the command of an
    // earlier one waits, the log counts the openings.
    daemon.wait_for_count("Stage 1", 10, WAIT_TIMEOUT);
    daemon.wait_for("OPEN SESAME");
}

#[test]
fn a_syn_in_fragments_over_ipv6_reaches_no_protected_port() {
    let lab = Lab::pair();
    let _protected = Listener::start(&lab.server, 22);
    let _open = Listener::start(&lab.server, 80);
    for refusal in ["reject", "drop"] {
        let config = format!("[options]\nGateRefuse = {refusal}\n[ssh]\nsequence = 7000,8000\nopen = tcp/22\n");
        let mut daemon = Daemon::portknockd(&lab.server, &config);
        let sniffer = Sniffer::start(&lab.client, "eth0", "ip6 proto 6 and src fd00::1");
        // The first fragment has no part, a part, or all of the TCP header.
        for (first, options) in [(8, false), (16, false), (24, false), (8, true), (16, true), (32, true)] {
            inject(&lab.client, &syn_in_fragments(22, first, options));
        }
        // The kernel reassembles fragments and answers, if nothing protects the port.
        inject(&lab.client, &syn_in_fragments(80, 24, false));
        inject(&lab.client, &syn_in_fragments(80, 32, true));
        let accepts = |packet: &Sniffed| packet.flags == "SA";
        let seen = sniffer.wait_for(1, |packet| packet.source_port == 80 && accepts(packet));
        assert!(!seen.is_empty());
        std::thread::sleep(Duration::from_millis(300));
        let seen = sniffer.packets();
        assert!(!seen.iter().any(|packet| packet.source_port == 22 && accepts(packet)), "{refusal}: {seen:?}");
        assert!(daemon.stop().success());
    }
}
