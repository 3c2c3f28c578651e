//! Doors that only clients with keys open: time sequences and packets, from the client's file to the
//! open door, and everything that must not open them.

mod clocks;
mod codes;
mod newcomer;
mod opening;
mod packets;
mod reference;
mod replays;
mod secrets;
mod turns;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use portknock_core::client_file::{ClientFile, ClientForm};
use portknock_core::config::DEFAULT_PACKET_PORT;
use portknock_core::keys::Key;
use portknock_core::spa::{PACKET_LENGTH, PacketContent, seal};
use portknock_core::{TimeSequence, Timestamp};
use portknock_tests::{Daemon, Host, Lab, Output, Process, binary, require, wait_until};
use tempfile::TempDir;

/// The shortest permitted window, so that tests can wait for its end.
const WINDOW: Duration = Duration::from_secs(10);
/// A door for the clients of the key file. A line in `opened` has the client and its address for each
/// time that the door opens.
const OPENED: &str = "start_command = echo $PORTKNOCK_KEY %IP% >> %DIR%/opened\n";

/// A state file with nothing in it, as a daemon leaves it that stops in order.
const EMPTY_STATE: &str = "portknock openings 2\n00fc33b1 end\n";

/// A client and a server that share keys.
struct Keyed {
    lab: Lab,
    directory: TempDir,
}

impl Keyed {
    /// A lab with these keys, each of a client with this name, in a file for the server and in a file
    /// for each client.
    fn new(clients: &[ClientFile]) -> Self {
        let keyed = Self { lab: Lab::pair(), directory: TempDir::new().expect("a temporary directory") };
        let lines: String = clients.iter().map(|client| client.server_line().to_string()).collect();
        keyed.write("keys", &lines);
        for client in clients {
            client.create(&keyed.path(&client.name)).unwrap_or_else(|error| panic!("{error}"));
        }
        keyed
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the directory can be written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("the file is there");
    }

    /// A path of a file; a client's file has the client's name.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration in which `%KEYS%` stands for the key file of the server.
    fn config(&self, text: &str) -> String {
        text.replace("%KEYS%", &self.path("keys").display().to_string())
    }

    fn start(&self, config: &str) -> Daemon {
        Daemon::portknockd(&self.lab.server, &self.config(config))
    }

    /// The same, with the state file of a daemon that has stopped in order and has accepted no knock. The
    /// record of accepted knocks is therefore complete, so that the daemon accepts knocks immediately.
    fn start_again(&self, config: &str) -> Daemon {
        self.start_again_with(config, &[])
    }

    /// The same with these arguments.
    fn start_again_with(&self, config: &str, args: &[&str]) -> Daemon {
        let (config, args) = (self.config(config), [&["-i", "eth0"], args].concat());
        let (daemon, has_started) =
            Daemon::attempt(&self.lab.server, &config, &args, &[("openings", EMPTY_STATE)], false);
        assert!(has_started && daemon.count("the record of accepted knocks") == 0, "{}", daemon.log());
        daemon
    }

    fn restart(&self, daemon: &mut Daemon) {
        daemon.restart(&self.lab.server, &["-i", "eth0"]);
    }

    /// `portknock knock --key` for this client, with these arguments.
    fn knock(&self, client: &str, args: &str) -> Output {
        let (knock, key) = (binary("portknock"), self.path(client));
        self.lab.client.run(&format!("{} knock --key {} {args}", knock.display(), key.display()))
    }

    /// The same, which must succeed.
    fn knocks(&self, client: &str, args: &str) {
        let output = self.knock(client, args);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{client} {args}");
    }
}

/// A client with a time sequence and a new key.
fn client(name: &str, time: TimeSequence) -> ClientFile {
    ClientFile {
        name: name.to_owned(),
        key: Key::generate().expect("the system has random numbers"),
        server: None,
        form: ClientForm::Time,
        door: None,
        port: DEFAULT_PACKET_PORT,
        time,
    }
}

