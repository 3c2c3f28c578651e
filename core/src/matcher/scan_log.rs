//! The distinct unused ports that attempts have hit, for the scan guard.

use super::ports::PortKey;
use crate::timeline::NIL;

/// A pool of small port sets, each with the capacity of the scan guard. An attempt owns a set only
/// after its source has hit a port that no door uses.
#[derive(Debug)]
pub(super) struct ScanLog {
    /// Maximum number of ports in a set.
    limit: usize,
    /// `limit + 1` numbers for each set: the number of its ports (in a free set, the next free
    /// set), then the ports.
    numbers: Vec<u32>,
    /// The first free set, or [`NIL`].
    free: u32,
}

impl ScanLog {
    /// Creates a pool of sets for this many ports each, at least one.
    pub(super) fn new(limit: u8) -> Self {
        Self { limit: usize::from(limit), numbers: Vec::new(), free: NIL }
    }

    /// Maximum number of ports in a set.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a port to the set (to a new one if `set` is [`NIL`]). Returns false if the set is full.
    pub(super) fn note(&mut self, set: &mut u32, port: PortKey) -> bool {
        if *set == NIL {
            *set = self.take();
        }
        let limit = self.limit;
        let (count, ports) = self.parts(*set);
        let held = *count as usize;
        if ports[..held].contains(&port.number()) {
            return true;
        }
        if held == limit {
            return false;
        }
        ports[held] = port.number();
        *count += 1;
        true
    }

    /// Returns the ports of a set; none for [`NIL`].
    pub(super) fn ports(&self, set: u32) -> impl Iterator<Item = PortKey> {
        let numbers: &[u32] = match set {
            NIL => &[],
            set => {
                let start = set as usize * (self.limit + 1);
                let held = self.numbers[start] as usize;
                &self.numbers[start + 1..=start + held]
            }
        };
        numbers.iter().map(|&number| PortKey::from_number(number))
    }

    /// Returns a set to the pool; ignores [`NIL`].
    pub(super) fn release(&mut self, set: u32) {
        if set != NIL {
            let next = std::mem::replace(&mut self.free, set);
            *self.parts(set).0 = next;
        }
    }

    /// Number of sets, and number of free sets among them; for the checks of debug builds.
    pub(super) fn sets(&self) -> (usize, usize) {
        let all = self.numbers.len() / (self.limit + 1);
        let next = |set: &u32| self.numbers.get(*set as usize * (self.limit + 1)).copied();
        let chain = std::iter::successors(Some(self.free), next).take_while(|set| *set != NIL);
        (all, chain.take(all + 1).count())
    }

    fn take(&mut self) -> u32 {
        if self.free == NIL {
            let set = self.numbers.len() / (self.limit + 1);
            self.numbers.resize(self.numbers.len() + self.limit + 1, 0);
            // There are at most as many sets as attempts, whose number fits into a `u32`.
            return u32::try_from(set).unwrap_or(NIL);
        }
        let set = self.free;
        self.free = std::mem::take(self.parts(set).0);
        set
    }

    fn parts(&mut self, set: u32) -> (&mut u32, &mut [u32]) {
        let start = set as usize * (self.limit + 1);
        let (count, ports) = self.numbers[start..=start + self.limit].split_at_mut(1);
        (&mut count[0], ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol;

    fn udp(port: u16) -> PortKey {
        PortKey::new(Protocol::Udp, port)
    }

    #[test]
    fn counts_distinct_ports_and_refuses_one_too_many() {
        let mut log = ScanLog::new(2);
        let mut set = NIL;
        assert!(log.note(&mut set, udp(1)) && log.note(&mut set, udp(1)) && log.note(&mut set, udp(2)));
        assert!(!log.note(&mut set, udp(3)));
        assert!(log.note(&mut set, udp(2)));
        assert_eq!(log.ports(set).collect::<Vec<_>>(), [udp(1), udp(2)]);
        assert_eq!(log.ports(NIL).count(), 0);
    }

    #[test]
    fn released_sets_come_back_empty_and_the_pool_stops_growing() {
        let mut log = ScanLog::new(3);
        let (mut a, mut b) = (NIL, NIL);
        log.note(&mut a, udp(1));
        log.note(&mut b, udp(1));
        let size = log.numbers.len();
        for round in 0..10 {
            log.release(a);
            log.release(b);
            log.release(NIL);
            (a, b) = (NIL, NIL);
            assert!((0..3).all(|port| log.note(&mut a, udp(round + port)) && log.note(&mut b, udp(port))));
            assert_ne!(a, b);
        }
        assert_eq!(log.numbers.len(), size);
    }
}
