//! Doors that stand open and the times at which they close.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;

use crate::config::OpenPort;
use crate::time::Timestamp;
use crate::timeline::{CHECKED, Linked, Links, List, NIL, Timeline};

/// A door that stands open for one address or for one network, with what closes it and when. It holds all that is needed to close the door
/// even where the configuration no longer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The door's name.
    pub door: Arc<str>,
    /// The source address that opened it.
    pub ip: IpAddr,
    /// When it closes: the stop command is due, and the ports are shut.
    pub closes_at: Timestamp,
    /// The stop command, `%IP%` and `%NET%` replaced; `None` where only ports are open.
    pub stop_command: Option<String>,
    /// The ports that are open without a command.
    pub open: Arc<[OpenPort]>,
    /// The network that the door is open for: the address alone, unless the door has `open_prefix`.
    pub net: IpNet,
}

#[derive(Debug)]
struct Slot {
    /// `None` while the slot is free.
    opening: Option<Opening>,
    class: usize,
    by_due: Links,
    by_door: Links,
}

#[derive(Debug)]
struct ByDue;

#[derive(Debug)]
struct ByDoor;

impl Linked<Slot> for ByDoor {
    fn links(slot: &mut Slot) -> &mut Links {
        &mut slot.by_door
    }
}

/// The openings of one door, the one first whose latest knock is the oldest.
#[derive(Debug, Default)]
struct DoorOpenings {
    list: List<ByDoor>,
    count: usize,
}

impl Linked<Slot> for ByDue {
    fn links(slot: &mut Slot) -> &mut Links {
        &mut slot.by_due
    }
}

/// All openings, found by what they are and ordered by when they close.
#[derive(Debug)]
pub(crate) struct Openings {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By door and network.
    table: HashTable<u32>,
    /// Of each door that has openings.
    doors: HashMap<Arc<str>, DoorOpenings, RandomState>,
    hasher: RandomState,
    timeline: Timeline<ByDue>,
    /// For each span that doors stay open the class of the timeline.
    classes: HashMap<Duration, usize, RandomState>,
}

impl Openings {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            doors: HashMap::default(),
            hasher: RandomState::default(),
            timeline: Timeline::new(0),
            classes: HashMap::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Opening> {
        self.slots.iter().filter_map(|slot| slot.opening.as_ref())
    }

    /// True where the same is open already.
    pub(crate) fn contains(&self, opening: &Opening) -> bool {
        self.find(opening).is_some()
    }

    /// The opening of this network that opens this port for longest, of those that are wanted. This looks once at each door
    /// that has openings.
    pub(crate) fn holder(&self, net: IpNet, port: OpenPort, is_wanted: impl Fn(&Opening) -> bool) -> Option<&Opening> {
        let opens_it = |opening: &Opening| opening.open.contains(&port) && is_wanted(opening);
        let found = self.doors.keys().filter_map(|door| self.find_where(door, net, opens_it));
        let openings = found.filter_map(|index| self.slots[index as usize].opening.as_ref());
        openings.max_by_key(|opening| opening.closes_at)
    }

    /// The address that opened this door for this network, of the openings that are wanted. Of several the one of `ip`
    /// counts, or else of the lowest address.
    pub(crate) fn opener(
        &self,
        door: &str,
        net: IpNet,
        ip: IpAddr,
        is_wanted: impl Fn(&Opening) -> bool,
    ) -> Option<IpAddr> {
        let found =
            self.all_where(door, net, is_wanted).filter_map(|index| self.slots[index as usize].opening.as_ref());
        found.map(|opening| opening.ip).min_by_key(|opener| (*opener != ip, *opener))
    }

    /// True if this stop command has something to close at this door for this network.
    pub(crate) fn is_open(&self, door: &str, net: IpNet, stop_command: &str) -> bool {
        self.find_where(door, net, |opening| opening.stop_command.as_deref() == Some(stop_command)).is_some()
    }

    /// Opens for `span`, or moves the closing time of what is open already.
    pub(crate) fn open(&mut self, opening: Opening, span: Duration) {
        if let Some(index) = self.find(&opening) {
            self.remove(index);
        }
        let class = *self.classes.entry(span).or_insert_with(|| self.timeline.add_class());
        self.insert(opening, class);
        self.check_invariants();
    }

