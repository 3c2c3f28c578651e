//! Finds out why a packet of fwknop's format has no valid HMAC: a client may be set up without one.

use std::sync::Arc;

use crate::config::DoorId;
use crate::decode::Knock;
use crate::fwknop::FwknopError;
use crate::fwknop_keys::FwknopKeys;

/// A packet without a valid HMAC, with the time and the addresses of its datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnauthenticPacket {
    pub(crate) knock: Knock,
    pub(crate) bytes: Vec<u8>,
}

/// A search for the key of a packet.
#[derive(Debug)]
pub(crate) struct WeakSearch {
    packet: UnauthenticPacket,
    /// The index of the key to try next.
    next: usize,
}

/// The state of a search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WeakSearchState {
    /// More must be tried.
    Searching,
    /// No key made the packet.
    NotFound,
    /// A key made the packet.
    Found {
        /// The name of the key.
        key: Arc<str>,
        /// A door that the key opens.
        door: DoorId,
        /// The reason for which the packet is refused.
        error: FwknopError,
    },
}

impl WeakSearch {
    pub(crate) fn new(packet: UnauthenticPacket) -> Self {
        Self { packet, next: 0 }
    }

    pub(crate) fn packet(&self) -> &UnauthenticPacket {
        &self.packet
    }

    /// Tries the next `count` keys.
    pub(crate) fn advance(&mut self, keys: &FwknopKeys, count: u32) -> WeakSearchState {
        for _ in 0..count {
            if self.next >= keys.len() {
                return WeakSearchState::NotFound;
            }
            if let Some((key, door, error)) = keys.diagnose(self.next, &self.packet.bytes) {
                return WeakSearchState::Found { key: key.clone(), door, error };
            }
            self.next += 1;
        }
        WeakSearchState::Searching
    }
}
