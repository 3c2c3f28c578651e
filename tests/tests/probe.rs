//! `portknock probe` as it is used: the packets that it sends, its end, and many ports on good and
//! bad paths.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use portknock_tests::{
    Capacity, Distant, Host, Lab, LinkProperties, Listener, Output, Probed, Process, Scan, Sniffed, Sniffer,
    UNPRIVILEGED, binary, probe, probe_command, require,
};

const BOTH: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// Runs `portknock probe` with only these arguments, separated by spaces.
fn portknock(host: &Host, args: &str) -> Output {
    Output::of(host.command(binary("portknock")).arg("probe").args(args.split_whitespace()))
}

/// Asserts that nothing was found, and returns the error message.
fn complaint(output: &Output) -> &str {
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    let (program, complaint) = output.stderr.split_once(": ").expect("the program's name and its error message");
    assert_eq!((program, complaint.lines().count()), ("portknock", 1), "{output:?}");
    complaint
}

/// Drops all incoming packets for TCP and UDP ports except these TCP ports.
fn drop_but(server: &Host, open: &[u16]) {
    let open: Vec<String> = open.iter().map(u16::to_string).collect();
    server.ok(&format!(
        "for tables in iptables ip6tables; do
             $tables -A INPUT -p tcp -m multiport ! --dports {} -j DROP
             $tables -A INPUT -p udp -j DROP
         done",
        open.join(",")
    ));
}

/// Number of packets that the host has sent.
fn sent(host: &Host) -> u64 {
    host.ok("cat /sys/class/net/eth0/statistics/tx_packets").trim().parse().expect("a number")
}

/// Maximum number of packets within any second.
fn most_in_a_second(packets: &[Sniffed]) -> usize {
    let count = |(i, first): (usize, &Sniffed)| {
        packets[i..].iter().take_while(|packet| packet.time < first.time + Duration::from_secs(1)).count()
    };
    packets.iter().enumerate().map(count).max().unwrap_or(0)
}

#[test]
fn no_second_has_more_packets_than_the_rate_allows() {
    // The repetitions count too, both ours and the kernel's after a second. With more than a
    // thousand silent ports there are checks of the path among the probes.
    let scans = [
        (Scan::Syn, 200, "--retries 1 --timeout 0.5", "1001-1300", 600),
        (Scan::Udp, 200, "--retries 1 --timeout 0.5", "1001-1300", 600),
        (Scan::Connect, 200, "--timeout 1.5", "1001-1300", 600),
        (Scan::Syn, 2_000, "", "22,1001-2500", 3_033),
    ];
    thread::scope(|scope| {
        for (scan, rate, options, ports, probes) in scans {
            scope.spawn(move || {
                let lab = Lab::pair();
                let _listener = Listener::start(&lab.server, 22);
                drop_but(&lab.server, &[22]);
                let sniffer = Sniffer::start(&lab.client, "eth0", "src host 10.0.0.2");
                probe(&lab.client, scan, &format!("--rate {rate} {options} 10.0.0.1 {ports}"));
                let packets = sniffer.wait_for(probes, Sniffed::is_knock);
                // A twentieth for probes that the machine delays between their time and the link.
                let most = most_in_a_second(&packets);
                assert!(most <= rate + rate / 20, "{scan:?}: {most} packets in a second");
            });
        }
    });
}

