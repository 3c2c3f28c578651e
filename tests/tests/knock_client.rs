//! Our `knock` on the link, and against the original knockd.

use std::thread;
use std::time::{Duration, Instant};

use portknock_tests::{
    Daemon, Firewall, Host, Lab, Listener, Output, PortState, Process, Sniffed, Sniffer, WAIT_TIMEOUT, binary,
};

/// Runs our `knock` with these arguments, separated by spaces.
fn knock(host: &Host, args: &str) -> Output {
    Output::of(host.command(binary("knock")).args(args.split_whitespace()))
}

/// Runs `portknock knock`.
fn portknock(host: &Host, args: &str) -> Output {
    Output::of(host.command(binary("portknock")).arg("knock").args(args.split_whitespace()))
}

fn sent(output: &Output) {
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
}

fn steps(packets: &[Sniffed]) -> Vec<String> {
    packets.iter().map(Sniffed::step).collect()
}

/// Watches the knocks that the client sends.
fn sniff(lab: &Lab) -> Sniffer {
    Sniffer::start(&lab.client, "eth0", "src host 10.0.0.2 or src host fd00::2")
}

/// Longer than the second after which a kernel would send a SYN again.
const RETRANSMISSION: Duration = Duration::from_millis(1_300);

#[test]
fn every_knock_is_one_packet_in_order() {
    let lab = Lab::pair();
    // Ports stay closed in three ways: by an RST, by an ICMP error, by silence.
    lab.server.ok("for tables in iptables ip6tables; do
                       $tables -A INPUT -p tcp --dport 7001 -j REJECT
                       $tables -A INPUT -p tcp --dport 7002 -j DROP
                   done");
    let sniffer = sniff(&lab);
    let expected = ["7000:tcp", "7001:tcp", "7002:tcp", "7003:udp", "7002:tcp", "7001:tcp", "7000:tcp", "7002:tcp"];
    for host in ["10.0.0.1", "fd00::1"] {
        sent(&knock(&lab.client, &format!("{host} 7000 7001 7002,7003:udp,7002:tcp 7001 7000 7002")));
    }
    sniffer.wait_for(2 * expected.len(), Sniffed::is_knock);
    thread::sleep(RETRANSMISSION);
    let seen = sniffer.knocks();
    let (v4, v6): (Vec<_>, Vec<_>) = seen.into_iter().partition(|packet| packet.source.is_ipv4());
    for packets in [v4, v6] {
        assert_eq!(steps(&packets), expected);
        // knockd and the matcher treat an equal port and number as a retransmission.
        let mut segments: Vec<_> = packets.iter().map(|packet| (packet.source_port, packet.sequence_number)).collect();
        segments.sort_unstable();
        segments.dedup();
        assert_eq!(segments.len(), expected.len(), "{packets:?}");
        // One byte, as the original sends it.
        assert_eq!(packets[3].length, 1);
    }
}

#[test]
fn a_hundred_knocks_without_delay_are_a_hundred_packets() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let sniffer = sniff(&lab);
    let ports: Vec<String> = (0..100).map(|_| "7000".to_string()).collect();
    sent(&knock(&lab.client, &format!("10.0.0.1 {}", ports.join(" "))));
    sniffer.wait_for(100, Sniffed::is_knock);
    thread::sleep(RETRANSMISSION);
    assert_eq!(sniffer.knocks().len(), 100);
}

#[test]
fn the_first_knock_waits_for_no_answer_and_not_for_neighbour_discovery() {
    let lab = Lab::pair();
    lab.client.ok("ip neigh flush all nud permanent");
    let sniffer = sniff(&lab);
    sent(&knock(&lab.client, "10.0.0.1 7000 8000:udp 9000"));
    assert_eq!(steps(&sniffer.wait_for(3, Sniffed::is_knock)), ["7000:tcp", "8000:udp", "9000:tcp"]);
}

