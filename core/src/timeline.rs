//! Yields the entries of a slab in the order in which they become due, without traversing or
//! sorting them.
//!
//! All entries of one class are due after the same time, so each class is a first-in-first-out list
//! threaded through the slab. A heap holds one entry for each class that is not empty: a lower
//! bound of the due time of its first entry. The bound becomes exact when it reaches the top of the
//! heap. All costs depend on the number of classes, not on the number of entries.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::marker::PhantomData;

use crate::time::Timestamp;

/// Maximum number of entries for which debug builds check all invariants after each change.
pub(crate) const CHECKED: usize = 128;
/// The index for "no entry".
pub(crate) const NIL: u32 = u32::MAX;

/// The neighbours of an entry in one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    /// Returns the next entry, or [`NIL`].
    pub(crate) fn next(self) -> u32 {
        self.next
    }
}

impl Default for Links {
    fn default() -> Self {
        Self { prev: NIL, next: NIL }
    }
}

/// The position of the links in entries of type `T`, for one kind of list. An entry can be in one
/// list of each kind.
pub(crate) trait Linked<T> {
    fn links(entry: &mut T) -> &mut Links;
}

/// A doubly linked list of slab entries.
#[derive(Debug)]
pub(crate) struct List<K> {
    head: u32,
    tail: u32,
    kind: PhantomData<K>,
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self { head: NIL, tail: NIL, kind: PhantomData }
    }
}

impl<K> List<K> {
    /// Returns the oldest entry, or [`NIL`].
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// Appends an entry to the list.
    pub(crate) fn push_back<T>(&mut self, slab: &mut [T], index: u32)
    where
        K: Linked<T>,
    {
        *K::links(&mut slab[index as usize]) = Links { prev: self.tail, next: NIL };
        match self.tail {
            NIL => self.head = index,
            tail => K::links(&mut slab[tail as usize]).next = index,
        }
        self.tail = index;
    }

    /// Asserts, for debug builds, that the entries are linked consistently in both directions and
    /// that each satisfies `is_right`. Returns their number.
    pub(crate) fn check<T>(&self, slab: &mut [T], mut is_right: impl FnMut(u32, &T) -> bool) -> usize
    where
        K: Linked<T>,
    {
        let (mut length, mut before, mut at) = (0, NIL, self.head);
        while at != NIL {
            assert!(length < slab.len(), "a list that does not end");
            let entry = &mut slab[at as usize];
            let links = *K::links(entry);
            assert_eq!(links.prev, before, "the backward link of entry {at}");
            assert!(is_right(at, entry), "entry {at} violates the invariant of its list");
            (length, before, at) = (length + 1, at, links.next);
        }
        assert_eq!(self.tail, before, "the end of a list");
        length
    }

    /// Removes an entry from the list.
    pub(crate) fn unlink<T>(&mut self, slab: &mut [T], index: u32)
    where
        K: Linked<T>,
    {
        let Links { prev, next } = *K::links(&mut slab[index as usize]);
        match prev {
            NIL => self.head = next,
            prev => K::links(&mut slab[prev as usize]).next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => K::links(&mut slab[next as usize]).prev = prev,
        }
    }
}

/// The lists of all classes and the heap over their first entries.
#[derive(Debug)]
pub(crate) struct Timeline<K> {
    classes: Vec<Class<K>>,
    heap: BinaryHeap<Reverse<(Timestamp, u32)>>,
}

/// The entries of one class.
#[derive(Debug)]
struct Class<K> {
    list: List<K>,
    /// True if the heap holds an entry for this class.
    in_heap: bool,
}

impl<K> Timeline<K> {
    /// Creates a timeline with `classes` classes, numbered from 0.
    pub(crate) fn new(classes: usize) -> Self {
        let classes: Vec<_> = (0..classes).map(|_| Class { list: List::default(), in_heap: false }).collect();
        Self { heap: BinaryHeap::with_capacity(classes.len()), classes }
    }

    /// Adds one more class and returns its number.
    pub(crate) fn add_class(&mut self) -> usize {
        self.classes.push(Class { list: List::default(), in_heap: false });
        self.classes.len() - 1
    }

    /// Returns the oldest entry of a class, or [`NIL`].
    pub(crate) fn head(&self, class: usize) -> u32 {
        self.classes[class].list.head()
    }

    /// Appends an entry. Its due time, which `due` returns, must not be earlier than that of any
    /// entry in the class.
    pub(crate) fn push<T>(&mut self, slab: &mut [T], class: usize, index: u32, due: impl FnOnce(&T) -> Timestamp)
    where
        K: Linked<T>,
    {
        let entry = &mut self.classes[class];
        entry.list.push_back(slab, index);
        if !entry.in_heap {
            entry.in_heap = true;
            self.heap.push(Reverse((due(&slab[index as usize]), index_of_class(class))));
        }
    }

