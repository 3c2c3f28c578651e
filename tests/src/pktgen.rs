//! Packets at a given rate, and the cost of sending them.

use std::collections::HashSet;
use std::time::Duration;

use crate::{Lab, Output, binary};

/// The cost of a run of `pktgen`.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Number of packets sent.
    pub packets: u64,
    /// Duration of the run.
    pub took: Duration,
    /// CPU time of the sender. It includes the receiving kernel's work until the packet is in the
    /// buffers of the captures, because a virtual link delivers in the sender's time.
    pub cpu: Duration,
}

impl Lab {
    /// Sends hand-made packets from the client to the server; see the program `pktgen` for its
    /// arguments.
    pub fn pktgen(&self, args: &str) -> Sent {
        let output = Output::of(
            self.client.command(binary("pktgen")).args(["--interface", "eth0"]).args(args.split_whitespace()),
        );
        assert_eq!(output.code, Some(0), "pktgen {args}: {}", output.stderr);
        let words: Vec<_> = output.stdout.split_whitespace().collect();
        let ["sent", packets, "packets", "in", took, "s,", cpu, "s", "of", "CPU"] = words[..] else {
            panic!("pktgen wrote: {}", output.stdout)
        };
        let seconds = |text: &str| Duration::from_secs_f64(text.parse().expect("a number"));
        Sent { packets: packets.parse().expect("a number"), took: seconds(took), cpu: seconds(cpu) }
    }

    /// Makes the server discard all packets after the captures have received them, so that its
    /// answers cost nothing.
    pub fn ignore_at_the_server(&self) {
        self.server.ok("iptables -t raw -A PREROUTING -i eth0 -j DROP");
    }
}

/// A thousand ports over the whole range except these, in the form that `pktgen` accepts, always
/// the same ones. They follow no pattern that a filter could match by accident.
pub fn ports_but(used: &HashSet<u16>) -> String {
    let mut random = fastrand::Rng::with_seed(1);
    let ports = std::iter::repeat_with(|| random.u16(1..)).filter(|port| !used.contains(port));
    ports.take(1_000).map(|port| port.to_string()).collect::<Vec<_>>().join(",")
}