/// Whatever the ports answer, and also if this machine's own rules affect the answers.
#[test]
fn nothing_is_sent_to_other_hosts() {
    require("nft");
    let lab = Lab::pair();
    let _listener = Listener::on_ports(&lab.server, [22, 80]);
    lab.server.ok("for tables in iptables ip6tables; do
             for protocol in tcp udp; do
                 $tables -A INPUT -p $protocol --dport 100:105 -j DROP
                 $tables -A INPUT -p $protocol --dport 106:110 -j REJECT
             done
         done");
    // Every frame that the client sends arrives here. Discovery of neighbours, routers and group
    // members is the kernel's.
    lab.server.ok("nft -f - <<'RULES'
table netdev watch {
    chain arriving {
        type filter hook ingress device eth0 priority 0;
        ip daddr 10.0.0.1 counter accept
        ip6 daddr fd00::1 counter accept
        ether type arp accept
        icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
        counter comment \"stray\"
    }
}
RULES");
    for scan in Scan::ALL {
        for address in BOTH {
            // Few enough closed UDP ports for the ICMP errors that are sent immediately.
            let ports = if scan == Scan::Udp { "100-112" } else { "20-120" };
            probe(&lab.client, scan, &format!("{address} {ports}"));
        }
    }
    let rules = lab.server.ok("nft list table netdev watch");
    let count = |rule: &str| -> u64 {
        let line = rules.lines().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("no {rule} in {rules}"));
        let count = line.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        count.unwrap_or_else(|| panic!("no count in {line}"))
    };
    assert!(count("ip daddr") > 200 && count("ip6 daddr") > 200, "{rules}");
    assert_eq!(count("stray"), 0, "{rules}");
}

#[test]
fn a_silent_port_gets_the_requested_number_of_probes() {
    let lab = Lab::pair();
    drop_but(&lab.server, &[22]);
    thread::scope(|scope| {
        for (scan, port) in [(Scan::Syn, 81), (Scan::Connect, 82), (Scan::Udp, 83)] {
            let client = &lab.client;
            scope.spawn(move || {
                for address in BOTH {
                    for retries in [0, 2] {
                        let sniffer =
                            Sniffer::start(client, "eth0", &format!("dst host {address} and dst port {port}"));
                        let results = probe(client, scan, &format!("--retries {retries} {address} {port}"));
                        assert_eq!(results[0].verdict.reason, "no-response");
                        sniffer.wait_for(retries + 1, Sniffed::is_knock);
                        // The kernel would repeat a SYN after a second.
                        thread::sleep(Duration::from_millis(1_200));
                        assert_eq!(sniffer.knocks().len(), retries + 1, "{scan:?} of {address}");
                    }
                }
            });
        }
    });
}

const OPEN: [u16; 3] = [22, 80, 40_000];

/// Probes ports of the server, and returns those that are not in the expected state.
fn wrong(client: &Host, scan: Scan, ports: &str, count: usize, expected: impl Fn(u16) -> &'static str) -> Vec<String> {
    let results = probe(client, scan, &format!("10.0.0.1 {ports}"));
    let distinct: BTreeSet<u16> = results.iter().map(|result| result.port).collect();
    assert_eq!((results.len(), distinct.len()), (count, count));
    let wrong = results.iter().filter(|result| result.verdict.state != expected(result.port));
    wrong.map(|result| format!("{} is {}, not {}", result.port, result.verdict, expected(result.port))).collect()
}

const NONE: [&str; 0] = [];

/// All ports, three of them open.
fn all_ports(client: &Host, others: &'static str) -> Vec<String> {
    wrong(client, Scan::Syn, "-", 65_535, |port| if OPEN.contains(&port) { "open" } else { others })
}

#[test]
fn all_ports_of_a_host_nearby() {
    let lab = Lab::pair();
    let _listener = Listener::on_ports(&lab.server, OPEN);
    assert_eq!(all_ports(&lab.client, "closed"), NONE);
    drop_but(&lab.server, &OPEN);
    let before = sent(&lab.client);
    assert_eq!(all_ports(&lab.client, "filtered"), NONE);
    // Two probes for each, and a few to find out that nothing gets lost.
    let packets = sent(&lab.client) - before;
    assert!(packets <= 131_200, "{packets}");
}

/// A path of 25 ms with this loss in each direction.
fn distant(loss_percent: f64, seed: u64) -> Distant {
    Distant::new(LinkProperties { delay: Duration::from_millis(25), loss_percent, seed, ..LinkProperties::default() })
}

// The number of missed ports on a lossy path depends on chance: the frames that get lost are always
// the same, but not the ports they belong to. Probes are repeated until less than a thousandth of a
// port is likely to be missed in a complete scan, so none is expected.

#[test]
fn all_ports_of_a_host_on_a_lossy_path() {
    let far = distant(5.0, 7);
    let _listener = Listener::on_ports(&far.server, OPEN);
    assert_eq!(all_ports(&far.client, "closed"), NONE);
    drop_but(&far.server, &OPEN);
    assert_eq!(all_ports(&far.client, "filtered"), NONE);
}

#[test]
fn interleaved_ports_of_all_states_on_a_lossy_path() {
    for (loss_percent, seed) in [(5.0, 1), (10.0, 2)] {
        let far = distant(loss_percent, seed);
        let _listener = Listener::on_ports(&far.server, (1..=3_000).filter(|port| port % 3 == 1));
        let silent: Vec<String> = (1..=3_000).filter(|port| port % 3 == 0).map(|port: u16| port.to_string()).collect();
        // A rule holds at most fifteen ports.
        let rule = |ports: &[String]| format!("-A INPUT -p tcp -m multiport --dports {} -j DROP\n", ports.join(","));
        let rules: String = silent.chunks(15).map(rule).collect();
        far.server.ok(&format!("iptables-restore -w --noflush <<'RULES'\n*filter\n{rules}COMMIT\nRULES"));
        let expected = |port| ["filtered", "open", "closed"][usize::from(port % 3)];
        assert_eq!(
            wrong(&far.client, Scan::Syn, "1-3000", 3_000, expected),
            NONE,
            "{loss_percent} % in each direction"
        );
        if loss_percent < 10.0 {
            // The kernel sends four SYNs within the timeout, which is likely to miss 0.2 ports.
            let missed = wrong(&far.client, Scan::Connect, "1-3000", 3_000, expected);
            assert!(missed.len() <= 4 && missed.iter().all(|port| port.contains("no-response")), "{missed:?}");
        }
    }
}

#[test]
fn a_path_of_low_capacity_is_not_overrun() {
    let capacity = Some(Capacity { rate: 3_000, queue: 100 });
    let far = Distant::new(LinkProperties { delay: Duration::from_millis(25), capacity, ..LinkProperties::default() });
    assert_eq!(wrong(&far.client, Scan::Syn, "1-20000", 20_000, |_| "closed"), NONE);
}

/// Begins a probe of 2,000 closed ports that takes ten seconds, and waits for the first ones.
fn begin_long_probe(lab: &Lab, scan: Scan) -> Process {
    let sniffer = Sniffer::start(&lab.client, "eth0", "dst host 10.0.0.1");
    // Each UDP port answers: closed ones would meet the limit of ICMP errors.
    lab.server.ok("echo 0 > /proc/sys/net/ipv4/icmp_ratemask");
    let process = Process::spawn(&mut probe_command(&lab.client, scan, "--rate 200 10.0.0.1 1001-3000"));
    sniffer.wait_for(50, Sniffed::is_knock);
    process
}

/// Its status, its results, and the other lines of its output.
fn end(process: Process) -> (Option<i32>, Vec<Probed>, String) {
    let (status, output) = process.finish();
    let complaints = output.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n");
    (status.code(), Probed::all(&output), complaints)
}

/// Asserts that these are some of the long probe's results.
fn some_are_known(scan: Scan, results: &[Probed]) {
    assert!((40..1_900).contains(&results.len()), "{scan:?}: {}", results.len());
    assert!(results.iter().all(|result| result.verdict.state == "closed"), "{scan:?}: {results:?}");
    assert!(results.is_sorted_by_key(|result| result.port), "{scan:?}: {results:?}");
}

#[test]
fn an_interface_that_disappears_ends_the_probe_with_the_results_so_far() {
    for scan in Scan::ALL {
        let lab = Lab::pair();
        let process = begin_long_probe(&lab, scan);
        lab.client.ok("ip link del eth0");
        let (status, results, complaints) = end(process);
        assert_eq!(status, Some(1), "{scan:?}: {complaints}");
        assert!(complaints.starts_with("portknock: no route to 10.0.0.1: "), "{scan:?}: {complaints}");
        some_are_known(scan, &results);
    }
}

#[test]
fn interrupts_end_the_probe_with_the_results_so_far() {
    for (scan, signal, expected) in [(Scan::Syn, "INT", 130), (Scan::Connect, "INT", 130), (Scan::Udp, "TERM", 143)] {
        let lab = Lab::pair();
        let process = begin_long_probe(&lab, scan);
        process.signal(signal);
        let (status, results, complaints) = end(process);
        assert_eq!((status, complaints.as_str()), (Some(expected), ""), "{scan:?}");
        some_are_known(scan, &results);
    }
}

/// Runs `portknock probe` without any privilege.
fn without_privileges(host: &Host, args: &str) -> Output {
    let mut command = host.command(UNPRIVILEGED[0]);
    Output::of(command.args(&UNPRIVILEGED[1..]).arg(binary("portknock")).arg("probe").args(args.split_whitespace()))
}

#[test]
fn syns_need_a_capability_and_the_default_works_without() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    for address in BOTH {
        let refused = without_privileges(&lab.client, &format!("--method syn {address} 22"));
        let complaint = complaint(&refused);
        assert!(complaint.contains("CAP_NET_RAW") && complaint.contains("--method connect"), "{complaint}");
        for (output, by) in [
            (without_privileges(&lab.client, &format!("{address} 22")), "connect"),
            (portknock(&lab.client, &format!("{address} 22")), "SYN"),
        ] {
            let mut lines = output.stdout.lines();
            assert_eq!(lines.next(), Some(&*format!("Probe of {address} by {by}")), "{output:?}");
            assert!(
                lines.nth(1).is_some_and(|line| line.starts_with("22/tcp open ") && line.contains(" syn-ack ")),
                "{output:?}"
            );
        }
    }
}

