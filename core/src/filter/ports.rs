//! The classes of all ports of a protocol, as few intervals.

use std::ops::RangeInclusive;

/// The sample alone catches a scan where a door's steps have this many ports for each that `ScanGuard` allows between
/// them: it holds one in sixteen, and four times what is needed leaves little to chance.
const SAMPLED_ROOM: u16 = 64;
/// Near ports go on for twice `ScanGuard` beyond the first and the last step, but not further than this.
const MAX_MARGIN: u16 = 32;
/// Fewer doors get near ports where those would be more than this: a quarter of all ports.
const MAX_NEAR: usize = 1 << 14;
/// Fewer doors get near ports where telling them from the others would take more comparisons than this.
const MAX_COMPARISONS: usize = 1_500;

/// What a port is to the doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// Nothing; it may be in the sample.
    Other,
    /// Close to the steps of a door: the scan guard counts it.
    Near,
    /// Some door uses it.
    Used,
    /// Used or near: only in programs that were made coarser.
    Mixed,
}

impl Class {
    /// The class whose packets include those of both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (one, two) if one == two => one,
            (Self::Other, class) | (class, Self::Other) => class,
            _ => Self::Mixed,
        }
    }
}

/// Ports in a row of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) class: Class,
}

/// The class of each port of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortMap {
    /// In rising order, without [`Class::Other`]; no two of the same class touch.
    intervals: Vec<Interval>,
    guarded: bool,
}

impl PortMap {
    /// The map for ports that doors use, each door with those of its steps. With `guard` (the `ScanGuard`; 0 is off) the
    /// ports of doors with little room between their steps are near ones, too; `near` is the class these get.
    pub(super) fn new(used: &[u16], doors: &[RangeInclusive<u16>], guard: u8, near: Class) -> Self {
        let margin = (u16::from(guard) * 2).min(MAX_MARGIN);
        let mut room = if guard == 0 { 0 } else { SAMPLED_ROOM * (u16::from(guard) + 1) };
        loop {
            let mut classes = vec![Class::Other; 1 << 16];
            // A door with a single port has nothing between its steps.
            for steps in doors.iter().filter(|steps| (1..room).contains(&(steps.end() - steps.start()))) {
                let [first, last] = [steps.start().saturating_sub(margin), steps.end().saturating_add(margin)];
                classes[usize::from(first)..=usize::from(last)].fill(near);
            }
            let covered = classes.iter().filter(|class| **class != Class::Other).count();
            for port in used {
                classes[usize::from(*port)] = Class::Used;
            }
            let map = Self { intervals: intervals(&classes), guarded: guard > 0 && !used.is_empty() };
            if room <= 1 || (covered <= MAX_NEAR && map.comparisons().len() <= MAX_COMPARISONS) {
                return map;
            }
            room /= 2;
        }
    }

    pub(super) fn class(&self, port: u16) -> Class {
        let after = self.intervals.partition_point(|interval| interval.first <= port);
        match after.checked_sub(1).map(|index| self.intervals[index]) {
            Some(interval) if port <= interval.last => interval.class,
            _ => Class::Other,
        }
    }

    /// True where the scan guard counts other ports of this protocol.
    pub(super) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// True where no port of this protocol passes.
    pub(super) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How many ports lie between each interval and the next.
    pub(super) fn gaps(&self) -> impl Iterator<Item = u16> {
        self.intervals.windows(2).map(|pair| pair[1].first - pair[0].last - 1)
    }

    /// A coarser map, in which each of the gaps that `close` (by index) says is closed.
    pub(super) fn coarser(&self, close: &[bool]) -> Self {
        let mut intervals: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        for (index, next) in self.intervals.iter().enumerate() {
            match intervals.last_mut() {
                Some(last) if close[index - 1] => {
                    let sampled = self.guarded && next.first - last.last > 1;
                    let between = if sampled { Class::Near } else { Class::Other };
                    last.class = last.class.with(between).with(next.class);
                    last.last = next.last;
                }
                _ => intervals.push(*next),
            }
        }
        Self { intervals, guarded: self.guarded }
    }

