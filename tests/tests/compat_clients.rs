//! The original `knock` and ours beside each other, and each against the other's daemon. What ours does by itself is in
//! `knock_client.rs`.

use std::time::Duration;

use portknock_tests::{Daemon, Lab, Output, Sniffed, Sniffer, binary};

const DOORS: &str = "
[mixed]
    sequence = 7000,8000:udp,9000
    tcpflags = syn
[udp]
    sequence = 1111:udp,2222:udp
";

/// Runs one of the two with these arguments: 0 is ours, 1 the original.
fn knock(lab: &Lab, original: bool, args: &str) -> Output {
    let program = if original { "knock".into() } else { binary("knock") };
    Output::of(lab.client.command(program).args(args.split_whitespace()))
}

#[test]
fn agree_that_either_client_opens_the_doors_of_either_daemon() {
    for daemon_is_original in [false, true] {
        let lab = Lab::pair();
        let start = if daemon_is_original { Daemon::knockd } else { Daemon::portknockd };
        let daemon = start(&lab.server, DOORS);
        let mut tries = 0;
        for client_is_original in [false, true] {
            for delay in ["", "-d 20"] {
                tries += 1;
                for (args, opened) in [
                    ("10.0.0.1 7000 8000:udp 9000", "10.0.0.2: mixed"),
                    ("-6 fd00::1 7000:tcp 8000:udp 9000:tcp", "fd00::2: mixed"),
                    ("-u 10.0.0.1 1111 2222", "10.0.0.2: udp"),
                ] {
                    let output = knock(&lab, client_is_original, &format!("{delay} {args}"));
                    assert_eq!(output.code, Some(0), "{output:?}");
                    daemon.wait_for_count(&format!("{opened}: OPEN SESAME"), tries, Duration::from_secs(5));
                }
            }
        }
    }
}

/// The exit status and the knocks that left the client.
fn outcome(lab: &Lab, original: bool, args: &str) -> (Option<i32>, Vec<String>) {
    let sniffer = Sniffer::start(&lab.client, "eth0", "src host 10.0.0.2");
    let output = knock(lab, original, args);
    // A knock that is always sent, after all others.
    lab.client.ok("knock -u 10.0.0.1 65000");
    sniffer.wait_for(1, |packet| packet.port == 65_000);
    let mut seen = sniffer.knocks();
    seen.retain(|packet| packet.port != 65_000);
    (output.code, seen.iter().map(Sniffed::step).collect())
}

#[test]
fn agree_on_ports_protocols_and_services() {
    let lab = Lab::pair();
    for (args, sent) in [
        ("10.0.0.1 7000 8000:udp 9000:tcp", &["7000:tcp", "8000:udp", "9000:tcp"][..]),
        ("-u 10.0.0.1 7000 8000:tcp", &["7000:udp", "8000:udp"]),
        ("10.0.0.1 7000 7000 7000", &["7000:tcp", "7000:tcp", "7000:tcp"]),
        ("10.0.0.1 007000", &["7000:tcp"]),
        ("10.0.0.1 ssh", &["22:tcp"]),
        ("10.0.0.1 ssh:udp", &["22:udp"]),
        ("10.0.0.1 tftp domain:udp", &["69:tcp", "53:udp"]),
        ("-u 10.0.0.1 ssh", &["22:udp"]),
    ] {
        for original in [false, true] {
            let sent = sent.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(outcome(&lab, original, args), (Some(0), sent), "{args}, original: {original}");
        }
    }
}

#[test]
fn differ_on_what_is_no_port_and_no_protocol() {
    let lab = Lab::pair();
    for (args, code, sent) in [
        ("10.0.0.1 70000", 0, &["4464:tcp"][..]),
        ("10.0.0.1 0", 0, &["0:tcp"]),
        ("10.0.0.1 +7000", 0, &["7000:tcp"]),
        ("10.0.0.1 80:udp8", 0, &["80:tcp"]),
        ("10.0.0.1 80:foo", 0, &["80:tcp"]),
        ("10.0.0.1 80:", 0, &["80:tcp"]),
        ("10.0.0.1 7000 no-such-service 9000", 1, &["7000:tcp"]),
        ("10.0.0.1 7000 SSH", 1, &["7000:tcp"]),
        ("-d soon 10.0.0.1 7000", 0, &["7000:tcp"]),
    ] {
        let sent = sent.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(outcome(&lab, true, args), (Some(code), sent), "{args}");
        assert_eq!(outcome(&lab, false, args), (Some(2), vec![]), "{args}");
    }
}

#[test]
fn differ_on_protocols_in_capitals_and_on_lists() {
    let lab = Lab::pair();
    let two = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
    assert_eq!(outcome(&lab, true, "10.0.0.1 80:UDP 81"), (Some(0), two("80:tcp", "81:tcp")));
    assert_eq!(outcome(&lab, false, "10.0.0.1 80:UDP 81"), (Some(0), two("80:udp", "81:tcp")));
    assert_eq!(outcome(&lab, true, "10.0.0.1 7000,8000:udp"), (Some(1), vec![]));
    assert_eq!(outcome(&lab, false, "10.0.0.1 7000,8000:udp"), (Some(0), two("7000:tcp", "8000:udp")));
}

#[test]
fn differ_on_exit_statuses() {
    let lab = Lab::pair();
    for (args, ours, theirs) in [
        ("10.9.9.9 7000", 1, 0),
        ("no-such-host.invalid 7000", 1, 1),
        ("-6 10.0.0.1 7000", 1, 1),
        ("-4 fd00::1 7000", 1, 1),
        ("-46 10.0.0.1 7000", 1, 1),
        ("-64 10.0.0.1 7000", 0, 0),
        ("10.0.0.1", 2, 1),
        ("", 2, 1),
        ("-x 10.0.0.1 7000", 2, 1),
        ("-d -5 10.0.0.1 7000", 2, 1),
        ("-h", 0, 1),
        ("-V", 0, 0),
    ] {
        assert_eq!(knock(&lab, false, args).code, Some(ours), "{args}");
        assert_eq!(knock(&lab, true, args).code, Some(theirs), "{args}, the original");
    }
}
