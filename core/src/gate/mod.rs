//! Ports that are opened by the kernel's firewall, without a process, and that the kernel closes again.
//!
//! An opening is an element of a set of nftables, with the source, the protocol and the port, and with a timeout. Either
//! the own table refuses everybody who is not in it (`Gate = own`, see `table.rs`), or the administrator's rules look
//! into sets of theirs (`Gate = set …`), of which nothing but elements is touched. There are two sets for addresses and
//! further ones for networks (see `sets.rs`). Needs CAP_NET_ADMIN, and Linux
//! 5.10 or later.

mod element;
mod error;
mod link;
mod message;
mod sets;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

pub use element::Element;
pub use error::GateError;
use ipnet::IpNet;
use link::{Failure, Link};
use message::{CREATE, DUMP, EXCLUSIVE, Kind, Messages};
pub(crate) use sets::set_name;
use sets::{Lengths, SetOf, set_of};
use table::MadeRule;
pub use table::{SETS, TABLE};

use crate::config::{self, Config, GateSets, OpenPort, Refusal, TableFamily};
use crate::sys::nfnetlink::NfWatch;

/// How many elements go into one transaction: more would not be cheaper each.
const TOGETHER: usize = 1000;
/// So many elements are cheaper without a watch and with a look at the table afterwards.
const MANY: usize = 100;
// Attributes of an element, beside its key.
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;

/// The types that the sets have to have.
const TYPES: [&str; 2] = ["ipv4_addr . inet_proto . inet_service", "ipv6_addr . inet_proto . inet_service"];

