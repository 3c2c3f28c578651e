//! Doors that open for the network of the address that knocked.

use std::fs;

use portknock_tests::{Daemon, Firewall, Lab, Listener, Scan, WAIT_TIMEOUT, probe, wait_until};
use serde_json::{Value, json};

/// For each IP version the server, two addresses of one network of the client, and one of another network.
const HOSTS: [[&str; 4]; 2] = [
    ["10.0.0.1", "203.0.113.7", "203.0.113.200", "198.51.100.7"],
    ["fd00::1", "2001:db8:0:1000::7", "2001:db8:0:10ff::9", "2001:db8:0:1100::7"],
];
const NETWORKS: [&str; 2] = ["203.0.113.0/24", "2001:db8:0:1000::/56"];

/// A client with all of these addresses.
fn lab() -> Lab {
    let lab = Lab::pair();
    for address in HOSTS.iter().flat_map(|[_, client @ ..]| client) {
        lab.client.add_address("eth0", &format!("{address}/{}", if address.contains(':') { 128 } else { 32 }));
    }
    lab.client.add_address("eth0", "198.51.100.77/32");
    lab.server.ok("ip route add 203.0.113.0/24 dev eth0; ip route add 198.51.100.0/24 dev eth0
                   ip -6 route add 2001:db8::/32 dev eth0");
    lab
}

/// How a port looks from one address of the client.
fn state(lab: &Lab, source: &str, address: &str, port: u16) -> String {
    let state =
        probe(&lab.client, Scan::Connect, &format!("--source {source} {address} {port}"))[0].verdict.to_string();
    state.split(',').next().unwrap_or_default().to_owned()
}

fn becomes(lab: &Lab, source: &str, address: &str, port: u16, wanted: &str) {
    let reached = wait_until(WAIT_TIMEOUT, || state(lab, source, address, port) == wanted);
    assert!(reached, "port {port} of {address} does not become {wanted} from {source}");
}

fn example() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/conf/network.conf"))
        .expect("the example exists")
}

/// The event of a further knock. The log counts it together with others of the same second.
fn extended(door: &str, ip: &str, net: &str) -> String {
    format!(r#""event":"extend","door":"{door}","ip":"{ip}","net":"{net}""#)
}

const SSH: &str = "7391 2284:udp 48213 31072:udp";
const WEB: &str = "5127:udp 38011 20964:udp";

#[test]
fn the_kernel_opens_for_the_network_and_for_no_other() {
    let lab = lab();
    let _listener = Listener::start(&lab.server, 22);
    let daemon = Daemon::portknockd(&lab.server, &example());
    let follower = daemon.follow();
    for ([server, client, neighbour, outsider], network) in HOSTS.into_iter().zip(NETWORKS) {
        for source in [client, neighbour, outsider] {
            assert_eq!(state(&lab, source, server, 22), "closed", "{source}");
        }
        lab.knock_from(client, server, SSH);
        becomes(&lab, neighbour, server, 22, "open");
        assert_eq!(state(&lab, client, server, 22), "open");
        assert_eq!(state(&lab, outsider, server, 22), "closed");

        // Another address of the network opens nothing more.
        lab.knock_from(neighbour, server, SSH);
        follower.wait_for(&extended("ssh", neighbour, network));
        let status = daemon.status_json();
        assert_eq!((&status["openings"], status["open"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{status}");
        assert_eq!((&status["open"][0]["net"], &status["open"][0]["ip"]), (&json!(network), &json!(neighbour)));
        let text = daemon.portknock(&["status"]).stdout;
        assert!(text.contains(&format!("ssh        {network}")), "{text}");

        // Any address of the network names the opening, and so does the network.
        let closed = daemon.portknock(&["close", "ssh", outsider]);
        assert_eq!((closed.code, closed.stderr.contains(&format!("ssh is not open for {outsider}"))), (Some(1), true));
        let named = if server.contains(':') { network } else { "203.0.113.99" };
        let closed = daemon.portknock(&["close", "ssh", named]);
        assert_eq!((closed.code, &*closed.stdout), (Some(0), &*format!("ssh is closed for {named}\n")), "{closed:?}");
        becomes(&lab, neighbour, server, 22, "closed");
    }
    let opened = follower.output();
    for network in NETWORKS {
        for event in ["open", "extend", "close"] {
            let is_it = |line: &str| {
                let line: Value = serde_json::from_str(line).unwrap_or_default();
                line["event"] == event && line["net"] == network
            };
            assert!(opened.lines().any(is_it), "no {event} of {network}:\n{opened}");
        }
    }
    assert_eq!(daemon.count("cannot"), 0, "{}", daemon.log());
}

#[test]
fn commands_open_for_the_network_within_what_may_knock() {
    let lab = lab();
    let _listener = Listener::start(&lab.server, 443);
    let firewall = Firewall::closed(&lab.server);
    let before = firewall.rules();
    let daemon = Daemon::portknockd(&lab.server, &example().replace("[ssh]", "[unused]").replace("open        =", "#"));
    let follower = daemon.follow();
    for ([server, client, neighbour, outsider], network) in HOSTS.into_iter().zip(NETWORKS) {
        lab.knock_from(client, server, WEB);
        becomes(&lab, neighbour, server, 443, "open");
        assert_eq!(state(&lab, outsider, server, 443), "filtered");
        let rules = firewall.rules();
        assert_eq!(rules.matches(network).count(), 1, "{rules}");
        // The commands of the opening are those for the address that opened it.
        lab.knock_from(neighbour, server, WEB);
        follower.wait_for(&extended("web", neighbour, network));
        assert!(wait_until(WAIT_TIMEOUT, || daemon.status("commands") == 0 && firewall.rules() == rules), "{rules}");
        assert_eq!(daemon.status_json()["open"][0]["ip"], json!(client));
        assert_eq!(daemon.portknock(&["close", "web", neighbour]).code, Some(0));
        assert!(wait_until(WAIT_TIMEOUT, || firewall.rules() == before), "{}", firewall.rules());
    }
    // 198.51.100.77 is in the same /24, but may not knock.
    lab.knock_from("198.51.100.7", "10.0.0.1", WEB);
    becomes(&lab, "198.51.100.7", "10.0.0.1", 443, "open");
    assert!(firewall.rules().contains("-s 198.51.100.0/28 "), "{}", firewall.rules());
    assert_eq!(state(&lab, "198.51.100.77", "10.0.0.1", 443), "filtered");
}