#[test]
fn delay_protocol_and_verbosity_are_the_originals() {
    let lab = Lab::pair();
    let arguments = [
        "-v 10.0.0.1 7000 8000:udp 9000:tcp",
        "-u 10.0.0.1 7000 8000:tcp -v",
        "-v -d 50 10.0.0.1 7000 7001",
        "--verbose --delay 50 --udp --ipv4 10.0.0.1 7000 7001",
        "-6 -v fd00::1 7000 7001:udp",
        "-4 --verb --dela=5 -- 10.0.0.1 7000",
    ];
    for args in arguments {
        let sniffer = sniff(&lab);
        let output = knock(&lab.client, args);
        sent(&output);
        let count = output.stdout.lines().count();
        let ours = sniffer.wait_for(count, Sniffed::is_knock);
        let original = lab.client.ok(&format!("knock {args}"));
        let theirs = sniffer.wait_for(2 * count, Sniffed::is_knock).split_off(count);
        assert_eq!(output.stdout, original, "{args}");
        assert_eq!(steps(&ours), steps(&theirs), "{args}");
        assert_eq!(ours[0].length, theirs[0].length, "{args}");
        if args.contains("50") {
            let pause = ours[1].time - ours[0].time;
            assert!(pause >= Duration::from_millis(50) && pause < Duration::from_millis(150), "{pause:?}");
        }
    }
    // The original waits after the last knock too, and scripts may rely on it.
    let start = Instant::now();
    sent(&knock(&lab.client, "-d 100 10.0.0.1 7000"));
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn the_original_knockd_opens() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let daemon = Daemon::knockd(
        &lab.server,
        "[mixed]\nsequence = 7000,8000:udp,9000\ncommand = :\ntcpflags = syn\n\
         [udp]\nsequence = 1111:udp,2222:udp\ncommand = :\n",
    );
    for (i, args) in [
        "10.0.0.1 7000 8000:udp 9000",
        "-d 10 10.0.0.1 7000,8000:udp,9000",
        "fd00::1 7000 8000:udp 9000:tcp",
        "--raw 10.0.0.1 7000 8000:udp 9000",
        "--raw fd00::1 7000 8000:udp 9000",
    ]
    .into_iter()
    .enumerate()
    {
        sent(&portknock(&lab.client, args));
        daemon.wait_for_count("mixed: OPEN SESAME", i + 1, WAIT_TIMEOUT);
    }
    sent(&knock(&lab.client, "-u 10.0.0.1 1111 2222"));
    daemon.wait_for("10.0.0.2: udp: OPEN SESAME");
}

#[test]
fn raw_knocks_are_bare_syns_that_the_other_side_accepts() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    for (host, source) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let sniffer = Sniffer::start(&lab.client, "eth0", &format!("host {host}"));
        sent(&portknock(&lab.client, &format!("--raw {host} 7000 22 7001")));
        let seen = sniffer.wait_for(3, |packet| packet.flags == "S");
        assert_eq!(steps(&seen), ["7000:tcp", "22:tcp", "7001:tcp"]);
        assert!(seen.iter().all(|packet| packet.source.to_string() == source), "{seen:?}");
        // Only a segment with the correct checksum is answered.
        sniffer.wait_for(1, |packet| packet.flags == "SA" && packet.source_port == 22);
        sniffer.wait_for(2, |packet| packet.flags == "RA");
    }
}

#[test]
fn raw_knocks_need_a_capability_and_the_error_names_it() {
    let lab = Lab::pair();
    let mut command = lab.client.command("setpriv");
    command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"]).arg(binary("portknock"));
    let output = Output::of(command.args(["knock", "--raw", "10.0.0.1", "7000"]));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("CAP_NET_RAW"), "{output:?}");
}

#[test]
fn the_source_can_be_chosen() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.77/24");
    lab.client.add_address("eth0", "fd00::77/64");
    for (source, raw) in [("10.0.0.77", ""), ("fd00::77", ""), ("10.0.0.77", "--raw"), ("fd00::77", "--raw")] {
        let host = if source.contains(':') { "fd00::1" } else { "10.0.0.1" };
        let sniffer = Sniffer::start(&lab.client, "eth0", &format!("src host {source}"));
        sent(&portknock(&lab.client, &format!("--source {source} {raw} {host} 7000 8000:udp 9000")));
        assert_eq!(steps(&sniffer.wait_for(3, Sniffed::is_knock)), ["7000:tcp", "8000:udp", "9000:tcp"]);
    }
    let output = portknock(&lab.client, "--source 10.0.0.99 10.0.0.1 7000");
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("10.0.0.1 port 7000 (tcp): Cannot assign requested address"), "{output:?}");
    let output = portknock(&lab.client, "--source 10.0.0.2 fd00::1 7000");
    assert_eq!((output.code, output.stderr.as_str()), (Some(1), "portknock: fd00::1 has no IPv4 address\n"));
}

