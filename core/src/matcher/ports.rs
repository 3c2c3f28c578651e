//! The index of the ports that the doors use, with lookups in constant time.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::config::{CodeStep, Step};
use crate::packet::{Protocol, SegmentSet};

/// A port with its protocol, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PortKey(u32);

impl PortKey {
    pub(super) fn new(protocol: Protocol, port: u16) -> Self {
        Self(u32::from(protocol == Protocol::Udp) << 16 | u32::from(port))
    }

    pub(super) fn protocol(self) -> Protocol {
        if self.0 >> 16 == 0 { Protocol::Tcp } else { Protocol::Udp }
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn port(self) -> u16 {
        // The low 16 bits.
        (self.0 & 0xffff) as u16
    }

    /// The key whose [`PortKey::number`] this is.
    pub(super) fn from_number(number: u32) -> Self {
        Self(number)
    }
}

impl From<Step> for PortKey {
    fn from(step: Step) -> Self {
        Self::new(step.protocol, step.port.get())
    }
}

/// The ports of a door, and the packets that it accepts there.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoorPorts<'a> {
    /// Empty for a door that accepts no knocks.
    pub(super) steps: &'a [PortKey],
    /// The steps that contain digits of a code.
    pub(super) code: &'a [CodeStep],
    /// The TCP segments that are knocks for the door.
    pub(super) segments: SegmentSet,
    /// True if the door checks more than flags: it has a `target`, an `allow` or a code, or is a live
    /// window.
    pub(super) is_restricted: bool,
}

/// All ports of all doors: which ports are used, which doors begin with a port, and which packets
/// the doors accept at a port.
#[derive(Debug)]
pub(super) struct PortIndex {
    /// One bit for each (protocol, port).
    used: Box<[u64]>,
    uses: HashMap<PortKey, PortUse, RandomState>,
    /// The doors grouped by their first ports; the doors of a port are in the order of the file.
    starters: Vec<u16>,
    /// The restricted doors, grouped by each of their ports.
    restricted: Vec<u16>,
}

/// The doors that use a port.
#[derive(Clone, Debug, Default)]
pub(super) struct PortUse {
    /// The range in [`PortIndex::starters`] of the doors that begin with the port.
    pub(super) starters: Range<usize>,
    /// The packets to this machine that some unrestricted door accepts. The whole set for UDP.
    pub(super) packets: SegmentSet,
    /// The range in [`PortIndex::restricted`] of the restricted doors that use the port.
    pub(super) restricted: Range<usize>,
}

impl PortIndex {
    /// Creates the index of these doors, given in the order of the file.
    pub(super) fn new<'a>(doors: impl Iterator<Item = DoorPorts<'a>>) -> Self {
        let mut used = vec![0; 2 * 65_536 / 64].into_boxed_slice();
        let mut uses: HashMap<PortKey, PortUse, RandomState> = HashMap::default();
        let (mut by_first, mut by_port) = (Vec::new(), Vec::new());
        for (door, DoorPorts { steps, code, segments, is_restricted }) in (0..=u16::MAX).zip(doors) {
            for key in steps.iter().copied().chain(code.iter().flat_map(keys_of_code)) {
                used[key.0 as usize / 64] |= 1 << (key.0 % 64);
                let port_use = uses.entry(key).or_default();
                if is_restricted {
                    by_port.push((key, door));
                } else {
                    port_use.packets =
                        port_use.packets | if key.protocol() == Protocol::Udp { SegmentSet::ALL } else { segments };
                }
            }
            by_first.extend(steps.first().map(|&first| (first, door)));
        }
        let starters = grouped(by_first, &mut uses, |port_use| &mut port_use.starters);
        let restricted = grouped(by_port, &mut uses, |port_use| &mut port_use.restricted);
        Self { used, uses, starters, restricted }
    }

    /// True if some door uses the port.
    pub(super) fn is_used(&self, key: PortKey) -> bool {
        self.used[key.0 as usize / 64] >> (key.0 % 64) & 1 == 1
    }

    /// Returns the doors that use a port; `None` if no door does.
    pub(super) fn port_use(&self, key: PortKey) -> Option<&PortUse> {
        if self.is_used(key) { self.uses.get(&key) } else { None }
    }

    /// Returns the door at an index of [`PortUse::starters`], which are in the order of the file.
    pub(super) fn starter(&self, index: usize) -> u16 {
        self.starters[index]
    }

    /// Returns the restricted doors that use a port.
    pub(super) fn restricted(&self, port_use: &PortUse) -> &[u16] {
        &self.restricted[port_use.restricted.clone()]
    }
}

