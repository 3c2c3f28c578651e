//! `portknock rules`: the rule sets, loaded by the programs they are for, and examined by nmap and
//! on the host itself.

mod check;

use std::thread;
use std::time::Instant;

use portknock_tests::{
    Host, Lab, Listener, Output, PortState, Process, Routed, SCANS, Sniffer, WAIT_TIMEOUT, binary, require, scan_all,
    skipped, wait_until,
};

/// The program that loads a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Nft,
    Iptables,
    /// The older iptables, which some kernels do not support.
    Legacy,
}

const STYLES: [&str; 2] = ["reject", "drop"];
const ADDRESSES: [&str; 2] = ["10.0.0.1", "fd00::1"];

fn rules(args: &str) -> String {
    let output = Output::of(std::process::Command::new(binary("portknock")).arg("rules").args(args.split_whitespace()));
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "portknock rules {args}");
    output.stdout
}

/// Loads the rule set for both families.
fn load(host: &Host, by: By, args: &str) {
    match by {
        By::Nft => {
            require("nft");
            feed(host, "nft -f -", &rules(args));
        }
        By::Iptables | By::Legacy => {
            require("iptables-restore");
            let middle = if by == By::Legacy { "-legacy" } else { "" };
            for tables in ["iptables", "ip6tables"] {
                feed(host, &format!("{tables}{middle}-restore"), &rules(&format!("--format {tables} {args}")));
            }
        }
    }
}

fn feed(host: &Host, command: &str, text: &str) {
    host.ok(&format!("{command} <<'RULES'\n{text}RULES"));
}

/// The programs that work here.
fn loaders() -> Vec<By> {
    let mut loaders = vec![By::Nft, By::Iptables];
    let works = "iptables-legacy -S && ip6tables-legacy -S";
    if Host::new("legacy").run(works).code == Some(0) {
        loaders.push(By::Legacy);
    } else {
        skipped("iptables-legacy does not work here");
    }
    loaders
}

/// Runs the function for each case, in parallel.
fn for_each<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(move || test(case)))));
}

/// Each of these with each style.
fn with_styles(loaders: &[By]) -> Vec<(By, &'static str)> {
    loaders.iter().flat_map(|&by| STYLES.map(|style| (by, style))).collect()
}

/// Listens on the ports of the doors: TCP port 22 and UDP port 5000.
fn services(host: &Host) -> Process {
    let services = Process::spawn(host.command(binary("occupy")).args(["--accept", "22", "--answer", "5000"]));
    services.wait_for("ready");
    services
}

/// A port of a door compared with a port without a listener, in every scan; if it is refused, also
/// compared with a host without any packet filter.
#[test]
fn a_protected_port_looks_like_one_without_a_listener() {
    let ports = "T:22,23,U:5000,5001";
    let bare = Lab::pair();
    let closed = ADDRESSES.map(|address| scan_all(&bare.client, &SCANS, address, ports));
    for_each(with_styles(&loaders()), |(by, style)| {
        // The same rules as with the newer iptables.
        let scans = if by == By::Legacy { &["-sS -sU", "-sX"] } else { &SCANS[..] };
        let lab = Lab::pair();
        let _services = services(&lab.server);
        load(&lab.server, by, &format!("--style {style}"));
        for (address, closed) in ADDRESSES.iter().zip(&closed) {
            let seen = scan_all(&lab.client, scans, address, ports);
            for (protected, other) in [("22/tcp", "23/tcp"), ("5000/udp", "5001/udp")] {
                let case = format!("{by:?} {style} {address} {protected}");
                assert_eq!(seen[protected], seen[other], "{case}");
                assert_eq!(seen[protected].len(), if protected == "22/tcp" { scans.len() } else { 1 }, "{case}");
                for (scan, result) in &seen[protected] {
                    if style == "reject" {
                        assert_eq!(result.answer, closed[protected][scan].answer, "{case} {scan}");
                    } else {
                        assert!(result.answer.contains("filtered no-response"), "{case} {scan}: {result:?}");
                        assert!(result.segments.is_empty(), "{case} {scan}: {result:?}");
                    }
                }
            }
        }
    });
}

/// The entries that a scan leaves in the connection tracking let no host in.
#[test]
fn refused_segments_leave_no_state_that_admits_the_next_one() {
    for_each(with_styles(&[By::Nft, By::Iptables]), |(by, style)| {
        let lab = Lab::pair();
        let _services = services(&lab.server);
        load(&lab.server, by, &format!("--style {style}"));
        for address in ADDRESSES {
            let family = if address.contains(':') { "-6" } else { "-4" };
            // All from one source port.
            let scan = |kind| lab.client.ok(&format!("nmap {family} -n -Pn --reason -g 40000 {kind} -p 22 {address}"));
            for kind in ["-sA", "-sF", "-sM"] {
                scan(kind);
                let seen = scan("-sS");
                let expected = if style == "reject" { "22/tcp closed" } else { "22/tcp filtered" };
                assert!(seen.contains(expected), "{by:?} {style} {address} {kind}: {seen}");
            }
        }
    });
}

