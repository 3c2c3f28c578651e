//! Which packets matter to the doors: one predicate, and the same as a program that the kernel runs for each packet.
//!
//! Everything that the matcher acts on passes. What else passes is harmless, since the matcher asks each question
//! again; but each such packet costs a copy to user space.

mod assembler;
mod program;
#[cfg(test)]
mod tests;

pub use program::Program;

use crate::config::{Config, Door, UsedPorts};
use crate::packet::{Protocol, SegmentSet, TcpFlags};
use crate::port_map::{PortMap, Sample};

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
        let has_tcp = |door: &&Door| {
            let steps = door.sequence.as_ref().map(|sequence| sequence.steps()).unwrap_or_default();
            steps.iter().any(|step| step.protocol == Protocol::Tcp)
        };
        let takers = config.doors.iter().filter(has_tcp);
        let segments = takers.fold(SegmentSet::default(), |segments, door| segments | door.tcpflags.segments());
        let map = |protocol| {
            let used = UsedPorts::new(config, protocol);
            PortMap::new(&used.ports, &used.door_ranges, guard, sample)
        };
        Self { tcp: map(Protocol::Tcp), udp: map(Protocol::Udp), segments, sample }
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
}
