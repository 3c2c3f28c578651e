//! Cost of an opening by the kernel's firewall (`open = tcp/22`), compared with commands that have
//! the same effect; the time until the port is open; and the losses among sixty thousand openings.
//!
//! Run by `make bench`, which prints the figures as tables and writes them to
//! `target/bench/gate.json` and `target/bench/gate-latency.json`. CPU times are microseconds per
//! opening: the daemon's own, those of its children, and both. `elements` are rows without a
//! daemon: only changes to a set, one at a time or a thousand in a batch. `no command` is a door
//! that opens nothing, which separates the daemon's part from the gate's.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use portknock_core::config::parse;
use portknock_core::gate::{Element, Gate};
use portknock_tests::{Daemon, Lab, Output, Process, Table, cost, percentile, ratio};

const DOOR: &str = "
[measured]
    sequence    = 7000,8000,9000
    seq_timeout = 60
    tcpflags    = syn
    cmd_timeout = 3600
";
const IPTABLES: &str = "iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
const NFT: &str = "nft add element inet filter knocked '{ %IP% }'";
const BURST_OPENINGS: u32 = 60_000;
/// Duration without any activity that counts as the end.
const IDLE_TIMEOUT: Duration = Duration::from_millis(500);

const TRIES: u8 = 200;
const PORT: u16 = 7777;

fn main() {
    // This program again, on the lab's hosts.
    match env::args().nth(1).as_deref() {
        Some("listener") => return listen(),
        Some("client") => return (1..=TRIES).for_each(|host| println!("{}", time_opening(host))),
        _ => {}
    }
    let mut table = Table::new("gate", &["opened", "lost", "daemon µs", "children µs", "both µs", "/ gate"]);
    elements(&mut table);
    // The door opens for each source of a burst.
    let plain = format!("[options]\nMaxOpenings = {BURST_OPENINGS}\n{DOOR}");
    let gate = format!("{plain}open = tcp/22\n");
    let mut ours = None;
    let burst = (BURST_OPENINGS, 30_000);
    for (what, door, rules, (sequences, rate)) in [
        ("open = tcp/22, 200/s", gate.clone(), 0, (500, 600)),
        ("no command, 200/s", plain.clone(), 0, (500, 600)),
        ("open = tcp/22, 10,000/s", gate.clone(), 0, burst),
        ("no command, 10,000/s", plain, 0, burst),
        ("sh -c iptables, no rules", format!("{DOOR}command = {IPTABLES}\n"), 0, (200, 60)),
        ("sh -c iptables, 1,000 rules", format!("{DOOR}command = {IPTABLES}\n"), 1_000, (200, 60)),
        ("sh -c iptables, 10,000 rules", format!("{DOOR}command = {IPTABLES}\n"), 10_000, (200, 60)),
        ("sh -c nft", format!("{DOOR}command = {NFT}\n"), 0, (200, 60)),
    ] {
        measure(&mut table, what, &door, rules, sequences, rate, &mut ours);
    }
    table.save();
    latency();
}

fn measure(table: &mut Table, what: &str, door: &str, rules: usize, sequences: u32, rate: u32, ours: &mut Option<f64>) {
    let lab = Lab::pair();
    lab.ignore_at_the_server();
    lab.server.ok("nft 'table inet filter { set knocked { type ipv4_addr; }; }'");
    if rules > 0 {
        let rules = "-A INPUT -s 198.51.100.1 -p tcp --dport 22 -j ACCEPT\n".repeat(rules);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("*filter\n{rules}COMMIT\n")).expect("it can be written");
        lab.server.ok(&format!("iptables-restore -n {}", file.path().display()));
    }
    let daemon = Daemon::portknockd(&lab.server, door);
    let spent = || [cost::cpu(daemon.id()), cost::cpu_of_children(daemon.id())].map(|time| time.as_secs_f64());
    let before = spent();
    lab.pktgen(&format!("--from 172.16.0.0 --sources {sequences} --ports 7000,8000,9000 --rate {rate}"));
    cost::wait_for_the_end(daemon.id(), IDLE_TIMEOUT);
    let after = spent();
    let seen = daemon.count("measured: OPEN SESAME");
    let opened = if door.contains("open =") { open_ports(&lab) } else { seen };
    assert!(opened <= seen, "{opened} of {seen}");
    let each = |i: usize| (after[i] - before[i]) * 1e6 / opened as f64;
    let both = each(0) + each(1);
    let ours = *ours.get_or_insert(both);
    let lost = f64::from(sequences) - opened as f64;
    let figures =
        [Some(opened as f64), Some(lost), Some(each(0)), Some(each(1)), Some(both), ratio(Some(both), Some(ours))];
    table.row(what, "portknockd", &figures);
}

