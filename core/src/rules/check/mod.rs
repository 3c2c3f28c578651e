//! Checks whether a knock opens a port in the packet filter in force.
//!
//! An incoming packet must pass every base chain: an `accept` ends the chain, and a `drop` ends the
//! packet's path. The check evaluates all base chains for the first packet of a connection, once
//! from an address that has not knocked and once from an address that has. For the latter, it
//! inserts the rules of the doors' commands at the positions that the commands use. If a rule
//! depends on a property that the check does not know, the check reports a doubt.
//!
//! The check assumes that no rate limit is exceeded, that the packet is for this host and does not
//! arrive over loopback, that the return path is the same, and that the answer may leave. It
//! ignores packet filters of bridges and programs that attach themselves (eBPF).

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

use crate::firewall_command::RulePosition;

/// The result for one port and one IP version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// True for IPv6.
    pub ipv6: bool,
    /// The effect of a knock.
    pub outcome: KnockOutcome,
}

/// The effect of a knock on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnockOutcome {
    /// The port is closed, and a knock opens it.
    Opens,
    /// The port is open without a knock.
    OpenToEveryone,
    /// The port is closed, and a knock does not open it. The values are the reasons, such as the
    /// rules that refuse the packet.
    StaysClosed(Vec<String>),
    /// The effect is unknown. The values are the reasons.
    Unknown(Vec<String>),
}

/// Returns the effect of a knock on each of these ports. `from` is the address that knocks, and
/// only its IP version is checked. If it is `None`, the check covers IPv4 and IPv6, for an address
/// that no rule names.
pub fn check(ruleset: &ActiveRuleset, gate: &Gate, ports: &[(Protocol, u16)], from: Option<IpAddr>) -> Vec<Finding> {
    let numbered = NumberedRules::of(ruleset, gate.sets());
    let families = [false, true].into_iter().filter(|&ipv6| from.is_none_or(|from| from.is_ipv6() == ipv6));
    families
        .flat_map(|ipv6| ports.iter().map(move |&(protocol, port)| (ipv6, protocol, port)))
        .map(|(ipv6, protocol, port)| {
            let packet =
                |knocked| Packet { ipv6, protocol, port, from, knocked, to: &ruleset.addresses, sets: gate.sets() };
            let ends = |knocked, position| ends(ruleset, gate, &packet(knocked), numbered, position);
            let before = ends(false, RulePosition::End);
            let outcome = KnockOutcome::of(&before, &ends(true, RulePosition::End));
            let outcome = match gate.assumed_chain() {
                None => outcome,
                // The command may also insert the rule before all others.
                Some(chain) => outcome.or(KnockOutcome::of(&before, &ends(true, RulePosition::Before(0))), chain),
            };
            Finding { protocol, port, ipv6, outcome: outcome.explained(gate, numbered, ipv6) }
        })
        .collect()
}

/// Returns the possible ends of the packet's path in each base chain. `position` is the position of
/// the assumed rule.
fn ends(
    ruleset: &ActiveRuleset,
    gate: &Gate,
    packet: &Packet,
    numbered: NumberedRules,
    position: RulePosition,
) -> Vec<Ends> {
    let mut tables = ruleset.tables(packet);
    if packet.knocked {
        gate.insert(&mut tables, packet, numbered, position);
    }
    tables.iter().flat_map(Table::ends).collect()
}

impl KnockOutcome {
    /// Compares the paths of the packet before and after a knock.
    fn of(before: &[Ends], after: &[Ends]) -> Self {
        match (PathResult::of(before), PathResult::of(after)) {
            (PathResult::Accepted, _) => Self::OpenToEveryone,
            (_, PathResult::Refused(by)) => Self::StaysClosed(by),
            (PathResult::Refused(_), PathResult::Accepted) => Self::Opens,
            (PathResult::Uncertain(doubts), PathResult::Accepted) => Self::Unknown(
                doubts.into_iter().map(|doubt| format!("{doubt}; so the port may be open without a knock")).collect(),
            ),
            (_, PathResult::Uncertain(doubts)) => Self::Unknown(doubts),
        }
    }

    /// Combines the outcomes if the command inserts its rule at the end of the chain, and at its
    /// beginning.
    fn or(self, at_the_beginning: Self, chain: &str) -> Self {
        match (self, at_the_beginning) {
            (Self::StaysClosed(_), Self::Opens) => Self::Unknown(vec![format!(
                "it depends on the position of the command's rule in chain {chain}: another rule of the chain refuses the packet"
            )]),
            (at_the_end, _) => at_the_end,
        }
    }

    /// Adds the reasons that the commands of the doors cause.
    fn explained(self, gate: &Gate, numbered: NumberedRules, ipv6: bool) -> Self {
        match (self, gate.doubt(ipv6), gate.reason(numbered, ipv6)) {
            (Self::StaysClosed(_), Some(doubt), _) => Self::Unknown(vec![doubt]),
            (Self::StaysClosed(mut by), _, Some(reason)) => {
                by.insert(0, reason);
                Self::StaysClosed(by)
            }
            (outcome, ..) => outcome,
        }
    }
}

/// The result of a packet's whole path.
enum PathResult {
    Accepted,
    Refused(Vec<String>),
    Uncertain(Vec<String>),
}

impl PathResult {
    fn of(chains: &[Ends]) -> Self {
        let refusals: BTreeSet<String> =
            chains.iter().filter(|ends| ends.only_drop()).flat_map(|ends| ends.iter().map(End::to_string)).collect();
        let doubts: BTreeSet<String> =
            chains.iter().filter(|ends| !ends.only_accept()).flat_map(Ends::doubts).collect();
        match (refusals.is_empty(), doubts.is_empty()) {
            (false, _) => Self::Refused(refusals.into_iter().collect()),
            (true, true) => Self::Accepted,
            (true, false) => Self::Uncertain(doubts.into_iter().collect()),
        }
    }
}

/// As in `tcp/22 over IPv4: a knock opens it`, with the reasons on further lines.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "{}/{} over {version}: ", self.protocol, self.port)?;
        let (outcome, reasons): (_, &[String]) = match &self.outcome {
            KnockOutcome::Opens => ("a knock opens it", &[]),
            KnockOutcome::OpenToEveryone => ("it is open to everyone, without a knock", &[]),
            KnockOutcome::StaysClosed(reasons) => ("a knock does not open it", reasons),
            KnockOutcome::Unknown(reasons) => ("unknown", reasons),
        };
        f.write_str(outcome)?;
        reasons.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests;
