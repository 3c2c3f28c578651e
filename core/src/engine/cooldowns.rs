//! The cooldowns of doors with keys, which apply to all of their knocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::time::Timestamp;

/// The cooldowns of doors with keys. Only authenticated knocks begin one, so that their number is
/// bounded by the number of keys.
#[derive(Debug, Default)]
pub(super) struct KeyCooldowns(HashMap<(Arc<str>, IpAddr), Timestamp, RandomState>);

impl KeyCooldowns {
    /// Begins a cooldown, unless one is running. Returns false if one is.
    pub(super) fn begin(&mut self, door: &Arc<str>, ip: IpAddr, now: Timestamp, cooldown: Duration) -> bool {
        self.0.retain(|_, end| *end > now);
        let end = now.saturating_add(cooldown);
        match self.0.entry((door.clone(), ip)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(end);
                true
            }
        }
    }
}
