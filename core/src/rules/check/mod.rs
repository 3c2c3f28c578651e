//! Whether a knock would open a port in the packet filter that is in force.
//!
//! A packet has to get through every base chain on its way in: an `accept` ends one of them, a `drop` ends the packet. So the
//! first packet of a connection is led through all of them, once from an address that has knocked and once from one that has
//! not. What a chain looks at and this does not know leaves a doubt, which is reported. For the address that has knocked the
//! rules of the doors' commands are put where the commands put them.
//!
//! It is taken for granted that rate limits are not used up, that the packet is for this host and does not come over
//! loopback, that the way back is the way it came, and that the answer may leave. Packet filters of bridges and what programs
//! attach themselves (eBPF) are not looked at.

mod chain;
mod gate;
mod iptables;
mod nft;
mod packet;
mod ruleset;
mod ufw;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

pub use gate::{Gate, opened_ports};
pub use ruleset::{ActiveRuleset, ReadError};

use crate::packet::Protocol;
use chain::{End, Ends, Table};
use packet::Packet;
use ufw::NumberedRules;

use crate::firewall_command::Place;

/// What became of one port over one IP version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// True for IPv6.
    pub ipv6: bool,
    /// What a knock does there.
    pub outcome: Outcome,
}

/// What a knock does at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is shut, and a knock opens it.
    Opens,
    /// It is open without a knock.
    OpenToEveryone,
    /// It is shut and stays shut: what shuts it.
    StaysShut(Vec<String>),
    /// What the doubt is about.
    CannotTell(Vec<String>),
}

/// What a knock does at these ports, over IPv4 and IPv6, or over that of `from` alone, which is the address that knocks;
/// without it a stranger does, an address that no rule names.
pub fn check(ruleset: &ActiveRuleset, gate: &Gate, ports: &[(Protocol, u16)], from: Option<IpAddr>) -> Vec<Finding> {
    let numbered = NumberedRules::of(ruleset, gate.sets());
    let families = [false, true].into_iter().filter(|&ipv6| from.is_none_or(|from| from.is_ipv6() == ipv6));
    families
        .flat_map(|ipv6| ports.iter().map(move |&(protocol, port)| (ipv6, protocol, port)))
        .map(|(ipv6, protocol, port)| {
            let packet =
                |knocked| Packet { ipv6, protocol, port, from, knocked, to: &ruleset.addresses, sets: gate.sets() };
            let ends = |knocked, place| ends(ruleset, gate, &packet(knocked), numbered, place);
            let before = ends(false, Place::End);
            let outcome = Outcome::of(&before, &ends(true, Place::End));
            let outcome = match gate.assumed_chain() {
                None => outcome,
                // The rule may be put before all others as well.
                Some(chain) => outcome.or(Outcome::of(&before, &ends(true, Place::Before(0))), chain),
            };
            Finding { protocol, port, ipv6, outcome: outcome.explained(gate, numbered, ipv6) }
        })
        .collect()
}

/// Where the packet may end, in each base chain that it passes; `place` is that of the rule that is assumed.
fn ends(ruleset: &ActiveRuleset, gate: &Gate, packet: &Packet, numbered: NumberedRules, place: Place) -> Vec<Ends> {
    let mut tables = ruleset.tables(packet);
    if packet.knocked {
        gate.insert(&mut tables, packet, numbered, place);
    }
    tables.iter().flat_map(Table::ends).collect()
}

impl Outcome {
    fn of(before: &[Ends], after: &[Ends]) -> Self {
        match (Way::of(before), Way::of(after)) {
            (Way::Through, _) => Self::OpenToEveryone,
            (_, Way::Shut(by)) => Self::StaysShut(by),
            (Way::Shut(_), Way::Through) => Self::Opens,
            (Way::Doubtful(doubts), Way::Through) => Self::CannotTell(
                doubts.into_iter().map(|doubt| format!("{doubt}; so it may be open without a knock")).collect(),
            ),
            (_, Way::Doubtful(doubts)) => Self::CannotTell(doubts),
        }
    }
}

impl Outcome {
    /// The outcome if the rule is put at the end of the chain, or at its beginning.
    fn or(self, at_the_beginning: Self, chain: &str) -> Self {
        match (self, at_the_beginning) {
            (Self::StaysShut(_), Self::Opens) => Self::CannotTell(vec![format!(
                "it depends on where in the chain {chain} the command puts its rule: a rule there refuses the packet before the end"
            )]),
            (at_the_end, _) => at_the_end,
        }
    }

    /// With what the commands of the doors have to do with it.
    fn explained(self, gate: &Gate, numbered: NumberedRules, ipv6: bool) -> Self {
        match (self, gate.doubt(ipv6), gate.reason(numbered, ipv6)) {
            (Self::StaysShut(_), Some(doubt), _) => Self::CannotTell(vec![doubt]),
            (Self::StaysShut(mut by), _, Some(reason)) => {
                by.insert(0, reason);
                Self::StaysShut(by)
            }
            (outcome, ..) => outcome,
        }
    }
}

/// What becomes of a packet on its whole way.
enum Way {
    Through,
    Shut(Vec<String>),
    Doubtful(Vec<String>),
}

impl Way {
    fn of(chains: &[Ends]) -> Self {
        let shut: BTreeSet<String> =
            chains.iter().filter(|ends| ends.only_drop()).flat_map(|ends| ends.iter().map(End::to_string)).collect();
        let doubts: BTreeSet<String> =
            chains.iter().filter(|ends| !ends.only_accept()).flat_map(Ends::doubts).collect();
        match (shut.is_empty(), doubts.is_empty()) {
            (false, _) => Self::Shut(shut.into_iter().collect()),
            (true, true) => Self::Through,
            (true, false) => Self::Doubtful(doubts.into_iter().collect()),
        }
    }
}

/// As in `tcp/22 over IPv4: a knock opens it`, with further lines that say why.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "{}/{} over {version}: ", self.protocol, self.port)?;
        let (what, why): (_, &[String]) = match &self.outcome {
            Outcome::Opens => ("a knock opens it", &[]),
            Outcome::OpenToEveryone => ("it is open to everyone, without a knock", &[]),
            Outcome::StaysShut(by) => ("a knock does not open it", by),
            Outcome::CannotTell(doubts) => ("cannot tell", doubts),
        };
        f.write_str(what)?;
        why.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests;
