//! The whole pure part behind one door: fed with frames and times, drained of events.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::config::{Config, DoorId, Sequence};
use crate::decode::{Knock, LinkType};
use crate::event::Event;
use crate::openings::Opening;
use crate::time::Timestamp;

/// The addresses that count as this machine for doors without a `target`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalAddresses {
    /// Any destination counts (for capture files of unknown origin).
    #[default]
    Any,
    /// Only these.
    Only(HashSet<IpAddr>),
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Attempts that are alive.
    pub attempts: usize,
    /// Doors that stand open.
    pub openings: usize,
    /// Knocks seen, relevant or not.
    pub knocks: u64,
    /// Attempts that were pushed out of the full table.
    pub evicted: u64,
    /// First knocks that found the table full of attempts further on.
    pub refused: u64,
}

/// Configuration, packets and times in; events out.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine for the doors of `config`; every destination address counts until [`Engine::set_local_addresses`].
    pub fn new(config: &Config) -> Self {
        let _ = config;
        todo!()
    }
    /// Says which addresses are this machine's from now on.
    pub fn set_local_addresses(&mut self, addresses: LocalAddresses) {
        let _ = addresses;
        todo!()
    }
    /// Takes a captured frame. Whatever its bytes, it never panics; what is no knock only moves time on.
    pub fn feed(&mut self, link_type: LinkType, time: Timestamp, frame: &[u8]) {
        let _ = (link_type, time, frame);
        todo!()
    }
    /// Takes a knock that the caller decoded.
    pub fn handle_knock(&mut self, knock: &Knock) {
        let _ = knock;
        todo!()
    }
    /// Moves time on: what is due at `now` or before happens.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let _ = now;
        todo!()
    }
    /// The next event; call until `None` after every input.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    /// When [`Engine::handle_timeout`] is due next; may change with every input.
    pub fn poll_timeout(&mut self) -> Option<Timestamp> {
        todo!()
    }
    /// Replaces the configuration. Doors that did not change keep their attempts, openings always survive.
    pub fn reload(&mut self, config: &Config, now: Timestamp) {
        let _ = (config, now);
        todo!()
    }
    /// Gives a one-time door its next sequence, or none: it takes no knock until this is called after an opening.
    pub fn set_sequence(&mut self, door: DoorId, sequence: Option<Sequence>) {
        let _ = (door, sequence);
        todo!()
    }
    /// Takes up an opening from before the start; where it is overdue, the next [`Engine::handle_timeout`] closes it.
    pub fn restore_opening(&mut self, opening: Opening) {
        let _ = opening;
        todo!()
    }
    /// Closes every open door now, each with its event.
    pub fn close_all(&mut self, now: Timestamp) {
        let _ = now;
        todo!()
    }
    /// The counters.
    pub fn stats(&self) -> EngineStats {
        todo!()
    }
}
