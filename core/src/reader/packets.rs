//! The packets that a reader passes on to the daemon.

use std::sync::Arc;

use crate::clock_search::{UnknownPacket, UnknownSample};
use crate::decode::Knock;
use crate::engine::PacketForm;
use crate::fwknop::MacKey;
use crate::mac_detector::{MAX_PACKET_RATE, MacDetector, MacVerdict};
use crate::packet_keys::HintTable;
use crate::rate_limit::Limit;
use crate::spa::{HINT_LENGTH, PACKET_LENGTH};
use crate::weak_search::UnauthenticPacket;

/// Number of the last packets of each key that a reader recognises, so that a repeated packet does
/// not exhaust the rate of the key.
const REMEMBERED: usize = 8;

/// A packet that a key may have made.
#[derive(Debug)]
pub(super) struct DetectedPacket {
    pub(super) knock: Knock,
    pub(super) bytes: Vec<u8>,
}

/// Selects the packets that a key may have made. It cannot open them.
#[derive(Debug, Default)]
pub(super) struct PacketDetector {
    hints: HintTable,
    keys: Vec<KeyLimit>,
    mac_detector: MacDetector,
    found: Vec<DetectedPacket>,
    /// Datagrams of the form of a packet.
    seen: u64,
    /// Datagrams among them without a hint or an HMAC, or that were not checked.
    bogus: u64,
    unknown: UnknownSample,
    unauthentic: UnknownSample<UnauthenticPacket>,
}

/// The rate of a key, and its last packets.
#[derive(Clone, Debug)]
struct KeyLimit {
    limit: Limit,
    last: [[u8; 8]; REMEMBERED],
    next: usize,
    /// The latest minute of which a packet was passed on.
    newest: u64,
}

impl PacketDetector {
    pub(super) fn new(hints: HintTable, mac_keys: Arc<[MacKey]>) -> Self {
        let mut detector = Self::default();
        detector.set_keys(hints, mac_keys);
        detector
    }

    /// Replaces the hints and the keys for HMACs. The keys keep their rates if their number is the
    /// same.
    pub(super) fn set_keys(&mut self, hints: HintTable, mac_keys: Arc<[MacKey]>) {
        let keys = hints.minutes().values().map(Vec::len).max().unwrap_or(0);
        if keys != self.keys.len() {
            let limit = Limit::new(MAX_PACKET_RATE, MAX_PACKET_RATE);
            self.keys = vec![KeyLimit { limit, last: Default::default(), next: 0, newest: 0 }; keys];
        }
        self.hints = hints;
        self.mac_detector.set_keys(mac_keys);
    }

    pub(super) fn hints_mut(&mut self) -> &mut HintTable {
        &mut self.hints
    }

    /// Handles a packet at the time `now`, in nanoseconds.
    pub(super) fn take(&mut self, knock: &Knock, packet: PacketForm<'_>, now: u64) {
        self.seen += 1;
        let bytes: &[u8] = match packet {
            PacketForm::Own(packet) if self.is_detected(knock, packet, now) => packet,
            PacketForm::Fwknop(payload) if self.is_authentic(knock, payload, now) => payload,
            PacketForm::Own(_) | PacketForm::Fwknop(_) => return,
        };
        self.found.push(DetectedPacket { knock: *knock, bytes: bytes.to_vec() });
    }

    /// Returns true if a packet of portknock's own format is to be passed on. Counts those without a
    /// hint.
    fn is_detected(&mut self, knock: &Knock, packet: &[u8; PACKET_LENGTH], now: u64) -> bool {
        let found = self.hints.find(packet);
        let Some((key, minute)) = found.and_then(|(key, minute)| Some((self.keys.get_mut(key as usize)?, minute)))
        else {
            self.bogus += 1;
            self.unknown.add(now, || UnknownPacket { knock: *knock, bytes: *packet });
            return false;
        };
        let nonce = std::array::from_fn(|i| packet[HINT_LENGTH + i]);
        // Only the key makes the first packet of a minute, so a flood with the hints of earlier packets
        // does not hold it up.
        let is_first = minute > key.newest;
        if !is_first && (key.last.contains(&nonce) || !key.limit.take(now)) {
            return false;
        }
        key.newest = key.newest.max(minute);
        key.last[key.next] = nonce;
        key.next = (key.next + 1) % REMEMBERED;
        true
    }

    /// Returns true if a packet of fwknop's format is to be passed on. Counts those without an HMAC.
    fn is_authentic(&mut self, knock: &Knock, payload: &[u8], now: u64) -> bool {
        let verdict = self.mac_detector.take(payload, now);
        self.bogus += u64::from(verdict.is_bogus());
        if matches!(verdict, MacVerdict::Bogus | MacVerdict::Unchecked) {
            self.unauthentic.add(now, || UnauthenticPacket { knock: *knock, bytes: payload.to_vec() });
        }
        verdict == MacVerdict::Authentic
    }

