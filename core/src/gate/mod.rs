//! The gate: ports that the daemon opens in the kernel's firewall without starting a process, and
//! that the kernel closes.
//!
//! An opening is an element of an nftables set, with the source, the protocol, the port and a
//! timeout. With `Gate = own` the managed table refuses all sources that are not in its sets (see
//! `table.rs`). With `Gate = set …` the rules of the administrator search the administrator's sets,
//! and the gate changes only elements of these sets. There are two sets for addresses and further
//! sets for networks (see `lengths.rs`). The gate requires `CAP_NET_ADMIN` and Linux 5.10 or later.

mod element;
mod elements;
mod error;
mod lengths;
mod message;
mod numbers;
mod rule;
mod sets;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

pub use element::Element;
pub use error::GateError;
use ipnet::IpNet;
pub(crate) use lengths::set_name;
use lengths::{Lengths, SetOf, set_of};
use message::{Kind, Messages};
use numbers::*;
use sets::Sets;
use socket::{Failure, NftSocket};
use table::{MadeRule, Owner};
pub(crate) use table::{SETS, TABLE};

use crate::config::{self, Config, OpenPort, Refusal};
use crate::sys::nfnetlink::NfWatch;

/// Maximum number of elements in one transaction. A larger transaction is no cheaper per element.
const ELEMENT_BATCH: usize = 1000;
/// The flags of a set that decide whether the gate can use it.
const USABLE: u32 = NFT_SET_TIMEOUT | NFT_SET_CONSTANT | NFT_SET_MAP;

/// The gate of a configuration, in which ports are opened and closed. Each `Gate` has its own netlink
/// socket.
#[derive(Debug)]
pub struct Gate {
    socket: NftSocket,
    sets: Sets,
    /// `None` if the administrator made the table.
    managed: Option<ManagedTable>,
}

/// The contents of the managed table, and the watch for changes of it.
#[derive(Debug)]
struct ManagedTable {
    ports: Vec<OpenPort>,
    refusal: Refusal,
    /// The latest rules that this gate made.
    rules: Vec<MadeRule>,
    watch: NfWatch,
    is_paused: bool,
}