/// How a port appears from one of the client's addresses, by our own probe.
fn seen_from(lab: &Lab, source: &str, address: &str, port: &str) -> String {
    let (udp, port) = if let Some(port) = port.strip_suffix("/udp") { ("--udp", port) } else { ("", port) };
    let portknock = binary("portknock");
    let probe = format!("{} probe {udp} --timeout 0.4 --retries 1 --format json", portknock.display());
    let output = lab.client.ok(&format!("{probe} --source {source} {address} {port}"));
    output.split("\"state\":").nth(1).and_then(|rest| rest.split('"').nth(1)).unwrap_or_default().into()
}

#[test]
fn an_element_opens_for_one_address_until_the_kernel_removes_it() {
    for_each(STYLES, |style| {
        let lab = Lab::pair();
        lab.client.ok("ip addr add 10.0.0.9/24 dev eth0; ip addr add fd00::9/64 dev eth0 nodad");
        let _services = services(&lab.server);
        load(&lab.server, By::Nft, &format!("--style {style}"));
        let (blocked, silent) = if style == "reject" { ("closed", "closed") } else { ("filtered", "open|filtered") };
        for (address, [friend, stranger], set) in
            [("10.0.0.1", ["10.0.0.2", "10.0.0.9"], "open4"), ("fd00::1", ["fd00::2", "fd00::9"], "open6")]
        {
            let add = |port: &str, seconds: u32| {
                let element = format!("{friend} . {port} timeout {seconds}s");
                lab.server.ok(&format!("nft add element inet portknock_host {set} '{{ {element} }}'"));
            };
            assert_eq!(seen_from(&lab, friend, address, "22"), blocked);
            add("tcp . 22", 100);
            add("udp . 5000", 100);
            assert_eq!(seen_from(&lab, friend, address, "22"), "open", "{style} {address}");
            assert_eq!(seen_from(&lab, friend, address, "5000/udp"), "open", "{style} {address}");
            assert_eq!(seen_from(&lab, friend, address, "23"), blocked, "{style} {address}");
            assert_eq!(seen_from(&lab, stranger, address, "22"), blocked, "{style} {address}");
            assert_eq!(seen_from(&lab, stranger, address, "5000/udp"), silent, "{style} {address}");
            // Another rule set, loaded twice, leaves open ports open.
            load(&lab.server, By::Nft, &format!("--style {style} --allow 443"));
            load(&lab.server, By::Nft, &format!("--style {style}"));
            assert_eq!(seen_from(&lab, friend, address, "22"), "open", "{style} {address}");
            lab.server.ok(&format!("nft flush set inet portknock_host {set}"));
            add("tcp . 22", 2);
            assert_eq!(seen_from(&lab, friend, address, "22"), "open", "{style} {address}");
            let ends = wait_until(WAIT_TIMEOUT, || seen_from(&lab, friend, address, "22") == blocked);
            assert!(ends, "{style} {address}: it stays open");
        }
    });
}

/// The two command lines at the head of the rule set, run by a shell.
#[test]
fn the_commands_at_the_head_open_and_close() {
    for by in [By::Iptables, By::Legacy].into_iter().filter(|by| loaders().contains(by)) {
        let lab = Lab::pair();
        lab.client.ok("ip addr add 10.0.0.9/24 dev eth0; ip addr add fd00::9/64 dev eth0 nodad");
        let _services = services(&lab.server);
        load(&lab.server, by, "");
        for (format, address, [friend, stranger], six) in [
            ("iptables", "10.0.0.1", ["10.0.0.2", "10.0.0.9"], ""),
            ("ip6tables", "fd00::1", ["fd00::2", "fd00::9"], "_6"),
        ] {
            let text = rules(&format!("--format {format}"));
            let run = |key: &str| {
                let line = text.lines().find_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix(key));
                let command = line.expect("the head has it").trim_start_matches(" = ").replace("%IP%", friend);
                let command = if by == By::Legacy { command.replace("tables", "tables-legacy") } else { command };
                lab.server.ok(&command);
            };
            run(&format!("start_command{six}"));
            assert_eq!(seen_from(&lab, friend, address, "22"), "open", "{by:?} {address}");
            assert_eq!(seen_from(&lab, stranger, address, "22"), "closed", "{by:?} {address}");
            run(&format!("stop_command{six}"));
            assert_eq!(seen_from(&lab, friend, address, "22"), "closed", "{by:?} {address}");
        }
    }
}