    /// Returns the packets that were detected since the last call.
    pub(super) fn take_found(&mut self) -> Vec<DetectedPacket> {
        std::mem::take(&mut self.found)
    }

    /// Returns the packets without a hint or an HMAC that are worth a search: for the clock of a client,
    /// or for the protection that it lacks.
    pub(super) fn take_unknown(&mut self, now: u64) -> Vec<DetectedPacket> {
        let unknown = self.unknown.take(now);
        let unknown = unknown.map(|UnknownPacket { knock, bytes }| DetectedPacket { knock, bytes: bytes.to_vec() });
        let unauthentic = self.unauthentic.take(now);
        let unauthentic = unauthentic.map(|UnauthenticPacket { knock, bytes }| DetectedPacket { knock, bytes });
        unknown.into_iter().chain(unauthentic).collect()
    }

    /// Returns the time at which [`PacketDetector::take_unknown`] is due, in nanoseconds.
    pub(super) fn unknown_due(&self) -> Option<u64> {
        self.unknown.due().into_iter().chain(self.unauthentic.due()).min()
    }

    /// Returns the number of datagrams of the form of a packet.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the number of datagrams without a hint or an HMAC.
    pub(super) fn bogus(&self) -> u64 {
        self.bogus
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::packet::{Protocol, TcpFlags};
    use crate::time::Timestamp;

    const SECOND: u64 = 1_000_000_000;

    fn knock() -> Knock {
        Knock {
            time: Timestamp::default(),
            source: IpAddr::from([192, 0, 2, 1]),
            destination: IpAddr::from([192, 0, 2, 2]),
            port: 62_201,
            protocol: Protocol::Udp,
            flags: TcpFlags::NONE,
            source_port: 1,
            sequence_number: 0,
        }
    }

    fn packet(key: u8, number: u16) -> [u8; PACKET_LENGTH] {
        let mut packet = [key; PACKET_LENGTH];
        packet[HINT_LENGTH..HINT_LENGTH + 2].copy_from_slice(&number.to_be_bytes());
        packet
    }

    fn detector() -> PacketDetector {
        let mut hints = HintTable::default();
        hints.add(1, vec![[1; HINT_LENGTH], [2; HINT_LENGTH]]);
        PacketDetector::new(hints, Arc::new([]))
    }

    #[test]
    fn packets_with_a_hint_are_passed_on_and_others_are_counted() {
        let mut detector = detector();
        for number in 0..20_000 {
            detector.take(&knock(), PacketForm::Own(&packet(7, number)), 1);
        }
        detector.take(&knock(), PacketForm::Own(&packet(2, 1)), 1);
        assert_eq!(detector.take_found().iter().map(|found| found.bytes.clone()).collect::<Vec<_>>(), [packet(2, 1)]);
        assert_eq!((detector.bogus(), detector.take_found().len()), (20_000, 0));
    }

    #[test]
    fn each_key_has_its_own_rate() {
        let mut detector = detector();
        for number in 0..1_000 {
            detector.take(&knock(), PacketForm::Own(&packet(1, number)), u64::from(number) * SECOND / 1_000);
        }
        assert!((8..=17).contains(&detector.take_found().len()));
        detector.take(&knock(), PacketForm::Own(&packet(2, 1)), SECOND);
        assert_eq!(detector.take_found().len(), 1);
    }

    #[test]
    fn a_flood_with_a_known_hint_does_not_hold_up_the_first_packet_of_a_later_minute() {
        let mut detector = detector();
        for number in 0..1_000 {
            detector.take(&knock(), PacketForm::Own(&packet(1, number)), 1);
        }
        detector.take_found();
        detector.hints_mut().add(2, vec![[3; HINT_LENGTH], [4; HINT_LENGTH]]);
        detector.take(&knock(), PacketForm::Own(&packet(3, 1)), 1);
        assert_eq!(detector.take_found().len(), 1);
        detector.take(&knock(), PacketForm::Own(&packet(3, 2)), 1);
        assert_eq!(detector.take_found().len(), 0);
    }

    #[test]
    fn a_repeated_packet_does_not_use_up_the_rate() {
        let mut detector = detector();
        for number in 0..1_000 {
            detector.take(&knock(), PacketForm::Own(&packet(1, 1)), number * SECOND / 20_000);
        }
        detector.take(&knock(), PacketForm::Own(&packet(1, 2)), SECOND / 20);
        assert_eq!(detector.take_found().len(), 2);
    }
}
