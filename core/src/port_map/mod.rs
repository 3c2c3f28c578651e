//! The ports of a protocol whose packets always pass the capture filter, as few intervals, and the
//! secret sample of the other ports.

mod sample;

use std::ops::RangeInclusive;

pub(crate) use sample::{SHIFT, Sample};

/// Number of sampled ports between a door's steps, for each that `ScanGuard` allows, from which the
/// sample alone detects a scan. It is more than necessary, because a capture may lose packets of a
/// fast scan.
const SAMPLED_PER_ALLOWED: u32 = 4;
/// Number of ports before the first and after the last step of a door with close steps that pass
/// too, for each that `ScanGuard` allows.
const MARGIN_PER_ALLOWED: u16 = 2;
/// Maximum number of ports before the first and after the last step that pass too.
const MAX_MARGIN: u16 = 32;

/// Consecutive ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    first: u16,
    last: u16,
}

/// The ports of a protocol that always pass: those that doors use, and those around the steps of
/// doors that leave the sample too little room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortMap {
    /// In ascending order; no two are adjacent.
    intervals: Vec<Interval>,
    /// True if the scan guard counts other ports of this protocol, so that a sample of them passes,
    /// too.
    guarded: bool,
    /// Number of ports in the map that no door uses, before the map was made coarser.
    close: usize,
}

impl PortMap {
    /// Creates the map for the ports that doors use, with the range of each door's steps. `guard`
    /// is the value of `ScanGuard`; 0 means off.
    pub(crate) fn new(used: &[u16], doors: &[RangeInclusive<u16>], guard: u8, sample: Sample) -> Self {
        let mut passes = vec![false; 1 << 16];
        for port in used {
            passes[usize::from(*port)] = true;
        }
        let count = |passes: &[bool]| passes.iter().filter(|passes| **passes).count();
        let all_used = count(&passes);
        if guard > 0 {
            mark_close(&mut passes, doors, guard, sample);
        }
        let close = count(&passes) - all_used;
        Self { intervals: intervals(&passes), guarded: guard > 0 && !used.is_empty(), close }
    }

    /// Returns the number of ports that always pass although no door uses them.
    pub(crate) fn close(&self) -> usize {
        self.close
    }

    /// Returns true if every packet to the port that has the right flags passes.
    pub(crate) fn contains(&self, port: u16) -> bool {
        let after = self.intervals.partition_point(|interval| interval.first <= port);
        after.checked_sub(1).is_some_and(|index| port <= self.intervals[index].last)
    }

    /// Returns true if a sample of the other ports passes.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Returns true if no port of this protocol passes.
    pub(crate) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Returns the number of ports between each interval and the next.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = u16> {
        self.intervals.windows(2).map(|pair| pair[1].first - pair[0].last - 1)
    }

    /// Returns a coarser map in which the gaps selected by `close` (by index) are filled.
    pub(crate) fn coarser(&self, close: &[bool]) -> Self {
        let mut intervals: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        for (index, next) in self.intervals.iter().enumerate() {
            match intervals.last_mut() {
                Some(last) if close[index - 1] => last.last = next.last,
                _ => intervals.push(*next),
            }
        }
        Self { intervals, ..*self }
    }

    /// Returns the comparisons that decide whether a port passes, in ascending order. Below the
    /// first one no port passes.
    pub(crate) fn comparisons(&self) -> Vec<Comparison> {
        let mut comparisons = Vec::with_capacity(self.intervals.len() * 2);
        for Interval { first, last } in &self.intervals {
            if first == last {
                comparisons.push(Comparison::Is(*first));
                continue;
            }
            comparisons.push(Comparison::From(*first, true));
            comparisons.extend(last.checked_add(1).map(|end| Comparison::From(end, false)));
        }
        comparisons
    }
}

/// One comparison with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// This port passes; its neighbours do not.
    Is(u16),
    /// From this port on, ports pass (true) or do not pass (false).
    From(u16, bool),
}

