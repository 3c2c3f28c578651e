//! Destinations of packets.

use super::scenario::Act::{Knock, Pktgen, Server};
use super::{OPENED, Scenario, door, plain};

const NOW: &str = "DHCP, failover and privacy addresses";
const TARGETS: &str = "[own]\nsequence = 1000,2000\ntarget = 10.0.0.9\n[any]\nsequence = 1000,2000\n\
                       [other]\nsequence = 1000,2000\ntarget = 10.9.9.9\n[six]\nsequence = 1000,2000\ntarget = fd00::1\n";
const SPOOFED: &str = "no host can have them, so they are spoofed; a door must not open for them";
const SECOND: &str = "ip addr add 10.0.0.9/24 dev eth0";

pub(super) fn scenarios() -> Vec<Scenario> {
    let unheard = |name, args| Scenario::same(name, plain(), &[Pktgen(args)], &[]);
    let spoofed = |name, args, theirs| Scenario::same(name, plain(), &[Pktgen(args)], &[theirs]).differs(&[], SPOOFED);
    vec![
        spoofed("a_source_in_network_0", "--from 0.1.2.3 --ports 7000,8000,9000", "0.1.2.3: door"),
        spoofed("a_loopback_source", "--from 127.0.0.1 --ports 7000,8000,9000", "127.0.0.1: door"),
        spoofed("a_multicast_source", "--from 224.0.0.7 --ports 7000,8000,9000", "224.0.0.7: door"),
        spoofed("a_broadcast_source", "--from 255.255.255.255 --ports 7000,8000,9000", "255.255.255.255: door"),
        spoofed(
            "a_source_that_is_the_networks_broadcast_address",
            "--from 10.0.0.255 --ports 7000,8000,9000",
            "10.0.0.255: door",
        ),
        spoofed("a_source_that_is_the_machines_address", "--from 10.0.0.1 --ports 7000,8000,9000", "10.0.0.1: door"),
        spoofed(
            "an_ipv6_source_that_is_the_machines_address",
            "--from fd00::1 --to fd00::1 --ports 7000,8000,9000",
            "fd00::1: door",
        ),
        unheard("a_loopback_destination_from_the_network", "--to 127.0.0.1 --ports 7000,8000,9000"),
        Scenario::same(
            "targets",
            TARGETS,
            &[
                Knock("10.0.0.1 1000 2000"),
                Knock("10.0.0.9 1000 2000"),
                Pktgen("--to 10.9.9.9 --ports 1000,2000"),
                Pktgen("--to 10.8.8.8 --ports 1000,2000"),
            ],
            &["10.0.0.2: any", "10.0.0.2: own", "10.0.0.2: any", "10.0.0.2: other"],
        )
        .prepared_by(SECOND),
        Scenario::same("a_target_over_ipv6", TARGETS, &[Knock("fd00::1 1000 2000")], &["fd00::2: any", "fd00::2: six"]),
        Scenario::same(
            "frames_for_another_machine_with_the_right_address",
            plain(),
            &[Pktgen("--to-mac 02:00:00:00:00:77 --ports 7000,8000,9000")],
            &[OPENED],
        ),
        unheard("broadcasts_to_the_network", "--to 10.0.0.255 --ports 7000,8000,9000"),
        unheard("broadcasts_to_all_hosts", "--to 255.255.255.255 --ports 7000,8000,9000"),
        unheard("multicasts", "--from fd00::2 --to ff02::1 --ports 7000,8000,9000"),
        unheard("an_address_without_a_host", "--to 10.0.0.77 --ports 7000,8000,9000"),
        Scenario::same("an_address_that_came_later", plain(), &[Server(SECOND), Knock("10.0.0.9 7000 8000 9000")], &[])
            .differs(&[OPENED], NOW),
        Scenario::same(
            "an_address_that_went_away",
            plain(),
            &[Server("ip addr del 10.0.0.9/24 dev eth0"), Pktgen("--to 10.0.0.9 --ports 7000,8000,9000")],
            &[OPENED],
        )
        .prepared_by(SECOND)
        .differs(&[], NOW),
        Scenario::same(
            "an_address_of_another_interface",
            plain(),
            &[Pktgen("--to 10.9.9.1 --ports 7000,8000,9000")],
            &[],
        )
        .prepared_by("ip addr add 10.9.9.1/32 dev lo")
        .differs(&[OPENED], "an address belongs to the host, whichever interface receives the packet"),
        Scenario::same(
            "packets_that_the_machine_sends",
            door("7000,8000", "target = 10.0.0.2"),
            &[Server("knock 10.0.0.2 7000 8000")],
            &["10.0.0.1: door"],
        )
        .differs(&[], "a host does not knock at its own door"),
        Scenario::same(
            "ipv6_packets_from_an_ipv4_mapped_address",
            plain(),
            &[Pktgen("--from ::ffff:10.0.0.9 --to fd00::1 --ports 7000,8000,9000")],
            &["::ffff:10.0.0.9: door"],
        )
        .differs(&[], "they are spoofed, and would count as IPv4"),
        Scenario::same("knocks_inside_a_vlan_tag", plain(), &[Pktgen("--vlan 5 --ports 7000,8000,9000")], &[])
            .differs(&[OPENED], "trunk links carry tags"),
    ]
}
