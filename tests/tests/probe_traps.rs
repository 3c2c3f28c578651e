//! Situations that have led port scanners to wrong answers.
//!
//! Some of them are cases of the matrix in `probe_truth.rs`, which compares both methods with
//! `nmap -sS`:
//!
//! - The exact ICMP error without any privilege, and TCP after "port unreachable" as filtered,
//!   never as closed: the cases `reject-*`, by connections.
//! - This machine's own firewall: `local-output-*` and `local-input-drop`.
//! - A proxy for SYNs and a full accept queue: `synproxy-closed` and `listen-backlog-full`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use portknock_tests::{
    Family, Firewall, Host, Lab, Listener, Matrix, Probed, Process, Scan, Sniffed, Sniffer, Verdict, binary, nmap,
    probe,
};

const BOTH: [&str; 2] = ["10.0.0.1", "fd00::1"];
const BY_TCP: [Scan; 2] = [Scan::Syn, Scan::Connect];

/// The verdicts alone, each in nmap's words.
fn verdicts(results: &[Probed]) -> Vec<String> {
    results.iter().map(|result| result.verdict.to_string()).collect()
}

/// Asserts that all of these ports are in one state.
fn all_are(state: &str, count: usize, results: &[Probed]) {
    let others: Vec<_> = results.iter().filter(|result| result.verdict.state != state).collect();
    assert!(others.is_empty(), "not {state}: {others:?}");
    assert_eq!(results.len(), count);
}

/// Without IPV6_RECVERR, connect(2) would notice an ICMPv6 error only when its SYN is repeated
/// after a second.
#[test]
fn a_refusal_over_ipv6_is_noticed_immediately() {
    let lab = Lab::pair();
    for kind in ["icmp6-port-unreachable", "icmp6-adm-prohibited"] {
        lab.server.ok(&format!("ip6tables -I INPUT -p tcp --dport 81 -j REJECT --reject-with {kind}"));
        let results = probe(&lab.client, Scan::Connect, "fd00::1 81");
        assert_eq!(results[0].verdict.state, "filtered", "{kind}: {results:?}");
        assert!(results[0].rtt_ms.is_some_and(|ms| ms < 900.0), "{kind}: {results:?}");
    }
}

/// The kernel sends a peer a handful of ICMP errors and then one a second, or ten over IPv6. The
/// errors that it omits must not lead to another state.
#[test]
fn limited_icmp_errors_do_not_change_the_state() {
    let tcp = Lab::pair();
    tcp.server.ok("iptables -A INPUT -p tcp -j REJECT; ip6tables -A INPUT -p tcp -j REJECT");
    for scan in BY_TCP {
        for address in BOTH {
            let results = probe(&tcp.client, scan, &format!("{address} 1-200"));
            all_are("filtered", 200, &results);
            let refused_ports = results.iter().filter(|result| result.verdict.reason == "port-unreach").count();
            assert!((1..200).contains(&refused_ports), "{scan:?} of {address}: the limit was not met: {results:?}");
        }
    }
    let udp = Lab::pair();
    let v6 = || all_are("closed", 50, &probe(&udp.client, Scan::Udp, "fd00::1 1-50"));
    thread::scope(|scope| {
        scope.spawn(v6);
        all_are("closed", 12, &probe(&udp.client, Scan::Udp, "10.0.0.1 1-12"));
    });
}

/// Linux answers a repeated SYN of one connection once in half a second, others immediately.
#[test]
fn each_try_has_its_own_source_port_and_the_same_destination() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    for address in BOTH {
        let sniffer = Sniffer::start(&lab.client, "eth0", "tcp");
        assert_eq!(
            verdicts(&probe(&lab.client, Scan::Syn, &format!("--timeout 1 {address} 22"))),
            ["filtered, no-response"]
        );
        let tries = sniffer.wait_for(4, |packet| packet.port == 22);
        assert_eq!(tries.len(), 4, "{tries:?}");
        assert!(tries.iter().all(|packet| packet.flags == "S" && packet.destination.to_string() == address));
        let source_ports: BTreeSet<u16> = tries.iter().map(|packet| packet.source_port).collect();
        let numbers: BTreeSet<u32> = tries.iter().map(|packet| packet.sequence_number).collect();
        assert_eq!((source_ports.len(), numbers.len()), (4, 4), "{tries:?}");
    }
}

