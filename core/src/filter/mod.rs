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

use crate::config::{CodeSequence, Config, PacketFormat, Sequence, UsedPorts};
use crate::fwknop_keys::may_be_packet;
use crate::live_windows::LiveWindows;
use crate::packet::{Protocol, SegmentSet, TcpFlags};
use crate::port_map::{PortMap, Sample};

/// Number of bytes that are captured of a frame: enough for the ports and flags after two VLAN tags
/// and any usual IP header. A small number lets the ring of a capture hold many packets.
const KNOCK_SNAP_LENGTH: i32 = 128;
/// Number of bytes that are captured of a frame if doors receive packets: enough for a packet of
/// [`crate::spa`] after two VLAN tags and an IPv6 header (166).
const PACKET_SNAP_LENGTH: i32 = 192;
/// Number of bytes that are captured of a frame if doors receive packets of fwknop's format: enough
/// for the longest one after two VLAN tags and an IPv6 header (1,570).
const LONG_SNAP_LENGTH: i32 = 1600;
/// Length of a datagram with a packet of [`crate::spa`], as in its UDP header, in bytes.
const PACKET_UDP_LENGTH: u32 = 8 + 96;
/// Length of a UDP header, in bytes.
const UDP_HEADER: usize = 8;
const _: () = assert!(crate::spa::PACKET_LENGTH == 96, "the length above is that of a packet");

/// The numbers of bytes of a frame that captures need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapLengths {
    /// For knocks and packets of portknock's own format.
    pub(crate) knocks: i32,
    /// For packets of fwknop's format, which need their own capture; `None` without such doors.
    pub(crate) long: Option<i32>,
}

/// The protocols, ports and TCP flags that matter to the doors of a configuration.
///
/// - A TCP segment passes only if its flags are those of a knock at a door with a TCP step
///   ([`FlagMask::matches`]).
/// - A port that a door uses with this protocol passes, and so does each port that a code can be.
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
    /// The UDP ports on which datagrams with the length of a packet of [`crate::spa`] pass.
    packets: PortMap,
    /// The UDP ports on which datagrams that may be packets of fwknop's format pass.
    long: PortMap,
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
        let sequence_doors = door_sequences.chain(window_sequences).filter(|(_, sequence)| has_tcp(sequence));
        let code_doors = config.doors.iter().filter(|door| door.code.as_ref().is_some_and(CodeSequence::has_tcp));
        let tcp_doors = sequence_doors.map(|(door, _)| door).chain(code_doors);
        let segments = tcp_doors.fold(SegmentSet::default(), |segments, door| segments | door.tcpflags.segments());
        let map = |protocol| {
            let mut used = UsedPorts::new(config, protocol);
            // The steps of a window are far apart and change soon.
            let steps = windows.iter().filter_map(|(_, window)| window.sequence.as_ref()).flat_map(Sequence::steps);
            used.ports.extend(steps.filter(|step| step.protocol == protocol).map(|step| step.port.get()));
            PortMap::new(&used.ports, &used.door_ranges, guard, sample)
        };
        let of_format = |format| {
            let ports: Vec<u16> = packet_ports(config, format).collect();
            PortMap::new(&ports, &[], 0, sample)
        };
        let (packets, long) = (of_format(PacketFormat::Portknock), of_format(PacketFormat::Fwknop));
        Self { tcp: map(Protocol::Tcp), udp: map(Protocol::Udp), packets, long, segments, sample }
    }

    /// Returns the filter with TCP segments of any flags if `all` is true, for a log of the
    /// segments that flags turn away.
    pub(crate) fn with_all_flags(mut self, all: bool) -> Self {
        if all {
            self.segments = SegmentSet::ALL;
        }
        self
    }

    /// Returns the numbers of bytes of a frame that captures need.
    pub(crate) fn snap_lengths(&self) -> SnapLengths {
        SnapLengths {
            knocks: if self.packets.is_empty() { KNOCK_SNAP_LENGTH } else { PACKET_SNAP_LENGTH },
            long: (!self.long.is_empty()).then_some(LONG_SNAP_LENGTH),
        }
    }

    /// Returns true if a datagram with this length, as in the UDP header, is to be tried as an
    /// authenticated packet.
    pub fn passes_packet(&self, port: u16, udp_length: u16) -> bool {
        u32::from(udp_length) == PACKET_UDP_LENGTH && self.packets.contains(port)
    }

    /// Returns true if a datagram with this length, as in the UDP header, and this first byte of its
    /// payload is to be tried as a packet of fwknop's format.
    pub fn passes_long(&self, port: u16, udp_length: u16, first: u8) -> bool {
        let length = usize::from(udp_length).checked_sub(UDP_HEADER);
        length.is_some_and(|length| may_be_packet(length, first)) && self.long.contains(port)
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

/// Returns the UDP ports on which the doors of a configuration receive packets of a format.
fn packet_ports(config: &Config, format: PacketFormat) -> impl Iterator<Item = u16> {
    let is_used = config.doors.iter().any(|door| door.packet == Some(format));
    let ranges = if is_used { &config.options.packet_ports[..] } else { &[] };
    ranges.iter().flat_map(|range| range.start().get()..=range.end().get())
}
