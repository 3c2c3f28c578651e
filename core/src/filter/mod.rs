//! The filter of packets that matter to the doors: a predicate, and the same predicate as a program
//! that the kernel runs for each packet.
//!
//! Every packet that the matcher acts on passes. Other packets that pass do no harm, because the
//! matcher makes each check again; but each of them costs a copy to user space.

mod assembler;
mod program;
#[cfg(test)]
mod tests;

pub use program::Program;

use crate::config::{Config, Sequence, UsedPorts};
use crate::live_windows::LiveWindows;
use crate::packet::{Protocol, SegmentSet, TcpFlags};
use crate::port_map::{PortMap, Sample};

/// The protocols, ports and TCP flags that matter to the doors of a configuration.
///
/// - A TCP segment passes only if its flags are those of a knock at a door with a TCP step
///   ([`FlagMask::matches`]).
/// - A port that a door uses with this protocol passes.
/// - If `ScanGuard` is on, a part of the other ports of a protocol that a step uses passes as well.
///   The part is a secret sample of one in sixteen, and every port around steps that are close
///   together, such as 7000, 7010, 7020.
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
    /// Returns the filter for the doors and the `ScanGuard` of `config`. `secret` selects the
    /// sample. It must be random, must be kept secret, and must stay the same when a filter is
    /// replaced, so that a port stays in or out of the sample.
    pub fn new(config: &Config, secret: u32) -> Self {
        Self::with_windows(config, &LiveWindows::default(), secret)
    }

    /// As [`PortFilter::new`], with the live windows of the doors.
    pub(crate) fn with_windows(config: &Config, windows: &LiveWindows, secret: u32) -> Self {
        let guard = config.options.scan_guard;
        let sample = Sample::new(secret);
        let has_tcp = |sequence: &Sequence| sequence.steps().iter().any(|step| step.protocol == Protocol::Tcp);
        let door_sequences = config.doors.iter().filter_map(|door| Some((door, door.sequence.as_ref()?)));
        let window_sequences = windows
            .iter()
            .filter_map(|(_, window)| Some((config.doors.get(usize::from(window.door))?, window.sequence.as_ref()?)));
        let tcp_doors = door_sequences.chain(window_sequences).filter(|(_, sequence)| has_tcp(sequence));
        let segments = tcp_doors.fold(SegmentSet::default(), |segments, (door, _)| segments | door.tcpflags.segments());
        let map = |protocol| {
            let mut used = UsedPorts::new(config, protocol);
            // The steps of a window are far apart and change soon.
            let steps = windows.iter().filter_map(|(_, window)| window.sequence.as_ref()).flat_map(Sequence::steps);
            used.ports.extend(steps.filter(|step| step.protocol == protocol).map(|step| step.port.get()));
            PortMap::new(&used.ports, &used.door_ranges, guard, sample)
        };
        Self { tcp: map(Protocol::Tcp), udp: map(Protocol::Udp), segments, sample }
    }

    /// Returns the filter with TCP segments of any flags if `all` is true, for a log of the
    /// segments that flags turn away.
    pub(crate) fn with_all_flags(mut self, all: bool) -> Self {
        if all {
            self.segments = SegmentSet::ALL;
        }
        self
    }

    /// Returns true if a packet to this port with these TCP flags (none for UDP) matters.
    pub fn passes(&self, protocol: Protocol, port: u16, flags: TcpFlags) -> bool {
        let map = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        let is_knock = protocol == Protocol::Udp || self.segments.contains(flags);
        is_knock && (map.contains(port) || (map.is_guarded() && self.sample.contains(port)))
    }
}