/// A server repeats a lost SYN/ACK after a second. That second is not part of the round trip time.
#[test]
fn a_repeated_syn_ack_counts_as_open_and_not_as_a_round_trip() {
    let lab = Lab::pair();
    let _listener = Listener::on_ports(&lab.server, [22, 23, 24]);
    // The first three SYN/ACKs to a host get lost: those for the tries at 0, 0.3 and 0.9 seconds.
    // The repetition for the first one precedes the next try. By connection there is one try, and
    // one SYN/ACK gets lost.
    lab.server.ok("for tables in iptables ip6tables; do
             for loss in 22:3 23:1 24:1; do
                 port=${loss%:*}
                 rule=\"OUTPUT -p tcp --sport $port --tcp-flags SYN,ACK SYN,ACK -m recent --name late$port --rdest\"
                 $tables -A $rule --update --hitcount ${loss#*:} -j ACCEPT
                 $tables -A $rule --set -j DROP
             done
         done");
    for (scan, options, port) in [(Scan::Syn, "", 22), (Scan::Syn, "--retries 0", 23), (Scan::Connect, "", 24)] {
        for address in BOTH {
            let sniffer = Sniffer::start(&lab.client, "eth0", &format!("host {address} and tcp port {port}"));
            let results = probe(&lab.client, scan, &format!("{options} {address} {port}"));
            assert_eq!(verdicts(&results), ["open, syn-ack"], "{scan:?} of {address}");
            // On a slow machine the third try may be answered, immediately.
            assert!(results[0].rtt_ms.is_none_or(|ms| ms < 900.0), "{scan:?} of {address}: {results:?}");
            let answer = sniffer.wait_for(1, |packet| packet.flags == "SA")[0].clone();
            let took = answer.time - sniffer.knocks()[0].time;
            assert!(took > Duration::from_millis(900), "{scan:?} of {address}: answered after {took:?}");
        }
    }
}

/// The server accepts only one of the client's addresses, which is not the one that the route
/// selects.
#[test]
fn the_source_is_the_requested_one() {
    let matrix = Matrix::new();
    for scan in Scan::ALL {
        for family in Family::BOTH {
            let name = if scan == Scan::Udp { "open-answers-srcfw-drop" } else { "listen-srcfw-drop" };
            let case = matrix.case(name, family, scan.protocol());
            let friend = Matrix::friend_address(family);
            let sniffer = Sniffer::start(&matrix.client, "eth0", &format!("dst host {}", case.address));
            let results = probe(&matrix.client, scan, &format!("--source {friend} {} {}", case.address, case.port));
            assert_eq!(results[0].verdict.state, "open", "{scan:?} from {friend}: {results:?}");
            let sent = sniffer.wait_for(1, Sniffed::is_knock);
            assert!(sent.iter().all(|packet| packet.source.to_string() == friend), "{scan:?} from {friend}: {sent:?}");
        }
    }
}

/// Ports that drop everything, for which an attacker sends a spoofed SYN/ACK, RST, and ICMP error.
const SPOOFED: [u16; 3] = [81, 82, 83];

/// Sends spoofed answers whose numbers have this distance from the SYN's.
fn forger(lab: &Lab, off_by: u32) -> Process {
    let mut command = lab.server.command(binary("spoof"));
    command.args(["--interface", "eth0", "--off-by", &off_by.to_string()]);
    for (option, port) in ["--syn-ack", "--reset", "--unreachable"].into_iter().zip(SPOOFED) {
        command.args([option, &port.to_string()]);
    }
    let process = Process::spawn(&mut command);
    process.wait_for("ready");
    process
}

/// nmap's verdicts about them.
fn nmap_of_spoofed(client: &Host, address: &str) -> [Verdict; 3] {
    let address: IpAddr = address.parse().expect("an address");
    let seen = nmap(client, Scan::Syn, &[address], &SPOOFED.into());
    SPOOFED.map(|port| seen[&(address, port)].clone())
}

/// Our verdicts about them.
fn ours_of_spoofed(client: &Host, scan: Scan, address: &str) -> Vec<String> {
    verdicts(&probe(client, scan, &format!("{address} 81-83")))
}

const SILENT: &str = "filtered, no-response";

#[test]
fn spoofed_answers_change_nothing_although_nmap_accepts_them() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    // Verdicts with the correct numbers count, which shows that the spoofed ones arrive.
    let true_numbers = forger(&lab, 0);
    let [_, _, refused] = nmap_of_spoofed(&lab.client, "10.0.0.1");
    assert_eq!(refused, Verdict::new("filtered", "port-unreach"));
    for address in BOTH {
        let seen = ours_of_spoofed(&lab.client, Scan::Syn, address);
        assert_eq!(seen, [SILENT, "closed, reset", "filtered, port-unreach"], "{address}");
    }
    drop(true_numbers);
    let true_acknowledgments = forger(&lab, 1);
    for address in BOTH {
        let seen = ours_of_spoofed(&lab.client, Scan::Syn, address);
        assert_eq!(seen, ["open, syn-ack", "closed, reset", SILENT], "{address}");
    }
    drop(true_acknowledgments);
    let _wrong_numbers = forger(&lab, 0x4000_0000);
    for address in BOTH {
        let [open, closed, refused] = nmap_of_spoofed(&lab.client, address);
        assert_eq!(open, Verdict::new("open", "syn-ack"), "{address}");
        assert_eq!(closed, Verdict::new("closed", "reset"), "{address}");
        // nmap checks only the number that an ICMP error quotes.
        assert_eq!(refused, Verdict::new("filtered", "no-response"), "{address}");
        for scan in BY_TCP {
            assert_eq!(ours_of_spoofed(&lab.client, scan, address), [SILENT; 3], "{scan:?} of {address}");
        }
    }
}
