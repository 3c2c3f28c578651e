//! The link that both daemons listen on. Neither may lose one of its packets.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use crate::{Both, Daemon, Lab, binary};

use super::door::Packet;

/// The steps of a door that is knocked at all the time: a daemon that misses one of these knocks
/// counts no more of them.
const METER_STEPS: usize = 32;
/// The source of these knocks.
const METER: &str = "10.0.0.252";
/// A source that begins an attempt at that door before all others and never continues: when the
/// oldest attempt of all ends, knockd forgets the attempts of every source.
const ANCHOR: &str = "10.0.0.253 10.0.0.1 65100 udp";
/// Number of packets that both hold while they are busy.
const BURST: usize = 1_000;

/// Both daemons, and the packets to send to them next.
#[derive(Debug)]
pub(super) struct Wire {
    both: Both,
    waiting: Vec<String>,
    sent: usize,
    measured: usize,
    /// The next packet is lost, with the one after it.
    pub(super) loses: bool,
}

impl Wire {
    /// Starts both daemons: portknockd with the first configuration, knockd with the second.
    pub(super) fn new(configs: [&str; 2]) -> Self {
        let lab = Lab::pair();
        lab.server.add_address("eth0", "10.0.0.9/24");
        lab.server.add_address("eth0", "fd00::9/64");
        let steps: Vec<String> = (0..METER_STEPS).map(|step| format!("{}:udp", 65_100 + step)).collect();
        let meter = format!("[meter]\nsequence = {}\nseq_timeout = 10000\n", steps.join(","));
        let [ours, theirs] = configs.map(|config| format!("{meter}{config}"));
        let both = Both::with_configs(lab, [&ours, &theirs], &["-i", "eth0"]);
        Self { both, waiting: vec![ANCHOR.to_string()], sent: 0, measured: 0, loses: false }
    }

    /// Sends a packet of this source, sooner or later.
    pub(super) fn send(&mut self, source: IpAddr, packet: &Packet) {
        self.waiting.push(format!("{source} {}", packet.line(source)));
        // So that no loss is unnoticed, except that of a single packet between two that arrive.
        self.waiting.push(format!("{METER} 10.0.0.1 {} udp", 65_100 + self.measured % METER_STEPS));
        self.measured += 1;
        if std::mem::take(&mut self.loses) {
            self.waiting.truncate(self.waiting.len() - 2);
        }
        if self.waiting.len() >= BURST {
            self.flush();
        }
    }

    /// Sends the waiting packets, and waits until both daemons have read them.
    pub(super) fn flush(&mut self) {
        let path = self.both.ours.path("list");
        fs::write(&path, self.waiting.join("\n")).expect("the directory can be written");
        let send = format!("{} eth0 {} < {}", binary("send").display(), self.sent, path.display());
        let answer = self.both.lab.client.ok(&send);
        assert_eq!(answer, format!("sent {} packets\n", self.waiting.len()));
        self.sent += self.waiting.len();
        self.waiting.clear();
        self.both.fence();
    }

    /// The first of the two daemons that has not read each packet.
    pub(super) fn has_missed_packets(&self) -> Option<&'static str> {
        let measure = format!("] {METER}: meter: Stage ");
        let mut named = ["portknockd", "knockd"].into_iter().zip(self.both.daemons());
        named.find(|(_, daemon)| daemon.count(&measure) != self.measured).map(|(name, _)| name)
    }

    /// Number of packets sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// The events of each source at portknockd and at knockd.
    pub(super) fn outcomes(&self) -> [Outcomes; 2] {
        self.both.daemons().map(Outcomes::of)
    }
}

/// The stages, openings and timeouts of each source, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcomes {
    of_source: BTreeMap<String, Vec<String>>,
    /// The openings with their sources, of all sources together.
    pub(super) openings: Vec<String>,
}

impl Outcomes {
    fn of(daemon: &Daemon) -> Self {
        let mut outcomes = Self { of_source: BTreeMap::new(), openings: Vec::new() };
        for line in daemon.log().lines() {
            let Some((source, event)) = line.split_once("] ").and_then(|(_, text)| text.split_once(": door")) else {
                continue;
            };
            if event.contains(": attempt failed: ") {
                continue;
            }
            if event.ends_with(": OPEN SESAME") {
                outcomes.openings.push(format!("{source}: door{event}"));
            }
            outcomes.of_source.entry(source.into()).or_default().push(format!("door{event}"));
        }
        outcomes
    }

    /// The events of this source.
    pub(super) fn of_source(&self, source: IpAddr) -> &[String] {
        self.of_source.get(&source.to_string()).map_or(&[], Vec::as_slice)
    }
}
