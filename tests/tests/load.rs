//! Under attack and under load: honest clients get in, scanners do not.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use portknock_tests::{Daemon, Lab, Listener, Output, PortState, WAIT_TIMEOUT, binary, require, wait_until};

const DOOR: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 60
    tcpflags    = syn,!ack
    command     = echo %IP% >> %DIR%/opened
";

fn pktgen(lab: &Lab, args: &str) -> Command {
    let mut command = lab.client.command(binary("pktgen"));
    command.args(["--interface", "eth0"]).args(args.split(' '));
    command
}

#[test]
fn each_of_a_thousand_knocks_of_the_original_client_opens_the_door() {
    let lab = Lab::pair();
    require("knock");
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    lab.client.ok("for i in $(seq 1000); do knock -d 5 10.0.0.1 7000 8000 9000; done");
    daemon.wait_for_count("10.0.0.2: door: OPEN SESAME", 1000, Duration::from_secs(30));
    assert_eq!(daemon.count("10.0.0.2: door: Stage 1"), 1000);
}

#[test]
fn honest_clients_get_in_during_a_flood_of_spoofed_first_knocks() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let first = Output::of(&mut pktgen(&lab, "--from 172.16.0.0 --sources 100000 --ports 7000 --rate 50000"));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.status("attempts") == 100_000), "{}", daemon.status("attempts"));
    let mut flood = pktgen(&lab, "--from 172.24.0.0 --sources 500000 --ports 7000 --rate 20000 --count 400000")
        .spawn()
        .expect("pktgen starts");
    for tries in 1..=10 {
        lab.client.ok("knock -d 20 10.0.0.1 7000 8000 9000");
        daemon.wait_for_count("10.0.0.2: door: OPEN SESAME", tries, Duration::from_secs(5));
    }
    assert!(flood.try_wait().expect("pktgen can be waited for").is_none(), "the flood ended before the knocks did");
    flood.kill().expect("pktgen can be killed");
    flood.wait().expect("pktgen can be waited for");
}

#[test]
fn no_port_scan_opens_a_door() {
    let lab = Lab::pair();
    require("nmap");
    let doors = "
[stock]
    sequence = 7000,8000,9000
    command = true
[narrow]
    sequence = 7100,7110,7120
    tcpflags = syn
    command = true
[two]
    sequence = 2000,40000
    command = true
[high]
    sequence = 33000,40000,50000
    tcpflags = syn
    command = true
[ack]
    sequence = 4000,4100,4200
    tcpflags = ack
    command = true
[udp]
    sequence = 1000:udp,1030:udp
    command = true
[fin]
    sequence = 3000,3100,3200
    tcpflags = fin,!ack
    command = true
";
    let daemon = Daemon::portknockd(&lab.server, doors);
    let scans = [
        "-r -p 1-65535",
        "-r -p 7000-9000",
        "-r -p 7090-7130",
        "-p 1-65535",
        "-p 1-65535 -T5",
        "-p 1-65535",
        "-sT -r -p 1-65535",
        "-r -p 1-65535 -g 53",
        // In a fixed order, because a random one opens the door with the stock sequence once in a
        // hundred times.
        "-r",
        "-r -sU --max-retries 0 --min-rate 2000 -p 900-1100",
        "-r -sF -p 1-10000",
        "-r -sN -p 1-10000",
        "-r -sX -p 1-10000",
        "-r -sS --scanflags SYNACK -p 1-10000",
        "-r -sS --scanflags SYNACK -p 32768-65535",
        "-r -sA -p 1-10000",
        "-r -sM -p 1-10000",
        "-sA -p 1-65535 -T5",
    ];
    for scan in scans {
        lab.client.ok(&format!("nmap -n -Pn {scan} 10.0.0.1 > /dev/null"));
        assert_eq!(daemon.count("OPEN SESAME"), 0, "nmap {scan}:\n{}", daemon.log());
    }
    assert!(daemon.count("attempt failed: scan") > 0, "{}", daemon.log());
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    daemon.wait_for("10.0.0.2: stock: OPEN SESAME");
}

/// Three rising and three falling sweeps over all ports, faster than nmap's.
#[test]
fn sweeps_with_any_flags_open_no_order_of_three_ports() {
    let rising: Vec<String> = (1..=u16::MAX).map(|port| port.to_string()).collect();
    let falling: Vec<String> = rising.iter().rev().cloned().collect();
    for (mask, flags) in [("tcpflags = syn", "SA"), ("tcpflags = syn,!ack", "S"), ("", "A"), ("tcpflags = fin", "FA")] {
        let lab = Lab::pair();
        lab.ignore_at_the_server();
        let mut config = String::new();
        for (a, b, c) in [(33, 40, 50), (33, 50, 40), (40, 33, 50), (40, 50, 33), (50, 33, 40), (50, 40, 33)] {
            writeln!(config, "[door{a}-{b}]\nsequence = {a}000,{b}000,{c}000\n{mask}\ncommand = true")
                .expect("a string grows");
        }
        let daemon = Daemon::portknockd(&lab.server, &config);
        for ports in [&rising, &rising, &rising, &falling, &falling, &falling] {
            for ports in ports.chunks(16_384) {
                lab.pktgen(&format!("--rate 100000 --flags {flags} --ports {}", ports.join(",")));
            }
        }
        daemon.signal("USR1");
        daemon.wait_for("attempts ");
        assert_eq!(daemon.count("OPEN SESAME"), 0, "{mask} {flags}:\n{}", daemon.log());
        assert_eq!(daemon.count("attempt failed: scan") > 0, flags != "SA", "{mask} {flags}:\n{}", daemon.log());
        // The correct segments one after the other do open a door.
        let right = if flags == "SA" { "S" } else { flags };
        lab.pktgen(&format!("--from 10.0.0.7 --flags {right} --ports 33000,40000,50000"));
        daemon.wait_for("10.0.0.7: door33-40: OPEN SESAME");
    }
}

