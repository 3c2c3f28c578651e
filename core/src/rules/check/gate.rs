//! Where knocks open: what changes in the packet filter after a knock.

use super::chain::{Action, Rule, Table};
use super::iptables;
use super::packet::{OpenSets, Packet, Truth};
use super::ufw::NumberedRules;
use crate::config::{self, Door, GateSets};
use crate::firewall_command::{self as command, Change, Effect, Place, Source, What};
use crate::gate::{self, set_name};
use crate::packet::Protocol;
use crate::rules::{OPEN_CHAIN, OPEN_SETS, TABLE};

/// Where knocks open: what changes in the packet filter after a knock.
#[derive(Clone, Debug)]
pub struct Gate {
    sets: OpenSets,
    /// The chain of iptables' and ip6tables' table `filter` in which a rule that accepts is assumed; `None` if the changes
    /// are known.
    chain: Option<String>,
    /// What the commands do for a knock over IPv4 and over IPv6.
    effects: [Effect; 2],
}

impl Gate {
    /// The sets of `portknock rules` and of the daemon's managed table, and this chain of iptables, or that of `portknock
    /// rules`.
    pub fn assumed(chain: Option<&str>) -> Self {
        let names = || {
            (0..).zip(OPEN_SETS).flat_map(|(which, base)| (1..=128).map(move |length| set_name(base, which, length)))
        };
        let sets = [TABLE, gate::TABLE].map(|table| ("inet".into(), table.into(), names().collect()));
        let chain = Some(chain.unwrap_or(OPEN_CHAIN).to_owned());
        Self { sets: OpenSets(sets.to_vec()), chain, effects: [understood(), understood()] }
    }

    /// What knocks at all of these doors open. If a command is not understood, it is assumed to put a rule into `chain`,
    /// if one is given, or else nothing is assumed.
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
                let read = text.filter(|text| !text.is_empty()).map_or_else(understood, command::read);
                effect.changes.extend(read.changes);
                effect.understood &= read.understood;
            }
        }
        for change in effects.iter().flat_map(|effect| &effect.changes) {
            if let command::Chain::NftSet([family, table, set]) = &change.chain {
                sets.push((family.clone(), table.clone(), vec![set.clone()]));
            }
        }
        let unknown = effects.iter().any(|effect| !effect.understood);
        Self { sets: OpenSets(sets), chain: chain.filter(|_| unknown).map(str::to_owned), effects }
    }

    /// The sets into which knocks put addresses.
    pub(super) fn sets(&self) -> &OpenSets {
        &self.sets
    }

    /// The chain in which a rule is assumed, whose place in it is not known.
    pub(super) fn assumed_chain(&self) -> Option<&str> {
        self.chain.as_deref()
    }

    /// Why it is not known what a knock over this IP version opens.
    pub(super) fn doubt(&self, ipv6: bool) -> Option<String> {
        let effect = &self.effects[usize::from(ipv6)];
        (!effect.understood && self.chain.is_none())
            .then(|| "what the command of the door does to the packet filter is not understood".to_owned())
    }

    /// Why a knock over this IP version opens nothing, if that is a matter of the commands.
    pub(super) fn reason(&self, numbered: NumberedRules, ipv6: bool) -> Option<String> {
        let [other, own] = [!ipv6, ipv6].map(|ipv6| self.changes(ipv6).next().is_some());
        let [own_version, other_version] = if ipv6 { ["IPv6", "IPv4"] } else { ["IPv4", "IPv6"] };
        if other && !own {
            return Some(format!("the command of the door is for {other_version} only"));
        }
        self.changes(ipv6).find_map(|change| match change.what {
            What::Accept(Place::Numbered(number), _) if numbered.place(number, change.source, ipv6).is_none() => {
                Some(format!(
                    "ufw refuses to insert a rule for {own_version} at number {number}; `ufw prepend` always works"
                ))
            }
            _ => None,
        })
    }

    /// What the commands change for this IP version.
    fn changes(&self, ipv6: bool) -> impl Iterator<Item = &Change> {
        let version = usize::from(ipv6);
        self.effects[version].changes.iter().filter(move |change| change.versions[version])
    }

    /// Puts the rules of the commands, and the assumed one at `place`, into the tables.
    pub(super) fn insert(&self, tables: &mut [Table], packet: &Packet, numbered: NumberedRules, place: Place) {
        if let Some(chain) = &self.chain {
            let rule = |table: &Table| Rule {
                text: format!("the rule that a command puts into {}, chain {chain}", table.name),
                fits: Truth::Yes,
                action: Action::Accept,
            };
            for table in tables.iter_mut().filter(|table| table.has_gate_chain) {
                put(table, chain, place, rule(table));
            }
        }
        for change in self.changes(packet.ipv6) {
            self.apply(change, tables, packet, numbered);
        }
    }

    fn apply(&self, change: &Change, tables: &mut [Table], packet: &Packet, numbered: NumberedRules) {
        for table in tables {
            let name = match &change.chain {
                command::Chain::Iptables(name) if table.has_gate_chain => name,
                command::Chain::Nft([family, of, name])
                    if table.name == format!("table {family} {of}")
                        || table.has_gate_chain && of == "filter" && matches!(family.as_str(), "ip" | "ip6") =>
                {
                    name
                }
                _ => continue,
            };
            match &change.what {
                What::Accept(place, matches) => {
                    let place = match *place {
                        Place::Numbered(number) => numbered.place(number, change.source, packet.ipv6),
                        place => Some(place),
                    };
                    let Some(place) = place else { continue };
                    let mut rule = iptables::rule(&format!("-A {name} {} -j ACCEPT", matches.iptables), packet);
                    rule.text = format!("the rule that the command of the door adds, {}", rule.text);
                    if change.source == Source::Fixed || place == Place::Somewhere {
                        rule.fits = rule.fits.and(Truth::Maybe);
                    }
                    put(table, name, place, rule);
                }
                // Which rule goes is not looked up.
                What::StopRefusing => {
                    let text = "the rule that the command of the door removes".to_owned();
                    put(table, name, Place::Before(0), Rule { text, fits: Truth::Maybe, action: Action::Accept });
                }
            }
        }
    }
}

/// Puts a rule into a chain, if the table has it.
fn put(table: &mut Table, chain: &str, place: Place, rule: Rule) {
    let Some(chain) = table.chains.get_mut(chain) else { return };
    let at = match place {
        Place::End => chain.rules.len(),
        Place::Before(at) => at.min(chain.rules.len()),
        Place::Numbered(_) | Place::Somewhere => 0,
    };
    chain.rules.insert(at, rule);
}

fn understood() -> Effect {
    Effect { changes: Vec::new(), understood: true }
}

/// The commands that run for a knock over IPv4 and over IPv6.
fn commands(door: &Door) -> [Option<&str>; 2] {
    let plain = door.start_command.as_deref();
    [plain, door.start_command_6.as_deref().or(plain)]
}

/// The ports that a knock at the door is meant to open: those of `open`, and those in its commands.
pub fn opened_ports(door: &Door) -> Vec<(Protocol, u16)> {
    let mut ports: Vec<_> = door.open.iter().map(|open| (open.protocol, open.port.get())).collect();
    for text in commands(door).into_iter().flatten() {
        for change in command::read(text).changes {
            let What::Accept(_, matches) = change.what else { continue };
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
