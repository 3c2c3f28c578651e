//! Limits of a reader's reports: higher than the rates that packets can cause, and low enough for
//! the daemon.

use crate::config::Config;
use crate::log_limit::{DOOR_BURST, DOOR_RATE, MAX_COMPLETE_RATE};
use crate::mac_detector::MAX_PACKET_RATE;
use crate::rate_limit::{DoorRate, Limit};
use crate::reader::wire::MAX_KNOCK_RATE;

/// Maximum number of reports per second, as a multiple of the rate to which an intact reader limits
/// them.
const RATE_FACTOR: u32 = 2;
/// Maximum number of reports at one time, as a multiple of the same rate: an intact reader's
/// reports of several seconds may wait in the socket. Each door adds two.
const BURST_FACTOR: u32 = 6;
/// Maximum number of notices about captures and requests for another reader per second, without
/// [`NOTICES_PER_INTERFACE`].
const NOTICES_PER_SECOND: u32 = 10;
/// Maximum number of notices about captures and requests for another reader at one time, without
/// [`NOTICES_PER_INTERFACE`].
const NOTICES_BURST: u32 = 200;
/// Additional number of notices per second, and at one time, for each interface, because a
/// successor reports it again.
const NOTICES_PER_INTERFACE: u32 = 4;
/// Maximum number of answers per second to requests for the state of the network. Further requests
/// wait.
const NETWORK_ANSWERS_PER_SECOND: u32 = 20;
/// Maximum number of answers at one time to requests for the state of the network.
const NETWORK_ANSWERS_BURST: u32 = 100;

/// The limits of reports. All readers share them, so that a restart does not reset a limit.
#[derive(Debug)]
pub(super) struct Budget {
    /// Complete knocks. A reader that exceeds this limit violates the protocol.
    pub(super) opens: Limit,
    /// Complete knocks of each door that count. Further complete knocks are ignored, because an
    /// intact reader that was blocked for long may report them.
    pub(super) opens_of_door: DoorRate,
    /// Packets that keys may have made. A reader that exceeds this limit violates the protocol.
    pub(super) packets: Limit,
    /// Other events at doors. A reader that exceeds this limit violates the protocol.
    pub(super) reports: Limit,
    /// Packets for the log of `--debug`. A reader that exceeds this limit violates the protocol.
    pub(super) knocks: Limit,
    /// Notices about captures and requests for another reader. A reader that exceeds this limit
    /// violates the protocol.
    pub(super) notices: Limit,
    /// Answers to requests for the state of the network. The daemon delays further answers.
    pub(super) network_answers: Limit,
}

impl Budget {
    /// Returns the limits for readers of this number of interfaces with this configuration.
    pub(super) fn new(interfaces: usize, config: &Config) -> Self {
        let of_interfaces = small(interfaces).saturating_mul(NOTICES_PER_INTERFACE);
        let doors = small(config.doors.len()).saturating_mul(2);
        // The limit that an intact reader keeps, with a reserve for reports that have waited.
        let limited = |rate: u32| {
            let burst = rate.saturating_mul(BURST_FACTOR).saturating_add(doors);
            Limit::new(rate.saturating_mul(RATE_FACTOR), burst)
        };
        let lines = match config.options.log_rate {
            0 => u32::MAX,
            rate => rate,
        };
        let packet_doors = config.doors.iter().filter(|door| door.packet.is_some());
        let keys: usize = packet_doors.map(|door| door.keys.len() + door.fwknop_keys.len()).sum();
        let burst = config.options.max_openings.max(DOOR_BURST);
        Self {
            opens: limited(MAX_COMPLETE_RATE),
            opens_of_door: DoorRate::new(with_reserve(DOOR_RATE), with_reserve(burst), config.doors.len()),
            packets: limited(small(keys).saturating_mul(MAX_PACKET_RATE)),
            reports: limited(lines),
            knocks: limited(MAX_KNOCK_RATE),
            notices: Limit::new(
                NOTICES_PER_SECOND.saturating_add(of_interfaces),
                NOTICES_BURST.saturating_add(of_interfaces),
            ),
            network_answers: Limit::new(NETWORK_ANSWERS_PER_SECOND, NETWORK_ANSWERS_BURST),
        }
    }
}

/// Returns a quarter more than a reader's own limit, because its reports do not arrive as evenly as
/// it sends them.
fn with_reserve(rate: u32) -> u32 {
    rate.saturating_add(rate / 4)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
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
        let complete = EventKind::Open { door_id: DoorId(0), command: None, opening: None, net, key: None };
        for (rate, doors) in [(1, 1), (1, 60_000), (1_000, 1), (1_000, 300), (1_000_000, 2)] {
            let mut config = Config::default();
            config.options.log_rate = rate;
            config.doors = vec![crate::config::parse(b"[a]\nsequence = 1\n").config.unwrap().doors[0].clone(); doors];
            let mut budget = Budget::new(1, &config);
            let mut limit = LogLimit::new(rate, config.options.max_openings, doors);
            for millis in 0..2_000_u64 {
                let time = Timestamp::from_secs(1).saturating_add(Duration::from_millis(millis));
                for event in 0..2_000_u64 {
                    let door = u16::try_from((millis * 2_000 + event) % doors as u64).unwrap();
                    if limit.admits(door, &first, time) {
                        assert!(budget.reports.take(time.as_nanos()), "{rate} {doors} {millis}");
                    }
                    if limit.admits(door, &complete, time) {
                        assert!(budget.opens.take(time.as_nanos()), "{rate} {doors} {millis}");
                    }
                }
            }
        }
    }

    #[test]
    fn reports_of_an_intact_reader_may_wait_for_four_seconds() {
        let first = EventKind::Stage { stage: 1, steps: 3 };
        let config = crate::config::parse(b"[options]\nLogRate = 1000\n[a]\nsequence = 1\n").config.unwrap();
        let mut budget = Budget::new(1, &config);
        let mut limit = LogLimit::new(1_000, config.options.max_openings, 1);
        let at = |millis| Timestamp::from_secs(1).saturating_add(Duration::from_millis(millis));
        let admitted =
            (0..4_000).flat_map(|millis| [at(millis); 10]).filter(|time| limit.admits(0, &first, *time)).count();
        assert!(admitted > 4_000, "{admitted}");
        assert!((0..admitted).all(|_| budget.reports.take(at(4_000).as_nanos())));
    }
}