#[test]
fn allowed_ports_are_open_for_everyone() {
    for by in [By::Nft, By::Iptables] {
        for style in STYLES {
            let lab = Lab::pair();
            let _listener = Listener::on_ports(&lab.server, [22, 80, 8005]);
            let _services = Process::spawn(lab.server.command(binary("occupy")).args(["--answer", "53"]));
            load(&lab.server, by, &format!("--style {style} --allow 80,8000-8010,53/udp"));
            for address in ADDRESSES {
                assert_eq!(lab.client.tcp_state(address, 80), PortState::Open, "{by:?} {style} {address}");
                assert_eq!(lab.client.tcp_state(address, 8005), PortState::Open, "{by:?} {style} {address}");
                assert_ne!(lab.client.tcp_state(address, 22), PortState::Open, "{by:?} {style} {address}");
                let source = if address == "fd00::1" { "fd00::2" } else { "10.0.0.2" };
                assert_eq!(seen_from(&lab, source, address, "53/udp"), "open", "{by:?} {style} {address}");
            }
        }
    }
}

/// Sends a megabyte from one host to another; the receiver has the address.
fn transfer(from: &Host, to: &Host, address: &str) {
    require("python3");
    let receive = "
import socket
listener = socket.create_server(('::', 5000), family=socket.AF_INET6, dualstack_ipv6=True)
print('listening', flush=True)
stream = listener.accept()[0].makefile('rb')
print('received', len(stream.read()), flush=True)";
    let receiver = to.spawn("python3", ["-c", receive]);
    receiver.wait_for("listening");
    let send = format!("import socket; socket.create_connection(('{address}', 5000), 5).sendall(bytes(1000000))");
    from.ok(&format!("python3 -c \"{send}\""));
    receiver.wait_for("received 1000000\n");
}

/// Loopback, outgoing connections, ping, neighbour discovery and path MTU discovery.
#[test]
fn the_host_itself_works_as_before() {
    require("ping");
    for_each(with_styles(&[By::Nft, By::Iptables]), |(by, style)| {
        let lab = Routed::new();
        let _inside = Listener::start(&lab.server, 22);
        let _outside = Listener::start(&lab.client, 80);
        // The path to the client narrows after the router, which has to notify the server.
        lab.router.ok("ip link set eth0 mtu 1280");
        load(&lab.server, by, &format!("--style {style}"));
        let case = format!("{by:?} {style}");
        for address in ["127.0.0.1", "::1", "10.2.0.2", "fd02::2"] {
            assert_eq!(lab.server.tcp_state(address, 22), PortState::Open, "{case}: loopback {address}");
        }
        for (client, server, router, mac) in [
            ("10.1.0.2", "10.2.0.2", "10.2.0.1", "02:00:00:00:02:01"),
            ("fd01::2", "fd02::2", "fd02::1", "02:00:00:00:02:01"),
        ] {
            // Each host has forgotten the hardware addresses of the others.
            lab.server.ok(&format!("ip neigh del {router} dev eth0"));
            lab.router.ok(&format!("ip neigh del {server} dev eth1"));
            assert_eq!(lab.server.tcp_state(client, 80), PortState::Open, "{case}: to {client}");
            lab.server.ok(&format!("ip neigh show {router} | grep {mac}"));
            lab.server.ok(&format!("ping -n -c 1 -W 5 {client}"));
            let pinged = lab.client.run(&format!("ping -n -c 1 -W 1 {server}")).code == Some(0);
            assert_eq!(pinged, style == "reject", "{case}: ping {server}");
            transfer(&lab.server, &lab.client, client);
            let route = lab.server.ok(&format!("ip route get {client}"));
            assert!(route.contains("mtu 1280"), "{case}: {route}");
            // The other way around: the router asks for the server, which has not sent anything.
            lab.router.ok(&format!("ip neigh del {server} dev eth1"));
            lab.client.tcp_state(server, 22);
            lab.router.ok(&format!("ip neigh show {server} | grep 02:00:00:00:02:02"));
        }
    });
}

/// A TCP connection from the client's port 40000 to the server's port 443, which transfers bytes in
/// both directions all the time.
struct Live {
    client: Process,
    _server: Process,
}

impl Live {
    fn start(lab: &Lab) -> Self {
        require("python3");
        let serve = "
import socket
listener = socket.create_server(('', 443))
print('listening', flush=True)
stream = listener.accept()[0]
while data := stream.recv(1): stream.sendall(data)";
        let server = lab.server.spawn("python3", ["-c", serve]);
        server.wait_for("listening");
        let talk = "
import itertools, socket, time
stream = socket.create_connection(('10.0.0.1', 443), 10, ('10.0.0.2', 40000))
for number in itertools.count():
    stream.sendall(b'x')
    assert stream.recv(1)
    print('echo', number, flush=True)
    time.sleep(0.02)";
        let client = lab.client.spawn("python3", ["-c", talk]);
        let live = Self { client, _server: server };
        live.goes_on();
        live
    }

