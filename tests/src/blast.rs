//! Packets at a given rate, and what it took to send them.

use std::collections::HashSet;
use std::time::Duration;

use crate::{Lab, Output, binary};

/// What a run of `blast` has cost.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// How many packets it sent.
    pub packets: u64,
    /// How long it took.
    pub took: Duration,
    /// CPU time of the sender. The receiving kernel's work until the packet lies in the buffers of those who capture is part
    /// of it: a virtual cable delivers in the sender's time.
    pub cpu: Duration,
}

impl Lab {
    /// Sends hand-made packets from the client to the server; see the program `blast` for its arguments.
    pub fn blast(&self, args: &str) -> Sent {
        let output = Output::of(
            self.client.command(binary("blast")).args(["--interface", "eth0"]).args(args.split_whitespace()),
        );
        assert_eq!(output.code, Some(0), "blast {args}: {}", output.stderr);
        let words: Vec<_> = output.stdout.split_whitespace().collect();
        let ["sent", packets, "packets", "in", took, "s,", cpu, "s", "of", "CPU"] = words[..] else {
            panic!("blast wrote: {}", output.stdout)
        };
        let seconds = |text: &str| Duration::from_secs_f64(text.parse().expect("a number"));
        Sent { packets: packets.parse().expect("a number"), took: seconds(took), cpu: seconds(cpu) }
    }

    /// Has the server forget all packets after those who capture have seen them, so that its answers cost nothing.
    pub fn ignore_at_the_server(&self) {
        self.server.ok("iptables -t raw -A PREROUTING -i eth0 -j DROP");
    }
}

/// A thousand ports all over the range but for these, as `blast` takes them; always the same ones. They follow no rule that
/// a filter might meet by chance.
pub fn ports_but(used: &HashSet<u16>) -> String {
    let mut random = fastrand::Rng::with_seed(1);
    let ports = std::iter::repeat_with(|| random.u16(1..)).filter(|port| !used.contains(port));
    ports.take(1_000).map(|port| port.to_string()).collect::<Vec<_>>().join(",")
}
