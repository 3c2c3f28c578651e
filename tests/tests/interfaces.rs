//! Interfaces and addresses that appear, disappear and change, and packets that arrive too fast:
//! the daemon continues.

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use portknock_tests::{Daemon, Host, Lab, Output, WAIT_TIMEOUT, binary, wait_until};

const DOOR: &str = "
[door]
    sequence    = 1000,5000,3000
    seq_timeout = 30
    tcpflags    = syn
    command     = true
";

/// The log lines for an interface that is captured again, without those of the start.
fn listening(daemon: &Daemon, interface: &str) -> usize {
    daemon.count(&format!("] listening on {interface}"))
}

/// Waits until the interface was captured again for the `count`th time since the start.
fn captured_again(daemon: &Daemon, interface: &str, count: usize) {
    daemon.wait_for_count(&format!("] listening on {interface}"), count, WAIT_TIMEOUT);
}

/// Asserts that a knock from this source at this address opens the door.
fn opens(lab: &Lab, daemon: &Daemon, source: &str, address: &str) {
    let line = format!("{source}: door: OPEN SESAME");
    let before = daemon.count(&line);
    lab.knock_from(source, address, "1000 5000 3000");
    daemon.wait_for_count(&line, before + 1, WAIT_TIMEOUT);
}

/// Asserts that a hand-made knock at an address that no host has does not count.
fn does_not_count(lab: &Lab, daemon: &Daemon, address: &str) {
    let before = daemon.count("Stage 1");
    let source = if address.contains(':') { "fd00::2" } else { "10.0.0.2" };
    let pktgen = binary("pktgen");
    lab.client.ok(&format!("{} --interface eth0 --from {source} --to {address} --ports 1000", pktgen.display()));
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.count("Stage 1"), before, "{}", daemon.log());
}

#[test]
fn an_interface_goes_down_and_comes_up_again() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    for round in 1..=3 {
        lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
        daemon.wait_for_count("10.0.0.2: door: Stage 1", round, WAIT_TIMEOUT);
        lab.server.set_up("eth0", false);
        daemon.wait_for_count("no longer listening on eth0: the interface is down", round, WAIT_TIMEOUT);
        lab.server.set_up("eth0", true);
        captured_again(&daemon, "eth0", round);
        // The attempt from before continues.
        lab.knock_from("10.0.0.2", "10.0.0.1", "5000 3000");
        daemon.wait_for_count("10.0.0.2: door: OPEN SESAME", round, WAIT_TIMEOUT);
    }
}

#[test]
fn continuous_changes_of_the_network_lose_no_knock() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let mut ip =
        lab.server.command("ip").args(["-force", "-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip starts");
    let mut input = ip.stdin.take().expect("it is a pipe");
    let is_over = AtomicBool::new(false);
    scope(|scope| {
        let changes = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Relaxed) {
                input.write_all(b"addr add 10.9.9.9/32 dev lo\naddr del 10.9.9.9/32 dev lo\n").expect("ip reads");
                count += 2;
                sleep(Duration::from_millis(5));
            }
            drop(input);
            count
        });
        // More requests than are answered at the same time.
        sleep(Duration::from_secs(2));
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..3 {
                opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        let count = changes.join().expect("ip reads to the end");
        assert!(result.is_ok(), "the door did not open during {count} changes: {}", daemon.log());
    });
    ip.wait().expect("ip ends");
}

#[test]
fn an_interface_that_flaps_leaks_nothing() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    sleep(Duration::from_millis(200));
    let before = daemon.descriptors();
    lab.server.ok("for i in $(seq 50); do ip link set eth0 down; ip link set eth0 up; done");
    lab.server.set_up("eth0", true);
    let calm = || {
        let lines = daemon.count("istening on eth0");
        sleep(Duration::from_millis(1200));
        daemon.count("istening on eth0") == lines
    };
    assert!(wait_until(WAIT_TIMEOUT, calm), "{}", daemon.log());
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    sleep(Duration::from_millis(200));
    assert_eq!(daemon.descriptors(), before);
}

