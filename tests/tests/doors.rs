//! From a packet on the link to an open port and back, with a real packet filter.

use std::time::Duration;

use portknock_tests::{Daemon, Firewall, Lab, Listener, PortState, Routed, WAIT_TIMEOUT, binary, skipped, wait_until};

/// Opens and closes port 22 with iptables; closes after two seconds.
const SSH: &str = "
[ssh]
    sequence      = 7000,8000:udp,9000
    seq_timeout   = 10
    tcpflags      = syn
    start_command = iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    stop_command  = iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    start_command_6 = ip6tables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    stop_command_6  = ip6tables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
    cmd_timeout   = 2
";

/// Records each opening in a file, for tests that need no packet filter.
const NOTE: &str = "
[door]
    sequence    = 7000,8000,9000
    seq_timeout = 10
    tcpflags    = syn
    command     = echo $PORTKNOCK_EVENT $PORTKNOCK_DOOR $PORTKNOCK_IP >> %DIR%/opened
";

fn becomes(lab: &Lab, address: &str, state: PortState) {
    let reached = wait_until(WAIT_TIMEOUT, || lab.client.tcp_state(address, 22) == state);
    assert!(reached, "port 22 of {address} does not become {state:?}");
}

fn opened(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.path("opened")).unwrap_or_default()
}

/// Asserts that nothing happens any more: packets that were sent have arrived long before.
fn stays_closed(daemon: &Daemon) {
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(daemon.count("OPEN SESAME"), 0, "{}", daemon.log());
    assert_eq!(opened(daemon), "");
}

#[test]
fn the_port_opens_for_the_client_only_and_closes_again() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.77/24");
    let _listener = Listener::start(&lab.server, 22);
    let firewall = Firewall::closed(&lab.server);
    let before = firewall.rules();
    let daemon = Daemon::portknockd(&lab.server, SSH);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);

    lab.client.ok("knock 10.0.0.1 7000 8000:udp 9000");
    becomes(&lab, "10.0.0.1", PortState::Open);
    assert!(firewall.rules().contains("-s 10.0.0.2/32"), "{}", firewall.rules());
    assert!(!firewall.rules().contains("10.0.0.77"), "{}", firewall.rules());
    becomes(&lab, "10.0.0.1", PortState::Filtered);
    assert!(wait_until(WAIT_TIMEOUT, || firewall.rules() == before), "{}", firewall.rules());

    for line in [
        "10.0.0.2: ssh: Stage 1",
        "10.0.0.2: ssh: Stage 3",
        "10.0.0.2: ssh: OPEN SESAME",
        "ssh: running command: iptables -w -I INPUT -s 10.0.0.2 -p tcp",
        "10.0.0.2: ssh: command timeout",
        "ssh: running command: iptables -w -D INPUT -s 10.0.0.2 -p tcp",
    ] {
        assert_eq!(daemon.count(line), 1, "`{line}` in\n{}", daemon.log());
    }
}

#[test]
fn ipv6_clients_get_the_ipv6_commands() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let _firewall = Firewall::closed(&lab.server);
    let _daemon = Daemon::portknockd(&lab.server, SSH);
    lab.client.ok("knock fd00::1 7000 8000:udp 9000");
    becomes(&lab, "fd00::1", PortState::Open);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
    becomes(&lab, "fd00::1", PortState::Filtered);
}

#[test]
fn an_nft_set_that_the_dropping_chain_consults_works_the_same() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    lab.server.ok("nft -f - <<'RULES'
table inet filter {
    set knocked { type ipv4_addr; }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        tcp dport 22 ip saddr @knocked accept
    }
}
RULES");
    let door = "[ssh]
        sequence = 7000,8000,9000
        tcpflags = syn
        start_command = nft add element inet filter knocked '{ %IP% }'
        stop_command = nft delete element inet filter knocked '{ %IP% }'
        cmd_timeout = 2\n";
    let _daemon = Daemon::portknockd(&lab.server, door);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    becomes(&lab, "10.0.0.1", PortState::Open);
    becomes(&lab, "10.0.0.1", PortState::Filtered);
}