/// Where ports are opened.
#[derive(Debug)]
pub struct Gate {
    link: Link,
    place: Place,
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

/// Where the sets are.
#[derive(Debug)]
struct Place {
    family: TableFamily,
    table: String,
    /// The names of the sets for addresses, for IPv4 and IPv6.
    sets: [String; 2],
    /// Which sets there are.
    lengths: Lengths,
}

/// An element on its way into a set.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    element: Element,
    timeout: Duration,
    /// It is there already, and has to be replaced.
    replace: bool,
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
        let link = Link::open()?;
        let lengths = Lengths::of(config);
        let (place, own) = match &config.options.gate {
            config::Gate::Own => {
                // Whoever may not watch may not make the table either, so there is no need for a substitute.
                let (refusal, watch) = (config.options.gate_refuse, link.watch()?);
                (Place::own(lengths), Some(Own { ports, refusal, rules: Vec::new(), watch, is_paused: false }))
            }
            config::Gate::Sets(sets) => (Place::of(sets, lengths), None),
        };
        let mut gate = Self { link, place, own };
        if !gate.is_own() {
            gate.check_sets()?;
        } else if is_there(&mut gate.link)? == Some(false) {
            return Err(GateError::NotOurs);
        }
        Ok(Some(gate))
    }

    /// Has the own table go on with sets for these networks, which doors of an earlier configuration have opened.
    pub fn keep(&mut self, open: impl IntoIterator<Item = IpNet>) {
        for net in open {
            self.place.lengths.add(net);
        }
    }

    /// Makes the own table, or takes over the one that is there with what is open in it. Nothing happens where the sets are
    /// the administrator's.
    ///
    /// # Errors
    /// See [`GateError`]; then nothing is changed.
    pub fn make(&mut self) -> Result<(), GateError> {
        if self.is_own() && is_there(&mut self.link)? == Some(false) {
            return Err(GateError::NotOurs);
        }
        self.make_unasked()
    }

    /// The same where it is known that the table is not somebody else's.
    fn make_unasked(&mut self) -> Result<(), GateError> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let mut rules = Vec::new();
        let sets: Vec<SetOf> = self.place.lengths.sets().collect();
        let made = table::make(&own.ports, &sets, own.refusal);
        match self.link.transact_and(made, |rule| rules.extend(MadeRule::of(rule)))?.first() {
            None => {
                own.rules = rules;
                Ok(())
            }
            Some(Failure { number, errno }) => {
                // The sets follow the table, which is the first message.
                let set = number.checked_sub(2).and_then(|index| sets.get(usize::try_from(index).ok()?));
                Err(match (errno, set) {
                    (&(libc::EEXIST | libc::EINVAL), Some(set)) => self.place.wrong_type(*set),
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
        let (mut ours, mut dormant, mut rules) = (None, false, Vec::new());
        let mut asked = self.link.ask(table::ask(&own.rules), |attributes| {
            // The table is the first.
            if ours.is_some() {
                rules.extend(MadeRule::of(attributes));
            } else {
                (ours, dormant) = (Some(table::is_ours(attributes)), table::is_dormant(attributes));
            }
        });
        if ours == Some(false) {
            return Err(GateError::NotOurs);
        }
        for ports in own.ports.chunks(TOGETHER) {
            asked = asked.and_then(|()| self.link.ask(table::ask_for_ports(ports), |_| {}));
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

    /// What is open, and how long it will be. Elements without an end are not among them.
    ///
    /// # Errors
    /// Fails where the sets have gone.
    pub fn read(&mut self) -> Result<HashMap<Element, Duration>, GateError> {
        let mut open = HashMap::new();
        for set in self.place.lengths.sets() {
            // A list leaves elements out while the kernel gives the set more room, and does not say so: it is asked for
            // until it has nothing new.
            let mut known = usize::MAX;
            while known != open.len() {
                known = open.len();
                let mut question = Messages::default();
                question.message(Kind::GetElement, DUMP, self.place.number(), |list| self.place.name_set(list, set));
                let asked = self.link.ask(question, |attributes| {
                    open.extend(elements(attributes, set).filter_map(|(element, left)| Some((element, left?))));
                });
                asked.map_err(|error| self.place.explain(error, set))?;
            }
        }
        Ok(open)
    }

    /// Opens ports, each for so long from now, in one transaction for a thousand. One that is open for longer already
    /// stays so. What could not be opened comes back, each with its reason; the others are open.
    pub fn add(&mut self, elements: &[(Element, Duration)]) -> Vec<(Element, GateError)> {
        let mut failed = Vec::new();
        if let Some(own) = self.own.as_mut().filter(|own| elements.len() >= MANY && !own.is_paused) {
            own.is_paused = own.watch.pause().is_ok();
        }
        for part in elements.chunks(TOGETHER) {
            let wanted = part.iter().map(|&(element, timeout)| Wanted { element, timeout, replace: false });
            self.add_part(wanted.collect(), &mut failed);
        }
        failed
    }

    fn add_part(&mut self, mut wanted: Vec<Wanted>, failed: &mut Vec<(Element, GateError)>) {
        // Each round takes at least one out, or finds that it is there already.
        while !wanted.is_empty() {
            let place = &self.place;
            let failures = transact(&mut self.link, &wanted, |messages, wanted| {
                let flags = if wanted.replace { CREATE } else { CREATE | EXCLUSIVE };
                place.change(messages, Kind::NewElement, flags, &wanted.element, Some(wanted.timeout));
                // An element keeps its timeout where it is added again, so it has to go and come back. Where it went
                // by itself meanwhile, only the first of the three makes that no error.
                if wanted.replace {
                    place.change(messages, Kind::DeleteElement, 0, &wanted.element, None);
                    place.change(messages, Kind::NewElement, CREATE, &wanted.element, Some(wanted.timeout));
                }
            });
            let failures = match failures {
                Ok(failures) if failures.is_empty() => return,
                Ok(failures) => failures,
                Err(error) => return failed.extend(wanted.iter().map(|wanted| (wanted.element, error.clone()))),
            };
            let mut index = 0;
            wanted.retain_mut(|wanted| {
                let errno = failures[index];
                index += 1;
                match errno {
                    0 => true,
                    libc::EEXIST if !wanted.replace => match self.left(&wanted.element) {
                        // For ever, by somebody else's hand.
                        Ok(Some(None)) => false,
                        Ok(Some(Some(left))) if left >= wanted.timeout => false,
                        _ => {
                            wanted.replace = true;
                            true
                        }
                    },
                    _ => {
                        let set = set_of(wanted.element.net);
                        failed.push((wanted.element, self.place.explain(GateError::of(errno), set)));
                        false
                    }
                }
            });
        }
    }

    /// Closes ports before their time. One that is closed, or open without an end, is left as it is. What could not be
    /// closed comes back, each with its reason.
    pub fn remove(&mut self, elements: &[Element]) -> Vec<(Element, GateError)> {
        let mut failed = Vec::new();
        for part in elements.chunks(TOGETHER) {
            let ending = self.ending(part);
            let mut wanted: Vec<Element> = part.iter().copied().filter(|element| ending.contains(element)).collect();
            while !wanted.is_empty() {
                let place = &self.place;
                let failures = transact(&mut self.link, &wanted, |messages, element| {
                    place.change(messages, Kind::DeleteElement, 0, element, None);
                });
                match failures {
                    Ok(failures) if failures.is_empty() => break,
                    Ok(failures) => {
                        let mut index = 0;
                        wanted.retain(|element| {
                            let errno = failures[index];
                            index += 1;
                            // Its time was over meanwhile.
                            if errno != 0 && errno != libc::ENOENT {
                                failed.push((*element, GateError::of(errno)));
                            }
                            errno == 0
                        });
                    }
                    Err(error) => {
                        failed.extend(wanted.drain(..).map(|element| (element, error.clone())));
                    }
                }
            }
        }
        failed
    }

    /// Which of these ports are open and have an end.
    fn ending(&mut self, wanted: &[Element]) -> HashSet<Element> {
        let mut ending = HashSet::with_capacity(wanted.len());
        let mut by_set: BTreeMap<SetOf, Vec<&Element>> = BTreeMap::new();
        for element in wanted {
            by_set.entry(set_of(element.net)).or_default().push(element);
        }
        for (set, part) in by_set.iter().flat_map(|(set, all)| all.chunks(MANY).map(move |part| (*set, part))) {
            let mut question = Messages::default();
            for element in part {
                self.place.change(&mut question, Kind::GetElement, 0, element, None);
            }
            // This fails if one of them is closed already. The kernel answers for the others all the same.
            let _ = self.link.ask(question, |attributes| {
                ending.extend(elements(attributes, set).filter_map(|(element, left)| left.map(|_| element)));
            });
        }
        ending
    }

    /// How long a port is open: `None` where it is not, `Some(None)` where it has no end.
    fn left(&mut self, element: &Element) -> Result<Option<Option<Duration>>, GateError> {
        let mut question = Messages::default();
        self.place.change(&mut question, Kind::GetElement, 0, element, None);
        let mut found = None;
        let asked = self.link.ask(question, |attributes| {
            found = elements(attributes, set_of(element.net)).find(|(one, _)| one == element).map(|(_, left)| left);
        });
        match asked {
            Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
            result => result.map(|()| found),
        }
    }

    /// Makes sure that the administrator's sets are there and can hold what doors open.
    fn check_sets(&mut self) -> Result<(), GateError> {
        for set in self.place.lengths.sets() {
            let mut question = Messages::default();
            question.message(Kind::GetSet, 0, self.place.number(), |message| self.place.name_set(message, set));
            let mut fits = false;
            let asked = self.link.ask(question, |attributes| {
                let number = |kind| message::find(attributes, kind).and_then(message::number);
                fits = number(table::SET_KEY_TYPE) == Some(table::KEY_TYPES[set.0])
                    && number(table::SET_FLAGS).is_some_and(|flags| flags & USABLE == table::TIMEOUT);
            });
            asked.map_err(|error| self.place.explain(error, set))?;
            if !fits {
                return Err(self.place.wrong_type(set));
            }
        }
        // Whoever may not change anything may still look: this changes nothing.
        let mut messages = Messages::transaction();
        messages.message(Kind::NewElement, CREATE, self.place.number(), |set| {
            self.place.name_set(set, set_of(IpAddr::from([0; 4]).into()));
            set.nested(table::ELEMENTS, |_| {});
        });
        match self.link.transact(messages) {
            Err(GateError::NotAllowed) => Err(GateError::NotAllowed),
            _ => Ok(()),
        }
    }
}

/// The flags that matter: timeouts, and what makes a set constant (2) or a map (8).
const USABLE: u32 = table::TIMEOUT | 2 | 8;

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
    let mut link = match Link::open() {
        Err(GateError::NotSupported) => return Ok(false),
        link => link?,
    };
    match is_there(&mut link)? {
        None => Ok(false),
        Some(false) => Err(GateError::NotOurs),
        Some(true) => match link.transact(table::remove())?.first() {
            Some(failure) => Err(GateError::of(failure.errno)),
            None => Ok(true),
        },
    }
}

/// Whether there is a table of the own name, and whether it is ours.
fn is_there(link: &mut Link) -> Result<Option<bool>, GateError> {
    let mut ours = None;
    match link.ask(table::ask(&[]), |attributes| ours = Some(table::is_ours(attributes))) {
        Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
        result => result.map(|()| ours),
    }
}

/// Changes what `write` says for each item in one transaction. Empty where all is done, else an error number or 0 for
/// each item.
fn transact<T>(link: &mut Link, items: &[T], write: impl Fn(&mut Messages, &T)) -> Result<Vec<i32>, GateError> {
    let mut messages = Messages::transaction();
    let mut ends = Vec::with_capacity(items.len());
    for item in items {
        write(&mut messages, item);
        ends.push(messages.next());
    }
    let failures = link.transact(messages)?;
    if failures.is_empty() {
        return Ok(Vec::new());
    }
    let mut errors = vec![0; items.len()];
    for Failure { number, errno } in failures {
        let item = ends.partition_point(|end| *end <= number);
        if let Some(error) = errors.get_mut(item) {
            *error = errno;
        }
    }
    Ok(errors)
}

/// The elements of a message about this set, with the time that each has left where it has an end.
fn elements(attributes: &[u8], (_, length): SetOf) -> impl Iterator<Item = (Element, Option<Duration>)> {
    let list = message::find(attributes, table::ELEMENTS).unwrap_or_default();
    message::all(list).filter_map(move |(_, element)| {
        let key = message::find(message::find(element, table::ELEMENT_KEY)?, table::DATA_VALUE)?;
        let left = [ELEMENT_EXPIRATION, ELEMENT_TIMEOUT].iter().find_map(|kind| message::find(element, *kind));
        Some((Element::of_key(key, length)?, left.and_then(message::long).map(Duration::from_millis)))
    })
}

impl Place {
    fn own(lengths: Lengths) -> Self {
        Self { family: TableFamily::Inet, table: table::TABLE.into(), sets: table::SETS.map(str::to_owned), lengths }
    }

    fn of(sets: &GateSets, lengths: Lengths) -> Self {
        let GateSets { family, table, set4, set6 } = sets.clone();
        Self { family, table, sets: [set4, set6], lengths }
    }

    fn number(&self) -> u8 {
        match self.family {
            TableFamily::Inet => table::INET,
            TableFamily::Ip => 2,
            TableFamily::Netdev => 5,
            TableFamily::Bridge => 7,
            TableFamily::Ip6 => 10,
        }
    }

    /// Which set; the attributes have the same numbers in questions for a set and for its elements.
    fn name_set(&self, message: &mut message::Attributes<'_>, (which, length): SetOf) {
        message.name(table::ELEMENTS_TABLE, &self.table);
        message.name(table::ELEMENTS_SET, &set_name(&self.sets[which], which, length));
    }

    fn change(&self, messages: &mut Messages, kind: Kind, flags: u16, element: &Element, timeout: Option<Duration>) {
        messages.message(kind, flags, self.number(), |message| {
            self.name_set(message, set_of(element.net));
            table::key(message, &element.key(), |more| {
                if let Some(timeout) = timeout {
                    // None at all would be no end.
                    let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
                    more.long(ELEMENT_TIMEOUT, millis);
                }
            });
        });
    }

    fn explain(&self, error: GateError, set: SetOf) -> GateError {
        match error {
            GateError::Kernel(libc::ENOENT) => GateError::NoSet(self.set(set)),
            error => error,
        }
    }

    fn wrong_type(&self, set: SetOf) -> GateError {
        GateError::SetType { name: self.set(set), wanted: TYPES[set.0] }
    }

    fn set(&self, (which, length): SetOf) -> String {
        format!("{} {} {}", self.family, self.table, set_name(&self.sets[which], which, length))
    }
}
