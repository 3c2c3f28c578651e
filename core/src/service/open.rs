//! The doors that stand open, for those who ask and those who close them by hand.

use std::sync::Arc;

use ipnet::IpNet;

use super::turn::key_of;
use super::{DoorCounts, Service, interfaces};
use crate::network::Written;
use crate::openings::Opening;
use crate::printable::Printable;
use crate::time::Timestamp;

/// Why nothing was closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// No door has this name, and none of this name stands open from before.
    #[error("there is no door {}", Printable(.0))]
    UnknownDoor(String),
    /// The door is there, but not open for this address or network.
    #[error("{} is not open for {}", Printable(.door), Written(*.addresses))]
    NotOpen {
        /// The door's name.
        door: String,
        /// The address, or the network.
        addresses: IpNet,
    },
}

impl Service {
    /// The names of the doors of the configuration, in its order; names may repeat.
    pub fn door_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.config.doors.iter().map(|door| &door.name)
    }

    /// The doors that stand open, in no particular order.
    pub fn openings(&self) -> impl Iterator<Item = &Opening> {
        self.engine.openings().filter(|opening| self.withheld.is_empty() || !self.withheld.contains(&key_of(opening)))
    }

    /// The service's time, which [`Opening::closes_at`] and the events are by.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The interfaces that are listened on, or waited for.
    pub fn interfaces(&self) -> Vec<String> {
        interfaces(&self.config, &self.options)
    }

    /// Why an interface is not listened on, by the notices that [`Service::next`] has returned; `None` if it is.
    pub fn absence(&self, interface: &str) -> Option<String> {
        self.tally.absence(interface)
    }

    /// What happened at the doors of this name since the start, by the notices that [`Service::next`] has returned.
    pub fn door_counts(&self, name: &str) -> DoorCounts {
        self.tally.door(name)
    }

    /// True if no command runs and no port opens.
    pub fn is_dry_run(&self) -> bool {
        !self.options.run_commands
    }

    /// Closes what this door has open for this address, or for all of this network, as if its time were over, and gives how
    /// many openings that were (a door whose stop command was changed by a reload may have one for each). A door with
    /// `open_prefix` closes for the whole network that has the address. The stop commands run from the next
    /// [`Service::next`] on.
    ///
    /// # Errors
    /// Fails where there is nothing to close.
    pub fn close(&mut self, door: &str, addresses: impl Into<IpNet>) -> Result<usize, CloseError> {
        let addresses = addresses.into();
        let is_covered = |opening: &&Opening| opening.net.contains(&addresses) && &*opening.door == door;
        let open = self.openings().filter(is_covered).count();
        if open == 0 {
            let is_known =
                self.door_names().chain(self.openings().map(|opening| &opening.door)).any(|name| **name == *door);
            let door = door.to_owned();
            return Err(if is_known { CloseError::NotOpen { door, addresses } } else { CloseError::UnknownDoor(door) });
        }
        self.engine.close(door, addresses, self.clock.now());
        self.turn_due = true;
        Ok(open)
    }
}
