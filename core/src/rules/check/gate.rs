//! The changes that a knock makes to the packet filter.

use super::chain::{Action, CheckedRule, Table};
use super::iptables;
use super::packet::{OpenSets, Packet, Truth};
use super::ufw::NumberedRules;
use crate::config::{self, Door, GateSets};
use crate::firewall_command::{self, Change, ChangeKind, ChangedObject, Effect, RulePosition, Source};
use crate::gate::{self, set_name};
use crate::packet::Protocol;
use crate::rules::{OPEN_CHAIN, OPEN_SETS, TABLE};

/// The changes that a knock makes to the packet filter: elements of sets, and rules of commands.
#[derive(Clone, Debug)]
pub struct Gate {
    sets: OpenSets,
    /// The chain of the table `filter` of iptables and ip6tables into which a command is assumed to
    /// insert an accepting rule; `None` if the changes are known.
    chain: Option<String>,
    /// The effects of the commands for a knock over IPv4 and over IPv6.
    effects: [Effect; 2],
}

impl Gate {
    /// Assumes that a knock adds elements to the sets of `portknock rules` and of the managed
    /// table, and that it inserts a rule into this iptables chain (without one, into the chain of
    /// `portknock rules`).
    pub fn assumed(chain: Option<&str>) -> Self {
        let names = || {
            (0..).zip(OPEN_SETS).flat_map(|(which, base)| (1..=128).map(move |length| set_name(base, which, length)))
        };
        let sets = [TABLE, gate::TABLE].map(|table| ("inet".into(), table.into(), names().collect()));
        let chain = Some(chain.unwrap_or(OPEN_CHAIN).to_owned());
        Self { sets: OpenSets(sets.to_vec()), chain, effects: [understood(), understood()] }
    }

