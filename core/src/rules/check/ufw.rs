//! The numbers of ufw's rules, by which `ufw insert` finds its place.

use super::chain::Table;
use super::packet::{OpenSets, Packet};
use super::ruleset::ActiveRuleset;
use crate::firewall_command::{Place, Source};
use crate::packet::Protocol;

/// Whether ufw has rules of its users, which have numbers, for IPv4 and for IPv6.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberedRules {
    exist: [bool; 2],
}

impl NumberedRules {
    pub(super) fn of(ruleset: &ActiveRuleset, sets: &OpenSets) -> Self {
        let exist = [false, true].map(|ipv6| {
            let (protocol, to) = (Protocol::Tcp, &ruleset.addresses);
            let packet = Packet { ipv6, protocol, port: 0, from: None, knocked: false, to, sets };
            ruleset.tables(&packet).iter().any(has_rules)
        });
        Self { exist }
    }

    /// Where `ufw insert` with this number puts a rule for this IP version; `None` if ufw refuses the number. ufw numbers
    /// the rules for IPv4 first, and refuses the number of a rule for the other IP version.
    pub(super) fn place(self, number: usize, source: Source, ipv6: bool) -> Option<Place> {
        let [four, six] = self.exist;
        let is_of_one_version = source == Source::Knocker;
        match number {
            0 => None,
            _ if !four && !six => None,
            1 if if ipv6 { six && !four } else { four } => Some(Place::Before(0)),
            1 if is_of_one_version => None,
            _ if is_of_one_version && !ipv6 && !four => None,
            _ => Some(Place::Somewhere),
        }
    }
}

fn has_rules(table: &Table) -> bool {
    table.chains.iter().any(|(name, chain)| {
        let name = name.strip_prefix("ufw-user-").or_else(|| name.strip_prefix("ufw6-user-"));
        matches!(name, Some("input" | "output" | "forward")) && !chain.rules.is_empty()
    })
}
