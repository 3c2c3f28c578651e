//! Which sets a gate has: one for addresses, and one for each prefix length of the networks that doors open.
//!
//! A rule masks the source with the prefix before it searches the set. The set therefore contains
//! first addresses of networks and is a hash table, as the set for addresses is: networks of
//! different lengths never overlap in one set, and each has its own timeout.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::Config;

/// Prefix length of a single address, for IPv4 and IPv6.
const ADDRESS: [u8; 2] = [32, 128];

/// The prefix lengths of the networks that have a set, for IPv4 and IPv6.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lengths([BTreeSet<u8>; 2]);

/// A set: IPv4 (0) or IPv6 (1), and the length of the prefix.
pub(super) type SetOf = (usize, u8);

impl Lengths {
    /// Returns the lengths of all networks that the doors with `open` can open for.
    pub(super) fn of(config: &Config) -> Self {
        let mut lengths = Self::default();
        for door in config.doors.iter().filter(|door| !door.open.is_empty()) {
            for which in [0, 1] {
                lengths.0[which].extend(door.prefix_lengths(which == 1));
            }
        }
        lengths
    }

    /// Adds the length of a network.
    pub(super) fn add(&mut self, net: IpNet) {
        let (which, length) = set_of(net);
        self.0[which].insert(length);
    }

    /// Returns all sets. The sets for addresses always exist and come first.
    pub(super) fn sets(&self) -> impl Iterator<Item = SetOf> {
        let of_networks =
            [0, 1].into_iter().flat_map(|which| self.0[which].iter().rev().map(move |length| (which, *length)));
        let of_addresses = ADDRESS.into_iter().enumerate();
        of_addresses.chain(of_networks.filter(|(which, length)| *length != ADDRESS[*which]))
    }
}

/// Returns the set to which a network belongs.
pub(super) fn set_of(net: IpNet) -> SetOf {
    (usize::from(net.addr().is_ipv6()), net.prefix_len())
}

/// Returns the name of a set, if `base` is the name of the set for addresses.
pub(crate) fn set_name(base: &str, which: usize, length: u8) -> String {
    if length == ADDRESS[which] { base.to_owned() } else { format!("{base}_{length}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn there_is_a_set_for_each_length_that_a_door_can_open() {
        let doors = "[a]\nsequence = 1\nopen = tcp/22\nopen_prefix = 24,56\n[b]\nsequence = 2\nopen = tcp/22\n\
                     allow = 10.0.0.0/28,10.1.0.0/16\nopen_prefix = 20\n[c]\nsequence = 3\ncommand = x\nopen_prefix = 16\n";
        let mut lengths = Lengths::of(&parse(doors.as_bytes()).config.unwrap());
        let names = |lengths: &Lengths| -> Vec<String> {
            lengths.sets().map(|(which, length)| set_name(["four", "six"][which], which, length)).collect()
        };
        assert_eq!(names(&lengths), ["four", "six", "four_28", "four_24", "four_20", "six_56"]);
        lengths.add("10.0.0.7/32".parse().unwrap());
        lengths.add("2001:db8::/48".parse().unwrap());
        assert_eq!(names(&lengths), ["four", "six", "four_28", "four_24", "four_20", "six_56", "six_48"]);
        assert_eq!(names(&Lengths::default()), ["four", "six"]);
    }
}
