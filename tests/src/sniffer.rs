//! The packets on a link.

use std::net::IpAddr;
use std::time::Duration;

use crate::{Host, Process, WAIT_TIMEOUT, binary, wait_until};

/// A TCP or UDP packet that an interface has sent or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sniffed {
    /// Time since the epoch.
    pub time: Duration,
    /// The VLAN ids, the outer one first, joined by commas; `-` if there is none.
    pub vlans: String,
    /// The source address.
    pub source: IpAddr,
    /// The source port.
    pub source_port: u16,
    /// The destination address.
    pub destination: IpAddr,
    /// The destination port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The TCP flags that are set, some of `FSRPAU` in that order; `-` for UDP and if there is
    /// none.
    pub flags: String,
    /// The TCP sequence number; 0 for UDP.
    pub sequence_number: u32,
    /// Length of the payload in bytes.
    pub length: usize,
}

impl Sniffed {
    /// True for a segment that requests a connection, and for any UDP datagram.
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

    /// The packets so far, in order. A packet may need a moment to arrive: see
    /// [`Sniffer::wait_for`].
    pub fn packets(&self) -> Vec<Sniffed> {
        self.process.output().lines().filter_map(Sniffed::parse).collect()
    }

    /// The knocks among them: connection requests and datagrams.
    pub fn knocks(&self) -> Vec<Sniffed> {
        self.packets().into_iter().filter(Sniffed::is_knock).collect()
    }

    /// Waits until `count` packets for which `wanted` holds have arrived, and returns all of these.
    pub fn wait_for(&self, count: usize, wanted: impl Fn(&Sniffed) -> bool) -> Vec<Sniffed> {
        let enough =
            wait_until(WAIT_TIMEOUT, || self.packets().iter().filter(|packet| wanted(packet)).count() >= count);
        assert!(enough, "{count} such packets did not come; these did:\n{}", self.process.output());
        self.packets().into_iter().filter(wanted).collect()
    }
}