#[test]
fn the_handbook_example_opens_by_six_mixed_knocks_and_closes_by_three() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let firewall = Firewall::closed(&lab.server);
    let before = firewall.rules();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/conf/handbook.conf");
    let config = std::fs::read_to_string(example).expect("the example is there");
    let daemon = Daemon::portknockd(&lab.server, &config);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
    lab.client.ok("knock 10.0.0.1 6:tcp 1450:udp 8156:udp 22045:tcp 23501:udp 24691:tcp");
    becomes(&lab, "10.0.0.1", PortState::Open);
    lab.client.ok("knock 10.0.0.1 3011 6145 7298");
    becomes(&lab, "10.0.0.1", PortState::Filtered);
    assert!(wait_until(WAIT_TIMEOUT, || firewall.rules() == before), "{}\n{}", firewall.rules(), daemon.log());
}

#[test]
fn a_wrong_order_opens_nothing() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    lab.client.ok("knock 10.0.0.1 7000 9000 8000");
    daemon.wait_for("10.0.0.2: door: Stage 1");
    stays_closed(&daemon);
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
}

#[test]
fn commands_find_door_address_and_event_in_their_environment() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    assert!(wait_until(WAIT_TIMEOUT, || opened(&daemon) == "open door 10.0.0.2\n"), "{}", opened(&daemon));
}

#[test]
fn any_listens_on_every_interface() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let daemon = Daemon::portknockd_with(&lab.server, NOTE, &["-i", "any"]);
    for address in ["10.0.0.1", "10.0.7.1", "fd00:7::1"] {
        lab.client.ok(&format!("knock {address} 7000 8000 9000"));
    }
    lab.server.ok("knock 127.0.0.1 7000 8000 9000");
    for source in ["10.0.0.2", "10.0.7.2", "fd00:7::2", "127.0.0.1"] {
        daemon.wait_for(&format!("{source}: door: OPEN SESAME"));
    }
    assert_eq!(daemon.count("OPEN SESAME"), 4, "{}", daemon.log());
}

#[test]
fn several_interfaces_are_listened_on_and_others_are_not() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    lab.add_interface("eth2", 8);
    let config = format!("[options]\nInterface = eth0, eth1\n{NOTE}");
    let daemon = Daemon::portknockd_with(&lab.server, &config, &[]);
    lab.client.ok("knock 10.0.8.1 7000 8000 9000");
    for address in ["10.0.0.1", "10.0.7.1"] {
        lab.client.ok(&format!("knock {address} 7000 8000 9000"));
    }
    for source in ["10.0.0.2", "10.0.7.2"] {
        daemon.wait_for(&format!("{source}: door: OPEN SESAME"));
    }
    assert_eq!(daemon.count("10.0.8.2"), 0, "{}", daemon.log());
}

#[test]
fn steps_may_arrive_on_different_interfaces() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    // Both links lead to the same server: the source address alone identifies the attempt.
    lab.client.ok("ip addr add 10.9.9.9/32 dev lo");
    let daemon = Daemon::portknockd_with(&lab.server, NOTE, &["-i", "eth0,eth1"]);
    let knock = binary("portknock");
    for (address, port) in [("10.0.0.1", 7000), ("10.0.7.1", 8000), ("10.0.0.1", 9000)] {
        lab.client.ok(&format!("{} knock --source 10.9.9.9 {address} {port}", knock.display()));
    }
    daemon.wait_for("10.9.9.9: door: OPEN SESAME");
}

#[test]
fn vlans_are_seen_on_their_own_interface_and_on_the_one_below() {
    for listen_on in ["eth0", "eth0.5", "any"] {
        let lab = Lab::pair();
        if lab.server.run("ip link add link eth0 name eth0.5 type vlan id 5").code != Some(0) {
            skipped("this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)");
            return;
        }
        lab.client.ok("ip link add link eth0 name eth0.5 type vlan id 5");
        for (host, last) in [(&lab.client, 2), (&lab.server, 1)] {
            host.add_address("eth0.5", &format!("10.5.0.{last}/24"));
            host.set_up("eth0.5", true);
        }
        let daemon = Daemon::portknockd_with(&lab.server, NOTE, &["-i", listen_on]);
        lab.client.ok("knock 10.5.0.1 7000 8000 9000");
        daemon.wait_for("10.5.0.2: door: OPEN SESAME");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(daemon.count("OPEN SESAME"), 1, "on {listen_on}:\n{}", daemon.log());
    }
}

