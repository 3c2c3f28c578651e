//! Chains of rules, and the path of a packet through them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::packet::Truth;
use crate::printable::Printable;

/// A table of the packet filter, with the evaluation of each rule for one packet.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// As in `table inet filter`.
    pub(super) name: String,
    /// True if this table is one of those into which the commands of doors insert rules.
    pub(super) has_gate_chain: bool,
    pub(super) chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The policy of a base chain, which the kernel calls; `None` for a chain that only rules call.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<CheckedRule>,
}

/// The properties of a base chain.
#[derive(Debug)]
pub(super) struct Base {
    /// True if the policy accepts packets.
    pub(super) accepts: bool,
    /// False if the chain processes packets of one interface only.
    pub(super) has_all_interfaces: bool,
}

/// A rule, evaluated for one packet.
#[derive(Debug)]
pub(super) struct CheckedRule {
    /// The text of the rule in the listing of its program.
    pub(super) text: String,
    /// Whether the rule matches the packet.
    pub(super) matches: Truth,
    pub(super) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// Continue with the next rule.
    Continue,
    /// An action that may accept, drop or change the packet.
    Unknown,
}

/// A possible end of a packet's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    kind: EndKind,
    location: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EndKind {
    Accepted,
    Dropped,
    Unknown,
}

/// As in `refused by table inet filter, chain input: …`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            EndKind::Accepted => "accepted by",
            EndKind::Dropped => "refused by",
            EndKind::Unknown => "unknown effect of",
        };
        write!(f, "{kind} {}", Printable(&self.location))
    }
}

/// All possible ends of a packet's path in one base chain.
#[derive(Debug, Default)]
pub(super) struct Ends {
    ends: BTreeSet<End>,
    /// Rules that decide, and for which it is unknown whether they match.
    uncertain: BTreeSet<String>,
}

impl Ends {
    pub(super) fn iter(&self) -> impl Iterator<Item = &End> {
        self.ends.iter()
    }

    pub(super) fn only_accept(&self) -> bool {
        self.ends.iter().all(|end| end.kind == EndKind::Accepted)
    }

    pub(super) fn only_drop(&self) -> bool {
        self.ends.iter().all(|end| end.kind == EndKind::Dropped)
    }

    /// Returns the reasons why the end of the path is unknown.
    pub(super) fn doubts(&self) -> impl Iterator<Item = String> {
        let uncertain = self.uncertain.iter().map(|location| format!("it depends on {}", Printable(location)));
        let unknown = self.ends.iter().filter(|end| end.kind == EndKind::Unknown).map(End::to_string);
        uncertain.chain(unknown)
    }
}

/// Whether the packet continues after a chain that a rule called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Ended,
    Continues,
}

/// Maximum depth of nested chains. The kernel allows 16.
const MAX_DEPTH: usize = 32;

impl Table {
    /// Returns the possible ends of the packet's path in each base chain.
    pub(super) fn ends(&self) -> Vec<Ends> {
        let bases = self.chains.iter().filter_map(|(name, chain)| Some((name, chain.base.as_ref()?)));
        bases
            .map(|(name, base)| {
                let mut walk = Walk { table: self, ends: Ends::default(), known: BTreeMap::new() };
                if walk.chain(name, 0) == Flow::Continues {
                    let kind = if base.accepts { EndKind::Accepted } else { EndKind::Dropped };
                    walk.end(kind, format!("the policy of {}, chain {name}", self.name));
                }
                if !base.has_all_interfaces && !walk.ends.only_accept() {
                    let location = format!("{}, chain {name}, which is for one interface", self.name);
                    walk.end(EndKind::Accepted, location.clone());
                    walk.ends.uncertain.insert(location);
                }
                walk.ends
            })
            .collect()
    }
}

/// The evaluation of one base chain.
struct Walk<'a> {
    table: &'a Table,
    ends: Ends,
    /// The results of the chains that have been evaluated.
    known: BTreeMap<&'a str, Flow>,
}

impl<'a> Walk<'a> {
    fn end(&mut self, kind: EndKind, location: String) {
        self.ends.ends.insert(End { kind, location });
    }

    fn chain(&mut self, name: &str, depth: usize) -> Flow {
        let Some((name, chain)) = self.table.chains.get_key_value(name).filter(|_| depth < MAX_DEPTH) else {
            self.end(EndKind::Unknown, format!("{}, chain {name}", self.table.name));
            return Flow::Continues;
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
        for rule in chain.rules.iter().filter(|rule| rule.matches != Truth::No) {
            let location = || format!("{}, chain {name}: {}", self.table.name, rule.text);
            let (kind, flow) = match &rule.action {
                Action::Continue => continue,
                Action::Accept => (Some(EndKind::Accepted), Flow::Ended),
                Action::Drop => (Some(EndKind::Dropped), Flow::Ended),
                Action::Unknown => (Some(EndKind::Unknown), Flow::Continues),
                Action::Return if rule.matches == Truth::Yes => return Flow::Continues,
                Action::Return => {
                    may_return = true;
                    (None, Flow::Continues)
                }
                Action::Jump(target) => (None, self.chain(target, depth + 1)),
                // The end of the target chain is also the end of this chain.
                Action::Goto(target) => match self.chain(target, depth + 1) {
                    Flow::Continues if rule.matches == Truth::Yes => return Flow::Continues,
                    flow => {
                        may_return |= flow == Flow::Continues;
                        (None, flow)
                    }
                },
            };
            if rule.matches == Truth::Maybe {
                self.ends.uncertain.insert(location());
            }
            if let Some(kind) = kind {
                self.end(kind, location());
            }
            if flow == Flow::Ended && rule.matches == Truth::Yes {
                return if may_return { Flow::Continues } else { Flow::Ended };
            }
        }
        Flow::Continues
    }
}