/// Number of elements in the set.
fn open_ports(lab: &Lab) -> usize {
    let set = lab.server.ok("nft -n list set inet portknock open4");
    set.matches(" . 6 . 22 ").count()
}

/// Only changes to a set.
fn elements(table: &mut Table) {
    let config = parse(format!("{DOOR}open = tcp/22\n").as_bytes()).config.expect("a good door");
    let port = config.doors[0].open[0];
    let mut gate = Gate::find(&config).expect("nftables").expect("a gate");
    gate.make().expect("the table can be made");
    let mut next = 0x0a00_0000;
    for (what, together) in [("one", 1), ("a thousand", 1000)] {
        let begin = spent_here();
        for _ in 0..20_000 / together {
            let ips = (next..next + together).map(|ip| IpAddr::from(Ipv4Addr::from_bits(ip)));
            let elements: Vec<_> =
                ips.map(|ip| (Element { net: ip.into(), port }, Duration::from_secs(3600))).collect();
            assert_eq!(gate.add(&elements), []);
            next += together;
        }
        let each = (spent_here() - begin).as_secs_f64() * 1e6 / 20_000.0;
        table.row(what, "elements", &[Some(20_000.0), Some(0.0), Some(each), Some(0.0), Some(each), None]);
    }
}

/// CPU time of this process, up to date.
fn spent_here() -> Duration {
    sleep(Duration::from_millis(1));
    cost::cpu(process::id())
}

/// Time from the last knock until the port is open.
fn latency() {
    let mut table = Table::new("gate-latency", &["median ms", "p99 ms"]);
    let lab = Lab::pair();
    for host in 1..=TRIES {
        lab.client.ok(&format!("ip addr add {}/24 dev eth0", source(host)));
    }
    let door = "[a]\nsequence = 7000:udp,8000:udp,9000:udp\ncmd_timeout = 600\nopen = tcp/7777\n";
    let daemon = Daemon::portknockd(&lab.server, door);
    let this = env::current_exe().expect("its own path");
    let listener = Process::spawn(lab.server.command(&this).arg("listener"));
    listener.wait_for("listening");
    let client = Process::spawn(lab.client.command(&this).arg("client"));
    let (status, output) = client.finish();
    assert!(status.success(), "{output}");
    let times: Vec<f64> = output.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!((times.len(), daemon.count("OPEN SESAME")), (TRIES.into(), TRIES.into()), "{output}");
    table.row("last knock to open port", "portknockd", &[percentile(&times, 50), percentile(&times, 99)]);
    table.save();
}

fn source(host: u8) -> IpAddr {
    [10, 0, 0, 10 + host].into()
}

/// Milliseconds from the last knock until a connection is accepted. The kernel alone answers, so
/// that no program on the server counts.
fn time_opening(host: u8) -> f64 {
    let route = format!("route replace 10.0.0.0/24 dev eth0 src {}", source(host));
    let output = Output::of(process::Command::new("ip").args(route.split(' ')));
    assert_eq!(output.code, Some(0), "{output:?}");
    // A link on which knocks follow each other closely is not idle.
    sleep(Duration::from_micros(fastrand::u64(10_000..30_000)));
    let socket = UdpSocket::bind((source(host), 0)).expect("an address of this host");
    let server = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let is_open = || match TcpStream::connect(server(PORT)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => false,
        result => result.map(|_| true).expect("it is open or closed"),
    };
    assert!(!is_open(), "no knock has been sent");
    for port in [7000, 8000, 9000] {
        socket.send_to(b"x", server(port)).expect("it can be sent");
    }
    let begin = Instant::now();
    while !is_open() {
        // Two programs may have to run on this processor before.
        yield_now();
    }
    begin.elapsed().as_secs_f64() * 1e3
}

/// Listens on the opened port.
fn listen() {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("a free port");
    println!("listening");
    listener.incoming().for_each(drop);
}
