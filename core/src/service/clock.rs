//! The service's one time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::journal::Clocks;
use crate::sys::clock::boottime;
use crate::time::Timestamp;

/// Gives the time that the engine runs on: the wall clock as it was at the start, carried on by `CLOCK_BOOTTIME`. So
/// nobody moves a timeout or a closing by setting the clock, and the time that the machine sleeps counts.
#[derive(Debug)]
pub(super) struct Clock {
    /// What the wall clock said when `CLOCK_BOOTTIME` was zero, by the reading at the start.
    zero: Timestamp,
}

impl Clock {
    pub(super) fn new() -> Self {
        let wall = wall_clock();
        Self { zero: Timestamp::from_nanos(wall.as_nanos().saturating_sub(nanos(boottime()))) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.zero.saturating_add(boottime())
    }

    /// All clocks now.
    pub(super) fn read(&self) -> Clocks {
        let boot = boottime();
        Clocks { now: self.zero.saturating_add(boot), wall: wall_clock(), boot }
    }
}

/// What time of the service a packet's stamp is. Stamps are of the wall clock as it was set when the packet came, so
/// one that lies in the future was made before the clock was set back, and counts as now.
pub(super) fn packet_time(stamp: Timestamp, clocks: &Clocks) -> Timestamp {
    Timestamp::from_nanos(clocks.now.as_nanos().saturating_sub(nanos(clocks.wall.saturating_since(stamp))))
}

fn wall_clock() -> Timestamp {
    Timestamp::default().saturating_add(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_as_old_as_its_stamp_says_whatever_the_clock_is_set_to() {
        for wall in [0, 500, 5_000_000] {
            let clocks =
                Clocks { now: Timestamp::from_secs(1_000), wall: Timestamp::from_secs(wall), boot: Duration::ZERO };
            let stamp = Timestamp::from_nanos(clocks.wall.as_nanos().saturating_sub(7));
            let age = clocks.now.saturating_since(packet_time(stamp, &clocks));
            assert_eq!(age, Duration::from_nanos(7.min(clocks.wall.as_nanos())));
            assert_eq!(packet_time(Timestamp::from_secs(wall + 9), &clocks), clocks.now);
        }
        let clocks = Clocks { now: Timestamp::from_secs(1), wall: Timestamp::from_secs(100), boot: Duration::ZERO };
        assert_eq!(packet_time(Timestamp::default(), &clocks), Timestamp::default());
    }

    #[test]
    fn starts_at_the_wall_clock() {
        let clock = Clock::new();
        let clocks = clock.read();
        assert!(clocks.now.saturating_since(clocks.wall) < Duration::from_secs(1));
        assert!(clock.now() >= clocks.now);
    }
}
