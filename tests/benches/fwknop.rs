//! Doors with `packet = fwknop`, compared with fwknopd. The bench measures the time from a packet until
//! the port is open, the CPU time of an opening, and honest packets in floods of bogus ones. It also
//! measures the cost of a bogus packet by the number of keys.
//!
//! Run by `make bench`, which prints the figures as tables and writes them to
//! `target/bench/fwknop-latency.json`, `fwknop-flood.json` and `fwknop-count.json`. A bogus packet has
//! the length and the characters of a packet, and no valid HMAC.
//!
//! - `CPU ms`: CPU time of the daemon, its reader and its commands for each opening.
//! - `ns`, `ns a key`: CPU time of reader and daemon per packet of the flood, and the part of it that
//!   grows with the number of keys.
#![allow(clippy::cast_precision_loss, reason = "figures are shown with two digits")]

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portknock_core::fwknop::{FwknopKey, HmacDigest, seal_with};
use portknock_tests::{Daemon, Lab, Output, Process, Table, binary, cost, percentile, require};
use tempfile::TempDir;

const PORT: u16 = 7777;
const PACKET_PORT: u16 = 62_201;
const HONEST: u8 = 10;
const TRIES: u8 = 100;
/// Seconds of each flood.
const FLOOD_SECONDS: u32 = 14;
/// Seconds after which an honest packet counts as lost.
const LIMIT: Duration = Duration::from_secs(2);
/// Length of a packet with an HMAC of SHA-256.
const LENGTH: &str = "204";

fn main() {
    // This program again, on the lab's hosts.
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("listener") => return listen(),
        Some("client") => {
            let count = arguments[2].parse().expect("a number");
            let pause = Duration::from_millis(arguments[3].parse().expect("a number"));
            return (1..=count).filter_map(|host| time_opening(host, pause)).for_each(|time| println!("{time}"));
        }
        _ => {}
    }
    for tool in ["fwknopd", "iptables"] {
        require(tool);
    }
    latency();
    floods();
    counts();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Portknockd,
    Fwknopd,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Portknockd => "portknockd",
            Self::Fwknopd => "fwknopd",
        }
    }
}