    /// Takes up openings from before the start, which keep their closing times. One that is held already keeps the
    /// later of its two closing times.
    pub(crate) fn restore(&mut self, openings: impl IntoIterator<Item = Opening>) {
        let mut openings: Vec<_> = openings.into_iter().collect();
        openings.sort_by_key(|opening| opening.closes_at);
        let class = self.timeline.add_class();
        for opening in openings {
            match self.find(&opening) {
                Some(index) if self.closes_at(index) >= opening.closes_at => continue,
                Some(index) => drop(self.remove(index)),
                None => {}
            }
            self.insert(opening, class);
        }
        self.check_invariants();
    }

    /// When the next door closes, if not later than `until`.
    #[inline]
    pub(crate) fn next_due(&mut self, until: Timestamp) -> Option<Timestamp> {
        self.first(until).map(|(due, _)| due)
    }

    /// Takes out what closes first, if not later than `until`.
    pub(crate) fn take_first_due(&mut self, until: Timestamp) -> Option<Opening> {
        let (_, index) = self.first(until)?;
        let taken = self.remove(index);
        self.check_invariants();
        taken
    }

    /// Takes out all that are open at this door for all of these addresses, the first slot first. This reads all openings.
    pub(crate) fn take_covering(&mut self, door: &str, addresses: IpNet) -> Vec<Opening> {
        let covers = |opening: &Opening| *opening.door == *door && opening.net.contains(&addresses);
        let slots = (0..).zip(&self.slots).filter(|(_, slot)| slot.opening.as_ref().is_some_and(covers));
        let found: Vec<u32> = slots.map(|(index, _)| index).collect();
        let taken = found.into_iter().filter_map(|index| self.remove(index)).collect();
        self.check_invariants();
        taken
    }

    /// Takes out one that is open at this door for this network and that `is_wanted`.
    pub(crate) fn take(&mut self, door: &str, net: IpNet, is_wanted: impl Fn(&Opening) -> bool) -> Option<Opening> {
        let index = self.find_where(door, net, |opening| is_wanted(opening))?;
        let taken = self.remove(index);
        self.check_invariants();
        taken
    }

    /// Takes out the oldest opening of a door where the door has `limit` of them or more.
    pub(crate) fn take_oldest_beyond(&mut self, door: &str, limit: usize) -> Option<Opening> {
        let openings = self.doors.get(door).filter(|openings| openings.count >= limit)?;
        let taken = self.remove(openings.list.head());
        self.check_invariants();
        taken
    }