#[test]
fn link_local_addresses_take_a_zone() {
    let lab = Lab::pair();
    let sniffer = Sniffer::start(&lab.server, "eth0", "dst net fe80::/10");
    for options in ["", "--raw"] {
        sent(&portknock(&lab.client, &format!("{options} fe80::ff:fe00:1%eth0 7000 8000:udp")));
    }
    let seen = sniffer.wait_for(4, Sniffed::is_knock);
    assert_eq!(steps(&seen), ["7000:tcp", "8000:udp", "7000:tcp", "8000:udp"]);
}

#[test]
fn names_mean_one_address_or_all() {
    let lab = Lab::pair();
    lab.server.add_address("eth0", "10.0.0.3/24");
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "10.0.0.1 lab.example\n10.0.0.3 lab.example\nfd00::1 lab.example\n").unwrap();
    let run = |args: &str| {
        // A mount of the command's own; the file is invisible to other processes.
        let program = binary("portknock");
        let script = format!("mount --bind {} /etc/hosts && {} knock {args}", hosts.display(), program.display());
        Output::of(lab.client.command("unshare").args(["--mount", "sh", "-c", &script]))
    };
    let knocks = |sniffer: &Sniffer, count: usize| {
        let seen = sniffer.wait_for(count, Sniffed::is_knock);
        let mut seen: Vec<_> = seen.iter().map(|packet| format!("{} {}", packet.destination, packet.port)).collect();
        seen.sort();
        seen
    };
    let knocked = |args: &str, count: usize| {
        let sniffer = sniff(&lab);
        sent(&run(args));
        knocks(&sniffer, count)
    };
    assert_eq!(knocked("-4 lab.example 7000 7001", 2).len(), 2);
    assert_eq!(knocked("-6 lab.example 7000", 1), ["fd00::1 7000"]);
    assert_eq!(
        knocked("--all-addresses lab.example 1 2", 6),
        ["10.0.0.1 1", "10.0.0.1 2", "10.0.0.3 1", "10.0.0.3 2", "fd00::1 1", "fd00::1 2"]
    );
    assert_eq!(knocked("--all-addresses --ipv4 lab.example 1", 2), ["10.0.0.1 1", "10.0.0.3 1"]);

    // Reachable addresses are knocked at nevertheless.
    lab.client.ok("ip -6 route add unreachable fd00::1");
    let sniffer = sniff(&lab);
    let output = run("--all-addresses lab.example 1");
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.starts_with("portknock: cannot knock at fd00::1 port 1 (tcp): "), "{output:?}");
    assert_eq!(knocks(&sniffer, 2), ["10.0.0.1 1", "10.0.0.3 1"]);
}

#[test]
fn then_reports_when_the_port_opens() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let _listener = Listener::start(&lab.server, 22);
    let command = "iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    let _daemon = Daemon::knockd(&lab.server, &format!("[ssh]\nsequence = 7000,8000,9000\ncommand = {command}\n"));
    let start = Instant::now();
    let output = portknock(&lab.client, "-v --then 22 10.0.0.1 7000 8000 9000");
    let took = start.elapsed();
    sent(&output);
    assert!(output.stdout.contains("port 22 of 10.0.0.1 is open after "), "{output:?}");
    // The client does not wait for a lost first probe: its kernel would repeat it only after a
    // second.
    assert!(took < Duration::from_millis(900), "{took:?}");
    // The opening persists: no knock is needed, and the first try succeeds.
    sent(&portknock(&lab.client, "--then 22 --wait 0.5 10.0.0.1 1"));
}

