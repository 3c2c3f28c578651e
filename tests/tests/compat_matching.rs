//! Which knocks open which door: the original knockd and portknockd on the same packets. Where they must agree, these
//! tests fail when they do not, down to each stage; where portknockd differs on purpose, they fail when it no longer does.
//! `docs/knockd-compat.md` tells the reasons.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use portknock_tests::{Both, Daemon, Lab, binary, require};

/// A door called `door` with this sequence and these other lines.
fn door(sequence: &str, more: &str) -> String {
    format!("[door]\nsequence = {sequence}\nseq_timeout = 10\n{more}\n")
}

#[test]
fn agree_on_a_plain_sequence() {
    let both = Both::with(Both::DOOR);
    both.knock("10.0.0.1 7000 8000 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED, Both::OPENED]);
}

#[test]
fn agree_on_udp_and_tcp_mixed() {
    let both = Both::with(&Both::DOOR.replace("7000,8000,9000", "7000:udp,8000,9000:udp"));
    both.knock("10.0.0.1 7000 8000 9000");
    both.knock("10.0.0.1 7000:udp 8000:udp 9000:udp");
    both.knock("10.0.0.1 7000:udp 8000:tcp 9000:udp");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_on_one_port_by_two_protocols() {
    let both = Both::with(&door("7000:udp,7000,7000:udp", "tcpflags = syn"));
    both.knock("10.0.0.1 7000:udp 7000 7000:udp");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_on_ipv6() {
    let both = Both::with(Both::DOOR);
    both.knock("fd00::1 7000 8000 9000");
    both.agree(&["fd00::2: door"]);
}

#[test]
fn agree_to_pass_over_ipv6_where_told() {
    let both = Both::with_args(Lab::pair(), Both::DOOR, &["-i", "eth0", "-4"]);
    both.knock("fd00::1 7000 8000 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_a_wrong_order_opens_nothing() {
    let both = Both::with(Both::DOOR);
    both.knock("10.0.0.1 7000 9000 8000 9000");
    both.agree(&[]);
}

#[test]
fn agree_that_the_right_sequence_after_a_wrong_one_opens() {
    let both = Both::with(Both::DOOR);
    both.segments(&[9000, 8000, 7000, 8000, 9000]);
    both.segments(&[7000, 9000, 7000, 8000, 9000]);
    both.agree(&[Both::OPENED, Both::OPENED]);
}

#[test]
fn agree_that_ports_of_no_door_do_not_matter() {
    let both = Both::with(Both::DOOR);
    both.knock("10.0.0.1 7000 1 8000 2:udp 3 9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_another_doors_port_ends_an_attempt() {
    let both = Both::with("[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\n");
    both.segments(&[1000, 4000, 2000]);
    both.agree(&[]);
}

#[test]
fn agree_on_a_repeated_last_step() {
    let both = Both::with(Both::DOOR);
    both.segments(&[7000, 8000, 9000, 9000]);
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_on_ports_that_repeat_in_a_sequence() {
    for (sequence, ports) in [
        ("7000,7000,8000", &[7000, 7000, 8000][..]),
        ("7000,8000,8000", &[7000, 8000, 8000]),
        ("7000,8000,7000,9000", &[7000, 8000, 7000, 9000]),
        ("7000,7000,7000", &[7000, 7000, 7000]),
    ] {
        let both = Both::with(&door(sequence, "tcpflags = syn"));
        both.segments(ports);
        both.agree(&[Both::OPENED]);
    }
}

#[test]
fn agree_on_udp_ports_that_repeat_in_a_sequence() {
    let both = Both::with(&door("7000:udp,7000:udp,8000:udp", ""));
    both.blast("--udp --ports 7000,7000,8000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_on_a_sequence_of_one_step() {
    let both = Both::with(&door("7000", "tcpflags = syn"));
    both.segments(&[7000, 7000]);
    both.agree(&[Both::OPENED, Both::OPENED]);
}

#[test]
fn agree_on_a_sequence_of_32_steps() {
    let ports: Vec<u16> = (0..32).map(|step| 1000 + step * 7 % 31).collect();
    let sequence: Vec<String> = ports.iter().map(u16::to_string).collect();
    let both = Both::with(&door(&sequence.join(","), "tcpflags = syn"));
    both.segments(&ports);
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_on_each_tcp_flag() {
    for (name, letter) in [("fin", 'F'), ("syn", 'S'), ("rst", 'R'), ("psh", 'P'), ("ack", 'A'), ("urg", 'U')] {
        let others: String = "FSRPAU".chars().filter(|&flag| flag != letter).collect();
        for (mask, wrong, right) in [
            (name.to_string(), others.clone(), letter.to_string()),
            (format!("!{name}"), "FSRPAU".to_string(), others.clone()),
        ] {
            let both = Both::with(&door("7000,8000", &format!("tcpflags = {mask}")));
            both.blast(&format!("--ports 7000,8000 --flags {wrong}"));
            both.agree(&[]);
            both.blast(&format!("--ports 7000,8000 --flags {right}"));
            both.agree(&[Both::OPENED]);
        }
    }
}

#[test]
fn agree_on_several_tcp_flags() {
    for (mask, wrong, right) in [
        ("syn,ack", &["S", "A", "F"][..], &["SA", "SAP"][..]),
        ("syn,!ack", &["SA", "A", "F"], &["S", "SU"]),
        ("!syn,!ack,!rst", &["S", "SA", "RA"], &["F", "FPU", "''"]),
    ] {
        let both = Both::with(&door("7000,8000", &format!("tcpflags = {mask}")));
        for flags in wrong {
            both.blast(&format!("--ports 7000,8000 --flags {flags}"));
        }
        both.agree(&[]);
        for flags in right {
            both.blast(&format!("--ports 7000,8000 --flags {flags}"));
        }
        both.agree(&vec![Both::OPENED; right.len()]);
    }
}

#[test]
fn agree_that_without_flags_every_segment_counts() {
    let both = Both::with(&door("7000,8000,9000", ""));
    both.blast("--ports 7000 --flags A");
    both.blast("--ports 8000 --flags FR");
    both.blast("--ports 9000 --flags ''");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_flags_are_for_tcp_only() {
    let both = Both::with(&door("7000,8000:udp", "tcpflags = fin"));
    both.blast("--ports 7000 --flags F");
    both.blast("--udp --ports 8000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_other_flags_are_as_if_not_seen() {
    let both = Both::with(Both::DOOR);
    both.blast("--ports 7000");
    both.blast("--ports 9000 --flags A");
    both.blast("--ports 8000,9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_inside_the_timeout() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 5"));
    for port in [7000, 8000, 9000] {
        both.segments(&[port]);
        sleep(Duration::from_millis(1200));
    }
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_a_door_is_knocked_at_again_after_a_timeout() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 2"));
    both.knock("10.0.0.1 7000 8000");
    sleep(Duration::from_millis(3200));
    both.knock("10.0.0.1 9000");
    both.knock("10.0.0.1 7000 8000 9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_the_timeout_counts_from_the_first_step() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 3"));
    Both::second_begins();
    for port in [7000, 8000, 9000] {
        both.segments(&[port]);
        sleep(Duration::from_millis(1700));
    }
    both.agree(&[]);
}

#[test]
fn agree_on_several_doors_at_once() {
    let both = Both::with("[a]\nsequence = 1000,2000\ncommand = true\n[b]\nsequence = 3000,4000\ncommand = true\n");
    both.knock("10.0.0.1 3000 4000 1000 2000");
    both.agree(&["10.0.0.2: b", "10.0.0.2: a"]);
}

#[test]
fn agree_on_a_shared_beginning() {
    let both = Both::with("[a]\nsequence = 1000,2000,3000\n[b]\nsequence = 1000,2000,4000\n");
    both.segments(&[1000, 2000, 4000]);
    both.segments(&[1000, 2000, 3000]);
    both.agree(&["10.0.0.2: b", "10.0.0.2: a"]);
}

#[test]
fn agree_on_one_sequence_at_two_doors() {
    let both = Both::with("[a]\nsequence = 1000,2000\n[b]\nsequence = 1000,2000\n");
    both.segments(&[1000, 2000]);
    both.agree(&["10.0.0.2: a", "10.0.0.2: b"]);
}

#[test]
fn agree_that_flags_tell_doors_apart() {
    let both = Both::with("[a]\nsequence = 1000,2000\ntcpflags = syn\n[b]\nsequence = 1000,2000\ntcpflags = ack\n");
    both.segments(&[1000, 2000]);
    both.blast("--ports 1000,2000 --flags A");
    both.agree(&["10.0.0.2: a", "10.0.0.2: b"]);
}

#[test]
fn agree_on_a_shorter_door_below_a_longer_one() {
    let both = Both::with("[long]\nsequence = 1000,2000,3000\n[short]\nsequence = 1000,2000\n");
    both.segments(&[1000, 2000, 3000]);
    both.agree(&["10.0.0.2: short", "10.0.0.2: long"]);
}

#[test]
fn agree_on_targets() {
    let lab = Lab::pair();
    lab.server.add_address("eth0", "10.0.0.9/24");
    let both = Both::on(
        lab,
        "[own]\nsequence = 1000,2000\ntarget = 10.0.0.9\n[any]\nsequence = 1000,2000\n\
         [other]\nsequence = 1000,2000\ntarget = 10.9.9.9\n[six]\nsequence = 1000,2000\ntarget = fd00::1\n",
    );
    both.knock("10.0.0.1 1000 2000");
    both.knock("10.0.0.9 1000 2000");
    both.blast("--to 10.9.9.9 --ports 1000,2000");
    both.blast("--to 10.8.8.8 --ports 1000,2000");
    both.agree(&["10.0.0.2: any", "10.0.0.2: own", "10.0.0.2: any", "10.0.0.2: other"]);
    both.knock("fd00::1 1000 2000");
    let [ours, theirs] = both.traces();
    assert_eq!(ours, theirs);
    assert!(ours.contains(&"fd00::2: six: OPEN SESAME".to_string()), "{ours:?}");
}

#[test]
fn agree_on_sources_one_after_another() {
    let both = Both::with(Both::DOOR);
    both.blast("--from 10.0.0.10 --sources 20 --ports 7000,8000,9000");
    let opened: Vec<String> = (10..30).map(|last| format!("10.0.0.{last}: door")).collect();
    both.agree(&opened.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn agree_that_each_source_goes_its_own_way() {
    let both = Both::with(Both::DOOR);
    // Nobody finishes before the others' last packet.
    both.blast("--from 10.0.0.10 --sources 20 --ports 7000");
    both.blast("--from fd00::10 --sources 20 --to fd00::1 --ports 7000");
    both.blast("--from 10.0.0.10 --sources 20 --ports 8000");
    both.blast("--from fd00::10 --sources 20 --to fd00::1 --ports 8000");
    both.agree(&[]);
    let [ours, _] = both.traces();
    assert_eq!(ours.len(), 80);
}

#[test]
fn agree_that_frames_for_another_machine_count_where_the_address_is_right() {
    let both = Both::with(Both::DOOR);
    both.blast("--to-mac 02:00:00:00:00:77 --ports 7000,8000,9000");
    both.agree(&[Both::OPENED]);
}

#[test]
fn agree_that_broadcasts_are_for_nobody() {
    let both = Both::with(Both::DOOR);
    both.blast("--to 10.0.0.255 --ports 7000,8000,9000");
    both.blast("--to 255.255.255.255 --ports 7000,8000,9000");
    both.blast("--from fd00::2 --to ff02::1 --ports 7000,8000,9000");
    both.agree(&[]);
}

#[test]
fn differ_on_a_repeated_step() {
    let both = Both::with(Both::DOOR);
    both.segments(&[7000, 7000, 8000, 9000]);
    both.differ(&[Both::OPENED], &[]);
    let both = Both::with(&door("7000:udp,8000:udp", ""));
    both.blast("--udp --ports 7000,7000,8000");
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_a_retransmitted_segment() {
    let both = Both::with(Both::DOOR);
    // The same source port and sequence number, as a kernel repeats a SYN that was not answered.
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 8000,9000");
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_a_retransmission_where_the_port_repeats() {
    let both = Both::with(&door("7000,7000,8000", "tcpflags = syn"));
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 7000 --count 1");
    both.blast("--ports 8000");
    both.differ(&[], &[Both::OPENED]);
}

#[test]
fn differ_on_a_first_step_that_ends_an_attempt() {
    let both = Both::with(Both::DOOR);
    both.segments(&[7000, 8000, 7000, 8000, 9000]);
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_a_knock_that_ends_one_doors_attempt_and_begins_anothers() {
    let both = Both::with("[a]\nsequence = 1000,2000\n[b]\nsequence = 3000,4000\n");
    both.segments(&[1000, 3000, 4000]);
    both.differ(&["10.0.0.2: b"], &[]);
}

#[test]
fn differ_on_a_knock_that_is_a_step_of_one_door_and_begins_anothers() {
    let both = Both::with("[a]\nsequence = 1000,2000,3000\n[b]\nsequence = 2000,3000\n");
    both.segments(&[1000, 2000, 3000]);
    both.differ(&["10.0.0.2: a", "10.0.0.2: b"], &["10.0.0.2: a"]);
}

#[test]
fn differ_on_a_longer_door_below_a_shorter_one() {
    let both = Both::with("[short]\nsequence = 1000,2000\n[long]\nsequence = 1000,2000,3000\n");
    both.segments(&[1000, 2000, 3000]);
    both.differ(&["10.0.0.2: short", "10.0.0.2: long"], &["10.0.0.2: short"]);
}

#[test]
fn differ_on_someone_else_who_is_done() {
    // 10.0.0.3 opens the door, or fails, while 10.0.0.2 is under way.
    for port in [9000, 8000] {
        let both = Both::with(&Both::DOOR.replace("7000,8000,9000", "7000,9000,8000"));
        both.blast("--from 10.0.0.3 --ports 7000");
        both.blast("--from 10.0.0.2 --ports 7000");
        both.blast(&format!("--from 10.0.0.3 --ports {port}"));
        if port == 9000 {
            both.blast("--from 10.0.0.3 --ports 8000");
        }
        both.blast("--from 10.0.0.2 --ports 9000,8000");
        let [ours, theirs] = both.traces();
        let opened = "10.0.0.2: door: OPEN SESAME".to_string();
        assert!(ours.contains(&opened), "{ours:?}");
        assert!(!theirs.contains(&opened), "{theirs:?}");
    }
}

#[test]
fn differ_on_a_timed_out_attempt_of_someone_else() {
    // Seconds of room on both sides: knockd counts whole ones, and a loaded machine starts programs late.
    let both = Both::with(&Both::DOOR.replace("= 10", "= 6"));
    Both::second_begins();
    both.blast("--from 10.0.0.2 --ports 7000");
    sleep(Duration::from_millis(3500));
    both.blast("--from 10.0.0.3 --ports 7000,8000");
    sleep(Duration::from_millis(3500));
    both.blast("--from 10.0.0.3 --ports 9000");
    both.differ(&["10.0.0.3: door"], &[]);
}

#[test]
fn differ_on_parts_of_seconds() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 2"));
    Both::second_begins();
    // Knocks 1.4 seconds apart, in the last part of one second and the first part of the second after the next.
    sleep(Duration::from_millis(750));
    both.segments(&[7000, 8000]);
    sleep(Duration::from_millis(1400));
    both.segments(&[9000]);
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_a_timeout_on_a_quiet_line() {
    let both = Both::with(&Both::DOOR.replace("= 10", "= 1"));
    both.segments(&[7000]);
    both.ours.wait_for("10.0.0.2: door: sequence timeout (stage 1)");
    sleep(Duration::from_millis(1500));
    assert_eq!(both.theirs.count("sequence timeout"), 0);
    both.fence();
    both.theirs.wait_for("10.0.0.2: door: sequence timeout (stage 1)");
}

#[test]
fn differ_on_a_failed_attempt_in_the_log() {
    let both = Both::with(Both::DOOR);
    both.segments(&[7000, 9000]);
    both.fence();
    assert_eq!(both.ours.count("10.0.0.2: door: attempt failed: wrong-port (stage 1)"), 1);
    assert_eq!(both.theirs.count("failed"), 0);
}

#[test]
fn differ_on_a_rising_port_scan() {
    require("nmap");
    let both = Both::with(Both::DOOR);
    both.lab.client.ok("nmap -n -Pn -r -p 6000-10000 10.0.0.1 > /dev/null");
    both.differ(&[], &[Both::OPENED]);
}

#[test]
fn differ_on_an_address_that_came_later() {
    let both = Both::with(Both::DOOR);
    both.lab.server.add_address("eth0", "10.0.0.9/24");
    both.knock("10.0.0.9 7000 8000 9000");
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_an_address_that_went_away() {
    let lab = Lab::pair();
    lab.server.add_address("eth0", "10.0.0.9/24");
    let both = Both::on(lab, Both::DOOR);
    both.lab.server.ok("ip addr del 10.0.0.9/24 dev eth0");
    both.blast("--to 10.0.0.9 --ports 7000,8000,9000");
    both.differ(&[], &[Both::OPENED]);
}

#[test]
fn differ_on_an_address_of_another_interface() {
    let lab = Lab::pair();
    lab.server.add_address("lo", "10.9.9.1/32");
    lab.client.ok("ip route add 10.9.9.1 via 10.0.0.1");
    let both = Both::on(lab, Both::DOOR);
    both.knock("10.9.9.1 7000 8000 9000");
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_packets_that_the_machine_sends() {
    let both = Both::with(&door("7000,8000", "target = 10.0.0.2"));
    both.lab.server.ok("knock 10.0.0.2 7000 8000");
    both.differ(&[], &["10.0.0.1: door"]);
}

#[test]
fn differ_on_ipv6_packets_from_an_ipv4_mapped_address() {
    let both = Both::with(Both::DOOR);
    both.blast("--from ::ffff:10.0.0.9 --to fd00::1 --ports 7000,8000,9000");
    both.differ(&[], &["::ffff:10.0.0.9: door"]);
}

#[test]
fn differ_on_knocks_inside_a_vlan_tag() {
    let both = Both::with(Both::DOOR);
    both.blast("--vlan 5 --ports 7000,8000,9000");
    both.differ(&[Both::OPENED], &[]);
}

#[test]
fn differ_on_several_interfaces() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let ours = Daemon::portknockd_with(&lab.server, Both::DOOR, &["-i", "eth0,eth1"]);
    lab.client.ok("knock 10.0.7.1 7000 8000 9000");
    ours.wait_for("10.0.7.2: door: OPEN SESAME");
    let theirs = Daemon::run_knockd(&lab.server, Both::DOOR, &["-i", "eth0,eth1"]);
    assert_eq!(theirs.code, Some(1));
    assert!(theirs.stderr.contains("could not open eth0,eth1"), "{theirs:?}");
}

/// Doors of three ports each, all different.
fn many_doors(count: u16) -> String {
    let mut config = String::new();
    for i in 0..count {
        let port = 10_000 + 4 * i;
        writeln!(config, "[door{i}]\nsequence = {},{port},{}", port + 1, port + 2).expect("a string grows");
    }
    config
}

#[test]
fn agree_on_a_door_among_a_hundred() {
    let both = Both::with(&many_doors(100));
    both.knock("10.0.0.1 10201 10200 10202");
    both.agree(&["10.0.0.2: door50"]);
}

#[test]
fn differ_on_the_filter_of_many_doors() {
    // More than the kernel takes as a filter of knockd's kind.
    let both = Both::with_args(Lab::pair(), &many_doors(900), &["-i", "eth0", "-4"]);
    let spent = || both.daemons().map(cpu_time);
    let before = spent();
    let ports: Vec<String> = (1..=64).map(|port| port.to_string()).collect();
    let flood = format!("--ports {} --count 100000 --rate 50000", ports.join(","));
    both.lab.client.ok(&format!("{} --interface eth0 {flood}", binary("blast").display()));
    both.fence();
    let [ours, theirs] = spent();
    let (ours, theirs) = (ours - before[0], theirs - before[1]);
    assert!(ours * 2 < theirs, "{ours:?} and {theirs:?}");
}

/// How long the daemon has run on a processor; see the kernel's sched-stats.
fn cpu_time(daemon: &Daemon) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/schedstat", daemon.id())).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the kernel counts a process's time"))
}

#[test]
fn differ_on_the_time_to_start_with_scattered_ports() {
    let mut config = String::new();
    for i in 0..100_u32 {
        let [a, b, c] = [0, 1, 2].map(|step| 1 + (i * 3 + step) * 27_449 % 64_000);
        writeln!(config, "[door{i}]\nsequence = {a},{b},{c}").expect("a string grows");
    }
    let lab = Lab::pair();
    let start = Instant::now();
    drop(Daemon::portknockd(&lab.server, &config));
    let ours = start.elapsed();
    let start = Instant::now();
    drop(Daemon::knockd(&lab.server, &config));
    let theirs = start.elapsed();
    assert!(ours < theirs, "{ours:?} and {theirs:?}");
}
