//! Hosts and the links between them.
//!
//! Each test has its own hosts, so all of them use the same names and addresses: `eth0` everywhere,
//! the server is 10.0.0.1 and fd00::1, the client 10.0.0.2 and fd00::2.

use crate::{Host, binary};

/// A client and a server on one link.
#[derive(Debug)]
pub struct Lab {
    /// 10.0.0.2, fd00::2, 02:00:00:00:00:02 on `eth0`.
    pub client: Host,
    /// 10.0.0.1, fd00::1, 02:00:00:00:00:01 on `eth0`.
    pub server: Host,
}

impl Lab {
    /// Both hosts, connected, with addresses. Each has the other's hardware address already, so
    /// that no neighbour discovery precedes a test's first packet.
    pub fn pair() -> Self {
        let client = Host::new("client");
        let server = Host::new("server");
        connect((&client, "eth0"), (&server, "eth0"));
        introduce(&client, &server);
        Self { client, server }
    }

    /// The client knocks from one of its addresses, by our own client.
    pub fn knock_from(&self, source: &str, address: &str, steps: &str) {
        let knock = binary("portknock");
        self.client.ok(&format!("{} knock --delay 5 --source {source} {address} {steps}", knock.display()));
    }

    /// A second link between the two, `interface` on both; the server has 10.0.N.1 and fd00:N::1
    /// there, the client 10.0.N.2 and fd00:N::2.
    pub fn add_interface(&self, interface: &str, n: u8) {
        connect((&self.client, interface), (&self.server, interface));
        for (host, last) in [(&self.client, 2), (&self.server, 1)] {
            let addresses = [format!("10.0.{n}.{last}/24"), format!("fd00:{n}::{last}/64")];
            let [v4, v6] = &addresses;
            give(host, interface, [v4, v6], &format!("02:00:00:00:{n:02x}:{last:02x}"));
        }
    }
}

/// A client and a server with a router between them.
#[derive(Debug)]
pub struct Routed {
    /// 10.1.0.2, fd01::2 on `eth0`.
    pub client: Host,
    /// 10.1.0.1, fd01::1 on `eth0` (to the client), 10.2.0.1, fd02::1 on `eth1` (to the server);
    /// forwards both families.
    pub router: Host,
    /// 10.2.0.2, fd02::2 on `eth0`.
    pub server: Host,
}

impl Routed {
    /// All three hosts, connected, with addresses and routes.
    pub fn new() -> Self {
        let client = Host::new("client");
        let router = Host::new("router");
        let server = Host::new("server");
        connect((&client, "eth0"), (&router, "eth0"));
        connect((&server, "eth0"), (&router, "eth1"));
        router.ok("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for (host, end, net) in [(&client, "eth0", 1), (&server, "eth1", 2)] {
            let router_mac = format!("02:00:00:00:{net:02x}:01");
            let host_mac = format!("02:00:00:00:{net:02x}:02");
            give(host, "eth0", [&format!("10.{net}.0.2/24"), &format!("fd0{net}::2/64")], &host_mac);
            give(&router, end, [&format!("10.{net}.0.1/24"), &format!("fd0{net}::1/64")], &router_mac);
            know(host, "eth0", [&format!("10.{net}.0.1"), &format!("fd0{net}::1")], &router_mac);
            know(&router, end, [&format!("10.{net}.0.2"), &format!("fd0{net}::2")], &host_mac);
            host.ok(&format!("ip route add default via 10.{net}.0.1; ip route add default via fd0{net}::1"));
        }
        Self { client, router, server }
    }
}

impl Default for Routed {
    fn default() -> Self {
        Self::new()
    }
}

/// Creates a link (a veth pair) between two new interfaces.
pub(crate) fn connect((a, a_interface): (&Host, &str), (b, b_interface): (&Host, &str)) {
    a.ok(&format!("ip link add {a_interface} type veth peer name {b_interface} netns {}", b.namespace()));
}

/// Configures a client and a server that are connected already, with their addresses; each gets the
/// other's hardware address.
pub(crate) fn introduce(client: &Host, server: &Host) {
    give(client, "eth0", ["10.0.0.2/24", "fd00::2/64"], "02:00:00:00:00:02");
    give(server, "eth0", ["10.0.0.1/24", "fd00::1/64"], "02:00:00:00:00:01");
    know(client, "eth0", ["10.0.0.1", "fd00::1"], "02:00:00:00:00:01");
    know(server, "eth0", ["10.0.0.2", "fd00::2"], "02:00:00:00:00:02");
}

/// Gives an interface its hardware address and its addresses, and sets it up.
pub(crate) fn give(host: &Host, interface: &str, addresses: [&str; 2], mac: &str) {
    host.ok(&format!("ip link set {interface} address {mac}; ip link set {interface} up"));
    for address in addresses {
        host.add_address(interface, address);
    }
}

/// Gives a host the hardware address of its neighbour.
pub(crate) fn know(host: &Host, interface: &str, addresses: [&str; 2], mac: &str) {
    host.set_up(interface, true);
    for address in addresses {
        host.ok(&format!("ip neigh replace {address} lladdr {mac} dev {interface} nud permanent"));
    }
}
