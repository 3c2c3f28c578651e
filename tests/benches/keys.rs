//! Doors that authenticated packets open: honest packets in floods of bogus ones, the cost of a bogus
//! packet and the memory by the number of keys, and the time until the port is open.
//!
//! Run by `make bench`, which prints the figures as tables and writes them to
//! `target/bench/keys-flood.json`, `keys-count.json` and `keys-latency.json`. A bogus packet has the
//! length and the port of a packet, and random bytes. First knocks of an ordinary door at the same
//! rate are the comparison.
//!
//! - `reader %`, `daemon %`: use of a processor during the flood.
//! - `ns`: CPU time of reader and daemon per packet of the flood.
//! - `KiB a key`: growth of the memory of reader and daemon, divided by the number of keys.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::env;
use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portknock_core::Timestamp;
use portknock_core::keys::Key;
use portknock_core::spa::{PacketContent, seal};
use portknock_tests::{Daemon, Lab, Output, Process, Table, binary, cost, percentile};
use tempfile::TempDir;

const PORT: u16 = 7777;
const PACKET_PORT: u16 = 62_201;
const HONEST: u8 = 10;
const TRIES: u8 = 100;
/// Seconds of each flood.
const FLOOD_SECONDS: u32 = 12;

fn main() {
    // This program again, on the lab's hosts.
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("listener") => return listen(),
        Some("client") => {
            let count = arguments[2].parse().expect("a number");
            let pause = Duration::from_millis(arguments[3].parse().expect("a number"));
            return (1..=count).for_each(|host| println!("{}", time_opening(host, pause)));
        }
        _ => {}
    }
    floods();
    counts();
    latency();
}

/// A lab with a daemon whose door has this number of keys, of which the client has the first.
struct Setup {
    lab: Lab,
    daemon: Daemon,
    _keys: TempDir,
    _listener: Process,
}

impl Setup {
    fn new(keys: u32) -> Self {
        let lab = Lab::pair();
        for host in 1..=TRIES {
            lab.client.ok(&format!("ip addr add {}/24 dev eth0", source(host)));
        }
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("keys");
        let mut text = String::new();
        for number in 0..keys {
            writeln!(text, "client{number} {}", *key(number).to_text()).expect("a string grows");
        }
        fs::write(&path, text).expect("a test directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its own file");
        // A short skew, because after its first start the daemon refuses packets for that time.
        let config = format!(
            "[options]\nClockSkew = 1\n[a]\nkeys = {}\npacket = portknock\nopen = tcp/{PORT}\ncmd_timeout = 600\n\
             [first]\nsequence = 5000:udp,6000\n",
            path.display()
        );
        let daemon = Daemon::portknockd(&lab.server, &config);
        let this = env::current_exe().expect("its own path");
        let listener = Process::spawn(lab.server.command(&this).arg("listener"));
        listener.wait_for("listening");
        sleep(Duration::from_secs(3));
        Self { lab, daemon, _keys: directory, _listener: listener }
    }