    /// Debug builds end every change with this.
    fn check_invariants(&mut self) {
        if !cfg!(debug_assertions) || self.slots.len() > CHECKED {
            return;
        }
        assert_eq!(self.iter().count(), self.len(), "openings in the table");
        assert_eq!(self.free.len() + self.len(), self.slots.len(), "slots that are free or open");
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(opening) = &slot.opening {
                assert_eq!(self.find(opening).map(|index| index as usize), Some(index), "the place of {opening:?}");
            }
        }
        let due = |slot: &Slot| slot.opening.as_ref().map(|opening| (slot.class, opening.closes_at));
        self.timeline.check(&mut self.slots, self.table.len(), |_, slot| {
            due(slot).unwrap_or((usize::MAX, Timestamp::default()))
        });
        for (door, openings) in &self.doors {
            let is_of_door = |_, slot: &Slot| slot.opening.as_ref().is_some_and(|opening| opening.door == *door);
            assert_eq!(openings.list.check(&mut self.slots, is_of_door), openings.count, "openings of {door}");
            assert!(openings.count > 0, "{door} has none");
        }
        assert_eq!(self.doors.values().map(|openings| openings.count).sum::<usize>(), self.len(), "openings of doors");
    }

    #[inline]
    fn first(&mut self, until: Timestamp) -> Option<(Timestamp, u32)> {
        self.timeline.first(&self.slots, until, |_, slot| {
            slot.opening.as_ref().map_or(Timestamp::default(), |opening| opening.closes_at)
        })
    }

    fn closes_at(&self, index: u32) -> Timestamp {
        self.slots[index as usize].opening.as_ref().map_or(Timestamp::default(), |opening| opening.closes_at)
    }

    /// Openings are the same when the same command closes the same door for the same network: a door whose stop command
    /// changed by a reload is opened again, and the old command still runs.
    fn find(&self, wanted: &Opening) -> Option<u32> {
        self.find_where(&wanted.door, wanted.net, |opening| opening.stop_command == wanted.stop_command)
    }

    fn find_where(&self, door: &str, net: IpNet, is_wanted: impl Fn(&Opening) -> bool) -> Option<u32> {
        // The first of several, since the order in the table differs from run to run.
        self.all_where(door, net, is_wanted).min()
    }

    fn all_where(&self, door: &str, net: IpNet, is_wanted: impl Fn(&Opening) -> bool) -> impl Iterator<Item = u32> {
        let is_it = move |opening: &Opening| opening.net == net && *opening.door == *door && is_wanted(opening);
        let held = move |index: &u32| self.slots[*index as usize].opening.as_ref().is_some_and(&is_it);
        self.table.iter_hash(hash_of(&self.hasher, door, net)).copied().filter(held)
    }

    fn insert(&mut self, opening: Opening, class: usize) {
        let (hash, closes_at, door) =
            (hash_of(&self.hasher, &opening.door, opening.net), opening.closes_at, opening.door.clone());
        let slot = Slot { opening: Some(opening), class, by_due: Links::default(), by_door: Links::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                // Four thousand million open doors do not fit into memory.
                u32::try_from(self.slots.len() - 1).unwrap_or(NIL)
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hash, index, |&index| {
            slots[index as usize].opening.as_ref().map_or(0, |opening| hash_of(hasher, &opening.door, opening.net))
        });
        self.timeline.push(&mut self.slots, class, index, |_| closes_at);
        let of_door = self.doors.entry(door).or_default();
        of_door.list.push_back(&mut self.slots, index);
        of_door.count += 1;
    }

    fn remove(&mut self, index: u32) -> Option<Opening> {
        let slot = &mut self.slots[index as usize];
        let (class, opening) = (slot.class, slot.opening.take()?);
        let hash = hash_of(&self.hasher, &opening.door, opening.net);
        if let Ok(entry) = self.table.find_entry(hash, |&held| held == index) {
            entry.remove();
        }
        self.timeline.unlink(&mut self.slots, class, index);
        if let Some(of_door) = self.doors.get_mut(&opening.door) {
            of_door.list.unlink(&mut self.slots, index);
            of_door.count -= 1;
            if of_door.count == 0 {
                self.doors.remove(&opening.door);
            }
        }
        self.free.push(index);
        Some(opening)
    }
}