/// Returns the ports that a step with digits of a code can be.
fn keys_of_code(step: &CodeStep) -> impl Iterator<Item = PortKey> {
    let (ports, protocol) = (step.ports(), step.protocol());
    (ports.start().get()..=ports.end().get()).map(move |port| PortKey::new(protocol, port))
}

/// Returns the doors grouped by port, each door once and in the order of the file, and sets the
/// range of each port.
fn grouped(
    mut doors: Vec<(PortKey, u16)>,
    uses: &mut HashMap<PortKey, PortUse, RandomState>,
    range: impl Fn(&mut PortUse) -> &mut Range<usize>,
) -> Vec<u16> {
    doors.sort_unstable();
    doors.dedup();
    for (index, (key, _)) in doors.iter().enumerate() {
        let range = range(uses.entry(*key).or_default());
        let start = if range.end == 0 { index } else { range.start };
        *range = start..index + 1;
    }
    doors.into_iter().map(|(_, door)| door).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::TcpFlags;

    fn door(steps: &[PortKey], flag: TcpFlags, is_restricted: bool) -> DoorPorts<'_> {
        DoorPorts { steps, code: &[], segments: SegmentSet::of(|flags| flags == flag), is_restricted }
    }

    #[test]
    fn protocols_are_distinct_and_the_order_of_the_file_is_kept() {
        let (tcp, udp) = (PortKey::new(Protocol::Tcp, 65_535), PortKey::new(Protocol::Udp, 65_535));
        let other = PortKey::new(Protocol::Tcp, 1);
        let doors = [&[tcp, other][..], &[], &[other], &[tcp]];
        let index = PortIndex::new(doors.iter().map(|steps| door(steps, TcpFlags::SYN, false)));
        assert!(index.is_used(tcp) && index.is_used(other) && !index.is_used(udp));
        let starters = |key| {
            let indices = index.port_use(key).map_or(0..0, |port_use| port_use.starters.clone());
            indices.map(|i| index.starter(i)).collect::<Vec<_>>()
        };
        assert_eq!(starters(tcp), [0, 3]);
        assert_eq!(starters(other), [2]);
        assert_eq!(starters(udp), [0; 0]);
    }

    #[test]
    fn restricted_doors_are_listed_and_the_flags_of_the_others_are_one_set() {
        let (tcp, udp) = (PortKey::new(Protocol::Tcp, 7), PortKey::new(Protocol::Udp, 7));
        let (syn, fin, ack) = (TcpFlags::SYN, TcpFlags::FIN, TcpFlags::ACK);
        let doors =
            [(&[tcp, tcp][..], syn, true), (&[tcp], fin, false), (&[tcp, udp], ack, false), (&[tcp], syn, true)];
        let index = PortIndex::new(doors.iter().map(|(steps, flag, restricted)| door(steps, *flag, *restricted)));
        let port_use = index.port_use(tcp).unwrap();
        assert_eq!(index.restricted(port_use), [0, 3]);
        assert_eq!([syn, fin, ack].map(|flags| port_use.packets.contains(flags)), [false, true, true]);
        let port_use = index.port_use(udp).unwrap();
        assert!(index.restricted(port_use).is_empty() && port_use.packets.contains(TcpFlags::NONE));
    }
}
