//! Chains of rules, and the way of a packet through them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::packet::Truth;
use crate::printable::Printable;

/// The tables of one packet filter that a packet can meet, with what is known of each rule for this packet.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// As in `table inet filter`.
    pub(super) name: String,
    /// True where the commands of doors insert rules here.
    pub(super) has_gate_chain: bool,
    pub(super) chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    /// What happens at its end, where packets come to it from the kernel and not from a rule.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) struct Base {
    pub(super) accepts: bool,
    /// False where it only sees packets of some interface.
    pub(super) sees_all: bool,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// As an administrator finds it.
    pub(super) text: String,
    pub(super) fits: Truth,
    pub(super) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// To the next rule.
    Continue,
    /// Something that may be the end of the packet, or change it.
    Unknown,
}

/// Where a packet may end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    what: What,
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Accepted,
    Dropped,
    Unknown,
}

/// As in `dropped by: …`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Accepted => "accepted by",
            What::Dropped => "shut by",
            What::Unknown => "not understood:",
        };
        write!(f, "{what} {}", Printable(&self.place))
    }
}

/// All the places where a packet may end in one base chain.
#[derive(Debug, Default)]
pub(super) struct Ends {
    ends: BTreeSet<End>,
    /// Rules that may fit or not, and so decide.
    unsure: BTreeSet<String>,
}

impl Ends {
    pub(super) fn iter(&self) -> impl Iterator<Item = &End> {
        self.ends.iter()
    }

    pub(super) fn only_accept(&self) -> bool {
        self.ends.iter().all(|end| end.what == What::Accepted)
    }

    pub(super) fn only_drop(&self) -> bool {
        self.ends.iter().all(|end| end.what == What::Dropped)
    }

    /// Why it is not known where the packet ends.
    pub(super) fn doubts(&self) -> impl Iterator<Item = String> {
        let unsure = self.unsure.iter().map(|place| format!("it depends on {}", Printable(place)));
        let unknown = self.ends.iter().filter(|end| end.what == What::Unknown).map(End::to_string);
        unsure.chain(unknown)
    }
}

/// Whether the packet goes on after a chain that a rule called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Ended,
    GoesOn,
}

/// The kernel allows 16 chains that call one another.
const DEEPEST: usize = 32;

impl Table {
    /// Where the packet may end in each base chain.
    pub(super) fn ends(&self) -> Vec<Ends> {
        let bases = self.chains.iter().filter_map(|(name, chain)| Some((name, chain.base.as_ref()?)));
        bases
            .map(|(name, base)| {
                let mut walk = Walk { table: self, ends: Ends::default(), known: BTreeMap::new() };
                if walk.chain(name, 0) == Flow::GoesOn {
                    let what = if base.accepts { What::Accepted } else { What::Dropped };
                    walk.end(what, format!("the policy of {}, chain {name}", self.name));
                }
                if !base.sees_all && !walk.ends.only_accept() {
                    let place = format!("{}, chain {name}, which is for one interface", self.name);
                    walk.end(What::Accepted, place.clone());
                    walk.ends.unsure.insert(place);
                }
                walk.ends
            })
            .collect()
    }
}

struct Walk<'a> {
    table: &'a Table,
    ends: Ends,
    /// What came of the chains that were walked already.
    known: BTreeMap<&'a str, Flow>,
}

impl<'a> Walk<'a> {
    fn end(&mut self, what: What, place: String) {
        self.ends.ends.insert(End { what, place });
    }

    fn chain(&mut self, name: &str, depth: usize) -> Flow {
        let Some((name, chain)) = self.table.chains.get_key_value(name).filter(|_| depth < DEEPEST) else {
            self.end(What::Unknown, format!("{}: the chain {name}", self.table.name));
            return Flow::GoesOn;
        };
        if let Some(&flow) = self.known.get(name.as_str()) {
            return flow;
        }
        let flow = self.rules(name, chain, depth);
        self.known.insert(name, flow);
        flow
    }

    fn rules(&mut self, name: &str, chain: &'a Chain, depth: usize) -> Flow {
        let mut may_return = false;
        for rule in chain.rules.iter().filter(|rule| rule.fits != Truth::No) {
            let place = || format!("{}, chain {name}: {}", self.table.name, rule.text);
            let (what, flow) = match &rule.action {
                Action::Continue => continue,
                Action::Accept => (Some(What::Accepted), Flow::Ended),
                Action::Drop => (Some(What::Dropped), Flow::Ended),
                Action::Unknown => (Some(What::Unknown), Flow::GoesOn),
                Action::Return if rule.fits == Truth::Yes => return Flow::GoesOn,
                Action::Return => {
                    may_return = true;
                    (None, Flow::GoesOn)
                }
                Action::Jump(target) => (None, self.chain(target, depth + 1)),
                // Its end is the end of this chain.
                Action::Goto(target) => match self.chain(target, depth + 1) {
                    Flow::GoesOn if rule.fits == Truth::Yes => return Flow::GoesOn,
                    flow => {
                        may_return |= flow == Flow::GoesOn;
                        (None, flow)
                    }
                },
            };
            if rule.fits == Truth::Maybe {
                self.ends.unsure.insert(place());
            }
            if let Some(what) = what {
                self.end(what, place());
            }
            if flow == Flow::Ended && rule.fits == Truth::Yes {
                return if may_return { Flow::GoesOn } else { Flow::Ended };
            }
        }
        Flow::GoesOn
    }
}
