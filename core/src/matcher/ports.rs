//! Which ports the doors use, answered in constant time.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use crate::config::{Protocol, Step};

/// A port with its protocol, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PortKey(u32);

impl PortKey {
    pub(super) fn new(protocol: Protocol, port: u16) -> Self {
        Self(u32::from(protocol == Protocol::Udp) << 16 | u32::from(port))
    }

    pub(super) fn number(self) -> u32 {
        self.0
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

/// All ports of all doors: which are used at all, and which doors begin with one.
#[derive(Debug)]
pub(super) struct PortIndex {
    /// One bit for each (protocol, port).
    used: Box<[u64]>,
    /// Where in `starter_doors` those that begin with a port are.
    starters: HashMap<PortKey, Range<usize>, RandomState>,
    /// The doors by their first ports, those of a port in the order of the file.
    starter_doors: Vec<u16>,
}

impl PortIndex {
    /// The index of these sequences; a door that is closed to knocks has an empty one.
    pub(super) fn new<'a>(sequences: impl Iterator<Item = &'a [PortKey]>) -> Self {
        let mut used = vec![0; 2 * 65_536 / 64].into_boxed_slice();
        let mut by_first = Vec::new();
        for (door, sequence) in (0..=u16::MAX).zip(sequences) {
            for key in sequence {
                used[key.0 as usize / 64] |= 1 << (key.0 % 64);
            }
            by_first.extend(sequence.first().map(|&first| (first, door)));
        }
        by_first.sort_unstable();
        let mut starters = HashMap::default();
        for (place, (first, _)) in by_first.iter().enumerate() {
            starters.entry(*first).or_insert(place..place).end = place + 1;
        }
        Self { used, starters, starter_doors: by_first.into_iter().map(|(_, door)| door).collect() }
    }

    /// True where some door uses the port.
    pub(super) fn is_used(&self, key: PortKey) -> bool {
        self.used[key.0 as usize / 64] >> (key.0 % 64) & 1 == 1
    }

    /// The places of the doors whose sequence begins with the port, in the order of the file, for [`PortIndex::starter`].
    pub(super) fn starters(&self, key: PortKey) -> Range<usize> {
        self.starters.get(&key).cloned().unwrap_or_default()
    }

    /// The door at a place.
    pub(super) fn starter(&self, place: usize) -> u16 {
        self.starter_doors[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_protocols_apart_and_keeps_the_order_of_the_file() {
        let (tcp, udp) = (PortKey::new(Protocol::Tcp, 65_535), PortKey::new(Protocol::Udp, 65_535));
        let other = PortKey::new(Protocol::Tcp, 1);
        let index = PortIndex::new([&[tcp, other][..], &[], &[other], &[tcp]].into_iter());
        assert!(index.is_used(tcp) && index.is_used(other) && !index.is_used(udp));
        let starters = |key| index.starters(key).map(|place| index.starter(place)).collect::<Vec<_>>();
        assert_eq!(starters(tcp), [0, 3]);
        assert_eq!(starters(other), [2]);
        assert_eq!(starters(udp), [0; 0]);
    }
}