    /// Combines the changes that knocks at all of these doors make. A command that is not
    /// understood is assumed to insert a rule into `chain`; without `chain` its effect is unknown.
    pub fn of_doors<'a>(gate: &config::Gate, doors: impl IntoIterator<Item = &'a Door>, chain: Option<&str>) -> Self {
        let mut sets = Vec::new();
        let mut effects = [understood(), understood()];
        for door in doors {
            if !door.open.is_empty() {
                let (family, table, bases) = match gate {
                    config::Gate::Own => ("inet".into(), gate::TABLE, gate::SETS),
                    config::Gate::Sets(GateSets { family, table, set4, set6 }) => {
                        (family.to_string(), table.as_str(), [set4.as_str(), set6.as_str()])
                    }
                };
                let names = (0..).zip(bases).flat_map(|(which, base)| {
                    let lengths = door.prefix_lengths(which == 1).into_iter();
                    lengths.map(move |length| set_name(base, which, length))
                });
                sets.push((family, table.to_owned(), names.collect()));
            }
            for (effect, text) in effects.iter_mut().zip(commands(door)) {
                let parsed = text.filter(|text| !text.is_empty()).map_or_else(understood, firewall_command::parse);
                effect.changes.extend(parsed.changes);
                effect.understood &= parsed.understood;
            }
        }
        for change in effects.iter().flat_map(|effect| &effect.changes) {
            if let ChangedObject::NftSet([family, table, set]) = &change.object {
                sets.push((family.clone(), table.clone(), vec![set.clone()]));
            }
        }
        let unknown = effects.iter().any(|effect| !effect.understood);
        Self { sets: OpenSets(sets), chain: chain.filter(|_| unknown).map(str::to_owned), effects }
    }

    /// Returns the sets to which knocks add addresses.
    pub(super) fn sets(&self) -> &OpenSets {
        &self.sets
    }

    /// Returns the chain into which a rule is assumed to be inserted, at an unknown position.
    pub(super) fn assumed_chain(&self) -> Option<&str> {
        self.chain.as_deref()
    }

    /// Returns the reason why the effect of a knock over this IP version is unknown, if it is.
    pub(super) fn doubt(&self, ipv6: bool) -> Option<String> {
        let effect = &self.effects[usize::from(ipv6)];
        (!effect.understood && self.chain.is_none())
            .then(|| "the effect of the door's command on the packet filter is unknown".to_owned())
    }

    /// Returns the reason why a knock over this IP version opens nothing, if the commands are the
    /// reason.
    pub(super) fn reason(&self, numbered: NumberedRules, ipv6: bool) -> Option<String> {
        let [other, own] = [!ipv6, ipv6].map(|ipv6| self.changes(ipv6).next().is_some());
        let [own_version, other_version] = if ipv6 { ["IPv6", "IPv4"] } else { ["IPv4", "IPv6"] };
        if other && !own {
            return Some(format!("the door's command is for {other_version} only"));
        }
        self.changes(ipv6).find_map(|change| match change.kind {
            ChangeKind::Accept(RulePosition::Numbered(number), _)
                if numbered.position(number, change.source, ipv6).is_none() =>
            {
                Some(format!(
                    "ufw refuses to insert a rule for {own_version} at number {number}; `ufw prepend` always works"
                ))
            }
            _ => None,
        })
    }

    /// Returns the changes of the commands for this IP version.
    fn changes(&self, ipv6: bool) -> impl Iterator<Item = &Change> {
        let version = usize::from(ipv6);
        self.effects[version].changes.iter().filter(move |change| change.versions[version])
    }

    /// Inserts the rules of the commands, and the assumed rule at `position`, into the tables.
    pub(super) fn insert(
        &self,
        tables: &mut [Table],
        packet: &Packet,
        numbered: NumberedRules,
        position: RulePosition,
    ) {
        if let Some(chain) = &self.chain {
            let rule = |table: &Table| CheckedRule {
                text: format!("the rule that a command inserts into {}, chain {chain}", table.name),
                matches: Truth::Yes,
                action: Action::Accept,
            };
            for table in tables.iter_mut().filter(|table| table.has_gate_chain) {
                insert_rule(table, chain, position, rule(table));
            }
        }
        for change in self.changes(packet.ipv6) {
            self.apply(change, tables, packet, numbered);
        }
    }

    fn apply(&self, change: &Change, tables: &mut [Table], packet: &Packet, numbered: NumberedRules) {
        for table in tables {
            let name = match &change.object {
                ChangedObject::Iptables(name) if table.has_gate_chain => name,
                ChangedObject::Nft([family, of, name])
                    if table.name == format!("table {family} {of}")
                        || table.has_gate_chain && of == "filter" && matches!(family.as_str(), "ip" | "ip6") =>
                {
                    name
                }
                _ => continue,
            };
            match &change.kind {
                ChangeKind::Accept(position, matches) => {
                    let position = match *position {
                        RulePosition::Numbered(number) => numbered.position(number, change.source, packet.ipv6),
                        position => Some(position),
                    };
                    let Some(position) = position else { continue };
                    let mut rule = iptables::rule(&format!("-A {name} {} -j ACCEPT", matches.iptables), packet);
                    rule.text = format!("the rule that the door's command adds, {}", rule.text);
                    if change.source == Source::Fixed || position == RulePosition::Unknown {
                        rule.matches = rule.matches.and(Truth::Maybe);
                    }
                    insert_rule(table, name, position, rule);
                }
                // This does not find the rule that the command removes: the result is uncertain.
                ChangeKind::StopRefusing => {
                    let text = "the rule that the door's command removes".to_owned();
                    let rule = CheckedRule { text, matches: Truth::Maybe, action: Action::Accept };
                    insert_rule(table, name, RulePosition::Before(0), rule);
                }
            }
        }
    }
}

/// Inserts a rule into a chain, if the table has the chain.
fn insert_rule(table: &mut Table, chain: &str, position: RulePosition, rule: CheckedRule) {
    let Some(chain) = table.chains.get_mut(chain) else { return };
    let at = match position {
        RulePosition::End => chain.rules.len(),
        RulePosition::Before(at) => at.min(chain.rules.len()),
        RulePosition::Numbered(_) | RulePosition::Unknown => 0,
    };
    chain.rules.insert(at, rule);
}

fn understood() -> Effect {
    Effect { changes: Vec::new(), understood: true }
}

/// Returns the commands that run for a knock over IPv4 and over IPv6.
fn commands(door: &Door) -> [Option<&str>; 2] {
    let plain = door.start_command.as_deref();
    [plain, door.start_command_6.as_deref().or(plain)]
}

/// Returns the ports that a knock at the door is intended to open: the ports of `open`, and those
/// in its commands.
pub fn opened_ports(door: &Door) -> Vec<(Protocol, u16)> {
    let mut ports: Vec<_> = door.open.iter().map(|open| (open.protocol, open.port.get())).collect();
    for text in commands(door).into_iter().flatten() {
        for change in firewall_command::parse(text).changes {
            let ChangeKind::Accept(_, matches) = change.kind else { continue };
            for (name, port) in matches.ports {
                ports.extend(matches!(name, None | Some("tcp")).then_some((Protocol::Tcp, port)));
                ports.extend(matches!(name, None | Some("udp")).then_some((Protocol::Udp, port)));
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}