#[test]
fn knocks_inside_a_vlan_tag_are_seen() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    let pktgen = binary("pktgen");
    lab.client.ok(&format!("{} --interface eth0 --ports 7000,8000,9000 --vlan 5 --rate 100", pktgen.display()));
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
}

#[test]
fn knocks_inside_two_vlan_tags_are_seen() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, NOTE);
    let pktgen = binary("pktgen");
    lab.client.ok(&format!("{} --interface eth0 --ports 7000,8000,9000 --vlan 5,6 --rate 100", pktgen.display()));
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
}

#[test]
fn a_target_beyond_the_router_is_knocked_at_through_the_router() {
    let lab = Routed::new();
    let config = NOTE.replace("[door]", "[door]\n    target = 10.2.0.2");
    let daemon = Daemon::portknockd(&lab.router, &config);
    lab.client.ok("knock 10.1.0.1 7000 8000 9000");
    stays_closed(&daemon);
    lab.client.ok("knock 10.2.0.2 7000 8000 9000");
    daemon.wait_for("10.1.0.2: door: OPEN SESAME");
}

#[test]
fn forwarded_packets_are_no_knocks_without_a_target() {
    let lab = Routed::new();
    let daemon = Daemon::portknockd_with(&lab.router, NOTE, &["-i", "any"]);
    lab.client.ok("knock 10.2.0.2 7000 8000 9000");
    stays_closed(&daemon);
    lab.client.ok("knock 10.2.0.1 7000 8000 9000");
    daemon.wait_for("10.1.0.2: door: OPEN SESAME");
}

#[test]
fn packets_sent_by_the_machine_are_no_knocks() {
    let lab = Lab::pair();
    let config = NOTE.replace("[door]", "[door]\n    target = 10.0.0.2");
    let daemon = Daemon::portknockd(&lab.server, &config);
    lab.server.ok("knock 10.0.0.2 7000 8000 9000");
    stays_closed(&daemon);
}

#[test]
fn the_flags_of_the_door_decide_which_segments_count() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, &NOTE.replace("= syn", "= fin,!ack"));
    let pktgen = |flags: &str| {
        let pktgen = binary("pktgen");
        lab.client
            .ok(&format!("{} --interface eth0 --ports 7000,8000,9000 --flags {flags} --rate 100", pktgen.display()));
    };
    pktgen("S");
    pktgen("FA");
    stays_closed(&daemon);
    pktgen("F");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
}

#[test]
fn a_timed_out_attempt_of_one_source_does_not_end_that_of_another() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.3/24");
    let daemon = Daemon::portknockd(&lab.server, &NOTE.replace("seq_timeout = 10", "seq_timeout = 3"));
    let knock = |source: &str, port: u16| {
        lab.client.ok(&format!("{} knock --source {source} 10.0.0.1 {port}", binary("portknock").display()));
    };
    knock("10.0.0.2", 7000);
    std::thread::sleep(Duration::from_secs(2));
    knock("10.0.0.3", 7000);
    knock("10.0.0.3", 8000);
    daemon.wait_for("10.0.0.2: door: sequence timeout (stage 1)");
    knock("10.0.0.3", 9000);
    daemon.wait_for("10.0.0.3: door: OPEN SESAME");
    assert_eq!(daemon.count("10.0.0.3: door: sequence timeout"), 0, "{}", daemon.log());
}

#[test]
fn a_dry_run_reports_and_does_nothing() {
    let lab = Lab::pair();
    let config = format!("{NOTE}    stop_command = echo closed >> %DIR%/opened\n    cmd_timeout = 1\n");
    let daemon = Daemon::portknockd_with(&lab.server, &config, &["-i", "eth0", "--dry-run"]);
    lab.client.ok("knock 10.0.0.1 7000 8000 9000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    daemon.wait_for("10.0.0.2: door: command timeout");
    assert_eq!(opened(&daemon), "");
    assert!(!daemon.path("openings").exists());
}
