//! Feeding an engine with the frames that a capture set returns.

use crate::arrivals::Arrivals;
use crate::capture::{CaptureError, CaptureSet, Frame};
use crate::clock::{Clock, packet_time};
use crate::decode::{Knock, decode};
use crate::engine::Engine;
use crate::local_addresses::LocalAddresses;
use crate::time::Timestamp;

/// Maximum number of knocks that are collected before the engine handles them: a batch costs less than single knocks.
const KNOCK_BATCH: usize = 256;

/// Maximum number of turns that empty the buffers of a capture before another one replaces it. What a flood still leaves
/// there is lost.
pub(crate) const MAX_FINAL_TURNS: usize = 64;

/// Feeds an engine with what was captured, and moves its time on.
#[derive(Debug)]
pub(crate) struct Feed {
    clock: Clock,
    ipv4_only: bool,
    /// Packets stamped up to this time are another's.
    after: Timestamp,
    /// The newest stamp of the last turn that took packets.
    last: Timestamp,
    packets: u64,
    arrivals: Arrivals,
    /// Room for knocks that were captured and not handled yet; empty between turns.
    knocks: Vec<Knock>,
}

impl Feed {
    /// For an engine that runs on the time of this clock; `ipv4_only` passes over IPv6.
    pub(crate) fn new(clock: Clock, ipv4_only: bool) -> Self {
        Self {
            clock,
            ipv4_only,
            after: Timestamp::default(),
            last: Timestamp::default(),
            packets: 0,
            arrivals: Arrivals::default(),
            knocks: Vec::with_capacity(KNOCK_BATCH),
        }
    }

    /// Leaves the packets that were stamped up to this time to another.
    pub(crate) fn begin_after(&mut self, stamp: Timestamp) {
        self.after = stamp;
    }

    /// The newest stamp among the packets that were taken last, which may be of several interfaces.
    pub(crate) fn last_stamp(&self) -> Timestamp {
        self.last
    }

    /// Packets that came through the filter.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// Takes what was captured; each knock goes to `on_knock` too. Returns the time up to which nothing is missing any
    /// more, where that is known.
    pub(crate) fn turn(
        &mut self,
        capture: &mut CaptureSet,
        engine: &mut Engine,
        on_knock: &mut dyn FnMut(&Knock),
    ) -> Result<Option<Timestamp>, CaptureError> {
        let Self { clock, ipv4_only, after, last, packets, arrivals, knocks } = self;
        let mut clocks = clock.read();
        let before = clocks.now;
        *after = still_before(*after, clocks.wall);
        let (mut newest, mut last_stamp) = (Timestamp::default(), Timestamp::default());
        let mut on_frame = |&Frame { link_type, time: stamp, origin, bytes }: &Frame<'_>| {
            if stamp <= *after {
                return;
            }
            last_stamp = last_stamp.max(stamp);
            *packets += 1;
            if stamp > clocks.wall {
                clocks = clock.read();
            }
            let time = packet_time(stamp, &clocks);
            newest = newest.max(time);
            let Some(knock) = decode(link_type, time, bytes) else { return };
            if *ipv4_only && knock.source.is_ipv6() || !arrivals.takes(&knock, origin, stamp) {
                return;
            }
            on_knock(&knock);
            knocks.push(knock);
            if knocks.len() == KNOCK_BATCH {
                engine.handle_knocks(knocks);
                knocks.clear();
            }
        };
        let taken = capture.turn(&mut on_frame);
        if last_stamp > Timestamp::default() {
            *last = last_stamp;
        }
        engine.handle_knocks(knocks);
        knocks.clear();
        engine.handle_timeout(newest);
        let taken = taken?;
        let addresses_changed = self.follow_addresses(capture, engine);
        // Where packets may still wait in the buffer, they may have come before what is due by now. Those that are for
        // new addresses come with the next turn.
        if addresses_changed || taken > 0 || capture.wants_network() {
            return Ok(None);
        }
        engine.handle_timeout(before);
        Ok(Some(before))
    }

    /// Goes by the addresses that the machine has now, and has the engine do so; true if they changed.
    pub(crate) fn follow_addresses(&mut self, capture: &mut CaptureSet, engine: &mut Engine) -> bool {
        let changed = capture.take_address_change();
        if changed {
            let (addresses, broadcasts) = (capture.local_addresses(), capture.broadcast_addresses());
            engine.set_local_addresses(LocalAddresses::Only(addresses.clone()));
            self.arrivals.set_addresses(addresses.iter().chain(broadcasts).copied());
            self.arrivals.expect_copies(capture.may_repeat_packets());
        }
        changed
    }
}

/// Up to which stamp packets are another's, at this time by the wall clock. A stamp of the future was made before the clock was
/// set back: to go by it would pass over all packets until it is that late again.
fn still_before(after: Timestamp, wall: Timestamp) -> Timestamp {
    if wall < after { Timestamp::default() } else { after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_since_the_hand_over_hides_no_packets() {
        let noon = Timestamp::from_secs(12 * 3600);
        assert_eq!(still_before(noon, noon), noon);
        assert_eq!(still_before(noon, noon.saturating_add(std::time::Duration::from_secs(1))), noon);
        assert_eq!(still_before(noon, Timestamp::from_secs(11 * 3600)), Timestamp::default());
    }
}
