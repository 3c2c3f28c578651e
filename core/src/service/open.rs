//! The open doors of a service: queries, and closing by hand.

use std::sync::Arc;

use ipnet::IpNet;

use super::turn::key_of;
use super::{DoorCounts, Service, interfaces};
use crate::network::DisplayNetwork;
use crate::openings::Opening;
use crate::printable::Printable;
use crate::time::Timestamp;

/// The reason for which [`Service::close`] closed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// No door of the configuration has this name, and neither has an opening from before.
    #[error("there is no door {}", Printable(.0))]
    UnknownDoor(String),
    /// The door exists, but is not open for this address or network.
    #[error("{} is not open for {}", Printable(.door), DisplayNetwork(*.addresses))]
    NotOpen {
        /// The door's name.
        door: String,
        /// The address or the network.
        addresses: IpNet,
    },
}

impl Service {
    /// Returns the names of the doors in the order of the configuration. Names may repeat.
    pub fn door_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.config.doors.iter().map(|door| &door.name)
    }

    /// Returns the openings, in no particular order.
    pub fn openings(&self) -> impl Iterator<Item = &Opening> {
        self.engine.openings().filter(|opening| self.withheld.is_empty() || !self.withheld.contains(&key_of(opening)))
    }

    /// Returns the time of the service's clock, which [`Opening::closes_at`] and the events use.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the interfaces that the service listens on or waits for.
    pub fn interfaces(&self) -> Vec<String> {
        interfaces(&self.config, &self.options)
    }

    /// Returns the reason for which the service does not listen on an interface, according to the
    /// notices that [`Service::next`] has returned; `None` if it does.
    pub fn absence(&self, interface: &str) -> Option<String> {
        self.tally.absence(interface)
    }

    /// Returns the counters of the doors of this name since the start, according to the notices
    /// that [`Service::next`] has returned.
    pub fn door_counts(&self, name: &str) -> DoorCounts {
        self.tally.door(name)
    }

    /// True if no command runs and no port opens.
    pub fn is_dry_run(&self) -> bool {
        !self.options.run_commands
    }

    /// Closes the openings of this door that cover this address, or all of this network, as if
    /// their time were over, and returns their number. A door has several openings for an address
    /// if a reload changed its stop command. An opening of a door with `open_prefix` is closed for
    /// its whole network. The stop commands run from the next [`Service::next`] on.
    ///
    /// # Errors
    /// Fails if there is no such opening.
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