    /// Asserts, for debug builds, that the lists are consistent, in due order and registered in the
    /// heap, and that they contain `held` entries, each in the class that `class_and_due` returns.
    pub(crate) fn check<T>(&self, slab: &mut [T], held: usize, class_and_due: impl Fn(u32, &T) -> (usize, Timestamp))
    where
        K: Linked<T>,
    {
        let mut found = 0;
        for (number, class) in self.classes.iter().enumerate() {
            let mut latest = Timestamp::default();
            found += class.list.check(slab, |index, entry| {
                let (class, due) = class_and_due(index, entry);
                class == number && std::mem::replace(&mut latest, due) <= due
            });
            assert!(class.in_heap || class.list.head == NIL, "class {number} is missing in the heap");
        }
        assert_eq!(found, held, "entries in the lists");
        assert_eq!(self.heap.len(), self.classes.iter().filter(|class| class.in_heap).count(), "classes in the heap");
        for Reverse((bound, class)) in &self.heap {
            let class = &self.classes[*class as usize];
            assert!(class.in_heap, "a class in the heap is not marked so");
            let index = class.list.head;
            let head = slab.get(index as usize);
            assert!(head.is_none_or(|head| *bound <= class_and_due(index, head).1), "a bound after the due time");
        }
    }

    /// Removes an entry from its class.
    pub(crate) fn unlink<T>(&mut self, slab: &mut [T], class: usize, index: u32)
    where
        K: Linked<T>,
    {
        self.classes[class].list.unlink(slab, index);
    }

    /// Returns the entry that is due first, with its due time, if that is not later than `until`.
    /// Of entries with the same due time, the one in the lowest class is first. `due` returns the
    /// due time of an entry of a class.
    #[allow(clippy::inline_always, reason = "callgrind: the call costs more than the check of the usual case")]
    #[inline(always)]
    pub(crate) fn first<T>(
        &mut self,
        slab: &[T],
        until: Timestamp,
        due: impl Fn(usize, &T) -> Timestamp,
    ) -> Option<(Timestamp, u32)> {
        // The usual case, checked before each packet: no entry can be due yet.
        if self.heap.peek().is_none_or(|Reverse((bound, _))| *bound > until) {
            return None;
        }
        self.first_exact(slab, until, due)
    }

    #[inline(never)]
    fn first_exact<T>(
        &mut self,
        slab: &[T],
        until: Timestamp,
        due: impl Fn(usize, &T) -> Timestamp,
    ) -> Option<(Timestamp, u32)> {
        while let Some(mut top) = self.heap.peek_mut() {
            let Reverse((bound, class)) = *top;
            if bound > until {
                return None;
            }
            let entry = &mut self.classes[class as usize];
            let head = entry.list.head();
            if head == NIL {
                entry.in_heap = false;
                PeekMut::pop(top);
                continue;
            }
            let exact = due(class as usize, &slab[head as usize]);
            if exact == bound {
                return Some((exact, head));
            }
            *top = Reverse((exact, class));
        }
        None
    }
}

fn index_of_class(class: usize) -> u32 {
    // There are two classes for each of at most 65,536 doors, or one for each distinct duration
    // ever configured.
    u32::try_from(class).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Entry {
        due: Timestamp,
        links: Links,
    }

    #[derive(Debug)]
    struct Due;

    impl Linked<Entry> for Due {
        fn links(entry: &mut Entry) -> &mut Links {
            &mut entry.links
        }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn entries_are_returned_in_due_order_across_classes_after_removals() {
        let mut slab: Vec<Entry> =
            [5, 7, 6, 6, 9].iter().map(|&due| Entry { due: at(due), ..Entry::default() }).collect();
        let mut timeline = Timeline::<Due>::new(2);
        for (index, class) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 0)] {
            timeline.push(&mut slab, class, index, |entry| entry.due);
        }
        assert_eq!(timeline.first(&slab, at(4), |_, entry| entry.due), None);
        // The first entry of class 0 is removed early, so its bound in the heap is stale from here
        // on.
        timeline.unlink(&mut slab, 0, 0);
        let mut seen = Vec::new();
        while let Some((due, index)) = timeline.first(&slab, at(8), |_, entry| entry.due) {
            seen.push((due, index));
            timeline.unlink(&mut slab, usize::from(index == 2 || index == 3), index);
        }
        assert_eq!(seen, [(at(6), 2), (at(6), 3), (at(7), 1)]);
        assert_eq!(timeline.first(&slab, at(100), |_, entry| entry.due), Some((at(9), 4)));
    }

    #[test]
    fn a_class_that_ran_empty_can_be_used_again() {
        let mut slab = vec![Entry { due: at(1), ..Entry::default() }];
        let mut timeline = Timeline::<Due>::new(0);
        assert_eq!(timeline.add_class(), 0);
        for _ in 0..3 {
            timeline.push(&mut slab, 0, 0, |_| at(1));
            timeline.unlink(&mut slab, 0, 0);
            assert_eq!(timeline.first(&slab, at(9), |_, entry| entry.due), None);
        }
        timeline.push(&mut slab, 0, 0, |_| at(1));
        assert_eq!(timeline.first(&slab, at(9), |_, entry| entry.due), Some((at(1), 0)));
        assert_eq!(timeline.head(0), 0);
    }
}
