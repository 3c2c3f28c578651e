//! How much a reader may report: more than packets can cause, and little enough for the daemon.

use std::time::Instant;

use crate::config::Config;
use crate::log_limit::{DOOR_BURST, DOOR_RATE, MAX_COMPLETE_RATE};
use crate::rate_limit::DoorRate;
use crate::reader::wire::MAX_KNOCK_RATE;

/// Reports per second, as a multiple of the rate to which an intact reader limits them.
const RATE_FACTOR: u32 = 2;
/// Reports at one time, as a multiple of the same rate. Each door adds one.
const BURST_FACTOR: u32 = 3;
/// Notices about captures, and requests for another reader, per second: this, and [`NOTICES_PER_INTERFACE`].
const NOTICES_PER_SECOND: u32 = 10;
/// Notices about captures, and requests for another reader, at one time: this, and [`NOTICES_PER_INTERFACE`].
const NOTICES_BURST: u32 = 200;
/// Notices per second and at one time for each interface, which a successor reports again.
const NOTICES_PER_INTERFACE: u32 = 4;
/// Answers per second to questions about the network. Further ones wait.
const NETWORK_ANSWERS_PER_SECOND: u32 = 20;
/// Answers at one time to questions about the network.
const NETWORK_ANSWERS_BURST: u32 = 100;

/// What readers may still report. A successor gets what its predecessor has left.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) opens: Bucket,
    /// Complete knocks of each door that count. Further ones do not, be they of an intact reader that has waited long.
    pub(super) opens_of_door: DoorRate,
    pub(super) reports: Bucket,
    pub(super) knocks: Bucket,
    pub(super) notices: Bucket,
    pub(super) network_answers: Bucket,
}

impl Budget {
    /// For readers of so many interfaces with this configuration.
    pub(super) fn new(interfaces: usize, config: &Config) -> Self {
        let of_interfaces = small(interfaces).saturating_mul(NOTICES_PER_INTERFACE);
        let doors = small(config.doors.len());
        // The limit that an intact reader keeps itself, with a reserve for what has waited.
        let limited = |rate: u32| {
            let burst = rate.saturating_mul(BURST_FACTOR).saturating_add(doors);
            Bucket::new(rate.saturating_mul(RATE_FACTOR), burst)
        };
        let lines = match config.options.log_rate {
            0 => u32::MAX,
            rate => rate,
        };
        let burst = config.options.max_openings.max(DOOR_BURST);
        Self {
            opens: limited(MAX_COMPLETE_RATE),
            opens_of_door: DoorRate::new(with_reserve(DOOR_RATE), with_reserve(burst), config.doors.len()),
            reports: limited(lines),
            knocks: limited(MAX_KNOCK_RATE),
            notices: Bucket::new(
                NOTICES_PER_SECOND.saturating_add(of_interfaces),
                NOTICES_BURST.saturating_add(of_interfaces),
            ),
            network_answers: Bucket::new(NETWORK_ANSWERS_PER_SECOND, NETWORK_ANSWERS_BURST),
        }
    }
}

/// A quarter more than a reader reports by its own limit, since its reports do not come as evenly as it sends them.
fn with_reserve(rate: u32) -> u32 {
    rate.saturating_add(rate / 4)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u32,
    burst: u32,
    left: u32,
    /// When `left` was last filled up.
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, left: burst, filled: Instant::now() }
    }

    /// Takes one token; false if there is none.
    pub(super) fn take(&mut self) -> bool {
        // The clock is read only if it matters.
        if self.left == 0 {
            self.fill(Instant::now());
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    fn fill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.filled).as_micros();
        let tokens = micros.saturating_mul(self.per_second.into()) / 1_000_000;
        if tokens > 0 {
            self.left = u32::try_from(tokens).unwrap_or(u32::MAX).min(self.burst);
            self.filled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DoorId;
    use crate::event::EventKind;
    use crate::log_limit::LogLimit;
    use crate::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_reader_that_keeps_its_own_limit_never_exceeds_the_budget() {
        let first = EventKind::Stage { stage: 1, steps: 3 };
        let net = std::net::IpAddr::from([10, 0, 0, 1]).into();
        let complete = EventKind::Open { door_id: DoorId(0), command: None, opening: None, net };
        for (rate, doors) in [(1, 1), (1, 60_000), (1_000, 1), (1_000, 300), (1_000_000, 2)] {
            let mut config = Config::default();
            config.options.log_rate = rate;
            config.doors = vec![crate::config::parse(b"[a]\nsequence = 1\n").config.unwrap().doors[0].clone(); doors];
            let budget = Budget::new(1, &config);
            let mut limit = LogLimit::new(rate, config.options.max_openings, doors);
            let (mut reports, mut opens) = (0_u64, 0_u64);
            for millis in 0..2_000_u64 {
                let time = Timestamp::from_secs(1).saturating_add(Duration::from_millis(millis));
                for event in 0..2_000_u64 {
                    let door = u16::try_from((millis * 2_000 + event) % doors as u64).unwrap();
                    reports += u64::from(limit.admits(door, &first, time));
                    opens += u64::from(limit.admits(door, &complete, time));
                }
                for (count, bucket) in [(reports, &budget.reports), (opens, &budget.opens)] {
                    let allowed = u64::from(bucket.burst) + millis * u64::from(bucket.per_second) / 1_000;
                    assert!(count <= allowed, "{rate} {doors} {millis}: {count} of {allowed}");
                }
            }
        }
    }

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(1, 3);
        assert_eq!([0; 5].map(|_| bucket.take()), [true, true, true, false, false]);
        let later = |seconds| bucket.filled + Duration::from_secs(seconds);
        let (soon, late) = (later(2), later(2 + 3600));
        bucket.fill(soon);
        assert_eq!(bucket.left, 2);
        bucket.fill(late);
        assert_eq!(bucket.left, 3, "no more than the burst");
    }
}
