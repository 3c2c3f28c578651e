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

use crate::config::{Config, FlagMask, Protocol, Sequence};
use crate::decode::TcpFlags;
use ports::{Class, PortMap};
use sample::Sample;

/// The TCP segments that the scan guard counts, and few others: those of living connections have ACK or RST, and no SYN.
const SCANS: [FlagMask; 2] = [
    FlagMask { set: TcpFlags::SYN, clear: TcpFlags::NONE },
    FlagMask { set: TcpFlags::NONE, clear: TcpFlags::from_bits(TcpFlags::ACK.bits() | TcpFlags::RST.bits()) },
];

/// The predicate: which protocols, ports and TCP flags matter to the doors of a configuration.
///
/// - A port that some door uses with this protocol passes; with TCP only when the segment's flags satisfy what the
///   `tcpflags` of *every* door ask for (each door may fail an attempt because of it).
/// - With `ScanGuard` on, part of the other ports of a protocol that some step uses passes too, when hit by a UDP
///   packet, a TCP segment with SYN, or one with neither ACK nor RST: a secret sample of one in sixteen, and every port
///   around the steps of a door that leave the sample little room, such as 7000, 7010, 7020.
///
/// Doors without a sequence use no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFilter {
    tcp: PortMap,
    udp: PortMap,
    flags: FlagMask,
    sample: Sample,
}

impl PortFilter {
    /// The predicate for the doors and the `ScanGuard` of `config`. `secret` chooses the sample: random, kept to
    /// oneself, and the same as before when a filter is replaced, so that a port stays in or out of the sample.
    pub fn new(config: &Config, secret: u32) -> Self {
        let guard = config.options.scan_guard;
        let mut set = u8::MAX;
        let mut clear = u8::MAX;
        let mut tcp = Ports::default();
        let mut udp = Ports::default();
        for (door, sequence) in config.doors.iter().filter_map(|door| Some((door, door.sequence.as_ref()?))) {
            set &= door.tcpflags.set.bits();
            clear &= door.tcpflags.clear.bits();
            tcp.add(sequence, Protocol::Tcp);
            udp.add(sequence, Protocol::Udp);
        }
        let tcp = PortMap::new(&tcp.used, &tcp.doors, guard, Class::Near);
        // UDP has no flags, so near ports pass like used ones.
        let udp = PortMap::new(&udp.used, &udp.doors, guard, Class::Used);
        let flags = FlagMask { set: TcpFlags::from_bits(set), clear: TcpFlags::from_bits(clear) };
        Self { tcp, udp, flags, sample: Sample::new(secret) }
    }

    /// The same for all flags of segments to the ports of doors if `all` says so, for a log that shows what flags turn away.
    pub(crate) fn with_all_flags(mut self, all: bool) -> Self {
        if all {
            self.flags = FlagMask::default();
        }
        self
    }

    /// True where a packet to this port with these TCP flags (none for UDP) matters.
    pub fn passes(&self, protocol: Protocol, port: u16, flags: TcpFlags) -> bool {
        let map = match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
        };
        let scan = SCANS.iter().any(|mask| mask.matches(flags));
        match map.class(port) {
            Class::Used => protocol == Protocol::Udp || self.flags.matches(flags),
            Class::Near => scan,
            Class::Mixed => self.flags.matches(flags) || scan,
            Class::Other => map.is_guarded() && self.sample.contains(port) && (protocol == Protocol::Udp || scan),
        }
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
    fn add(&mut self, sequence: &Sequence, protocol: Protocol) {
        let known = self.used.len();
        let steps = sequence.steps();
        self.used.extend(steps.iter().filter(|step| step.protocol == protocol).map(|step| step.port.get()));
        if self.used.len() > known {
            let ports = || steps.iter().map(|step| step.port.get());
            self.doors.extend(ports().min().zip(ports().max()).map(|(first, last)| first..=last));
        }
    }
}