    /// Milliseconds until the port is open, for each of `count` honest packets.
    fn honest(&self, count: u8, pause: Duration) -> Vec<f64> {
        let this = env::current_exe().expect("its own path");
        let mut command = self.lab.client.command(&this);
        let command = command.args(["client", &count.to_string(), &pause.as_millis().to_string()]);
        let output = Output::of(command);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// CPU time of the reader and of the daemon alone.
    fn spent(&self) -> [Duration; 2] {
        let reader = cost::reader(self.daemon.id()).expect("a reader");
        let read = cost::cpu(reader);
        [read, cost::cpu(self.daemon.id()).saturating_sub(read)]
    }

    fn flood(&self, what: &str, rate: u32) -> Child {
        let mut command = self.lab.client.command(binary("pktgen"));
        command.args(["--interface", "eth0", "--from", "172.16.0.0", "--sources", "1000000"]);
        command.args(["--count", &(rate * FLOOD_SECONDS).to_string(), "--rate", &rate.to_string(), "--udp"]);
        command.args(what.split(' ')).stdout(Stdio::null()).spawn().expect("pktgen can be started")
    }
}

const BOGUS: &str = "--ports 62201 --payload 96";
const FIRST_KNOCKS: &str = "--ports 5000 --payload 96";

fn floods() {
    let mut table = Table::new("keys-flood", &["in of 10", "median ms", "worst ms", "reader %", "daemon %"]);
    for (what, flood) in [
        ("no flood", None),
        ("bogus packets, 20,000/s", Some((BOGUS, 20_000))),
        ("first knocks, 20,000/s", Some((FIRST_KNOCKS, 20_000))),
        ("bogus packets, 100,000/s", Some((BOGUS, 100_000))),
        ("first knocks, 100,000/s", Some((FIRST_KNOCKS, 100_000))),
    ] {
        let setup = Setup::new(1);
        let begin = (Instant::now(), setup.spent());
        let flood = flood.map(|(flood, rate)| setup.flood(flood, rate));
        sleep(Duration::from_secs(1));
        let times = setup.honest(HONEST, Duration::from_secs(1));
        let took = begin.0.elapsed().as_secs_f64();
        let [reader, daemon] = setup.spent();
        let percent = |now: Duration, before: Duration| Some((now - before).as_secs_f64() * 100.0 / took);
        let opened = setup.daemon.count("a: OPEN SESAME");
        let (reader, daemon) = (percent(reader, begin.1[0]), percent(daemon, begin.1[1]));
        let figures = [Some(opened as f64), percentile(&times, 50), percentile(&times, 100), reader, daemon];
        table.row(what, "portknockd", &figures);
        end(flood);
    }
    table.save();
}

fn counts() {
    let mut table = Table::new("keys-count", &["ns", "KiB a key"]);
    let mut least = 0.0;
    for keys in [1, 100, 10_000] {
        let setup = Setup::new(keys);
        let memory = cost::resident_mib(setup.daemon.id());
        if keys == 1 {
            least = memory;
        }
        let begin = setup.spent();
        let rate = 20_000;
        setup.flood(BOGUS, rate).wait().expect("the child process");
        cost::wait_for_the_end(setup.daemon.id(), Duration::from_millis(500));
        let spent = setup.spent();
        let total = (spent[0] + spent[1]).saturating_sub(begin[0] + begin[1]);
        let each = total.as_secs_f64() * 1e9 / f64::from(rate * FLOOD_SECONDS);
        let of_key = (keys > 1).then(|| (memory - least) * 1024.0 / f64::from(keys));
        table.row(&format!("bogus packets, {keys} keys"), "portknockd", &[Some(each), of_key]);
    }
    table.save();
}

fn latency() {
    let mut table = Table::new("keys-latency", &["median ms", "p99 ms"]);
    let setup = Setup::new(1);
    let times = setup.honest(TRIES, Duration::from_millis(150));
    assert_eq!((times.len(), setup.daemon.count("a: OPEN SESAME")), (TRIES.into(), TRIES.into()));
    table.row("packet to open port", "portknockd", &[percentile(&times, 50), percentile(&times, 99)]);
    table.save();
}

fn end(flood: Option<Child>) {
    if let Some(mut flood) = flood {
        flood.kill().expect("the child process");
        flood.wait().expect("the child process");
    }
}

fn key(number: u32) -> Key {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Key::from_bytes(bytes)
}

fn source(host: u8) -> IpAddr {
    [10, 0, 0, 10 + host].into()
}

/// Milliseconds from a packet until a connection is accepted. The kernel alone answers, so that no
/// program on the server counts.
fn time_opening(host: u8, pause: Duration) -> f64 {
    sleep(pause);
    let socket = UdpSocket::bind((source(host), 0)).expect("an address of this host");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let time = Timestamp::default().saturating_add(now);
    let content = PacketContent { time, address: Some(source(host)), seconds: 0, door: "a".into() };
    let packet = seal(&key(0), &content).expect("random numbers");
    let route = format!("route replace 10.0.0.0/24 dev eth0 src {}", source(host));
    let status = std::process::Command::new("ip").args(route.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()));
    let server = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let is_open = || match TcpStream::connect_timeout(&server(PORT), Duration::from_millis(200)) {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::TimedOut) => false,
        result => result.map(|_| true).expect("it is open or closed"),
    };
    socket.send_to(&packet, server(PACKET_PORT)).expect("it can be sent");
    let begin = Instant::now();
    while !is_open() && begin.elapsed() < Duration::from_secs(2) {
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
