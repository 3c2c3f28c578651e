//! Hosts with a long link between them.

use std::thread;
use std::time::Duration;

use crate::lab::{connect, introduce};
use crate::{Host, Process, binary, require};

/// The effect of a long link on the frames that pass it, in each direction; by default none.
///
/// Frames to multicast and broadcast addresses are late too, but `loss_percent` does not apply to
/// them: frames that hosts send on their own do not change which of a test's frames get lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkProperties {
    /// The time from one end to the other. Below four milliseconds it is up to a millisecond more.
    pub delay: Duration,
    /// Percentage of frames that get lost.
    pub loss_percent: f64,
    /// Selects the frames that get lost: the same seed selects frames with the same numbers,
    /// counted in each direction.
    pub seed: u64,
    /// The capacity; `None` is unlimited.
    pub capacity: Option<Capacity>,
}

/// A bottleneck: frames pass it one after another, and those that find its queue full get lost.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Frames per second.
    pub rate: u32,
    /// Number of frames that may wait.
    pub queue: u32,
}

/// A client and a server on a long link, with the names and addresses that they have in a
/// [`Lab`](crate::Lab).
///
/// The emulator itself never loses a frame silently: if the machine was too slow, the test fails at
/// the latest when this is dropped.
#[derive(Debug)]
pub struct Distant {
    /// 10.0.0.2, fd00::2, 02:00:00:00:00:02 on `eth0`.
    pub client: Host,
    /// 10.0.0.1, fd00::1, 02:00:00:00:00:01 on `eth0`.
    pub server: Host,
    emulator: Process,
    _middle: Host,
}

impl Distant {
    /// Both hosts, connected by this link, with addresses. Each has the other's hardware address
    /// already, so that neighbour discovery is neither late nor lost.
    pub fn new(properties: LinkProperties) -> Self {
        require("ethtool");
        let client = Host::new("client");
        let middle = Host::new("middle");
        let server = Host::new("server");
        for (host, end) in [(&client, "left"), (&server, "right")] {
            connect((host, "eth0"), (&middle, end));
            // Otherwise the kernel leaves checksums and segmentation to hardware that does not
            // exist.
            host.ok("ethtool -K eth0 tx off > /dev/null");
            // The middle host itself sends nothing.
            middle.ok(&format!("echo 1 > /proc/sys/net/ipv6/conf/{end}/disable_ipv6; ip link set {end} up"));
        }
        introduce(&client, &server);

        let mut command = middle.command(binary("netem"));
        command.args(["--left", "left", "--right", "right"]);
        command.args(["--delay-ms", &(properties.delay.as_secs_f64() * 1_000.0).to_string()]);
        command.args(["--loss-percent", &properties.loss_percent.to_string(), "--seed", &properties.seed.to_string()]);
        if let Some(Capacity { rate, queue }) = properties.capacity {
            command.args(["--capacity", &rate.to_string(), "--queue", &queue.to_string()]);
        }
        let emulator = Process::spawn(&mut command);
        emulator.wait_for("ready");
        Self { client, server, emulator, _middle: middle }
    }
}

impl Drop for Distant {
    fn drop(&mut self) {
        if self.emulator.exit_within(Duration::ZERO).is_some() {
            let output = self.emulator.output();
            // A second panic would hide the first.
            assert!(thread::panicking(), "the link emulator has failed:\n{output}");
            eprintln!("the link emulator has failed:\n{output}");
        }
    }
}
