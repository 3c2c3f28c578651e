//! Feeds an engine with the frames of a capture set.

use crate::arrivals::Arrivals;
use crate::capture::{CaptureError, CaptureSet, Frame};
use crate::clock::{Clock, packet_time};
use crate::decode::{Knock, decode};
use crate::engine::{Engine, PacketForm};
use crate::local_addresses::LocalAddresses;
use crate::time::Timestamp;

/// Maximum number of knocks per batch for the engine. A batch costs less than single knocks.
const KNOCK_BATCH: usize = 256;

/// Maximum number of turns that drain the buffers of a capture before another capture replaces it.
/// Packets of a flood that are still in the buffers then are lost.
pub(crate) const MAX_FINAL_TURNS: usize = 64;

/// Receives authenticated packets.
pub(crate) type OnPacket<'a> = dyn FnMut(&Knock, PacketForm<'_>) + 'a;

/// Feeds an engine with captured packets, and advances its time.
#[derive(Debug)]
pub(crate) struct Feed {
    clock: Clock,
    ipv4_only: bool,
    /// Another reader has handled the packets with timestamps up to this time, by the wall clock.
    after: Timestamp,
    /// Newest timestamp of the last turn that read packets.
    last: Timestamp,
    /// Number of packets that passed the filter.
    packets: u64,
    arrivals: Arrivals,
    /// The same for the captures of long packets, which capture packets again.
    long_arrivals: Arrivals,
    /// The current batch of knocks; empty between turns.
    knocks: Vec<Knock>,
}

impl Feed {
    /// Returns a feed for an engine that runs on this clock. `ipv4_only` ignores IPv6 packets.
    pub(crate) fn new(clock: Clock, ipv4_only: bool) -> Self {
        Self {
            clock,
            ipv4_only,
            after: Timestamp::default(),
            last: Timestamp::default(),
            packets: 0,
            arrivals: Arrivals::default(),
            long_arrivals: Arrivals::default(),
            knocks: Vec::with_capacity(KNOCK_BATCH),
        }
    }

    /// Ignores packets with timestamps up to this time, by the wall clock, which another reader has
    /// handled.
    pub(crate) fn begin_after(&mut self, timestamp: Timestamp) {
        self.after = timestamp;
    }

    /// Returns the newest timestamp, by the wall clock, of the last turn that read packets, over
    /// all interfaces.
    pub(crate) fn last_timestamp(&self) -> Timestamp {
        self.last
    }

    /// Returns the number of packets that passed the filter.
    pub(crate) fn packets(&self) -> u64 {
        self.packets
    }

    /// Feeds the engine with captured packets, and passes each knock to `on_knock` as well. If
    /// there is an `on_packet`, it receives the authenticated packets in place of the engine. Returns
    /// the time, by the engine's clock, up to which the engine has received every packet; `None` if
    /// packets may still wait.
    ///
    /// # Errors
    /// As for [`CaptureSet::turn`].
    pub(crate) fn turn(
        &mut self,
        capture: &mut CaptureSet,
        engine: &mut Engine,
        mut on_packet: Option<&mut OnPacket<'_>>,
        on_knock: &mut dyn FnMut(&Knock),
    ) -> Result<Option<Timestamp>, CaptureError> {
        let Self { clock, ipv4_only, after, last, packets, arrivals, long_arrivals, knocks } = self;
        let mut clocks = clock.read();
        let before = clocks.now;
        *after = handled_until(*after, clocks.wall);
        let (mut newest, mut last_timestamp) = (Timestamp::default(), Timestamp::default());
        let mut on_frame = |&Frame { link_type, time: timestamp, origin, is_long, bytes }: &Frame<'_>| {
            if timestamp <= *after {
                return;
            }
            last_timestamp = last_timestamp.max(timestamp);
            *packets += 1;
            if timestamp > clocks.wall {
                clocks = clock.read();
            }
            let time = packet_time(timestamp, &clocks);
            newest = newest.max(time);
            let Some(knock) = decode(link_type, time, bytes) else { return };
            if *ipv4_only && knock.source.is_ipv6() {
                return;
            }
            let packet = engine.packet_in(&knock, link_type, bytes);
            // Each capture has packets of one format, so that none counts twice.
            if is_long != matches!(packet, Some(PacketForm::Fwknop(_))) {
                return;
            }
            let arrivals = if is_long { &mut *long_arrivals } else { &mut *arrivals };
            if !arrivals.accepts(&knock, origin, timestamp) {
                return;
            }
            on_knock(&knock);
            if let Some(packet) = packet {
                if let Some(on_packet) = &mut on_packet {
                    return on_packet(&knock, packet);
                }
                // Packets without a hint or an HMAC must not end a batch, because a flood can consist of
                // them.
                let is_detected = match packet {
                    PacketForm::Own(packet) => engine.detect_packet(&knock, packet),
                    PacketForm::Fwknop(payload) => engine.detect_fwknop_packet(&knock, payload),
                };
                if is_detected {
                    engine.handle_knocks(knocks);
                    knocks.clear();
                    engine.handle_form(&knock, packet);
                }
                return;
            }
            knocks.push(knock);
            if knocks.len() == KNOCK_BATCH {
                engine.handle_knocks(knocks);
                knocks.clear();
            }
        };
        let frames = capture.turn(&mut on_frame);
        if last_timestamp > Timestamp::default() {
            *last = last_timestamp;
        }
        engine.handle_knocks(knocks);
        knocks.clear();
        engine.handle_timeout(newest);
        let frames = frames?;
        let addresses_changed = self.follow_addresses(capture, engine);
        // If packets may still wait in the buffer, they may have arrived before the timeouts that
        // are due now. Packets for new addresses come with the next turn.
        if addresses_changed || frames > 0 || capture.needs_network() {
            return Ok(None);
        }
        engine.handle_timeout(before);
        Ok(Some(before))
    }

    /// Passes the current addresses of this machine to the engine, if they have changed, and uses
    /// them from now on. Returns true if they have changed.
    pub(crate) fn follow_addresses(&mut self, capture: &mut CaptureSet, engine: &mut Engine) -> bool {
        let changed = capture.take_address_change();
        if changed {
            let (addresses, broadcasts) = (capture.local_addresses(), capture.broadcast_addresses());
            engine.set_local_addresses(LocalAddresses::Only(addresses.clone()));
            let own = || addresses.iter().chain(broadcasts).copied();
            self.arrivals.set_addresses(own());
            self.arrivals.expect_copies(capture.may_repeat_packets());
            self.long_arrivals.set_addresses(own());
            self.long_arrivals.expect_copies(capture.may_repeat_packets() && capture.has_long());
        }
        changed
    }
}

/// Returns the timestamp up to which another reader has handled the packets, at this time by the
/// wall clock. A timestamp of the future is from before the clock was set back. It is discarded,
/// because the feed would otherwise ignore all packets until the clock reaches it again.
fn handled_until(after: Timestamp, wall: Timestamp) -> Timestamp {
    if wall < after { Timestamp::default() } else { after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_since_the_hand_over_hides_no_packets() {
        let noon = Timestamp::from_secs(12 * 3600);
        assert_eq!(handled_until(noon, noon), noon);
        assert_eq!(handled_until(noon, noon.saturating_add(std::time::Duration::from_secs(1))), noon);
        assert_eq!(handled_until(noon, Timestamp::from_secs(11 * 3600)), Timestamp::default());
    }
}