#[test]
fn then_waits_while_connections_are_refused_until_the_door_opens() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let _listener = Listener::start(&lab.server, 22);
    let rule = "-w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    let config = format!(
        "[ssh]\nsequence = 7000,8000,9000\ntcpflags = syn\n\
         start_command = sleep 0.2; iptables {rule}\nstart_command_6 = sleep 0.2; ip6tables {rule}\n"
    );
    let _daemon = Daemon::portknockd(&lab.server, &config);
    for (host, tables, refusal, state) in [
        ("10.0.0.1", "iptables", "tcp-reset", PortState::Closed),
        ("fd00::1", "ip6tables", "tcp-reset", PortState::Closed),
        ("10.0.0.1", "iptables", "icmp-port-unreachable", PortState::Filtered),
        ("fd00::1", "ip6tables", "icmp6-port-unreachable", PortState::Filtered),
    ] {
        lab.server.ok(&format!("{tables} -w -A INPUT -p tcp -j REJECT --reject-with {refusal}"));
        let closed = portknock(&lab.client, &format!("--then 22 --wait 0.1 {host} 7000"));
        let expected = if state == PortState::Closed { "it is closed" } else { "it is filtered" };
        assert_eq!(closed.code, Some(3), "{closed:?}");
        assert!(closed.stderr.contains(expected), "{refusal}: {closed:?}");

        let output = portknock(&lab.client, &format!("-v --then 22 {host} 7000 8000 9000"));
        sent(&output);
        let (_, after) = output.stdout.split_once(&format!("port 22 of {host} is open after ")).expect("it opens");
        let millis: f64 = after.trim().trim_end_matches(" ms").parse().expect("a time");
        assert!(millis >= 200.0, "{refusal}: {millis}");

        lab.server
            .ok(&format!("{tables} -w -D INPUT 1; {tables} -w -D INPUT -p tcp -j REJECT --reject-with {refusal}"));
    }
}

#[test]
fn then_gives_up_immediately_if_this_machine_sends_nothing() {
    let lab = Lab::pair();
    lab.client.ok("iptables -A OUTPUT -p tcp --dport 22 -j REJECT; ip6tables -A OUTPUT -p tcp --dport 22 -j REJECT");
    for host in ["10.0.0.1", "fd00::1"] {
        let output = portknock(&lab.client, &format!("--then 22 {host} 7000"));
        let message = format!(
            "portknock: cannot check whether port 22 of {host} opens: this machine's firewall blocks the connection\n"
        );
        assert_eq!((output.code, output.stderr), (Some(1), message));
    }
}

#[test]
fn then_warns_of_a_port_that_is_a_knock_too() {
    let lab = Lab::pair();
    let output = portknock(&lab.client, "--then 7000 --wait 0 10.0.0.1 7000 8000");
    let warning =
        "portknock: warning: port 7000 is also one of the knocks: each check whether it is open sends that knock again";
    assert_eq!(output.stderr.lines().next(), Some(warning), "{output:?}");
    let output = portknock(&lab.client, "--then 7000 --wait 0 10.0.0.1 7000:udp 8000");
    assert!(!output.stderr.contains("warning"), "{output:?}");
}

#[test]
fn then_reports_the_state_after_the_knocks_not_an_older_one() {
    let lab = Lab::pair();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(400));
            lab.server.ok("iptables -A INPUT -p tcp --dport 22 -j DROP");
        });
        // Closed by an RST first, then silent.
        let output = portknock(&lab.client, "--then 22 --wait 2.5 10.0.0.1 7000");
        assert!(output.code == Some(3) && output.stderr.contains("filtered"), "{output:?}");
    });
}

#[test]
fn then_exits_with_three_if_the_port_stays_closed() {
    let lab = Lab::pair();
    let output = portknock(&lab.client, "--then 22 --wait 0.2 10.0.0.1 7000");
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (Some(3), "portknock: port 22 of 10.0.0.1 did not open within 0.2 s after the knocks; it is closed\n")
    );
    let _firewall = Firewall::closed(&lab.server);
    let sniffer = sniff(&lab);
    let start = Instant::now();
    let output = portknock(&lab.client, "--then 22 --wait 0.5 --retries 2 10.0.0.1 7000 8000:udp");
    let took = start.elapsed();
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stderr.contains("it is filtered"), "{output:?}");
    assert!(took >= Duration::from_millis(1_500) && took < Duration::from_millis(1_900), "{took:?}");
    let knocks: Vec<Sniffed> = sniffer.knocks().into_iter().filter(|packet| packet.port != 22).collect();
    assert_eq!(steps(&knocks), ["7000:tcp", "8000:udp", "7000:tcp", "8000:udp", "7000:tcp", "8000:udp"]);
}

