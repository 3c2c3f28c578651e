//! The elements of the sets: opening ports, closing them, and reading which are open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::element::Element;
use super::error::GateError;
use super::lengths::{SetOf, set_of};
use super::message::{self, Kind, Messages};
use super::numbers::*;
use super::socket::{Failure, NftSocket};
use super::{ELEMENT_BATCH, Gate};

/// Number of elements from which it is cheaper to pause the watch and to check the table afterwards.
const PAUSE_THRESHOLD: usize = 100;

/// An element on its way into a set.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    element: Element,
    timeout: Duration,
    /// It is there already, and has to be replaced.
    replace: bool,
}

/// How long an element stays in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// For this time.
    Limited(Duration),
    /// Until somebody removes it; only the administrator adds such elements.
    Unlimited,
}

impl Lifetime {
    /// The time that is left; `None` for an unlimited one.
    fn left(self) -> Option<Duration> {
        match self {
            Self::Limited(left) => Some(left),
            Self::Unlimited => None,
        }
    }
}

impl Gate {
    /// What is open, and how long it will be. Elements without an end are not among them.
    ///
    /// # Errors
    /// Fails where the sets have gone.
    pub fn read(&mut self) -> Result<HashMap<Element, Duration>, GateError> {
        let mut open = HashMap::new();
        for set in self.sets.lengths.sets() {
            // A list leaves elements out while the kernel gives the set more room, and does not say so: it is asked for
            // until it has nothing new.
            let mut known = usize::MAX;
            while known != open.len() {
                known = open.len();
                let mut question = Messages::default();
                question
                    .message(Kind::GetElement, NLM_F_DUMP, self.sets.number(), |list| self.sets.name_set(list, set));
                let asked = self.socket.ask(question, |attributes| {
                    open.extend(
                        elements(attributes, set).filter_map(|(element, lifetime)| Some((element, lifetime.left()?))),
                    );
                });
                asked.map_err(|error| self.sets.explain(error, set))?;
            }
        }
        Ok(open)
    }

    /// Opens ports, each for so long from now, in one transaction for a thousand. One that is open for longer already
    /// stays so. What could not be opened comes back, each with its reason; the others are open.
    pub fn add(&mut self, elements: &[(Element, Duration)]) -> Vec<(Element, GateError)> {
        let mut failed = Vec::new();
        if let Some(own) = self.own.as_mut().filter(|own| elements.len() >= PAUSE_THRESHOLD && !own.is_paused) {
            own.is_paused = own.watch.pause().is_ok();
        }
        for part in elements.chunks(ELEMENT_BATCH) {
            let wanted = part.iter().map(|&(element, timeout)| Wanted { element, timeout, replace: false });
            self.add_part(wanted.collect(), &mut failed);
        }
        failed
    }

    fn add_part(&mut self, mut wanted: Vec<Wanted>, failed: &mut Vec<(Element, GateError)>) {
        // Each round takes at least one out, or finds that it is there already.
        while !wanted.is_empty() {
            let sets = &self.sets;
            let failures = transact(&mut self.socket, &wanted, |messages, wanted| {
                let flags = if wanted.replace { NLM_F_CREATE } else { NLM_F_CREATE | NLM_F_EXCL };
                sets.change(messages, Kind::NewElement, flags, &wanted.element, Some(wanted.timeout));
                // An element keeps its timeout where it is added again, so it has to go and come back. Where it went
                // by itself meanwhile, only the first of the three makes that no error.
                if wanted.replace {
                    sets.change(messages, Kind::DeleteElement, 0, &wanted.element, None);
                    sets.change(messages, Kind::NewElement, NLM_F_CREATE, &wanted.element, Some(wanted.timeout));
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
                    libc::EEXIST if !wanted.replace => match self.lifetime(&wanted.element) {
                        Ok(Some(Lifetime::Unlimited)) => false,
                        Ok(Some(Lifetime::Limited(left))) if left >= wanted.timeout => false,
                        _ => {
                            wanted.replace = true;
                            true
                        }
                    },
                    _ => {
                        let set = set_of(wanted.element.net);
                        failed.push((wanted.element, self.sets.explain(GateError::of(errno), set)));
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
        for part in elements.chunks(ELEMENT_BATCH) {
            let ending = self.ending(part);
            let mut wanted: Vec<Element> = part.iter().copied().filter(|element| ending.contains(element)).collect();
            while !wanted.is_empty() {
                let sets = &self.sets;
                let failures = transact(&mut self.socket, &wanted, |messages, element| {
                    sets.change(messages, Kind::DeleteElement, 0, element, None);
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
        let parts = by_set.iter().flat_map(|(set, all)| all.chunks(PAUSE_THRESHOLD).map(move |part| (*set, part)));
        for (set, part) in parts {
            let mut question = Messages::default();
            for element in part {
                self.sets.change(&mut question, Kind::GetElement, 0, element, None);
            }
            // This fails if one of them is closed already. The kernel answers for the others all the same.
            let _ = self.socket.ask(question, |attributes| {
                ending.extend(
                    elements(attributes, set).filter_map(|(element, lifetime)| lifetime.left().map(|_| element)),
                );
            });
        }
        ending
    }

    /// How long a port stays open; `None` if it is closed.
    pub(super) fn lifetime(&mut self, element: &Element) -> Result<Option<Lifetime>, GateError> {
        let mut question = Messages::default();
        self.sets.change(&mut question, Kind::GetElement, 0, element, None);
        let mut found = None;
        let asked = self.socket.ask(question, |attributes| {
            found =
                elements(attributes, set_of(element.net)).find(|(one, _)| one == element).map(|(_, lifetime)| lifetime);
        });
        match asked {
            Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
            result => result.map(|()| found),
        }
    }
}

/// Changes what `write` says for each item in one transaction. Empty where all is done, else an error number or 0 for
/// each item.
fn transact<T>(socket: &mut NftSocket, items: &[T], write: impl Fn(&mut Messages, &T)) -> Result<Vec<i32>, GateError> {
    let mut messages = Messages::transaction();
    let mut ends = Vec::with_capacity(items.len());
    for item in items {
        write(&mut messages, item);
        ends.push(messages.next());
    }
    let failures = socket.transact(messages)?;
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

/// The elements of a message about this set, each with its lifetime.
fn elements(attributes: &[u8], (_, length): SetOf) -> impl Iterator<Item = (Element, Lifetime)> {
    let list = message::find(attributes, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    message::all(list).filter_map(move |(_, element)| {
        let key = message::find(message::find(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        let left =
            [NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_TIMEOUT].iter().find_map(|kind| message::find(element, *kind));
        let lifetime = left
            .and_then(message::long)
            .map_or(Lifetime::Unlimited, |millis| Lifetime::Limited(Duration::from_millis(millis)));
        Some((Element::of_key(key, length)?, lifetime))
    })
}