fn hash_of(hasher: &RandomState, door: &str, net: IpNet) -> u64 {
    hasher.hash_one((net, door))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(door: &str, closes_at: u64) -> Opening {
        Opening {
            door: door.into(),
            ip: [10, 0, 0, 1].into(),
            closes_at: Timestamp::from_secs(closes_at),
            stop_command: Some("close".into()),
            open: Arc::new([]),
            net: IpAddr::from([10, 0, 0, 1]).into(),
        }
    }

    fn of_host(host: u8, opening: Opening) -> Opening {
        let ip = IpAddr::from([10, 0, 0, host]);
        Opening { ip, net: ip.into(), ..opening }
    }

    fn drain(openings: &mut Openings, until: u64) -> Vec<(String, u64)> {
        std::iter::from_fn(|| openings.take_first_due(Timestamp::from_secs(until)))
            .map(|opening| (opening.door.to_string(), opening.closes_at.as_nanos() / 1_000_000_000))
            .collect()
    }

    #[test]
    fn closes_in_due_order_and_an_extension_moves_the_time() {
        let mut openings = Openings::new();
        openings.open(opening("slow", 30), Duration::from_secs(30));
        openings.open(opening("fast", 5), Duration::from_secs(5));
        assert!(openings.contains(&opening("fast", 8)));
        openings.open(opening("fast", 8), Duration::from_secs(5));
        assert_eq!(openings.len(), 2);
        assert_eq!(drain(&mut openings, 7), []);
        assert_eq!(openings.next_due(Timestamp::from_secs(100)), Some(Timestamp::from_secs(8)));
        assert_eq!(drain(&mut openings, 100), [("fast".into(), 8), ("slow".into(), 30)]);
        assert_eq!(openings.len(), 0);
    }

    #[test]
    fn a_door_with_another_stop_command_is_another_opening() {
        let mut openings = Openings::new();
        openings.open(opening("door", 5), Duration::from_secs(5));
        let changed = Opening { stop_command: Some("close better".into()), ..opening("door", 6) };
        assert!(!openings.contains(&changed));
        openings.open(changed, Duration::from_secs(5));
        assert_eq!(openings.iter().count(), 2);
    }

    #[test]
    fn all_of_a_door_and_an_address_are_taken_and_nothing_else() {
        let mut openings = Openings::new();
        let other = Opening { stop_command: Some("close better".into()), ..opening("door", 6) };
        let of_another = of_host(2, opening("door", 7));
        openings.restore([opening("door", 5), other, of_another, opening("back", 8)]);
        let ip = IpAddr::from([10, 0, 0, 1]).into();
        let taken: Vec<_> = std::iter::from_fn(|| openings.take("door", ip, |_| true)).collect();
        assert_eq!((taken.len(), openings.take("doo", ip, |_| true)), (2, None));
        assert_eq!(drain(&mut openings, 100), [("door".into(), 7), ("back".into(), 8)]);
    }

    #[test]
    fn a_port_is_open_as_long_as_one_of_its_doors_is() {
        let [ssh, http] = ["tcp/22", "tcp/80"].map(|text| {
            let config = crate::config::parse(format!("[a]\nsequence = 1\nopen = {text}\n").as_bytes());
            config.config.unwrap().doors[0].open[0]
        });
        let ip = IpAddr::from([10, 0, 0, 1]).into();
        let other = IpAddr::from([10, 0, 0, 2]).into();
        let mut openings = Openings::new();
        openings.restore(["a", "b"].map(|door| Opening { open: [ssh].into(), ..opening(door, 5) }));
        let is_open = |openings: &Openings, ip, port| openings.holder(ip, port, |_| true).is_some();
        assert!(is_open(&openings, ip, ssh));
        assert!(!is_open(&openings, ip, http) && !is_open(&openings, other, ssh));
        openings.take("a", ip, |_| true);
        assert!(is_open(&openings, ip, ssh), "door b");
        openings.take("b", ip, |_| true);
        assert!(!is_open(&openings, ip, ssh));
    }

    #[test]
    fn the_oldest_of_a_door_gives_way_and_a_further_knock_makes_an_opening_young() {
        let mut openings = Openings::new();
        let of = |door: &str, host, closes_at| of_host(host, opening(door, closes_at));
        openings.open(of("other", 9, 3), Duration::from_secs(3));
        for host in 1..=3 {
            openings.open(of("door", host, 5), Duration::from_secs(5));
        }
        openings.open(of("door", 1, 6), Duration::from_secs(5));
        assert_eq!(openings.take_oldest_beyond("door", 4), None);
        assert_eq!(openings.take_oldest_beyond("nothing", 0), None);
        let mut hosts = Vec::new();
        while let Some(taken) = openings.take_oldest_beyond("door", 1) {
            hosts.push(taken.ip);
        }
        assert_eq!(hosts, [2, 3, 1].map(|host| IpAddr::from([10, 0, 0, host])));
        assert_eq!(drain(&mut openings, 100), [("other".into(), 3)]);
    }

    #[test]
    fn restored_openings_keep_the_later_closing_time() {
        let mut openings = Openings::new();
        openings.restore([opening("b", 9), opening("a", 3), opening("a", 4), opening("b", 2)]);
        assert_eq!(drain(&mut openings, 100), [("a".into(), 4), ("b".into(), 9)]);
    }
}