#[test]
fn a_packet_counts_once_however_many_interfaces_capture_it() {
    for interfaces in ["any", "eth0,br0", "br0,eth0"] {
        let lab = Lab::pair();
        lab.server.ok(
            "mac=$(cat /sys/class/net/eth0/address); ip link add br0 address $mac type bridge; ip addr flush dev eth0
             ip link set eth0 master br0; ip link set br0 up; ip addr add 10.0.0.1/24 dev br0",
        );
        let doors = "[one]\nsequence = 9000:udp\ncommand = echo %IP% >> %DIR%/one\n\
                     [four]\nsequence = 9001:udp,9001:udp,9001:udp,9001:udp\ncommand = true\n\
                     [syn]\nsequence = 9002,9002\ntcpflags = syn,!ack\ncommand = true\n";
        let daemon = Daemon::portknockd_with(&lab.server, doors, &["-i", interfaces]);
        let send = |args: &str| lab.client.ok(&format!("{} --interface eth0 {args}", binary("pktgen").display()));
        // Equal datagrams: each one that was sent counts once.
        send("--udp --ports 9001,9001,9001");
        send("--from 10.0.0.3 --udp --ports 9000,9000,9000 --rate 20");
        daemon.wait_for_count("10.0.0.3: one: OPEN SESAME", 3, WAIT_TIMEOUT);
        daemon.wait_for("10.0.0.2: four: Stage 3");
        send("--udp --ports 9001");
        daemon.wait_for("10.0.0.2: four: OPEN SESAME");
        send("--ports 9002");
        daemon.wait_for("10.0.0.2: syn: Stage 1");
        sleep(Duration::from_millis(300));
        assert_eq!(daemon.count("one: OPEN SESAME"), 3, "{interfaces}:\n{}", daemon.log());
        assert_eq!(daemon.count("four: OPEN SESAME"), 1, "{interfaces}:\n{}", daemon.log());
        assert_eq!(daemon.count("four: Stage 1"), 1, "{interfaces}:\n{}", daemon.log());
        assert_eq!(daemon.read("one"), "10.0.0.3\n".repeat(3), "{interfaces}");
        // Both interfaces do show the packets.
        assert!(daemon.status("packets") >= 16, "{interfaces}:\n{}", daemon.log());
    }
}

#[test]
fn on_any_the_machines_own_addresses_count_only_on_the_loopback_interface() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "any"]);
    for (from, to) in [("10.0.0.1", "10.0.0.1"), ("127.0.0.1", "10.0.0.1"), ("10.0.0.2", "127.0.0.1")] {
        let pktgen = binary("pktgen");
        lab.client.ok(&format!("{} --interface eth0 --from {from} --to {to} --ports 1000,5000,3000", pktgen.display()));
    }
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    assert_eq!(daemon.count("Stage 1"), 1, "{}", daemon.log());
    lab.server.ok("for to in 10.0.0.1 127.0.0.1 ::1; do knock -d 5 $to 1000 5000 3000; done");
    for source in ["10.0.0.1", "127.0.0.1", "::1"] {
        daemon.wait_for_count(&format!("{source}: door: OPEN SESAME"), 1, WAIT_TIMEOUT);
    }
}

#[test]
fn an_interface_that_is_missing_at_the_start_is_waited_for() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "eth1"]);
    daemon.wait_for("waiting for eth1: there is no such interface");
    assert_eq!(listening(&daemon, "eth1"), 0);
    lab.add_interface("eth1", 7);
    captured_again(&daemon, "eth1", 1);
    opens(&lab, &daemon, "10.0.7.2", "10.0.7.1");
    opens(&lab, &daemon, "fd00:7::2", "fd00:7::1");
}

#[test]
fn an_alternative_name_is_the_interface_that_has_it() {
    let lab = Lab::pair();
    lab.server.ok("ip link property add dev eth0 altname enp0s3");
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "enp0s3"]);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    lab.server.set_up("eth0", false);
    daemon.wait_for("no longer listening on enp0s3: the interface is down");
    lab.server.set_up("eth0", true);
    captured_again(&daemon, "enp0s3", 1);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
}

#[test]
fn a_label_is_the_device_and_its_addresses() {
    let lab = Lab::pair();
    lab.server.ok("ip addr add 10.0.0.77/24 dev eth0 label eth0:0");
    let config = format!("[options]\nInterface = eth0:0\n{DOOR}");
    let daemon = Daemon::portknockd_with(&lab.server, &config, &[]);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.77");
    does_not_count(&lab, &daemon, "10.0.0.1");
    lab.server.ok("ip addr del 10.0.0.77/24 dev eth0");
    daemon.wait_for("no longer listening on eth0:0: there is no such interface");
    lab.server.ok("ip addr add 10.0.0.77/24 dev eth0 label eth0:0");
    captured_again(&daemon, "eth0:0", 1);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.77");
}

#[test]
fn an_interface_that_does_not_exist_is_named_before_the_daemon_leaves_the_terminal() {
    let lab = Lab::pair();
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let config = format!(
        "[options]\nLogFile = {}\nPidFile = {}\nStateFile = {}\nControlSocket = none\nInterface = eht0\n{DOOR}",
        file("log"),
        file("pid"),
        file("state")
    );
    std::fs::write(file("knockd.conf"), config).expect("a file can be written");
    let output = Output::of(lab.server.command(binary("portknockd")).args(["-d", "-c", &file("knockd.conf")]));
    let pid = std::fs::read_to_string(file("pid")).expect("the pid file is there");
    lab.server.ok(&format!("kill {pid}"));
    let expected =
        "portknockd: warning: there is no interface `eht0`; did you mean `eth0`? (the daemon waits for it)\n";
    assert_eq!((output.code, &*output.stderr), (Some(0), expected));
}

