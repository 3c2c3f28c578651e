//! The keys of doors with `packet = fwknop`.
//!
//! A packet does not name its key, so a packet costs one HMAC for each key.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::config::{Door, DoorId, PacketFormat};
use crate::fwknop::{self, FwknopContent, FwknopError, FwknopKey, MacKey};
use crate::keys::Fingerprint;

/// The lengths of datagrams that may be packets, in bytes. The longest packet that fwknop's clients
/// make is far shorter.
pub(crate) const PAYLOAD_LENGTHS: RangeInclusive<usize> = 36..=1500;
/// The bytes with which a packet can begin: the last four bits of `Salted__`, and two bits of the
/// salt.
pub(crate) const FIRST_BYTES: [u8; 4] = *b"89+/";

/// Returns true for the length and the first byte of a datagram that may be a packet.
pub(crate) fn may_be_packet(length: usize, first: u8) -> bool {
    PAYLOAD_LENGTHS.contains(&length) && FIRST_BYTES.contains(&first)
}

/// A key, and the doors that it opens.
#[derive(Debug)]
struct DoorKey {
    key: FwknopKey,
    fingerprint: Fingerprint,
    /// At least one.
    doors: Vec<DoorId>,
}

/// A packet that a key authenticated.
#[derive(Debug)]
pub(crate) struct AuthenticPacket<'a> {
    /// The name of the key.
    pub(crate) name: &'a Arc<str>,
    pub(crate) fingerprint: Fingerprint,
    /// The doors that the key opens; at least one.
    pub(crate) doors: &'a [DoorId],
    /// The content, or why the packet is refused.
    pub(crate) content: Result<FwknopContent, FwknopError>,
}

/// The keys of all doors with `packet = fwknop`.
#[derive(Debug, Default)]
pub(crate) struct FwknopKeys {
    keys: Vec<DoorKey>,
    /// The parts of the keys that authenticate packets, in the same order.
    mac_keys: Arc<[MacKey]>,
}

impl FwknopKeys {
    /// Returns the keys of these doors.
    pub(crate) fn new(doors: &[Door]) -> Self {
        let mut keys: Vec<DoorKey> = Vec::new();
        let mut by_fingerprint: HashMap<Fingerprint, usize> = HashMap::new();
        for (id, door) in (0..=u16::MAX).map(DoorId).zip(doors) {
            if door.packet != Some(PacketFormat::Fwknop) {
                continue;
            }
            for key in &*door.fwknop_keys {
                let fingerprint = key.fingerprint();
                let index = *by_fingerprint.entry(fingerprint).or_insert(keys.len());
                if index == keys.len() {
                    keys.push(DoorKey { key: key.clone(), fingerprint, doors: Vec::new() });
                }
                keys[index].doors.push(id);
            }
        }
        let mac_keys = keys.iter().map(|door_key| door_key.key.mac_key().clone()).collect();
        Self { keys, mac_keys }
    }

    /// Returns the parts of the keys that authenticate packets and cannot open them.
    pub(crate) fn mac_keys(&self) -> &Arc<[MacKey]> {
        &self.mac_keys
    }

    /// Opens a packet. `None` if no key authenticated it.
    pub(crate) fn open(&self, payload: &[u8]) -> Option<AuthenticPacket<'_>> {
        let mut found = None;
        for (door_key, mac_key) in self.keys.iter().zip(&*self.mac_keys) {
            if !mac_key.verify(payload) {
                continue;
            }
            let content = fwknop::open(&door_key.key, payload);
            // Keys of several clients may have the same HMAC key.
            let is_other_key = content == Err(FwknopError::Malformed);
            let DoorKey { key, fingerprint, doors } = door_key;
            found = Some(AuthenticPacket { name: &key.name, fingerprint: *fingerprint, doors, content });
            if !is_other_key {
                break;
            }
        }
        found
    }

    /// Returns the reason for which a packet of the key with this index is refused that has no valid
    /// HMAC, with the name of the key and one of its doors. `None` if the key did not make the packet.
    pub(crate) fn diagnose(&self, index: usize, payload: &[u8]) -> Option<(&Arc<str>, DoorId, FwknopError)> {
        let DoorKey { key, doors, .. } = self.keys.get(index)?;
        let (error, _) = fwknop::diagnose(key, payload)?;
        Some((&key.name, *doors.first()?, error))
    }

    /// Returns the number of keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
