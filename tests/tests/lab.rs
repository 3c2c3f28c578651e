//! The lab itself: its hosts and links behave as documented.

use portknock_tests::{Daemon, Firewall, Lab, Listener, PortState, Process, Routed, Sniffer, binary};

#[test]
fn ports_look_open_closed_and_filtered() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    for address in ["10.0.0.1", "fd00::1"] {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Open, "{address}");
        assert_eq!(lab.client.tcp_state(address, 23), PortState::Closed, "{address}");
    }
    let firewall = Firewall::closed(&lab.server);
    for address in ["10.0.0.1", "fd00::1"] {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Filtered, "{address}");
    }
    lab.server.ok("iptables -A INPUT -s 10.0.0.2 -p tcp --dport 22 -j ACCEPT");
    assert!(firewall.rules().contains("10.0.0.2"), "{}", firewall.rules());
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
}

#[test]
fn a_router_forwards_both_families() {
    let lab = Routed::new();
    let _listener = Listener::start(&lab.server, 22);
    for address in ["10.2.0.2", "fd02::2"] {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Open, "{address}");
    }
    lab.router.ok("iptables -P FORWARD DROP");
    assert_eq!(lab.client.tcp_state("10.2.0.2", 22), PortState::Filtered);
}

#[test]
fn a_second_link_carries_traffic_until_it_is_down() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let _listener = Listener::start(&lab.server, 22);
    for address in ["10.0.7.1", "fd00:7::1"] {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Open, "{address}");
    }
    lab.client.set_up("eth1", false);
    assert_eq!(lab.client.tcp_state("10.0.7.1", 22), PortState::Filtered);
}

#[test]
fn the_original_knockd_runs_and_stops() {
    let lab = Lab::pair();
    let mut daemon = Daemon::knockd(&lab.server, "[door]\nsequence = 7000\ncommand = touch %DIR%/opened\n");
    lab.client.ok("knock 10.0.0.1 7000");
    daemon.wait_for("OPEN SESAME");
    assert!(portknock_tests::wait_until(portknock_tests::WAIT_TIMEOUT, || daemon.path("opened").exists()));
    daemon.stop();
    assert_eq!(daemon.count("OPEN SESAME"), 1);
}

#[test]
fn pktgen_sends_the_requested_packets() {
    let lab = Lab::pair();
    let sniffer = Sniffer::start(&lab.server, "eth0", "");
    let pktgen = |args: &[&str]| {
        let sender = Process::spawn(lab.client.command(binary("pktgen")).args(["--interface", "eth0"]).args(args));
        let (status, output) = sender.finish();
        assert!(status.success(), "{output}");
        output
    };
    pktgen(&["--from", "198.18.0.255", "--sources", "2", "--ports", "7000,7001"]);
    let seen = sniffer.wait_for(4, |packet| packet.flags == "S");
    let seen: Vec<String> = seen.iter().map(|packet| format!("{} {}", packet.source, packet.step())).collect();
    assert_eq!(seen, ["198.18.0.255 7000:tcp", "198.18.0.255 7001:tcp", "198.18.1.0 7000:tcp", "198.18.1.0 7001:tcp"]);
    pktgen(&["--from", "fd00::2", "--to", "fd00::1", "--udp", "--ports", "53", "--vlan", "3,4"]);
    let seen = sniffer.wait_for(1, |packet| packet.vlans == "3,4");
    assert_eq!((seen[0].source.to_string(), seen[0].step(), seen[0].length), ("fd00::2".into(), "53:udp".into(), 1));
    pktgen(&["--flags", "FPU", "--ports", "99"]);
    sniffer.wait_for(1, |packet| packet.flags == "FPU" && packet.port == 99);
    assert!(pktgen(&["--ports", "1", "--count", "50", "--rate", "1000"]).contains("sent 50 packets in 0.0"));
}