#[test]
fn targets_that_cannot_be_probed_are_reported() {
    let lab = Lab::pair();
    for scan in Scan::ALL {
        for (args, expected) in [
            ("no-such-host.invalid 22", "cannot find the host `no-such-host.invalid`: "),
            ("192.0.2.1 22", "no route to 192.0.2.1: Network is unreachable"),
            ("2001:db8::1 22", "no route to 2001:db8::1: Network is unreachable"),
            ("--source 10.0.0.99 10.0.0.1 22", "cannot probe from 10.0.0.99: Cannot assign requested address"),
            ("--source fd00::99 fd00::1 22", "cannot probe from fd00::99: Cannot assign requested address"),
            ("--source 10.0.0.2 fd00::1 22", "fd00::1 has no IPv4 address"),
            ("-6 10.0.0.1 22", "10.0.0.1 has no IPv6 address"),
        ] {
            let output = Output::of(&mut probe_command(&lab.client, scan, args));
            let complaint = complaint(&output);
            assert!(complaint.starts_with(expected), "{scan:?} {args}: {complaint}");
        }
    }
}

#[test]
fn names_mean_one_address_or_all() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    lab.server.add_address("eth0", "10.0.0.3/24");
    lab.server.ok("iptables -A INPUT -d 10.0.0.3 -p tcp --dport 22 -j REJECT --reject-with tcp-reset");
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "10.0.0.1 lab.example\n10.0.0.3 lab.example\nfd00::1 lab.example\n").unwrap();
    let run = |args: &str| {
        // A mount of the command's own; the file is invisible to other processes.
        let program = binary("portknock");
        let script = format!("mount --bind {} /etc/hosts && {} probe {args}", hosts.display(), program.display());
        Output::of(lab.client.command("unshare").args(["--mount", "sh", "-c", &script]))
    };
    let found = |results: &[Probed]| {
        let found = |result: &Probed| format!("{} {} {}", result.address, result.port, result.verdict.state);
        results.iter().map(found).collect::<Vec<_>>()
    };
    for method in ["syn", "connect"] {
        let probed = |args: &str| {
            let output = run(&format!("--method {method} --format json {args}"));
            assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
            assert!(output.stdout.lines().all(|line| line.starts_with(r#"{"host":"lab.example""#)), "{output:?}");
            found(&Probed::all(&output.stdout))
        };
        assert_eq!(probed("-4 lab.example 22").len(), 1);
        assert_eq!(probed("-6 lab.example 22,23"), ["fd00::1 22 open", "fd00::1 23 closed"]);
        let mut all = probed("--all-addresses lab.example 22");
        all.sort();
        assert_eq!(all, ["10.0.0.1 22 open", "10.0.0.3 22 closed", "fd00::1 22 open"]);
        assert_eq!(probed("--all-addresses --source fd00::2 lab.example 22"), ["fd00::1 22 open"]);
    }

    // Reachable addresses are probed nevertheless.
    lab.client.ok("ip -6 route add unreachable fd00::1");
    for method in ["syn", "connect"] {
        let output = run(&format!("--method {method} --format json --all-addresses lab.example 22"));
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.starts_with("portknock: no route to fd00::1: "), "{output:?}");
        let mut reached = found(&Probed::all(&output.stdout));
        reached.sort();
        assert_eq!(reached, ["10.0.0.1 22 open", "10.0.0.3 22 closed"]);
    }
}

#[test]
fn link_local_addresses_take_a_zone() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let index = lab.client.ok("cat /sys/class/net/eth0/ifindex");
    let address = format!("fe80::ff:fe00:1%{}", index.trim());
    for scan in Scan::ALL {
        let results = probe(&lab.client, scan, "fe80::ff:fe00:1%eth0 22,23");
        assert!(results.iter().all(|result| result.address == address), "{scan:?}: {results:?}");
        let states: Vec<_> = results.iter().map(|result| result.verdict.state.as_str()).collect();
        let expected = if scan == Scan::Udp { ["closed", "closed"] } else { ["open", "closed"] };
        assert_eq!(states, expected, "{scan:?}");
    }
}
