//! Which packets matter to the doors: one predicate, and the same as a program that the kernel runs for each packet.
//!
//! Everything that the matcher acts on passes. What else passes is harmless, since the matcher asks each question
//! again; but each such packet costs a copy to user space.

mod assembler;
mod ports;
mod program;
mod sample;
#[cfg(test)]
mod tests;

pub use assembler::Instruction;
pub use program::Program;

use std::ops::RangeInclusive;

use crate::config::{Config, Protocol, Sequence};
use crate::decode::{SegmentSet, TcpFlags};
use ports::PortMap;
use sample::Sample;

/// The predicate: which protocols, ports and TCP flags matter to the doors of a configuration.
///
/// - TCP segments pass only if they are knocks for some door with a TCP step ([`FlagMask::matches`]).
/// - A port that some door uses with this protocol passes.
/// - With `ScanGuard` on, part of the other ports of a protocol that some step uses passes too: a secret sample of one
///   in sixteen, and every port around the steps of a door that leave the sample little room, such as 7000, 7010, 7020.
///
/// Doors without a sequence use no port.
///
/// [`FlagMask::matches`]: crate::FlagMask::matches
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFilter {
    tcp: PortMap,
    udp: PortMap,
    segments: SegmentSet,
    sample: Sample,
}

impl PortFilter {
    /// The predicate for the doors and the `ScanGuard` of `config`. `secret` chooses the sample: random, kept to
    /// oneself, and the same as before when a filter is replaced, so that a port stays in or out of the sample.
    pub fn new(config: &Config, secret: u32) -> Self {
        let guard = config.options.scan_guard;
        let sample = Sample::new(secret);
        let mut segments = SegmentSet::default();
        let mut tcp = Ports::default();
        let mut udp = Ports::default();
        for (door, sequence) in config.doors.iter().filter_map(|door| Some((door, door.sequence.as_ref()?))) {
            if tcp.add(sequence, Protocol::Tcp) {
                segments = segments | door.tcpflags.segments();
            }
            udp.add(sequence, Protocol::Udp);
        }
        let map = |ports: Ports| PortMap::new(&ports.used, &ports.doors, guard, sample);
        Self { tcp: map(tcp), udp: map(udp), segments, sample }
    }

    /// The same for segments with any flags if `all` says so, for a log that shows what flags turn away.
    pub(crate) fn with_all_flags(mut self, all: bool) -> Self {
        if all {
            self.segments = SegmentSet::ALL;
        }
        self
    }

    /// True if a packet to this port with these TCP flags (none for UDP) matters.
    pub fn passes(&self, protocol: Protocol, port: u16, flags: TcpFlags) -> bool {
        let map = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        let is_knock = protocol == Protocol::Udp || self.segments.contains(flags);
        is_knock && (map.contains(port) || (map.is_guarded() && self.sample.contains(port)))
    }

    /// Number of ports of TCP and of UDP that always pass for the scan guard, beside the sample.
    pub(crate) fn guarded_ports(&self) -> [usize; 2] {
        [self.tcp.close(), self.udp.close()]
    }
}

/// What the doors use of a protocol.
#[derive(Default)]
struct Ports {
    used: Vec<u16>,
    /// For each door that uses the protocol, from its lowest to its highest port, whatever their protocols.
    doors: Vec<RangeInclusive<u16>>,
}

impl Ports {
    /// Adds a door's sequence; false if it does not use the protocol.
    fn add(&mut self, sequence: &Sequence, protocol: Protocol) -> bool {
        let known = self.used.len();
        let steps = sequence.steps();
        self.used.extend(steps.iter().filter(|step| step.protocol == protocol).map(|step| step.port.get()));
        let uses = self.used.len() > known;
        if uses {
            let ports = || steps.iter().map(|step| step.port.get());
            self.doors.extend(ports().min().zip(ports().max()).map(|(first, last)| first..=last));
        }
        uses
    }
}
