//! The clock that the engine runs on, and the clocks of the machine that it is derived from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::clock::boottime;
use crate::time::Timestamp;

/// The readings of all clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The engine's time, by which openings close.
    pub now: Timestamp,
    /// The wall clock.
    pub wall: Timestamp,
    /// `CLOCK_BOOTTIME`: time since the machine was started, including sleep.
    pub boot: Duration,
}

/// The clock that the engine runs on: the wall clock as it was at the start, advanced by
/// `CLOCK_BOOTTIME`. Setting the wall clock therefore moves no timeout and no closing, and the time
/// that the machine sleeps counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The wall clock's time at which `CLOCK_BOOTTIME` was zero, computed from the readings at the
    /// start.
    zero: Timestamp,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let wall = wall_clock();
        Self { zero: Timestamp::from_nanos(wall.as_nanos().saturating_sub(nanos(boottime()))) }
    }

    /// Creates the clock of another process of this machine, whose [`Clock::zero`] is `zero`.
    pub(crate) fn from_zero(zero: Timestamp) -> Self {
        Self { zero }
    }

    /// Returns the engine's time at which `CLOCK_BOOTTIME` was zero.
    pub(crate) fn zero(self) -> Timestamp {
        self.zero
    }

    /// Returns the engine's time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(boottime())
    }

    /// Reads all clocks.
    pub(crate) fn read(&self) -> Clocks {
        let boot = boottime();
        Clocks { now: self.at(boot), wall: wall_clock(), boot }
    }

    fn at(&self, boot: Duration) -> Timestamp {
        self.zero.saturating_add(boot)
    }
}

/// Converts the timestamp of a packet to the engine's time. Packets are timestamped by the wall
/// clock at their arrival. A timestamp in the future was made before the clock was set back, and
/// counts as now.
pub(crate) fn packet_time(timestamp: Timestamp, clocks: &Clocks) -> Timestamp {
    Timestamp::from_nanos(clocks.now.as_nanos().saturating_sub(nanos(clocks.wall.saturating_since(timestamp))))
}

/// Returns the identifier of this boot of the machine; empty if the system does not report one.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Returns the time of the wall clock.
pub fn wall_clock() -> Timestamp {
    Timestamp::default().saturating_add(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_packet_does_not_depend_on_the_wall_clock() {
        for wall in [0, 500, 5_000_000] {
            let clocks =
                Clocks { now: Timestamp::from_secs(1_000), wall: Timestamp::from_secs(wall), boot: Duration::ZERO };
            let timestamp = Timestamp::from_nanos(clocks.wall.as_nanos().saturating_sub(7));
            let age = clocks.now.saturating_since(packet_time(timestamp, &clocks));
            assert_eq!(age, Duration::from_nanos(7.min(clocks.wall.as_nanos())));
            assert_eq!(packet_time(Timestamp::from_secs(wall + 9), &clocks), clocks.now);
        }
        let clocks = Clocks { now: Timestamp::from_secs(1), wall: Timestamp::from_secs(100), boot: Duration::ZERO };
        assert_eq!(packet_time(Timestamp::default(), &clocks), Timestamp::default());
    }

    const DAY: u64 = 24 * 3600;

    /// A machine whose wall clock was at 1,000 s at the start, `boot` seconds later, with its wall
    /// clock off by `step` seconds.
    fn machine(boot: u64, step: i64) -> Clocks {
        let clock = Clock { zero: Timestamp::from_secs(1_000 + DAY) };
        let boot = Duration::from_secs(boot);
        let wall = (1_000 + DAY + boot.as_secs()).saturating_add_signed(step);
        Clocks { now: clock.at(boot), wall: Timestamp::from_secs(wall), boot }
    }

    #[test]
    fn setting_the_clock_by_a_day_moves_no_later_knock() {
        let day = DAY.cast_signed();
        for step in [0, day, -day, 400 * day, -400 * day] {
            // Two knocks three seconds apart, timestamped by the clock as it is set now and
            // received a second later.
            let [first, second] = [10, 13].map(|boot| {
                let Clocks { wall, .. } = machine(boot, step);
                packet_time(wall, &machine(boot + 1, step))
            });
            if machine(10, step).wall > Timestamp::default() {
                assert_eq!(first, machine(10, 0).now, "step {step}");
                assert_eq!(second.saturating_since(first), Duration::from_secs(3), "step {step}");
            }
            assert!(second <= machine(14, step).now);
        }
    }

    #[test]
    fn a_knock_in_flight_while_the_clock_is_set_is_never_in_the_future() {
        let timestamp = machine(10, 0).wall;
        let set_back = machine(11, -DAY.cast_signed());
        assert_eq!(packet_time(timestamp, &set_back), set_back.now, "it counts as now");
        let set_forward = machine(11, DAY.cast_signed());
        let age = set_forward.now.saturating_since(packet_time(timestamp, &set_forward));
        // The engine treats a packet that is older than the previous one as simultaneous with it.
        assert_eq!(age, Duration::from_secs(DAY + 1));
    }

    #[test]
    fn the_time_that_the_machine_sleeps_counts() {
        // Both clocks advance during sleep: a door that was to close in that time is overdue
        // immediately.
        let closes_at = machine(10, 0).now.saturating_add(Duration::from_secs(30));
        let awake = machine(10 + 8 * 3600, 0);
        assert!(awake.now > closes_at);
        assert_eq!(packet_time(awake.wall, &awake), awake.now);
    }

    #[test]
    fn the_clock_starts_at_the_wall_clock() {
        let clock = Clock::new();
        let clocks = clock.read();
        assert!(clocks.now.saturating_since(clocks.wall) < Duration::from_secs(1));
        assert!(clock.now() >= clocks.now);
    }
}