impl Gate {
    /// Checks whether the gate of a configuration can be used: no other program made a table with the
    /// name of the managed table, or the administrator's sets exist. Changes nothing. Returns `None`
    /// if no door opens ports.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn find(config: &Config) -> Result<Option<Self>, GateError> {
        let mut ports: Vec<OpenPort> = config.doors.iter().flat_map(|door| door.open.iter().copied()).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.is_empty() {
            return Ok(None);
        }
        let socket = NftSocket::open()?;
        let lengths = Lengths::of(config);
        let (sets, managed) = match &config.options.gate {
            config::Gate::Own => {
                // A process that may not watch may not make the table either, so this error is final.
                let (refusal, watch) = (config.options.gate_refuse, socket.watch()?);
                (
                    Sets::managed(lengths),
                    Some(ManagedTable { ports, refusal, rules: Vec::new(), watch, is_paused: false }),
                )
            }
            config::Gate::Sets(sets) => (Sets::of(sets, lengths), None),
        };
        let mut gate = Self { socket, sets, managed };
        if !gate.is_managed() {
            gate.check_sets()?;
        } else if owner(&mut gate.socket)? == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        Ok(Some(gate))
    }

    /// Adds sets for these networks to the managed table, because doors of an earlier configuration
    /// are open for them.
    pub(crate) fn keep(&mut self, open: impl IntoIterator<Item = IpNet>) {
        for net in open {
            self.sets.lengths.add(net);
        }
    }

    /// Makes the managed table. Replaces the rules of an existing managed table and keeps its
    /// openings. Does nothing if the sets are the administrator's.
    ///
    /// # Errors
    /// See [`GateError`]. After an error nothing has changed.
    pub fn make(&mut self) -> Result<(), GateError> {
        if self.is_managed() && owner(&mut self.socket)? == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        self.write_table()
    }

    /// Like [`Gate::make`], without a check of the table's owner.
    fn write_table(&mut self) -> Result<(), GateError> {
        let Some(managed) = &mut self.managed else { return Ok(()) };
        let mut rules = Vec::new();
        let sets: Vec<SetOf> = self.sets.lengths.sets().collect();
        let made = table::make(&managed.ports, &sets, managed.refusal);
        match self.socket.transact_with_echo(made, |rule| rules.extend(MadeRule::of(rule)))?.first() {
            None => {
                managed.rules = rules;
                Ok(())
            }
            Some(Failure { number, errno }) => {
                // The table is the first message, and the sets follow it.
                let set = number.checked_sub(2).and_then(|index| sets.get(usize::try_from(index).ok()?));
                Err(match (errno, set) {
                    (&(libc::EEXIST | libc::EINVAL), Some(set)) => self.sets.wrong_type(*set),
                    (&libc::ENOENT, _) => GateError::NotSupported,
                    (errno, _) => GateError::of(*errno),
                })
            }
        }
    }

    /// Makes the managed table again if another program removed it or a part of it that protects
    /// ports, for example with `nft flush ruleset`. Returns true if it did.
    ///
    /// # Errors
    /// See [`GateError`].
    pub(crate) fn repair(&mut self) -> Result<bool, GateError> {
        // Resumed before the check, so that no change between the two is lost.
        if let Some(managed) = self.managed.as_mut().filter(|managed| managed.is_paused) {
            managed.watch.resume()?;
            managed.is_paused = false;
        }
        if self.is_complete()? {
            return Ok(false);
        }
        self.write_table().map(|()| true)
    }

    /// True if all parts of the managed table exist and are active, or if the managed table is not used.
    fn is_complete(&mut self) -> Result<bool, GateError> {
        let Some(managed) = &self.managed else { return Ok(true) };
        let (mut owner, mut dormant, mut rules) = (None, false, Vec::new());
        let mut result = self.socket.query(table::query(&managed.rules), |attributes| {
            // The first object is the table.
            if owner.is_some() {
                rules.extend(MadeRule::of(attributes));
            } else {
                (owner, dormant) = (Some(Owner::of(attributes)), table::is_dormant(attributes));
            }
        });
        if owner == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        for ports in managed.ports.chunks(ELEMENT_BATCH) {
            result = result.and_then(|()| self.socket.query(table::query_ports(ports), |_| {}));
        }
        match result {
            Err(GateError::Kernel(libc::ENOENT)) => Ok(false),
            result => result.map(|()| !dormant && !rules.is_empty() && rules == managed.rules),
        }
    }

    /// Returns a descriptor that is readable when other programs have changed nftables. `None` if the
    /// managed table is not used.
    pub(crate) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.managed.as_ref().map(|managed| managed.watch.as_fd())
    }

    /// Reads the notifications of such changes. True if there was one; then call [`Gate::repair`].
    pub(crate) fn was_changed(&self) -> bool {
        // After an error a change is possible, so the table is checked.
        self.managed.as_ref().is_some_and(|managed| managed.watch.acknowledge().unwrap_or(true))
    }

    /// True if [`Gate::add`] has paused the watch because it added many elements. [`Gate::repair`]
    /// resumes the watch.
    pub(crate) fn is_paused(&self) -> bool {
        self.managed.as_ref().is_some_and(|managed| managed.is_paused)
    }

    /// True if the managed table protects the ports.
    pub(crate) fn is_managed(&self) -> bool {
        self.managed.is_some()
    }

    /// Checks that the administrator's sets exist and that their type fits the openings of doors.
    fn check_sets(&mut self) -> Result<(), GateError> {
        for set in self.sets.lengths.sets() {
            let mut query = Messages::default();
            query.message(Kind::GetSet, 0, self.sets.family(), |message| self.sets.name_set(message, set));
            let mut fits = false;
            let result = self.socket.query(query, |attributes| {
                let number = |kind| message::find(attributes, kind).and_then(message::number);
                fits = number(NFTA_SET_KEY_TYPE) == Some(table::KEY_TYPES[set.0])
                    && number(NFTA_SET_FLAGS).is_some_and(|flags| flags & USABLE == NFT_SET_TIMEOUT);
            });
            result.map_err(|error| self.sets.explain(error, set))?;
            if !fits {
                return Err(self.sets.wrong_type(set));
            }
        }
        // A process can be permitted to read sets and not to change them. This transaction adds no
        // element, and fails without the permission.
        let mut messages = Messages::transaction();
        messages.message(Kind::NewElement, NLM_F_CREATE, self.sets.family(), |set| {
            self.sets.name_set(set, set_of(IpAddr::from([0; 4]).into()));
            set.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |_| {});
        });
        match self.socket.transact(messages) {
            Err(GateError::NotAllowed) => Err(GateError::NotAllowed),
            _ => Ok(()),
        }
    }
}

/// Makes the managed table of a configuration, as [`Gate::make`] does. Nothing happens if no door needs that table.
///
/// # Errors
/// See [`GateError`].
pub fn make_table(config: &Config) -> Result<(), GateError> {
    if config.options.gate != config::Gate::Own {
        return Ok(());
    }
    Gate::find(config)?.map_or(Ok(()), |mut gate| gate.make())
}

/// Removes the managed table with its contents. Returns false if there was none, as on a kernel
/// without nftables.
///
/// # Errors
/// See [`GateError`]. A table of the same name that another program made is left unchanged.
pub fn remove_table() -> Result<bool, GateError> {
    let mut socket = match NftSocket::open() {
        Err(GateError::NotSupported) => return Ok(false),
        socket => socket?,
    };
    match owner(&mut socket)? {
        None => Ok(false),
        Some(Owner::Other) => Err(GateError::NotOurs),
        Some(Owner::Portknock) => match socket.transact(table::remove())?.first() {
            Some(failure) => Err(GateError::of(failure.errno)),
            None => Ok(true),
        },
    }
}

/// Returns the program that made the table with the name of the managed table; `None` if there is no
/// such table.
fn owner(socket: &mut NftSocket) -> Result<Option<Owner>, GateError> {
    let mut owner = None;
    match socket.query(table::query(&[]), |attributes| owner = Some(Owner::of(attributes))) {
        Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
        result => result.map(|()| owner),
    }
}
