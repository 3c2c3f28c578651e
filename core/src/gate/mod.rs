//! Ports that are opened by the kernel's firewall, without a process, and that the kernel closes again.
//!
//! An opening is an element of a set of nftables, with the source, the protocol and the port, and with a timeout. Either
//! the own table refuses everybody who is not in it (`Gate = own`, see `table.rs`), or the administrator's rules look
//! into sets of theirs (`Gate = set …`), of which nothing but elements is touched. There are two sets for addresses and
//! further ones for networks (see `lengths.rs`). Needs CAP_NET_ADMIN, and Linux 5.10 or later.

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
pub use table::{SETS, TABLE};

use crate::config::{self, Config, OpenPort, Refusal};
use crate::sys::nfnetlink::NfWatch;

/// Number of elements in one transaction. A larger one makes none of them cheaper.
const ELEMENT_BATCH: usize = 1000;
/// The flags that decide whether a set can be used.
const USABLE: u32 = NFT_SET_TIMEOUT | NFT_SET_CONSTANT | NFT_SET_MAP;

/// Where ports are opened.
#[derive(Debug)]
pub struct Gate {
    socket: NftSocket,
    sets: Sets,
    /// `None` where the table is the administrator's.
    own: Option<Own>,
}

/// What the own table is made of.
#[derive(Debug)]
struct Own {
    ports: Vec<OpenPort>,
    refusal: Refusal,
    /// The rules that were made last.
    rules: Vec<MadeRule>,
    watch: NfWatch,
    is_paused: bool,
}

impl Gate {
    /// Looks whether the gate of a configuration can be used: the own table is nobody else's, or the administrator's sets
    /// are there. Changes nothing. `None` where no door opens ports.
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
        let (sets, own) = match &config.options.gate {
            config::Gate::Own => {
                // Whoever may not watch may not make the table either, so there is no need for a substitute.
                let (refusal, watch) = (config.options.gate_refuse, socket.watch()?);
                (Sets::own(lengths), Some(Own { ports, refusal, rules: Vec::new(), watch, is_paused: false }))
            }
            config::Gate::Sets(sets) => (Sets::of(sets, lengths), None),
        };
        let mut gate = Self { socket, sets, own };
        if !gate.is_own() {
            gate.check_sets()?;
        } else if owner(&mut gate.socket)? == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        Ok(Some(gate))
    }

    /// Adds sets for these networks to the managed table, because doors of an earlier configuration
    /// are open for them.
    pub fn keep(&mut self, open: impl IntoIterator<Item = IpNet>) {
        for net in open {
            self.sets.lengths.add(net);
        }
    }

    /// Makes the own table, or takes over the one that is there with what is open in it. Nothing happens where the sets are
    /// the administrator's.
    ///
    /// # Errors
    /// See [`GateError`]; then nothing is changed.
    pub fn make(&mut self) -> Result<(), GateError> {
        if self.is_own() && owner(&mut self.socket)? == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        self.make_unasked()
    }

    /// The same where it is known that the table is not somebody else's.
    fn make_unasked(&mut self) -> Result<(), GateError> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let mut rules = Vec::new();
        let sets: Vec<SetOf> = self.sets.lengths.sets().collect();
        let made = table::make(&own.ports, &sets, own.refusal);
        match self.socket.transact_and(made, |rule| rules.extend(MadeRule::of(rule)))?.first() {
            None => {
                own.rules = rules;
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

    /// Makes the own table again where somebody removed it or a part of it that protects ports, as a flush of all rules
    /// does; true where that was so.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn mend(&mut self) -> Result<bool, GateError> {
        // Before the look, so that nothing falls between the two.
        if let Some(own) = self.own.as_mut().filter(|own| own.is_paused) {
            own.watch.resume()?;
            own.is_paused = false;
        }
        if self.is_whole()? {
            return Ok(false);
        }
        self.make_unasked().map(|()| true)
    }

    /// True where all that was made of the own table is there and at work, or where there is none of it.
    fn is_whole(&mut self) -> Result<bool, GateError> {
        let Some(own) = &self.own else { return Ok(true) };
        let (mut owner, mut dormant, mut rules) = (None, false, Vec::new());
        let mut asked = self.socket.ask(table::ask(&own.rules), |attributes| {
            // The table is the first.
            if owner.is_some() {
                rules.extend(MadeRule::of(attributes));
            } else {
                (owner, dormant) = (Some(Owner::of(attributes)), table::is_dormant(attributes));
            }
        });
        if owner == Some(Owner::Other) {
            return Err(GateError::NotOurs);
        }
        for ports in own.ports.chunks(ELEMENT_BATCH) {
            asked = asked.and_then(|()| self.socket.ask(table::ask_for_ports(ports), |_| {}));
        }
        match asked {
            Err(GateError::Kernel(libc::ENOENT)) => Ok(false),
            result => result.map(|()| !dormant && !rules.is_empty() && rules == own.rules),
        }
    }

    /// Readable when others have changed what nftables has; `None` where the own table is not used.
    pub fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.own.as_ref().map(|own| own.watch.as_fd())
    }

    /// Takes note of such changes; true where there was one, which [`Gate::mend`] then is for.
    pub fn was_changed(&self) -> bool {
        // Whoever cannot know looks.
        self.own.as_ref().is_some_and(|own| own.watch.acknowledge().unwrap_or(true))
    }

    /// True after [`Gate::add`] had so much to do that it did not watch; [`Gate::mend`] then goes on with that.
    pub fn is_paused(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.is_paused)
    }

    /// True where the ports are protected by the own table.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Makes sure that the administrator's sets are there and can hold what doors open.
    fn check_sets(&mut self) -> Result<(), GateError> {
        for set in self.sets.lengths.sets() {
            let mut question = Messages::default();
            question.message(Kind::GetSet, 0, self.sets.number(), |message| self.sets.name_set(message, set));
            let mut fits = false;
            let asked = self.socket.ask(question, |attributes| {
                let number = |kind| message::find(attributes, kind).and_then(message::number);
                fits = number(NFTA_SET_KEY_TYPE) == Some(table::KEY_TYPES[set.0])
                    && number(NFTA_SET_FLAGS).is_some_and(|flags| flags & USABLE == NFT_SET_TIMEOUT);
            });
            asked.map_err(|error| self.sets.explain(error, set))?;
            if !fits {
                return Err(self.sets.wrong_type(set));
            }
        }
        // Whoever may not change anything may still look: this changes nothing.
        let mut messages = Messages::transaction();
        messages.message(Kind::NewElement, NLM_F_CREATE, self.sets.number(), |set| {
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

/// Removes the own table with all that is in it; false where there was none, as on a kernel without nftables.
///
/// # Errors
/// See [`GateError`]; somebody else's table of that name is left as it is.
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

/// The program that made the table with the name of the managed one; `None` if there is no such table.
fn owner(socket: &mut NftSocket) -> Result<Option<Owner>, GateError> {
    let mut owner = None;
    match socket.ask(table::ask(&[]), |attributes| owner = Some(Owner::of(attributes))) {
        Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
        result => result.map(|()| owner),
    }
}