/// Lets the ports around the steps of a door pass if the sample has too few ports between them.
fn mark_close(passes: &mut [bool], doors: &[RangeInclusive<u16>], guard: u8, sample: Sample) {
    // Number of sampled ports that no door uses, up to each port.
    let mut sampled = Vec::with_capacity(passes.len());
    let mut count = 0;
    for (port, used) in (0..=u16::MAX).zip(&*passes) {
        count += u32::from(!used && sample.contains(port));
        sampled.push(count);
    }
    let enough = SAMPLED_PER_ALLOWED * (u32::from(guard) + 1);
    let margin = (MARGIN_PER_ALLOWED * u16::from(guard)).min(MAX_MARGIN);
    // Number of ranges that begin at a port minus the number that end before it.
    let mut change = vec![0_i32; passes.len() + 1];
    // A door with a single port has no ports between its steps.
    for steps in doors.iter().filter(|steps| steps.start() < steps.end()) {
        if sampled[usize::from(*steps.end())] - sampled[usize::from(*steps.start())] < enough {
            change[usize::from(steps.start().saturating_sub(margin))] += 1;
            change[usize::from(steps.end().saturating_add(margin)) + 1] -= 1;
        }
    }
    let mut ranges = 0;
    for (passes, change) in passes.iter_mut().zip(change) {
        ranges += change;
        *passes |= ranges > 0;
    }
}

fn intervals(passes: &[bool]) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Vec::new();
    for (port, _) in (0..=u16::MAX).zip(passes).filter(|(_, passes)| **passes) {
        match intervals.last_mut() {
            Some(last) if last.last + 1 == port => last.last = port,
            _ => intervals.push(Interval { first: port, last: port }),
        }
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(used: &[u16], guard: u8) -> PortMap {
        let steps = *used.iter().min().unwrap()..=*used.iter().max().unwrap();
        PortMap::new(used, &[steps], guard, Sample::new(1))
    }

    fn ports_of(map: &PortMap) -> Vec<u16> {
        (0..=u16::MAX).filter(|port| map.contains(*port)).collect()
    }

    #[test]
    fn ports_between_and_around_close_steps_pass() {
        let narrow = map(&[7010, 7000, 7020], 8);
        assert_eq!(ports_of(&narrow), (7000 - 16..=7020 + 16).collect::<Vec<_>>());
        assert_eq!((narrow.close(), map(&[7000, 8000], 8).close()), (50, 0));
        assert_eq!(ports_of(&map(&[7000, 8000], 8)), [7000, 8000]);
        assert_eq!(ports_of(&map(&[7000, 7002], 0)), [7000, 7002]);
        assert_eq!(ports_of(&map(&[7000], 8)), [7000]);
        assert_eq!(ports_of(&map(&[1, 3], 1)), (0..=5).collect::<Vec<_>>());
        assert_eq!(ports_of(&map(&[u16::MAX, 65_533], 1)), (65_531..=u16::MAX).collect::<Vec<_>>());
    }

    #[test]
    fn between_the_steps_of_any_door_more_ports_pass_than_the_guard_allows() {
        for (secret, guard) in (0..5).flat_map(|secret| [1, 8, 255].map(|guard| (secret, guard))) {
            let sample = Sample::new(secret);
            for width in [300, 576, 640, 20_000] {
                let doors: Vec<_> = (0..100).map(|door| door * 370..=door * 370 + width).collect();
                let used: Vec<u16> = doors.iter().flat_map(|door| [*door.start(), *door.end()]).collect();
                let map = PortMap::new(&used, &doors, guard, sample);
                let mut met = vec![0_usize; 1 << 16];
                for port in 1..=u16::MAX {
                    let is_met = (map.contains(port) || sample.contains(port)) && !used.contains(&port);
                    met[usize::from(port)] = met[usize::from(port) - 1] + usize::from(is_met);
                }
                for door in &doors {
                    let met = met[usize::from(*door.end())] - met[usize::from(*door.start())];
                    assert!(met > usize::from(guard), "{secret} {guard} {door:?}: {met}");
                }
            }
        }
    }

    #[test]
    fn a_single_port_needs_one_comparison() {
        let expected = [Comparison::Is(7), Comparison::Is(9), Comparison::From(20, true), Comparison::From(22, false)];
        assert_eq!(map(&[7, 9, 20, 21], 0).comparisons(), expected);
        assert_eq!(map(&[u16::MAX, 65_534], 0).comparisons(), [Comparison::From(65_534, true)]);
    }

    #[test]
    fn filling_a_gap_includes_every_port_in_it() {
        let map = map(&[10, 20], 0).coarser(&[true]);
        assert_eq!(map.comparisons(), [Comparison::From(10, true), Comparison::From(21, false)]);
    }
}