/// A client that opens a door by a packet.
fn packet_client(name: &str, door: &str) -> ClientFile {
    ClientFile { form: ClientForm::Packet, door: Some(door.to_owned()), ..client(name, TimeSequence::default()) }
}

/// Time sequences with the shortest window.
fn fast() -> TimeSequence {
    TimeSequence { window: WINDOW, ..TimeSequence::default() }
}

/// The wall clock.
fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    Timestamp::from_nanos(u64::try_from(now.as_nanos()).expect("it is before 2500"))
}

/// The steps of a window, as the arguments of `knock`.
fn steps(client: &ClientFile, window: u64) -> String {
    client.time.sequence(&client.shared_key(), window).to_string().replace(',', " ")
}

/// A packet of a client with this time. With [`LATE`] the daemon accepts it soon after its first
/// start.
fn packet(client: &ClientFile, time: Timestamp) -> [u8; PACKET_LENGTH] {
    let door = client.door.clone().expect("the client sends packets");
    let content = PacketContent { time, address: None, seconds: 0, door };
    seal(&client.shared_key(), &content).expect("the packet can be made")
}

/// A packet that is almost as late as the default of `ClockSkew` permits.
fn late_packet(client: &ClientFile) -> [u8; PACKET_LENGTH] {
    packet(client, now().saturating_add(Duration::from_secs(58)))
}

/// Waits until [`late_packet`] makes packets that the daemon accepts after its first start.
fn wait_for_late_packets() {
    sleep(Duration::from_millis(2100));
}

/// A datagram: source, destination, port and content.
struct Datagram<'a> {
    from: &'a str,
    to: &'a str,
    port: u16,
    bytes: &'a [u8],
}

fn to_server<'a>(from: &'a str, bytes: &'a [u8]) -> Datagram<'a> {
    Datagram {
        from,
        to: if from.contains(':') { "fd00::1" } else { "10.0.0.1" },
        port: DEFAULT_PACKET_PORT.get(),
        bytes,
    }
}

/// Sends the datagrams one after another, the whole list `rounds` times.
fn send(host: &Host, datagrams: &[Datagram<'_>], rounds: usize) {
    require("python3");
    let program = "
import socket, sys
rounds, *words = sys.argv[1:]
packets = []
for source, destination, port, data in zip(*[iter(words)] * 4):
    sender = socket.socket(socket.AF_INET6 if ':' in source else socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, 0))
    packets.append((sender, bytes.fromhex(data), (destination, int(port))))
for _ in range(int(rounds)):
    for sender, data, destination in packets:
        sender.sendto(data, destination)
";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut command = host.command("python3");
    command.args(["-c", program, &rounds.to_string()]);
    for Datagram { from, to, port, bytes } in datagrams {
        command.args([*from, *to, &port.to_string(), &hex(bytes)]);
    }
    let output = Output::of(&mut command);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

/// The lines of `opened`, without the last one if it is being written.
fn opened(daemon: &Daemon) -> Vec<String> {
    daemon.read("opened").lines().map(str::to_owned).collect()
}

/// Waits until the door has opened this number of times, and asserts that this is all.
fn opens(daemon: &Daemon, count: usize) {
    let reached = wait_until(portknock_tests::WAIT_TIMEOUT, || opened(daemon).len() >= count);
    assert!(
        reached && opened(daemon).len() == count,
        "{count} openings expected\n{:?}\n{}",
        opened(daemon),
        daemon.log()
    );
}

/// The events of this kind that have all of these parts.
fn events(follower: &Process, parts: &[&str]) -> usize {
    follower.output().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// Waits for an event that has all of these parts.
fn wait_for_event(follower: &Process, parts: &[&str]) {
    let found = wait_until(portknock_tests::WAIT_TIMEOUT, || events(follower, parts) > 0);
    assert!(found, "no event has {parts:?}:\n{}", follower.output());
}