#[test]
fn a_thousand_doors_open_each_by_its_own_sequence() {
    let lab = Lab::pair();
    let mut config = String::new();
    for i in 0..1000 {
        let ports = sequence_of(i);
        writeln!(config, "[door{i}]\nsequence = {},{},{}\ncommand = true", ports[0], ports[1], ports[2])
            .expect("a string grows");
    }
    let daemon = Daemon::portknockd(&lab.server, &config);
    for i in [0, 1, 499, 998, 999] {
        let [a, b, c] = sequence_of(i);
        lab.client.ok(&format!("knock 10.0.0.1 {a} {b} {c}"));
        daemon.wait_for(&format!("10.0.0.2: door{i}: OPEN SESAME"));
    }
    assert_eq!(daemon.count("OPEN SESAME"), 5, "{}", daemon.log());
}

/// Three ports for a door, all different from those of the 999 others and spread over the whole
/// range.
fn sequence_of(door: u32) -> [u32; 3] {
    [0, 1, 2].map(|step| 1 + (door * 3 + step) * 27_449 % 65_521)
}

#[test]
fn five_thousand_simultaneous_clients_all_get_in() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let burst = "--from 172.16.0.0 --sources 5000 --ports 7000,8000,9000";
    let sent = Output::of(&mut pktgen(&lab, burst));
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    daemon.wait_for_count("OPEN SESAME", 5_000, Duration::from_secs(60));
}

/// The door whose sequence is public, another one, and the time each needs to open.
fn leaked(opens: &str, closes: &str) -> String {
    let door = |name: &str, port: u16, seconds: u32| {
        let opens = opens.replace("%NAME%", name);
        let closes = closes.replace("%NAME%", name);
        format!("[{name}]\nsequence = {port}:udp\nseq_timeout = 10\n{opens}\n{closes}\ncmd_timeout = {seconds}\n")
    };
    format!("[options]\nMaxOpenings = 1000\n{}{}", door("leaked", 7000, 600), door("other", 8000, 2))
}

fn memory(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_leaked_sequence_of_one_door_delays_no_other_door() {
    let commands =
        ("start_command = echo open %NAME% %IP% >> %DIR%/done", "stop_command = echo close %NAME% %IP% >> %DIR%/done");
    for (opens, closes) in [commands, ("open = tcp/22", "")] {
        for in_burst in [true, false] {
            holds_up_no_other_door(opens, closes, in_burst);
        }
    }
}

/// `in_burst`: the honest knock arrives while the daemon opens for the burst that each door has,
/// not later.
fn holds_up_no_other_door(opens: &str, closes: &str, in_burst: bool) {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let daemon = Daemon::portknockd(&lab.server, &leaked(opens, closes));
    let is_open = || {
        if closes.is_empty() {
            return lab.client.tcp_state("10.0.0.1", 22) == PortState::Open;
        }
        let done = daemon.read("done");
        done.matches("open other 10.0.0.2\n").count() > done.matches("close other 10.0.0.2\n").count()
    };
    let before = memory(&daemon);
    let logged = daemon.log().len();
    let flood = "--udp --from 172.16.0.0 --sources 200000 --ports 7000 --rate 100000";
    let mut flood = pktgen(&lab, flood).spawn().expect("pktgen starts");
    if in_burst {
        daemon.wait_for("leaked: OPEN SESAME");
    } else {
        daemon.wait_for("leaked: not logged one by one in the last second");
    }
    let start = Instant::now();
    let knock = Output::of(&mut pktgen(&lab, "--udp --from 10.0.0.2 --ports 8000"));
    assert_eq!(knock.code, Some(0), "{}", knock.stderr);
    assert!(wait_until(Duration::from_secs(10), is_open), "{}", daemon.log());
    let opened = start.elapsed();
    assert!(wait_until(Duration::from_secs(10), || !is_open()), "{}", daemon.log());
    let closed = start.elapsed();
    flood.wait().expect("pktgen can be waited for");
    let (grown, logged) = (memory(&daemon).saturating_sub(before), daemon.log().len() - logged);
    let figures = format!("{opens}: {opened:?}, {closed:?}, {grown} KiB of memory, {logged} bytes logged");
    println!("{figures}");
    // The programs are built without optimisation here, and the burst takes them three times as
    // long.
    let limit = if in_burst { 1_000 } else { 300 };
    assert!(opened < Duration::from_millis(limit), "opened late: {figures}");
    assert!(closed < Duration::from_millis(2500), "closed late: {figures}");
    assert!(grown < 64 * 1024 && logged < 1 << 20, "{figures}");
    assert_eq!(daemon.count("leaked: closed early"), 0);
    assert!(daemon.status("openings") <= 1001);
}