    /// The comparisons that tell the class of any port, in rising order; below the first the class is `Other`.
    pub(super) fn comparisons(&self) -> Vec<Comparison> {
        let mut starts: Vec<(u16, Class)> = Vec::with_capacity(self.intervals.len() * 2 + 1);
        for (index, interval) in self.intervals.iter().enumerate() {
            starts.push((interval.first, interval.class));
            let next = self.intervals.get(index + 1).map_or(u32::MAX, |next| next.first.into());
            if let Some(end) = interval.last.checked_add(1).filter(|end| u32::from(*end) != next) {
                starts.push((end, Class::Other));
            }
        }
        let mut comparisons = Vec::with_capacity(starts.len());
        let mut class = Class::Other;
        let mut rest = &starts[..];
        while let [(port, next), tail @ ..] = rest {
            match tail {
                // A single port inside an interval of one class needs one comparison instead of two.
                [(end, after), tail @ ..] if *end == port + 1 && *after == class => {
                    comparisons.push(Comparison::Is(*port, *next));
                    rest = tail;
                }
                _ => {
                    comparisons.push(Comparison::From(*port, *next));
                    class = *next;
                    rest = tail;
                }
            }
        }
        comparisons
    }
}

/// One question about a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// This port has this class, whatever the interval around it.
    Is(u16, Class),
    /// From this port on the class is this.
    From(u16, Class),
}

fn intervals(classes: &[Class]) -> Vec<Interval> {
    let mut intervals: Vec<Interval> = Vec::new();
    for (port, class) in (0..=u16::MAX).zip(classes) {
        match intervals.last_mut() {
            Some(last) if last.class == *class => last.last = port,
            _ => intervals.push(Interval { first: port, last: port, class: *class }),
        }
    }
    intervals.retain(|interval| interval.class != Class::Other);
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(used: &[u16], guard: u8) -> PortMap {
        let steps = *used.iter().min().unwrap()..=*used.iter().max().unwrap();
        PortMap::new(used, &[steps], guard, Class::Near)
    }

    fn ports_of(class: Class, map: &PortMap) -> Vec<u16> {
        (0..=u16::MAX).filter(|port| map.class(*port) == class).collect()
    }

    #[test]
    fn ports_between_and_around_close_steps_are_near() {
        let narrow = map(&[7010, 7000, 7020], 8);
        assert_eq!(ports_of(Class::Used, &narrow), [7000, 7010, 7020]);
        let near: Vec<u16> = (7000 - 16..=7020 + 16).filter(|port| ![7000, 7010, 7020].contains(port)).collect();
        assert_eq!(ports_of(Class::Near, &narrow), near);
        assert!(ports_of(Class::Near, &map(&[7000, 8000], 8)).is_empty());
        assert!(ports_of(Class::Near, &map(&[7000, 7001], 0)).is_empty());
        assert!(ports_of(Class::Near, &map(&[7000], 8)).is_empty());
        assert_eq!(ports_of(Class::Near, &map(&[1, 3], 1)), [0, 2, 4, 5]);
        assert_eq!(ports_of(Class::Near, &map(&[u16::MAX, 65_533], 1)), [65_531, 65_532, 65_534]);
    }

    #[test]
    fn near_ports_stay_few() {
        let near = |width: u16, count: u16| {
            let doors: Vec<_> = (1..=count).map(|index| index * 60..=index * 60 + width).collect();
            let used: Vec<u16> = doors.iter().flat_map(|door| [*door.start(), *door.end()]).collect();
            ports_of(Class::Near, &PortMap::new(&used, &doors, 1, Class::Near)).len()
        };
        assert_eq!(near(20, 1), 19 + 4);
        assert_eq!(near(20, 300), 300 * (19 + 4));
        assert_eq!(near(55, 300), 0, "too many ports");
        assert_eq!(near(5, 1_000), 0, "too many comparisons");
    }

    #[test]
    fn a_single_port_takes_one_comparison() {
        assert_eq!(
            map(&[7, 9, 20, 21], 0).comparisons(),
            [
                Comparison::Is(7, Class::Used),
                Comparison::Is(9, Class::Used),
                Comparison::From(20, Class::Used),
                Comparison::From(22, Class::Other),
            ]
        );
        assert_eq!(
            map(&[100, 102], 1).comparisons(),
            [
                Comparison::From(98, Class::Near),
                Comparison::Is(100, Class::Used),
                Comparison::Is(102, Class::Used),
                Comparison::From(105, Class::Other)
            ]
        );
    }

    #[test]
    fn closing_a_gap_keeps_every_port_of_it() {
        let map = map(&[10, 20], 0).coarser(&[true]);
        assert_eq!(map.comparisons(), [Comparison::From(10, Class::Used), Comparison::From(21, Class::Other)]);
    }
}
