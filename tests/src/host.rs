//! A host: one network namespace.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Output, Process, WAIT_TIMEOUT, binary, require, wait_until};

/// How a TCP port appears from a host, in nmap's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortState {
    /// It accepts connections.
    Open,
    /// It refuses them.
    Closed,
    /// No answer within a third of a second.
    Filtered,
}

/// A host of the lab: a separate network namespace, which is removed when this is dropped.
#[derive(Debug)]
pub struct Host {
    namespace: String,
}

impl Host {
    /// A host without interfaces except `lo`.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            std::env::var_os("PORTKNOCK_SANDBOX").is_some(),
            "these tests change interfaces and firewalls; run them with: scripts/sandbox cargo test -p portknock-tests"
        );
        require("ip");
        let namespace = format!("{name}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = Output::of(Command::new("ip").args(["netns", "add", &namespace]));
        assert_eq!(made.code, Some(0), "ip netns add {namespace}: {}", made.stderr);
        let host = Self { namespace };
        // Without duplicate address detection an IPv6 address can be used immediately.
        host.ok("ip link set lo up
             for conf in all default; do
                 echo 0 > /proc/sys/net/ipv6/conf/$conf/disable_ipv6
                 echo 0 > /proc/sys/net/ipv6/conf/$conf/accept_dad
                 echo 0 > /proc/sys/net/ipv6/conf/$conf/dad_transmits
             done");
        host
    }

    /// The name of its namespace, for `ip netns exec` and `ip -n`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A program that will run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// Runs a shell script on this host, whatever its result.
    pub fn run(&self, script: &str) -> Output {
        Output::of(self.command("sh").args(["-c", script]))
    }

    /// Runs a shell script, asserts that each of its commands succeeds, and returns its standard
    /// output.
    pub fn ok(&self, script: &str) -> String {
        let output = Output::of(self.command("sh").args(["-ec", script]));
        assert_eq!(output.code, Some(0), "on {}: {script}\n{}{}", self.namespace, output.stdout, output.stderr);
        output.stdout
    }

    /// Runs a shell script that must fail, and returns its output.
    pub fn fails(&self, script: &str) -> Output {
        let output = self.run(script);
        assert_ne!(output.code, Some(0), "on {}: {script}\nshould fail; {}", self.namespace, output.stdout);
        output
    }

    /// Starts a program in the background. Its id is the program's own, because no shell runs in
    /// between.
    pub fn spawn<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Process {
        Process::spawn(self.command(program).args(args))
    }

    /// Adds an address with its prefix length, as in `10.0.0.9/24`, which can be used immediately.
    pub fn add_address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ok(&format!("ip addr add {address} dev {interface} {nodad}"));
    }

    /// Sets an interface up and waits until it has its carrier, or sets it down.
    pub fn set_up(&self, interface: &str, up: bool) {
        let state = if up { "up" } else { "down" };
        self.ok(&format!("ip link set {interface} {state}"));
        if up {
            let running = format!("ip -o link show {interface} | grep -q LOWER_UP");
            assert!(wait_until(WAIT_TIMEOUT, || self.run(&running).code == Some(0)), "{interface} does not come up");
        }
    }

    /// How `port` of `address` appears from here.
    pub fn tcp_state(&self, address: &str, port: u16) -> PortState {
        let output = Output::of(self.command(binary("tcp-state")).args([address, &port.to_string()]));
        match output.stdout.trim() {
            "open" => PortState::Open,
            "closed" => PortState::Closed,
            "filtered" => PortState::Filtered,
            _ => panic!("tcp-state {address} {port} on {}: {output:?}", self.namespace),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The sandbox removes it at the latest.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}