#[test]
fn an_interface_that_is_down_at_the_start_is_waited_for() {
    let lab = Lab::pair();
    lab.server.set_up("eth0", false);
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    daemon.wait_for("waiting for eth0: the interface is down");
    lab.server.set_up("eth0", true);
    captured_again(&daemon, "eth0", 1);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
}

#[test]
fn an_interface_that_is_created_again_under_its_name_is_captured_again() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "eth1"]);
    opens(&lab, &daemon, "10.0.7.2", "10.0.7.1");
    lab.server.ok("ip link del eth1");
    daemon.wait_for("no longer listening on eth1: there is no such interface");
    lab.add_interface("eth1", 7);
    captured_again(&daemon, "eth1", 1);
    opens(&lab, &daemon, "10.0.7.2", "10.0.7.1");

    // So fast that the daemon notices only the new one.
    daemon.signal("STOP");
    lab.server.ok("ip link del eth1");
    lab.add_interface("eth1", 7);
    daemon.signal("CONT");
    captured_again(&daemon, "eth1", 2);
    assert_eq!(daemon.count("no longer listening on eth1"), 2, "{}", daemon.log());
    opens(&lab, &daemon, "10.0.7.2", "10.0.7.1");
}

#[test]
fn addresses_that_appear_disappear_and_change_are_followed() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    for address in ["10.0.0.9/24", "fd00::9/64"] {
        let (plain, source) = if address.contains(':') { ("fd00::9", "fd00::2") } else { ("10.0.0.9", "10.0.0.2") };
        does_not_count(&lab, &daemon, plain);
        lab.server.add_address("eth0", address);
        opens(&lab, &daemon, source, plain);
        lab.server.ok(&format!("ip addr del {address} dev eth0"));
        does_not_count(&lab, &daemon, plain);
    }
    // As a DHCP server assigns another address.
    lab.server.ok("ip addr del 10.0.0.1/24 dev eth0; ip addr add 10.0.0.50/24 dev eth0");
    does_not_count(&lab, &daemon, "10.0.0.1");
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.50");
}

#[test]
fn a_thousand_addresses_appear_and_disappear_and_each_counts_while_it_exists() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let all = "for c in 1 2 3 4; do for d in $(seq 250); do echo addr ACTION 10.0.$c.$d/32 dev eth0; done; done";
    let each = |action| lab.server.ok(&format!("({}) | ip -batch -", all.replace("ACTION", action)));
    lab.client.ok("ip route add 10.0.0.0/16 dev eth0");
    each("add");
    for address in ["10.0.1.1", "10.0.2.99", "10.0.4.250"] {
        opens(&lab, &daemon, "10.0.0.2", address);
    }
    each("del");
    does_not_count(&lab, &daemon, "10.0.4.250");
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
}

#[test]
fn an_address_of_another_interface_counts() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    lab.client.ok("ip route add 10.8.8.8/32 via 10.0.0.1");
    lab.server.add_address("lo", "10.8.8.8/32");
    opens(&lab, &daemon, "10.0.0.2", "10.8.8.8");
}

#[test]
fn any_includes_interfaces_that_appear_later() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "any"]);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    lab.add_interface("eth1", 7);
    opens(&lab, &daemon, "10.0.7.2", "10.0.7.1");
    lab.server.ok("ip link del eth1");
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    lab.add_interface("eth1", 8);
    opens(&lab, &daemon, "10.0.8.2", "10.0.8.1");
    lab.server.set_up("eth0", false);
    lab.server.set_up("eth0", true);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
}

#[test]
fn one_of_two_interfaces_disappears_and_the_other_continues() {
    let lab = Lab::pair();
    lab.add_interface("eth1", 7);
    let daemon = Daemon::portknockd_with(&lab.server, DOOR, &["-i", "eth0,eth1"]);
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000");
    lab.knock_from("10.0.7.2", "10.0.7.1", "1000 5000");
    daemon.wait_for("10.0.7.2: door: Stage 2");
    lab.server.ok("ip link del eth1");
    daemon.wait_for("no longer listening on eth1: there is no such interface");
    lab.knock_from("10.0.0.2", "10.0.0.1", "5000 3000");
    daemon.wait_for("10.0.0.2: door: OPEN SESAME");
    lab.add_interface("eth1", 7);
    captured_again(&daemon, "eth1", 1);
    lab.knock_from("10.0.7.2", "10.0.7.1", "3000");
    daemon.wait_for("10.0.7.2: door: OPEN SESAME");
    assert_eq!(daemon.count("no longer listening on eth0"), 0, "{}", daemon.log());
}

