//! The elements of the sets: opening ports, closing ports, and reading the open ports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::element::Element;
use super::error::GateError;
use super::lengths::{SetOf, set_of};
use super::message::{self, Kind, Messages};
use super::numbers::*;
use super::socket::{Failure, NftSocket};
use super::{ELEMENT_BATCH, Gate};

/// Number of elements from which pausing the watch and checking the table afterwards is cheaper.
const PAUSE_THRESHOLD: usize = 100;

/// An element to add to a set.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    element: Element,
    timeout: Duration,
    /// The set already contains the element, which must be replaced.
    replace: bool,
}

/// How long an element stays in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// The kernel removes it after this time.
    Limited(Duration),
    /// It stays until a program removes it. Only the administrator adds such elements.
    Unlimited,
}

impl Lifetime {
    /// The remaining time; `None` for an unlimited lifetime.
    fn left(self) -> Option<Duration> {
        match self {
            Self::Limited(left) => Some(left),
            Self::Unlimited => None,
        }
    }
}

impl Gate {
    /// Returns the open ports, each with the time until the kernel closes it. Elements without a
    /// timeout are not included.
    ///
    /// # Errors
    /// Fails if the sets no longer exist.
    pub(crate) fn read(&mut self) -> Result<HashMap<Element, Duration>, GateError> {
        let mut open = HashMap::new();
        for set in self.sets.lengths.sets() {
            // While the kernel enlarges a set, a list of its elements can be incomplete, without an
            // indication of it. So the list is read until it contains nothing new.
            let mut known = usize::MAX;
            while known != open.len() {
                known = open.len();
                let mut query = Messages::default();
                query.message(Kind::GetElement, NLM_F_DUMP, self.sets.family(), |list| self.sets.name_set(list, set));
                let result = self.socket.query(query, |attributes| {
                    open.extend(
                        elements(attributes, set).filter_map(|(element, lifetime)| Some((element, lifetime.left()?))),
                    );
                });
                result.map_err(|error| self.sets.explain(error, set))?;
            }
        }
        Ok(open)
    }

    /// Opens ports, each for the given time from now, a thousand in one transaction. A port that is
    /// already open for longer stays open for that longer time. Returns the ports that could not be
    /// opened, each with the reason; all others are open.
    pub fn add(&mut self, elements: &[(Element, Duration)]) -> Vec<(Element, GateError)> {
        let mut failed = Vec::new();
        if let Some(managed) =
            self.managed.as_mut().filter(|managed| elements.len() >= PAUSE_THRESHOLD && !managed.is_paused)
        {
            managed.is_paused = managed.watch.pause().is_ok();
        }
        for part in elements.chunks(ELEMENT_BATCH) {
            let wanted = part.iter().map(|&(element, timeout)| Wanted { element, timeout, replace: false });
            self.add_part(wanted.collect(), &mut failed);
        }
        failed
    }

    fn add_part(&mut self, mut wanted: Vec<Wanted>, failed: &mut Vec<(Element, GateError)>) {
        // Each round removes at least one element from the list, or marks one to be replaced.
        while !wanted.is_empty() {
            let sets = &self.sets;
            let failures = transact(&mut self.socket, &wanted, |messages, wanted| {
                let flags = if wanted.replace { NLM_F_CREATE } else { NLM_F_CREATE | NLM_F_EXCL };
                sets.change(messages, Kind::NewElement, flags, &wanted.element, Some(wanted.timeout));
                // An element that is added again keeps its old timeout, so it is deleted and added.
                // If it has expired meanwhile, the deletion succeeds only because of the first of
                // the three messages.
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

    /// Closes ports before their timeout. A port that is closed, or open without a timeout, is left
    /// unchanged. Returns the ports that could not be closed, each with the reason.
    pub(crate) fn remove(&mut self, elements: &[Element]) -> Vec<(Element, GateError)> {
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
                            // An element that has expired meanwhile is no error.
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

    /// Returns those of these ports that are open with a timeout.
    fn ending(&mut self, wanted: &[Element]) -> HashSet<Element> {
        let mut ending = HashSet::with_capacity(wanted.len());
        let mut by_set: BTreeMap<SetOf, Vec<&Element>> = BTreeMap::new();
        for element in wanted {
            by_set.entry(set_of(element.net)).or_default().push(element);
        }
        let parts = by_set.iter().flat_map(|(set, all)| all.chunks(PAUSE_THRESHOLD).map(move |part| (*set, part)));
        for (set, part) in parts {
            let mut query = Messages::default();
            for element in part {
                self.sets.change(&mut query, Kind::GetElement, 0, element, None);
            }
            // This fails if one of the ports is already closed. The kernel still replies for the others.
            let _ = self.socket.query(query, |attributes| {
                ending.extend(
                    elements(attributes, set).filter_map(|(element, lifetime)| lifetime.left().map(|_| element)),
                );
            });
        }
        ending
    }

    /// Returns how long a port stays open; `None` if it is closed.
    pub(super) fn lifetime(&mut self, element: &Element) -> Result<Option<Lifetime>, GateError> {
        let mut query = Messages::default();
        self.sets.change(&mut query, Kind::GetElement, 0, element, None);
        let mut found = None;
        let result = self.socket.query(query, |attributes| {
            found =
                elements(attributes, set_of(element.net)).find(|(one, _)| one == element).map(|(_, lifetime)| lifetime);
        });
        match result {
            Err(GateError::Kernel(libc::ENOENT)) => Ok(None),
            result => result.map(|()| found),
        }
    }
}

/// Sends the messages that `write` adds for each item in one transaction. Returns an empty list if
/// the kernel made all changes, otherwise an error number for each item, which is 0 if the item has
/// no error.
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

/// Decodes the elements of a message about this set, each with its lifetime.
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