/// The server's program. It is killed when this is dropped.
enum Server {
    Portknockd(Daemon),
    Fwknopd(Child),
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Fwknopd(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A lab with a server that opens a port, with this number of keys, of which the client has the last.
struct Setup {
    lab: Lab,
    server: Server,
    _directory: TempDir,
    _listener: Process,
}

impl Setup {
    fn new(program: Program, keys: u8) -> Self {
        let lab = Lab::pair();
        for host in 1..=TRIES {
            lab.client.ok(&format!("ip addr add {}/24 dev eth0", source(host)));
        }
        let directory = TempDir::new().expect("a temporary directory");
        let keys: Vec<FwknopKey> = (0..keys).rev().map(key).collect();
        let server = match program {
            Program::Portknockd => Server::Portknockd(portknockd(&lab, &directory, &keys)),
            Program::Fwknopd => Server::Fwknopd(fwknopd(&lab, &directory, &keys)),
        };
        let this = env::current_exe().expect("its own path");
        let listener = Process::spawn(lab.server.command(&this).arg("listener"));
        listener.wait_for("listening");
        sleep(Duration::from_secs(4));
        Self { lab, server, _directory: directory, _listener: listener }
    }

    /// Milliseconds until the port is open, for each of `count` honest packets that open it.
    fn honest(&self, count: u8, pause: Duration) -> Vec<f64> {
        let this = env::current_exe().expect("its own path");
        let mut command = self.lab.client.command(&this);
        let command = command.args(["client", &count.to_string(), &pause.as_millis().to_string()]);
        let output = Output::of(command);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.stdout.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn id(&self) -> u32 {
        match &self.server {
            Server::Portknockd(daemon) => daemon.id(),
            Server::Fwknopd(child) => child.id(),
        }
    }

    /// CPU time of the server's processes.
    fn spent(&self) -> Duration {
        let id = self.id();
        match &self.server {
            Server::Portknockd(_) => cost::cpu(id) + cost::cpu(cost::reader(id).expect("a reader")),
            Server::Fwknopd(_) => cost::cpu(id) + cost::cpu_of_children(id),
        }
    }

    fn flood(&self, rate: u32) -> Child {
        let mut command = self.lab.client.command(binary("pktgen"));
        command.args(["--interface", "eth0", "--from", "172.16.0.0", "--sources", "1000000", "--udp", "--base64"]);
        command.args(["--ports", "62201", "--payload", LENGTH]);
        command.args(["--count", &(rate * FLOOD_SECONDS).to_string(), "--rate", &rate.to_string()]);
        command.stdout(Stdio::null()).spawn().expect("pktgen can be started")
    }
}

fn portknockd(lab: &Lab, directory: &TempDir, keys: &[FwknopKey]) -> Daemon {
    let path = directory.path().join("keys");
    let lines: String = keys.iter().map(|key| key.server_lines().to_string()).collect();
    fs::write(&path, lines).expect("a test directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its own file");
    // A short skew, because after its first start the daemon refuses packets for that time.
    let config = format!(
        "[options]\nClockSkew = 2\n[a]\nkeys = {}\npacket = fwknop\nopen = tcp/{PORT}\ncmd_timeout = 600\n",
        path.display()
    );
    Daemon::portknockd(&lab.server, &config)
}

/// fwknopd with the rules of iptables that it needs, so that it opens the port by itself.
fn fwknopd(lab: &Lab, directory: &TempDir, keys: &[FwknopKey]) -> Child {
    let dir = directory.path().display();
    let stanza = |key: &FwknopKey| {
        let (encryption, hmac) = (key.key_base64(), key.hmac_key_base64());
        format!(
            "SOURCE ANY\nOPEN_PORTS tcp/{PORT}\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\nFW_ACCESS_TIMEOUT 600\n",
            *encryption, *hmac
        )
    };
    let access: String = keys.iter().map(stanza).collect();
    for (name, text) in [("access", access.as_str()), ("conf", "PCAP_INTF eth0;\nENABLE_PCAP_PROMISC N;\n")] {
        fs::write(directory.path().join(name), text).expect("a test directory");
    }
    lab.server.ok(&format!("iptables -A INPUT -p tcp --dport {PORT} -j REJECT --reject-with tcp-reset"));
    let mut command = lab.server.command("fwknopd");
    command.args("-f -i eth0".split(' ')).args(["-c", &format!("{dir}/conf"), "-a", &format!("{dir}/access")]);
    command.args(["-r", &dir.to_string(), "-p", &format!("{dir}/pid"), "-d", &format!("{dir}/digests")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("fwknopd can be started")
}

fn latency() {
    let mut table = Table::new("fwknop-latency", &["in of 100", "median ms", "p99 ms", "CPU ms"]);
    for program in [Program::Portknockd, Program::Fwknopd] {
        let setup = Setup::new(program, 1);
        let begin = setup.spent();
        let times = setup.honest(TRIES, Duration::from_millis(200));
        sleep(Duration::from_secs(1));
        let each = (setup.spent().saturating_sub(begin)).as_secs_f64() * 1e3 / f64::from(TRIES);
        let figures = [Some(times.len() as f64), percentile(&times, 50), percentile(&times, 99), Some(each)];
        table.row("packet to open port", program.name(), &figures);
    }
    table.save();
}

fn floods() {
    let mut table = Table::new("fwknop-flood", &["in of 10", "median ms", "worst ms", "CPU %"]);
    for rate in [2_000, 20_000, 100_000] {
        for program in [Program::Portknockd, Program::Fwknopd] {
            let setup = Setup::new(program, 1);
            let begin = (Instant::now(), setup.spent());
            let mut flood = setup.flood(rate);
            sleep(Duration::from_secs(1));
            let times = setup.honest(HONEST, Duration::from_secs(1));
            let took = begin.0.elapsed().as_secs_f64();
            let percent = setup.spent().saturating_sub(begin.1).as_secs_f64() * 100.0 / took;
            let figures = [Some(times.len() as f64), percentile(&times, 50), percentile(&times, 100), Some(percent)];
            table.row(&format!("bogus packets, {rate}/s"), program.name(), &figures);
            flood.kill().expect("the child process");
            flood.wait().expect("the child process");
        }
    }
    table.save();
}

fn counts() {
    let mut table = Table::new("fwknop-count", &["ns", "ns a key"]);
    let mut least = 0.0;
    for keys in [1, 10] {
        let setup = Setup::new(Program::Portknockd, keys);
        let begin = setup.spent();
        let rate = 10_000;
        setup.flood(rate).wait().expect("the child process");
        cost::wait_for_the_end(setup.id(), Duration::from_millis(500));
        let total = setup.spent().saturating_sub(begin);
        let each = total.as_secs_f64() * 1e9 / f64::from(rate * FLOOD_SECONDS);
        if keys == 1 {
            least = each;
        }
        let of_key = (keys > 1).then(|| (each - least) / f64::from(keys - 1));
        table.row(&format!("bogus packets, {keys} keys"), "portknockd", &[Some(each), of_key]);
    }
    table.save();
}

fn key(number: u8) -> FwknopKey {
    let name = format!("client{number}");
    FwknopKey::new(&name, None, &[number + 1; 32], HmacDigest::Sha256, &[number + 1; 64]).expect("valid keys")
}

fn source(host: u8) -> IpAddr {
    [10, 0, 0, 10 + host].into()
}

/// Milliseconds from a packet until a connection is accepted; `None` if none is in time. The kernel
/// alone answers, so that no program on the server counts.
fn time_opening(host: u8, pause: Duration) -> Option<f64> {
    sleep(pause);
    let socket = UdpSocket::bind((source(host), 0)).expect("an address of this host");
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let message = data_encoding::BASE64_NOPAD.encode(format!("{},tcp/{PORT}", source(host)).as_bytes());
    let encoded = format!("{:016}:YWxpY2U:{seconds}:3.0.0:1:{message}", fastrand::u64(..10_000_000_000_000_000));
    let packet = seal_with(&key(0), &encoded, fastrand::u64(..).to_be_bytes());
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
    while begin.elapsed() < LIMIT {
        if is_open() {
            return Some(begin.elapsed().as_secs_f64() * 1e3);
        }
        yield_now();
    }
    None
}

/// Listens on the opened port.
fn listen() {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).expect("a free port");
    println!("listening");
    listener.incoming().for_each(drop);
}