    /// Waits until bytes have been transferred in both directions that were not on their way
    /// before.
    fn goes_on(&self) {
        let number = self.client.output().lines().count();
        self.client.wait_for(&format!("echo {}\n", number + 2));
    }
}

/// If ports are refused, connections from before the first load continue, even if connection
/// tracking calls them invalid. Without the rule for that they are reset.
#[test]
fn loading_the_rules_resets_no_established_connection() {
    for (with_the_rule, by) in [(true, By::Nft), (true, By::Iptables), (false, By::Nft)] {
        let lab = Lab::pair();
        let live = Live::start(&lab);
        let sniffer = Sniffer::start(&lab.server, "eth0", "tcp port 443");
        let resets = || sniffer.packets().iter().filter(|packet| packet.flags.contains('R')).count();
        if with_the_rule {
            for loose in [1, 0] {
                lab.server.ok(&format!("echo {loose} > /proc/sys/net/netfilter/nf_conntrack_tcp_loose"));
                load(&lab.server, by, "");
                live.goes_on();
                lab.server.ok("nft flush ruleset");
            }
            assert_eq!(resets(), 0);
            load(&lab.server, by, "");
            assert_eq!(lab.client.tcp_state("10.0.0.1", 443), PortState::Closed);
            live.goes_on();
        } else {
            let text = rules("");
            let kept = |line: &&str| !line.contains("tcp flags & (rst | ack)");
            let rest: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
            assert!(rest.len() < text.len());
            lab.server.ok("echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose");
            feed(&lab.server, "nft -f -", &rest);
            assert!(wait_until(WAIT_TIMEOUT, || resets() > 0));
        }
    }
}

/// The advice of docs/rules.md before a host drops for the first time, word for word.
#[test]
fn established_connections_outlast_the_first_load_of_drop() {
    let page = include_str!("../../../docs/rules.md");
    let (_, section) = page.split_once("## Before the first time").expect("the page has this section");
    let commands = section.split("```").nth(1).expect("the section has commands");
    for (by, program) in [(By::Nft, "nft "), (By::Iptables, "iptables ")] {
        let lab = Lab::pair();
        let live = Live::start(&lab);
        let before: Vec<&str> = commands.lines().filter(|line| line.starts_with(program)).collect();
        assert!(!before.is_empty(), "{commands}");
        lab.server.ok(&before.join("\n"));
        live.goes_on();
        load(&lab.server, by, "--style drop");
        live.goes_on();
        assert_eq!(lab.client.tcp_state("10.0.0.1", 443), PortState::Filtered);
    }
}

/// Few spoofed segments with the address of a host are answered, and no other host is affected.
#[test]
fn a_flood_gets_few_resets_and_other_hosts_get_theirs() {
    for by in [By::Nft, By::Iptables] {
        for (flags, source) in [("S", "198.51.100.7"), ("A", "203.0.113.7")] {
            let lab = Lab::pair();
            lab.server.ok("ip route add default via 10.0.0.2");
            load(&lab.server, by, "");
            lab.server.ok(&format!(
                "nft add table inet count
                 nft add chain inet count output '{{ type filter hook output priority 0; }}'
                 nft add rule inet count output ip daddr {source} tcp flags rst counter"
            ));
            let pktgen = format!("{} --interface eth0 --ports 22 --flags {flags}", binary("pktgen").display());
            let began = Instant::now();
            lab.client.ok(&format!("{pktgen} --from {source} --count 30000"));
            // From another network, at the same time.
            assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Closed, "{by:?} {flags}");
            let listing = lab.server.ok("nft -j list table inet count");
            let most = 2_000 + 1_000 * (began.elapsed().as_secs() + 1);
            let packets = listing.split("\"packets\": ").nth(1).and_then(|rest| rest.split(',').next());
            let resets: u64 = packets.and_then(|number| number.parse().ok()).expect("nft counts packets");
            assert!((1_000..=most).contains(&resets), "{by:?} {flags}: {resets} resets, {most} at most");
        }
    }
}

#[test]
fn usage_and_privileges_are_reported() {
    let run = |args: &str| {
        Output::of(std::process::Command::new(binary("portknock")).arg("rules").args(args.split_whitespace()))
    };
    for args in [
        "--port 22",
        "--config x",
        "--style refuse",
        "--format pf",
        "--allow 22/sctp",
        "--check --port 22 --style drop",
        "x",
    ] {
        let output = run(args);
        assert_eq!(output.code, Some(2), "{args}: {output:?}");
    }
    let host = Host::new("rightless");
    let mut command = host.command("setpriv");
    command.args(["--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all"]);
    let output = Output::of(command.arg(binary("portknock")).args(["rules", "--check", "--port", "22"]));
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.starts_with("portknock: `nft -j list ruleset` failed: "), "{output:?}");
}
