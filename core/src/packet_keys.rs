//! The keys of doors with `packet = portknock`, and the hints by which a packet's key is found.
//!
//! A packet begins with a hint that only its key makes, and only in one minute. The hints of the
//! minutes that a packet may be from are in one table, so that a packet without a key costs one
//! lookup, whatever the number of keys.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::config::{Door, DoorId, PacketFormat};
use crate::keys::{Fingerprint, PreparedKey};
use crate::spa::{self, HINT_LENGTH, PACKET_LENGTH, PacketContent};
use crate::time::Timestamp;

/// A hint of a key in a minute.
pub(crate) type Hint = [u8; HINT_LENGTH];

/// The hints of all keys in the minutes that packets may be from.
#[derive(Clone, Debug, Default)]
pub(crate) struct HintTable {
    /// The index of the key and the minute, by hint.
    by_hint: HashMap<Hint, (u32, u64), RandomState>,
    /// The hints of each minute, in the order of the keys.
    minutes: BTreeMap<u64, Vec<Hint>>,
}

impl HintTable {
    /// Adds the hints of a minute, in the order of the keys.
    pub(crate) fn add(&mut self, minute: u64, hints: Vec<Hint>) {
        self.by_hint.extend((0..).zip(&hints).map(|(key, hint)| (*hint, (key, minute))));
        self.minutes.insert(minute, hints);
    }

    /// Removes the hints of all minutes except these.
    pub(crate) fn keep(&mut self, minutes: &RangeInclusive<u64>) {
        let by_hint = &mut self.by_hint;
        self.minutes.retain(|minute, hints| {
            let is_kept = minutes.contains(minute);
            for hint in hints.iter().filter(|_| !is_kept) {
                by_hint.remove(hint);
            }
            is_kept
        });
    }

    /// Returns the hints of each minute.
    pub(crate) fn minutes(&self) -> &BTreeMap<u64, Vec<Hint>> {
        &self.minutes
    }

    /// Returns the index of the key and the minute of a packet, if it has the form of one.
    pub(crate) fn find(&self, payload: &[u8]) -> Option<(u32, u64)> {
        self.by_hint.get(payload.first_chunk()?).copied()
    }
}

/// A key, and the doors that it opens.
#[derive(Debug)]
struct PacketKey {
    name: Arc<str>,
    prepared: PreparedKey,
    fingerprint: Fingerprint,
    /// At least one.
    doors: Vec<DoorId>,
}

/// A packet whose authentication succeeded.
#[derive(Debug)]
pub(crate) struct OpenedPacket<'a> {
    /// The name of the key.
    pub(crate) name: &'a Arc<str>,
    pub(crate) fingerprint: Fingerprint,
    /// The doors that the key opens; at least one.
    pub(crate) doors: &'a [DoorId],
    pub(crate) content: PacketContent,
}

/// The keys of all doors with `packet`.
#[derive(Debug, Default)]
pub(crate) struct PacketKeys {
    keys: Vec<PacketKey>,
    hints: HintTable,
    /// The minute by the wall clock of the last turn.
    minute: Option<u64>,
}

