//! Something to connect to.

use crate::{Host, Process, binary};

/// A TCP listener on every address of a host, IPv4 and IPv6; it ends when this is dropped.
#[derive(Debug)]
pub struct Listener {
    _process: Process,
}

impl Listener {
    /// Starts it and waits until it listens.
    pub fn start(host: &Host, port: u16) -> Self {
        let process = Process::spawn(host.command(binary("listen")).arg(port.to_string()));
        process.wait_for("listening");
        Self { _process: process }
    }
}
