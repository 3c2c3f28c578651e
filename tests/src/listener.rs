//! Services to connect to.

use crate::{Host, Process, binary};

/// A TCP listener on every address of a host, IPv4 and IPv6; it is killed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    _process: Process,
}

impl Listener {
    /// Starts it and waits until it listens.
    pub fn start(host: &Host, port: u16) -> Self {
        Self::on_ports(host, [port])
    }

    /// Starts one on each of these ports and waits until they listen.
    pub fn on_ports(host: &Host, ports: impl IntoIterator<Item = u16>) -> Self {
        let ports = ports.into_iter().map(|port| port.to_string());
        let process = Process::spawn(host.command(binary("listen")).args(ports));
        process.wait_for("listening");
        Self { _process: process }
    }
}