impl PacketKeys {
    /// Returns the keys of these doors, without hints until the first turn.
    pub(crate) fn new(doors: &[Door]) -> Self {
        let mut keys: Vec<PacketKey> = Vec::new();
        let mut by_fingerprint: HashMap<Fingerprint, usize> = HashMap::new();
        for (id, door) in (0..=u16::MAX).map(DoorId).zip(doors) {
            if door.packet != Some(PacketFormat::Portknock) {
                continue;
            }
            for named in &*door.keys {
                let fingerprint = named.key.fingerprint();
                let index = *by_fingerprint.entry(fingerprint).or_insert(keys.len());
                if index == keys.len() {
                    let (name, prepared) = (named.name.clone(), named.key.prepare());
                    keys.push(PacketKey { name, prepared, fingerprint, doors: Vec::new() });
                }
                keys[index].doors.push(id);
            }
        }
        Self { keys, hints: HintTable::default(), minute: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn hints(&self) -> &HintTable {
        &self.hints
    }

    pub(crate) fn into_hints(self) -> HintTable {
        self.hints
    }

    /// Adds the hints of the minutes that a packet may be from at `wall`, the wall clock's time, and
    /// removes the others. Returns true if they changed.
    pub(crate) fn turn(&mut self, wall: Timestamp, skew: Duration) -> bool {
        if self.keys.is_empty() || !self.needs_turn(wall) {
            return false;
        }
        let present = spa::minute_of(wall);
        self.minute = Some(present);
        let reach = spa::reach_minutes(skew);
        let minutes = present.saturating_sub(reach)..=present.saturating_add(reach);
        self.hints.keep(&minutes);
        for minute in minutes {
            if !self.hints.minutes.contains_key(&minute) {
                let hints = self.keys.iter().map(|key| spa::hint(&key.prepared, minute)).collect();
                self.hints.add(minute, hints);
            }
        }
        true
    }

    /// True if [`PacketKeys::turn`] would change hints.
    pub(crate) fn needs_turn(&self, wall: Timestamp) -> bool {
        !self.keys.is_empty() && self.minute != Some(spa::minute_of(wall))
    }

    /// Returns the time by the wall clock at which [`PacketKeys::turn`] is due; `None` if there are
    /// no keys.
    pub(crate) fn next_turn(&self) -> Option<Timestamp> {
        let next = self.minute.map_or(0, |minute| minute + 1);
        (!self.keys.is_empty()).then(|| Timestamp::from_secs(next.saturating_mul(60)))
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Opens a packet as if the key with this index had made it in this minute. Returns the name and
    /// the fingerprint of the key, one of its doors and the content, or `None` if it has not made the packet.
    pub(crate) fn try_open(
        &self,
        key: usize,
        minute: u64,
        packet: &[u8; PACKET_LENGTH],
    ) -> Option<(&Arc<str>, Fingerprint, DoorId, PacketContent)> {
        let key = self.keys.get(key)?;
        if packet[..HINT_LENGTH] != spa::hint(&key.prepared, minute) {
            return None;
        }
        Some((&key.name, key.fingerprint, *key.doors.first()?, spa::open(&key.prepared, minute, packet)?))
    }

    /// Opens a packet. `None` if no key made it.
    pub(crate) fn open(&self, packet: &[u8; PACKET_LENGTH]) -> Option<OpenedPacket<'_>> {
        let (key, minute) = self.hints.find(packet)?;
        let key = self.keys.get(key as usize)?;
        let content = spa::open(&key.prepared, minute, packet)?;
        Some(OpenedPacket { name: &key.name, fingerprint: key.fingerprint, doors: &key.doors, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::counting_key;
    use crate::keys::{Key, NamedKey};

    const SKEW: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Key {
        counting_key().for_server(name)
    }

    fn doors() -> Vec<Door> {
        let named = |name: &str| NamedKey { name: name.into(), key: key(name) };
        let packet = |keys: &[&str]| Door {
            packet: Some(PacketFormat::Portknock),
            keys: keys.iter().map(|name| named(name)).collect(),
            ..Door::new("ssh", None)
        };
        vec![Door::new("plain", None), packet(&["a", "b"]), packet(&["b", "c"])]
    }

    fn packet(name: &str, time: Timestamp) -> [u8; PACKET_LENGTH] {
        let content = PacketContent { time, address: None, seconds: 0, door: "ssh".into() };
        spa::seal(&key(name), &content).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_key_is_found_by_its_hint_with_all_its_doors() {
        let mut keys = PacketKeys::new(&doors());
        assert!(keys.open(&packet("a", at(0))).is_none(), "before the first turn");
        assert!(keys.turn(at(0), SKEW));
        assert!(!keys.turn(at(59), SKEW));
        for (name, ids) in [("a", &[1][..]), ("b", &[1, 2]), ("c", &[2])] {
            let packet = packet(name, at(30));
            let opened = keys.open(&packet).unwrap();
            assert_eq!(opened.doors.iter().map(|door| door.0).collect::<Vec<_>>(), ids);
            assert_eq!((&**opened.name, &*opened.content.door), (name, "ssh"));
        }
        assert!(keys.open(&packet("d", at(30))).is_none());
        assert!(keys.open(&[0; PACKET_LENGTH]).is_none());
    }

    #[test]
    fn every_time_within_the_skew_is_found_and_old_hints_are_removed() {
        let mut keys = PacketKeys::new(&doors());
        for skew in [1, 60, 61, 600] {
            for now in (0..7_200).step_by(37) {
                keys.turn(at(now), Duration::from_secs(skew));
                for time in [now.saturating_sub(skew), now, now + skew] {
                    assert!(keys.open(&packet("a", at(time))).is_some(), "{skew} {now} {time}");
                }
                assert!(keys.open(&packet("a", at(now + skew.div_ceil(60) * 60 + 120))).is_none());
            }
            let minutes = keys.hints.minutes.len();
            assert_eq!(keys.hints.by_hint.len(), 3 * minutes);
            keys.minute = None;
            keys.hints = HintTable::default();
        }
    }

    #[test]
    fn a_clock_that_is_set_moves_the_hints() {
        let mut keys = PacketKeys::new(&doors());
        keys.turn(at(100_000), SKEW);
        assert!(keys.needs_turn(at(0)));
        keys.turn(at(0), SKEW);
        assert!(keys.open(&packet("a", at(0))).is_some());
        assert!(keys.open(&packet("a", at(100_000))).is_none());
        assert_eq!(keys.next_turn(), Some(at(60)));
    }
}