#[test]
fn a_retry_opens_the_door_after_lost_first_knocks() {
    let lab = Lab::pair();
    let _firewall = Firewall::closed(&lab.server);
    let _listener = Listener::start(&lab.server, 22);
    let command = "iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    let daemon = Daemon::knockd(&lab.server, &format!("[ssh]\nsequence = 7000,8000,9000\ncommand = {command}\n"));
    // The first knocks at 8000 get lost.
    lab.client.ok("iptables -A OUTPUT -p tcp --dport 8000 -j DROP");
    let args = "knock --then 22 --wait 1 --retries 9 10.0.0.1 7000 8000 9000";
    let knocking = Process::spawn(lab.client.command(binary("portknock")).args(args.split(' ')));
    daemon.wait_for("Stage 1");
    lab.client.ok("iptables -D OUTPUT -p tcp --dport 8000 -j DROP");
    let (status, output) = knocking.finish();
    assert!(status.success(), "{output}");
}

#[test]
fn exit_statuses_are_as_documented() {
    let lab = Lab::pair();
    for (args, code, message) in [
        ("10.9.9.9 7000", 1, "knock: cannot knock at 10.9.9.9 port 7000 (tcp): Network is unreachable"),
        ("10.9.9.9 7000:udp", 1, "knock: cannot knock at 10.9.9.9 port 7000 (udp): Network is unreachable"),
        ("no-such-host.invalid 7000", 1, "knock: cannot find the host `no-such-host.invalid`: "),
        ("-6 10.0.0.1 7000", 1, "knock: 10.0.0.1 has no IPv6 address"),
        ("-4 fd00::1 7000", 1, "knock: fd00::1 has no IPv4 address"),
        ("", 2, "Usage: knock <HOST> <PORT[:PROTO]>..."),
        ("10.0.0.1", 2, "Usage: knock"),
        ("10.0.0.1 70000", 2, "`70000` is not a port"),
        ("10.0.0.1 7000 0", 2, "`0` is not a port"),
        ("10.0.0.1 7000 no-such-service", 2, "`no-such-service` is not a port"),
        ("10.0.0.1 7000:sctp", 2, "`sctp` is not a protocol"),
        ("-d -5 10.0.0.1 7000", 2, "-5 is not in"),
        ("-d soon 10.0.0.1 7000", 2, "invalid value 'soon'"),
        ("-x 10.0.0.1 7000", 2, "unexpected argument '-x'"),
        ("--then 22 10.0.0.1 7000", 2, "unexpected argument '--then'"),
    ] {
        let output = knock(&lab.client, args);
        assert_eq!(output.code, Some(code), "{args}: {output:?}");
        assert!(output.stderr.contains(message), "{args}: {output:?}");
    }
    for (args, message) in [
        ("--wait 5 10.0.0.1 7000", "--then <PORT>"),
        ("--then 22 --wait -1 10.0.0.1 7000", "expected a number of seconds"),
        ("--then 0 10.0.0.1 7000", "'0'"),
        ("--source eth0 10.0.0.1 7000", "invalid IP address"),
    ] {
        let output = portknock(&lab.client, args);
        assert_eq!(output.code, Some(2), "{args}: {output:?}");
        assert!(output.stderr.contains(message), "{args}: {output:?}");
    }
    let output = Output::of(lab.client.command(binary("knock")).arg("-V"));
    assert!(output.stdout.starts_with("knock "), "{output:?}");
}

#[test]
fn knocking_continues_when_its_output_is_closed() {
    let lab = Lab::pair();
    let sniffer = sniff(&lab);
    let knock = binary("knock");
    lab.client.ok(&format!("{} -v -d 10 10.0.0.1 7000 7001 7002 | true", knock.display()));
    assert_eq!(steps(&sniffer.wait_for(3, Sniffed::is_knock)), ["7000:tcp", "7001:tcp", "7002:tcp"]);
}
