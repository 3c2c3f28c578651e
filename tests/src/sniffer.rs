//! What really passes on a wire.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Host, PATIENCE, Process, binary, wait_until};

/// A TCP or UDP packet that an interface has sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sniffed {
    /// When, since the epoch.
    pub time: Duration,
    /// The VLAN ids, the outer one first, joined by commas; `-` where there is none.
    pub vlans: String,
    /// Who sent it.
    pub source: IpAddr,
    /// The source port.
    pub source_port: u16,
    /// Whom it is for.
    pub destination: IpAddr,
    /// The destination port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The TCP flags that are set, some of `FSRPAU` in that order; `-` for UDP and where there is none.
    pub flags: String,
    /// The TCP sequence number; 0 for UDP.
    pub sequence_number: u32,
    /// How many bytes the payload has.
    pub length: usize,
}

impl Sniffed {
    /// True for a segment that asks for a connection, and for any UDP datagram.
    pub fn is_knock(&self) -> bool {
        self.protocol == "udp" || self.flags == "S"
    }

    /// Protocol and destination port, as in `7000:tcp`.
    pub fn step(&self) -> String {
        format!("{}:{}", self.port, self.protocol)
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [time, vlans, source, source_port, destination, port, protocol, flags, sequence_number, length] =
            fields[..]
        else {
            return None;
        };
        Some(Self {
            time: Duration::from_micros(time.parse().ok()?),
            vlans: vlans.into(),
            source: source.parse().ok()?,
            source_port: source_port.parse().ok()?,
            destination: destination.parse().ok()?,
            port: port.parse().ok()?,
            protocol: protocol.into(),
            flags: flags.into(),
            sequence_number: sequence_number.parse().ok()?,
            length: length.parse().ok()?,
        })
    }
}

/// Watches an interface of a host until it is dropped.
#[derive(Debug)]
pub struct Sniffer {
    process: Process,
}

impl Sniffer {
    /// Watches the packets that pass `filter` (see pcap-filter(7); empty: all TCP and UDP packets).
    pub fn start(host: &Host, interface: &str, filter: &str) -> Self {
        let process = Process::spawn(host.command(binary("sniff")).args([interface, filter]));
        process.wait_for("listening on");
        Self { process }
    }

    /// What was seen so far, in order. A packet may need a moment to get here: see [`Sniffer::wait_for`].
    pub fn packets(&self) -> Vec<Sniffed> {
        self.process.output().lines().filter_map(Sniffed::parse).collect()
    }

    /// The knocks among them: connection requests and datagrams.
    pub fn knocks(&self) -> Vec<Sniffed> {
        self.packets().into_iter().filter(Sniffed::is_knock).collect()
    }

    /// Waits until `count` packets for which `wanted` holds were seen, and gives all that were.
    pub fn wait_for(&self, count: usize, wanted: impl Fn(&Sniffed) -> bool) -> Vec<Sniffed> {
        let enough = wait_until(PATIENCE, || self.packets().iter().filter(|packet| wanted(packet)).count() >= count);
        assert!(enough, "{count} such packets did not come; these did:\n{}", self.process.output());
        self.packets().into_iter().filter(wanted).collect()
    }
}
