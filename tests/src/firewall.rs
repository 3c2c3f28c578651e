//! The server's packet filter.

use crate::{Host, require};

/// An iptables firewall, IPv4 and IPv6, whose INPUT drops everything except loopback and
/// established connections.
#[derive(Debug)]
pub struct Firewall<'a> {
    host: &'a Host,
}

impl<'a> Firewall<'a> {
    /// Sets it up.
    pub fn closed(host: &'a Host) -> Self {
        require("iptables");
        host.ok("for tables in iptables ip6tables; do
                     $tables -w -P INPUT DROP
                     $tables -w -A INPUT -i lo -j ACCEPT
                     $tables -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
                 done
                 # Neighbour discovery is ICMPv6 and no connection.
                 for kind in router-solicitation router-advertisement neighbour-solicitation neighbour-advertisement; do
                     ip6tables -w -A INPUT -p icmpv6 --icmpv6-type $kind -j ACCEPT
                 done");
        Self { host }
    }

    /// The rules of INPUT for IPv4 and then IPv6, as `iptables -S` prints them.
    pub fn rules(&self) -> String {
        self.host.ok("iptables -w -S INPUT; ip6tables -w -S INPUT")
    }
}