#[test]
fn a_name_is_followed_and_not_the_interface_that_had_it() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let rename = |from: &str, to: &str| {
        lab.server.ok(&format!("ip link set {from} down; ip link set {from} name {to}; ip link set {to} up"));
    };
    rename("eth0", "wan0");
    daemon.wait_for("no longer listening on eth0");
    lab.knock_from("10.0.0.2", "10.0.0.1", "1000 5000 3000");
    sleep(Duration::from_millis(300));
    assert_eq!(daemon.count("Stage"), 0, "{}", daemon.log());
    rename("wan0", "eth0");
    captured_again(&daemon, "eth0", 1);
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
}

#[test]
fn without_any_interface_setting_a_missing_default_is_reported() {
    let lonely = Host::new("lonely");
    let daemon = Daemon::portknockd_with(&lonely, DOOR, &[]);
    daemon.wait_for("waiting for eth0: there is no such interface");
    daemon.wait_for("no interface is set, and there is no eth0, the default; set Interface in the [options] of");
    daemon.wait_for("or use -i (interfaces here: lo)");
}

/// The last status in the log.
fn status(daemon: &Daemon) -> String {
    let before = daemon.count("status: ");
    daemon.signal("USR1");
    daemon.wait_for_count("status: ", before + 1, WAIT_TIMEOUT);
    daemon.log().lines().rfind(|line| line.contains("status: ")).unwrap_or_default().to_owned()
}

fn pktgen(lab: &Lab, args: &str) {
    let sent = Output::of(lab.client.command(binary("pktgen")).args(["--interface", "eth0"]).args(args.split(' ')));
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
}

#[test]
fn packets_that_arrive_while_the_daemon_is_blocked_are_seen_afterwards() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    daemon.signal("STOP");
    pktgen(&lab, "--from 10.1.0.0 --sources 2000 --ports 1000 --rate 1000");
    daemon.signal("CONT");
    daemon.wait_for_count("door: Stage 1", 2000, WAIT_TIMEOUT);
    let status = status(&daemon);
    assert!(status.contains("attempts 2000 ") && status.contains("knocks 2000, drops 0"), "{status}");
    assert_eq!(daemon.count("were dropped"), 0, "{}", daemon.log());
}

#[test]
fn dropped_packets_are_counted_and_reported() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, DOOR);
    let signal_reader = |signal: &str| lab.server.ok(&format!("kill -{signal} {}", daemon.reader()));
    signal_reader("STOP");
    pktgen(&lab, "--from 10.1.0.0 --sources 40000 --ports 1000");
    signal_reader("CONT");
    daemon.wait_for("packets were dropped because they came too fast");
    opens(&lab, &daemon, "10.0.0.2", "10.0.0.1");
    let number = |text: &str, after: &str| -> u64 {
        let digits = text.split(after).nth(1).unwrap_or_default();
        digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or_default()
    };
    let status = status(&daemon);
    let (seen, dropped) = (number(&status, "knocks "), number(&status, "drops "));
    assert!(dropped > 1000 && seen > 1000, "{status}");
    // The kernel may count one packet more, which it dropped before it ran the filter.
    assert!((40_003..40_010).contains(&(seen + dropped)), "{status}");
    let reported: u64 =
        daemon.log().lines().filter(|line| line.contains("were dropped")).map(|line| number(line, "eth0: ")).sum();
    assert_eq!(reported, dropped, "{}", status);
}

#[test]
fn a_filter_that_is_too_long_for_the_kernel_is_cut_and_no_knock_is_missed() {
    let lab = Lab::pair();
    // 9,000 ports in no order that a short filter could describe.
    let port = |index: u32| 1 + index * 40_503 % 65_521;
    let doors: String = (0..3000)
        .map(|door| {
            let [first, second, third] = [0, 1, 2].map(|step| port(door * 3 + step));
            format!("[door{door}]\nsequence = {first},{second}:udp,{third}\ntcpflags = syn\ncommand = true\n")
        })
        .collect();
    let daemon = Daemon::portknockd(&lab.server, &doors);
    daemon.wait_for(" instructions and lets more packets through");
    for door in [0, 1234, 2999] {
        let [first, second, third] = [0, 1, 2].map(|step| port(door * 3 + step));
        lab.knock_from("10.0.0.2", "10.0.0.1", &format!("{first} {second}:udp {third}"));
        daemon.wait_for(&format!("10.0.0.2: door{door}: OPEN SESAME"));
    }
    assert_eq!(daemon.count("eth0: the filter was cut to"), 1, "{}", daemon.count("the filter"));
}
