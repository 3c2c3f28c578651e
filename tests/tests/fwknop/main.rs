//! Doors with `packet = fwknop`: fwknop's own client from its command line to the open door, and
//! everything that must not open it.
//!
//! With `PORTKNOCK_FWKNOP_ROUNDS=100` each form of the client's packets is sent a hundred times.

mod importing;
mod opening;
mod refusing;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use portknock_core::fwknop::{FwknopKey, HmacDigest};
use portknock_tests::{Daemon, Host, Lab, Output, Process, WAIT_TIMEOUT, require, wait_until};
use tempfile::TempDir;

/// A clock skew that is short, because after its first start the daemon refuses packets for that time.
const SKEW: &str = "[options]\n ClockSkew = 2\n";
/// A line in `opened` has the key and the address for each time that the door opens.
const OPENED: &str = "start_command = echo $PORTKNOCK_KEY %IP% >> %DIR%/opened\n";

/// A host with fwknop's client, a server, and the keys that they share.
struct Shared {
    lab: Lab,
    directory: TempDir,
    keys: Vec<FwknopKey>,
}

impl Shared {
    /// A lab with a pair of keys for each name, of which the server has a file.
    fn new(clients: &[(&str, Option<&str>, HmacDigest)]) -> Self {
        require("fwknop");
        let (lab, directory) = (Lab::pair(), TempDir::new().expect("a temporary directory"));
        let key = |(name, user, digest): &(&str, Option<&str>, HmacDigest)| {
            FwknopKey::generate(name, *user, *digest).expect("the system has random numbers")
        };
        let shared = Self { lab, directory, keys: clients.iter().map(key).collect() };
        let lines: String = shared.keys.iter().map(|key| key.server_lines().to_string()).collect();
        shared.write("keys", &lines);
        shared
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the directory can be written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("the file is there");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a daemon and waits until it accepts packets. `%KEYS%` stands for the key file.
    fn start(&self, config: &str) -> Daemon {
        let config = config.replace("%KEYS%", &self.path("keys").display().to_string());
        let daemon = Daemon::portknockd(&self.lab.server, &config);
        sleep(Duration::from_millis(3100));
        daemon
    }

    fn key(&self, name: &str) -> &FwknopKey {
        self.keys.iter().find(|key| &*key.name == name).expect("a key of this name")
    }

    /// Runs fwknop's client with the keys of this name and these arguments.
    fn fwknop(&self, name: &str, args: &str) -> Output {
        let key = self.key(name);
        let digest = key.mac_key().digest();
        let hmac = format!("--use-hmac --key-base64-hmac {} --hmac-digest-type {digest}", *key.hmac_key_base64());
        self.client(&format!("--no-rc-file --key-base64-rijndael {} {hmac} {args}", *key.key_base64()))
    }

    /// Runs fwknop's client with these arguments.
    fn client(&self, args: &str) -> Output {
        let home = self.directory.path().display();
        self.lab.client.run(&format!("HOME={home} LOGNAME=alice fwknop --no-save-args {args}"))
    }

    /// The same, which must succeed.
    fn sends(&self, name: &str, args: &str) {
        let output = self.fwknop(name, args);
        assert_eq!(output.code, Some(0), "{name} {args}: {output:?}");
    }

    /// Returns the packet that fwknop's client makes with these arguments, without sending it.
    fn packet(&self, name: &str, args: &str) -> Vec<u8> {
        let file = self.path("packet");
        // The client refuses to write over a file.
        let _ = fs::remove_file(&file);
        self.sends(name, &format!("-T -B {} {args}", file.display()));
        let packet = fs::read(&file).expect("the client has written it");
        packet.trim_ascii().to_vec()
    }
}

/// Sends a datagram from an address of the client to the server.
fn send(host: &Host, from: &str, payload: &[u8]) {
    require("python3");
    let program = "
import socket, sys
source, destination, data = sys.argv[1:]
sender = socket.socket(socket.AF_INET6 if ':' in source else socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((source, 0))
sender.sendto(bytes.fromhex(data), (destination, 62201))
";
    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    let to = if from.contains(':') { "fd00::1" } else { "10.0.0.1" };
    let output = Output::of(host.command("python3").args(["-c", program, from, to, &hex]));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

fn opened(daemon: &Daemon) -> Vec<String> {
    daemon.read("opened").lines().map(str::to_owned).collect()
}

/// Waits until the door has opened this number of times, and asserts that this is all.
fn opens(daemon: &Daemon, count: usize, what: &str) {
    let reached = wait_until(WAIT_TIMEOUT, || opened(daemon).len() >= count);
    assert!(
        reached && opened(daemon).len() == count,
        "{what}: {count} openings expected, {}\n{}\n{}",
        opened(daemon).len(),
        daemon.status_json(),
        daemon.log()
    );
}

/// Waits for an event that has all of these parts.
fn wait_for_event(follower: &Process, parts: &[&str]) {
    let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
    let found = wait_until(WAIT_TIMEOUT, || follower.output().lines().any(has_all));
    assert!(found, "no event has {parts:?}:\n{}", follower.output());
}
