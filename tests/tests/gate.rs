//! Doors without commands: the kernel opens and closes ports, and a host that has not knocked finds
//! them closed.

use std::fs;
use std::thread;
use std::time::Duration;

use portknock_tests::{
    CAPTURE_ONLY_USER, Daemon, Firewall, Host, Lab, Listener, Output, PortState, Scan, UNPRIVILEGED, WAIT_TIMEOUT,
    binary, other_users, probe, require, wait_until,
};

/// Opens two ports for two seconds.
const SSH: &str = "
[ssh]
    sequence    = 7000,8000:udp,9000
    seq_timeout = 10
    tcpflags    = syn
    open        = tcp/22,udp/51820
    cmd_timeout = 2
";
const ADDRESSES: [&str; 2] = ["10.0.0.1", "fd00::1"];

fn long() -> String {
    SSH.replace("= 2\n", "= 600\n")
}

fn knock(lab: &Lab, address: &str) {
    lab.client.ok(&format!("{} knock --delay 5 {address} 7000 8000:udp 9000", binary("portknock").display()));
}

fn becomes(lab: &Lab, address: &str, port: u16, state: PortState) {
    let reached = wait_until(WAIT_TIMEOUT, || lab.client.tcp_state(address, port) == state);
    assert!(reached, "port {port} of {address} does not become {state:?}");
}

/// The states of a port as seen from one address of the client.
fn seen_from(host: &Host, source: &str, address: &str) -> String {
    probe(host, Scan::Connect, &format!("--source {source} {address} 22"))[0].verdict.to_string()
}

/// The open elements, as nft prints them.
fn elements(host: &Host) -> String {
    let rules = host.ok("nft -n list ruleset");
    rules.lines().filter(|line| line.contains("timeout") && line.contains(" . ")).collect()
}

#[test]
fn a_knock_opens_for_one_address_and_the_kernel_closes() {
    let lab = Lab::pair();
    lab.client.add_address("eth0", "10.0.0.77/24");
    lab.client.add_address("eth0", "fd00::77/64");
    let _listener = Listener::start(&lab.server, 22);
    let daemon = Daemon::portknockd(&lab.server, SSH);
    for (address, source, other) in [("10.0.0.1", "10.0.0.2", "10.0.0.77"), ("fd00::1", "fd00::2", "fd00::77")] {
        assert_eq!(seen_from(&lab.client, source, address), "closed, conn-refused");
        assert_eq!(lab.server.tcp_state(address, 22), PortState::Open, "the host itself needs no knock");
        lab.knock_from(source, address, "7000 8000:udp 9000");
        assert!(wait_until(WAIT_TIMEOUT, || seen_from(&lab.client, source, address).starts_with("open")), "{address}");
        assert_eq!(seen_from(&lab.client, other, address), "closed, conn-refused");
        let open = elements(&lab.server);
        // The rest of two seconds, which nft may print as one.
        let until = |port: &str| [1, 2].map(|seconds| format!("{source} . {port} timeout {seconds}s"));
        assert!(until("6 . 22").iter().any(|element| open.contains(element)), "{open}");
        assert!(until("17 . 51820").iter().any(|element| open.contains(element)), "{open}");
        assert!(
            wait_until(WAIT_TIMEOUT, || seen_from(&lab.client, source, address).starts_with("closed")),
            "{address}"
        );
        daemon.wait_for(&format!("{source}: ssh: command timeout"));
        for line in ["Stage 3", "OPEN SESAME", "command timeout"] {
            assert_eq!(daemon.count(&format!("{source}: ssh: {line}")), 1, "{}", daemon.log());
        }
    }
    assert_eq!(daemon.count("running command") + daemon.count("cannot"), 0, "{}", daemon.log());
}

#[test]
fn connections_outlive_the_opening_and_the_start() {
    let lab = Lab::pair();
    require("python3");
    let _server = lab.server.spawn("python3", ["-c", ECHO]);
    assert!(wait_until(WAIT_TIMEOUT, || lab.server.run("ss -tlnH | grep -q :22").code == Some(0)));
    let talk = |name: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let go = directory.path().join("go");
        let script = format!(
            "exec 3<>/dev/tcp/10.0.0.1/22; echo {name}; while ! [ -e {} ]; do sleep 0.05; done
             echo still >&3; read -t 10 -r line <&3; echo got $line",
            go.display()
        );
        let process = lab.client.spawn("bash", ["-c", &script]);
        process.wait_for(name);
        (process, go, directory)
    };
    let (before, before_go, _directory) = talk("before");
    let daemon = Daemon::portknockd(&lab.server, SSH);
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    let (during, during_go, _other) = talk("during");
    daemon.wait_for("command timeout");
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    for (process, go) in [(before, before_go), (during, during_go)] {
        fs::write(go, "").expect("the directory can be written");
        process.wait_for("got still");
    }
}

/// Sends back the data that arrives on port 22.
const ECHO: &str = "
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(('', 22), Echo).serve_forever()
";

/// The result of nmap for the ports in one scan, in their order: state and reason.
fn nmap(host: &Host, scan: &str, address: &str, ports: &str) -> Vec<String> {
    require("nmap");
    let six = if address.contains(':') { "-6" } else { "-4" };
    let quick = "--max-retries 1 --initial-rtt-timeout 100ms --max-rtt-timeout 150ms --scan-delay 0";
    let words = format!("nmap {six} -n -Pn {scan} -vvv --reason {quick} -oX - -p {ports} {address}");
    let output = Output::of(host.command("nmap").args(words.split_whitespace().skip(1)));
    assert_eq!(output.code, Some(0), "{words}: {output:?}");
    let value = |port: &str, name: &str| {
        let start = port.find(&format!("{name}=\"")).expect("nmap's XML has it") + name.len() + 2;
        port[start..].split('"').next().unwrap_or_default().to_owned()
    };
    let seen: Vec<String> = output
        .stdout
        .split("<port ")
        .skip(1)
        .map(|port| format!("{} {}", value(port, "state"), value(port, "reason")))
        .collect();
    assert_eq!(seen.len(), ports.split(',').count(), "{words}: {}", output.stdout);
    seen
}

const TCP_SCANS: [&str; 8] = ["-sS", "-sT", "-sA", "-sW", "-sF", "-sN", "-sX", "-sM"];

/// Asserts that a protected port looks like a port without a listener, in every scan.
fn assert_unseen(lab: &Lab) {
    thread::scope(|scope| {
        for address in ADDRESSES {
            scope.spawn(move || {
                for scan in TCP_SCANS {
                    let seen = nmap(&lab.client, scan, address, "22,23,7000");
                    assert!(seen.iter().all(|port| *port == seen[1]), "{scan} {address}: {seen:?}");
                }
                let seen = nmap(&lab.client, "-sU", address, "51820,51821");
                assert_eq!(seen[0], seen[1], "-sU {address}");
            });
        }
    });
}

#[test]
fn a_refused_port_looks_closed_in_every_scan() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    require("python3");
    let _udp = lab.server.spawn("python3", ["-c", UDP]);
    assert!(wait_until(WAIT_TIMEOUT, || lab.server.run("ss -ulnH | grep -q :51820").code == Some(0)));
    // The kernel's own limit for ICMP would make ports look filtered, both protected and
    // unprotected ones.
    lab.server.ok("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    let seen = nmap(&lab.client, "-sF", "10.0.0.1", "22,23");
    assert_ne!(seen[0], seen[1], "without a gate they differ");
    let _daemon = Daemon::portknockd(&lab.server, SSH);
    assert_eq!(nmap(&lab.client, "-sS", "10.0.0.1", "22"), ["closed reset"]);
    assert_eq!(nmap(&lab.client, "-sU", "fd00::1", "51820"), ["closed port-unreach"]);
    assert_unseen(&lab);
}

/// Receives datagrams on port 51820, of both families.
#[test]
fn a_door_that_closes_early_leaves_a_port_to_another_one_for_no_longer_than_that_has() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let doors = "[long]\nsequence = 7000,8000\nopen = tcp/22\ncmd_timeout = 600\n\
                 [short]\nsequence = 7100,8100\nopen = tcp/22\ncmd_timeout = 4\n";
    let daemon = Daemon::portknockd(&lab.server, doors);
    for (door, ports) in [("long", "7000 8000"), ("short", "7100 8100")] {
        lab.knock_from("10.0.0.2", "10.0.0.1", ports);
        daemon.wait_for(&format!("10.0.0.2: {door}: OPEN SESAME"));
    }
    assert_eq!(daemon.portknock(&["close", "long", "10.0.0.2"]).code, Some(0));
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    assert!(wait_until(Duration::from_secs(6), || elements(&lab.server).is_empty()), "{}", elements(&lab.server));
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Closed);
}

const UDP: &str = "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('::', 51820))
while True:
    s.recvfrom(10)
";

#[test]
fn a_dropped_port_looks_like_one_that_the_firewall_drops() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let _firewall = Firewall::closed(&lab.server);
    lab.server.ok("for tables in iptables ip6tables; do
                       $tables -w -A INPUT -p tcp --dport 22 -j ACCEPT
                       $tables -w -A INPUT -p udp --dport 51820 -j ACCEPT
                   done");
    let _daemon = Daemon::portknockd(&lab.server, &format!("[options]\nGateRefuse = drop\n{SSH}"));
    assert_eq!(nmap(&lab.client, "-sA", "10.0.0.1", "22"), ["filtered no-response"]);
    assert_unseen(&lab);
    knock(&lab, "fd00::1");
    becomes(&lab, "fd00::1", 22, PortState::Open);
    becomes(&lab, "fd00::1", 22, PortState::Filtered);
}

#[test]
fn the_kernel_closes_without_the_daemon_and_the_ports_stay_protected() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let mut daemon = Daemon::portknockd(&lab.server, SSH);
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    daemon.kill();
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);

    // The next start restores the open elements, and reports their end.
    daemon.rewrite(&SSH.replace("= 2\n", "= 4\n"));
    daemon.restart(&lab.server, &["-i", "eth0"]);
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    daemon.kill();
    daemon.restart(&lab.server, &["-i", "eth0"]);
    assert_eq!(daemon.status("openings"), 1);
    daemon.wait_for("openings found from before the start: 1");
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    daemon.wait_for("10.0.0.2: ssh: command timeout");
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    assert!(daemon.stop().success());
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Closed, "closed without a daemon");

    let remove_table = format!("{} --remove-table", binary("portknockd").display());
    lab.server.ok(&remove_table);
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    lab.server.ok(&remove_table);
}

#[test]
fn a_stop_closes_the_ports_or_leaves_them_to_the_kernel() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let mut daemon = Daemon::portknockd(&lab.server, &format!("[options]\nOnStop = keep\n{}", long()));
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    assert!(daemon.stop().success());
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
    daemon.rewrite(&long());
    daemon.restart(&lab.server, &["-i", "eth0"]);
    assert_eq!(daemon.status("openings"), 1);
    knock(&lab, "10.0.0.1");
    daemon.wait_for("still open, closing time extended");
    assert!(daemon.stop().success());
    assert_eq!((lab.client.tcp_state("10.0.0.1", 22), elements(&lab.server)), (PortState::Closed, String::new()));
}

#[test]
fn an_opening_that_is_reported_late_is_open_for_the_rest_of_its_time() {
    let lab = Lab::pair();
    for (seconds, open) in [(1, false), (60, true)] {
        let daemon = Daemon::portknockd(&lab.server, &SSH.replace("= 2\n", &format!("= {seconds}\n")));
        let reader = daemon.reader();
        lab.server.ok(&format!("kill -STOP {reader}"));
        knock(&lab, "10.0.0.1");
        thread::sleep(Duration::from_secs(3));
        lab.server.ok(&format!("kill -CONT {reader}"));
        daemon.wait_for("10.0.0.2: ssh: OPEN SESAME");
        if open {
            assert!(wait_until(WAIT_TIMEOUT, || elements(&lab.server).contains("10.0.0.2")));
        } else {
            daemon.wait_for("10.0.0.2: ssh: command timeout");
        }
        let elements = elements(&lab.server);
        assert_eq!(elements.contains("10.0.0.2"), open, "{elements}");
        assert!(!elements.contains("timeout 1m"), "{elements}");
    }
}

#[test]
fn commands_of_doors_with_open_ports_run_again_and_a_failed_one_closes_the_ports() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let commands = "start_command = echo open >> %DIR%/done; ! test -e %DIR%/fail
                    stop_command = sleep 0.7; echo close >> %DIR%/done\n";
    let daemon = Daemon::portknockd(&lab.server, &(long() + commands));
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    knock(&lab, "10.0.0.1");
    daemon.wait_for_count("10.0.0.2: ssh: OPEN SESAME", 2, WAIT_TIMEOUT);
    let reopened = wait_until(WAIT_TIMEOUT, || {
        assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
        daemon.read("done") == "open\nclose\nopen\n"
    });
    assert!(reopened, "{}", daemon.log());
    fs::write(daemon.path("fail"), "").expect("a test directory");
    knock(&lab, "10.0.0.1");
    daemon.wait_for("10.0.0.2: ssh: closed, because the start command failed");
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("done") == "open\nclose\n".repeat(3)), "{}", daemon.log());
    assert_eq!(daemon.status("openings"), 0);
}

#[test]
fn a_reload_changes_the_ports_immediately_and_keeps_the_openings() {
    let lab = Lab::pair();
    let _listener = Listener::on_ports(&lab.server, [22, 80]);
    let daemon = Daemon::portknockd(&lab.server, &long());
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    let more = long().replace("tcp/22,", "tcp/22,tcp/80,");
    daemon.reload(&more);
    let states = || [22, 80].map(|port| lab.client.tcp_state("10.0.0.1", port));
    assert_eq!(states(), [PortState::Open, PortState::Closed]);
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 80, PortState::Open);

    // Refused as a whole: there are no such sets.
    daemon.rewrite(&format!("[options]\nGate = set inet filter a b\n{}", SSH.replace("tcp/22", "tcp/443")));
    daemon.refuse_reload();
    daemon.wait_for("open: there is no set `inet filter a`");
    assert_eq!(states(), [PortState::Open; 2]);
    // Another program flushes all rules, or those of the table.
    let gone = "another program removed or changed the table inet portknock, and its ports may have been open to any host; the table is restored";
    for (i, flushed) in ["ruleset", "table inet portknock", "ruleset", "chain inet portknock gate"].iter().enumerate() {
        lab.server.ok(&format!("nft flush {flushed}"));
        daemon.wait_for_count(gone, i + 1, WAIT_TIMEOUT);
        assert_eq!(states(), [PortState::Open; 2], "the openings are restored: {flushed}");
        assert_eq!(lab.client.tcp_state("fd00::1", 80), PortState::Closed, "no client knocked there: {flushed}");
    }
    lab.server.ok("nft flush chain inet portknock input; nft add table inet other");
    daemon.wait_for_count(gone, 5, WAIT_TIMEOUT);
    assert_eq!(states(), [PortState::Open; 2]);
    assert_eq!(lab.client.tcp_state("fd00::1", 80), PortState::Closed);
    daemon.reload("[ssh]\nsequence = 7000,8000:udp,9000\ncommand = true\n");
    assert_eq!(states(), [PortState::Open; 2], "no door protects them any more");
}

/// Rules with the sets of `Gate = set inet filter open4 open6`, which have room for one address.
const SETS: &str = "nft -f - <<'RULES'
table inet filter {
    set open4 { type ipv4_addr . inet_proto . inet_service; flags timeout; size 2; }
    set open6 { type ipv6_addr . inet_proto . inet_service; flags timeout; }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ip saddr . meta l4proto . th dport @open4 accept
        ip6 saddr . meta l4proto . th dport @open6 accept
    }
}
RULES";

#[test]
fn the_administrators_sets_are_used_and_a_full_one_is_reported() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    lab.client.add_address("eth0", "10.0.0.77/24");
    lab.server.ok(SETS);
    let before = lab.server.ok("nft list ruleset");
    let config = format!("[options]\nGate = set inet filter open4 open6\n{SSH}");
    let daemon = Daemon::portknockd(&lab.server, &config);
    assert_eq!(lab.server.ok("nft list ruleset"), before);
    for address in ADDRESSES {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Filtered);
        knock(&lab, address);
        becomes(&lab, address, 22, PortState::Open);
    }
    lab.knock_from("10.0.0.77", "10.0.0.1", "7000 8000:udp 9000");
    daemon.wait_for("ssh: 10.0.0.77: cannot open tcp/22: the set is full");
    becomes(&lab, "10.0.0.1", 22, PortState::Filtered);
    becomes(&lab, "fd00::1", 22, PortState::Filtered);
}

#[test]
fn the_table_can_be_made_without_the_daemon() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("knockd.conf");
    let make = |text: &str, options: &str| {
        fs::write(&config, text).expect("written");
        format!("{} -i eth7 -c {} --make-table {options} 2>&1", binary("portknockd").display(), config.display())
    };
    // Nothing to protect, or not by this table, or a table that must not be changed.
    for (text, options) in [
        ("[ssh]\nsequence = 7000,8000:udp,9000\ncommand = true\n".to_owned(), ""),
        (format!("[options]\nGate = set inet filter open4 open6\n{SSH}"), ""),
        (SSH.to_owned(), "--dry-run"),
    ] {
        lab.server.ok(&make(&text, options));
        assert_eq!(lab.server.ok("nft list ruleset"), "", "{text} {options}");
    }
    let refused = lab.server.run(&make("[ssh]\nsequence = 0\n", ""));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("knockd.conf:2:"), "{refused:?}");
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);

    assert_eq!(lab.server.ok(&make(&long(), "")), "");
    for address in ADDRESSES {
        assert_eq!(lab.client.tcp_state(address, 22), PortState::Closed, "{address}");
    }
    // The daemon uses this table, and another run leaves its openings unchanged.
    let _daemon = Daemon::portknockd(&lab.server, &long());
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    lab.server.ok(&make(&long(), ""));
    assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
}

#[test]
fn an_impossible_gate_is_reported_and_nothing_is_changed() {
    let lab = Lab::pair();
    let theirs = "table inet portknock { comment \"mine\"; chain input { type filter hook input priority 0; }; }";
    lab.server.ok(&format!("nft '{theirs}'"));
    let before = lab.server.ok("nft list ruleset");
    let refused = Daemon::run_portknockd(&lab.server, SSH, &["-i", "eth0"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("`inet portknock` was not made by portknockd"), "{refused:?}");
    let remove_table = lab.server.fails(&format!("{} --remove-table", binary("portknockd").display()));
    assert_eq!(remove_table.code, Some(1), "{remove_table:?}");
    assert!(remove_table.stderr.contains("was not made by portknockd"), "{remove_table:?}");
    assert_eq!(lab.server.ok("nft list ruleset"), before);
    lab.server.ok("nft delete table inet portknock");

    let config = tempfile::tempdir().expect("a directory");
    let path = config.path().join("knockd.conf");
    fs::write(&path, format!("[options]\nStateFile = {}/state\n{SSH}", config.path().display())).expect("written");
    let no_right = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"].join(" ");
    let daemon = binary("portknockd");
    let refused = lab.server.fails(&format!("{no_right} {} -i eth0 -c {}", daemon.display(), path.display()));
    assert!(refused.stderr.contains("no permission to change the firewall"), "{refused:?}");
    let remove_table = lab.server.fails(&format!("{} {} --remove-table", UNPRIVILEGED.join(" "), daemon.display()));
    assert!(remove_table.stderr.contains("no permission to change the firewall"), "{remove_table:?}");
    // A kernel without nftables has no such table, and the removal of a package succeeds there.
    require("strace");
    let no_nftables = "strace -qq -o /dev/null -e trace=socket -e inject=socket:error=EPROTONOSUPPORT";
    assert_eq!(lab.server.ok(&format!("{no_nftables} {} --remove-table 2>&1", daemon.display())), "");
    assert_eq!(lab.server.ok("nft list ruleset"), "");
}

#[test]
fn a_dry_run_leaves_the_gate_unchanged_and_a_stop_command_still_runs() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd_with(&lab.server, SSH, &["-i", "eth0", "--dry-run"]);
    knock(&lab, "10.0.0.1");
    daemon.wait_for("ssh: would open tcp/22 for 10.0.0.2");
    daemon.wait_for("ssh: would open udp/51820 for 10.0.0.2");
    daemon.wait_for("10.0.0.2: ssh: command timeout");
    assert_eq!(lab.server.ok("nft list ruleset"), "");
    drop(daemon);

    let both =
        format!("{SSH}    command = echo open %IP% >> %DIR%/record\n    stop_command = echo close >> %DIR%/record\n");
    let mut daemon = Daemon::portknockd(&lab.server, &both);
    knock(&lab, "10.0.0.1");
    daemon.wait_for("OPEN SESAME");
    assert!(wait_until(WAIT_TIMEOUT, || elements(&lab.server).contains("10.0.0.2 . 6 . 22")));
    daemon.kill();
    daemon.restart(&lab.server, &["-i", "eth0"]);
    assert!(wait_until(WAIT_TIMEOUT, || daemon.read("record") == "open 10.0.0.2\nclose\n"), "{}", daemon.log());
    daemon.wait_for("command timeout");
    assert_eq!(daemon.count("command timeout"), 1, "one opening, by the state file alone:\n{}", daemon.log());
}

#[test]
fn a_close_by_hand_takes_effect_immediately_for_one_address() {
    let sets = SETS.replace("size 2", "size 200");
    for (options, rules) in [("", ""), ("[options]\nGate = set inet filter open4 open6\n", sets.as_str())] {
        let lab = Lab::pair();
        let _listener = Listener::start(&lab.server, 22);
        lab.client.add_address("eth0", "10.0.0.77/24");
        lab.server.ok(rules);
        let daemon = Daemon::portknockd(&lab.server, &format!("{options}{}", long()));
        let events = daemon.follow();
        knock(&lab, "fd00::1");
        for source in ["10.0.0.2", "10.0.0.77"] {
            lab.knock_from(source, "10.0.0.1", "7000 8000:udp 9000");
        }
        let is_open = |source: &str| elements(&lab.server).contains(&format!("{source} . 6 . 22 timeout"));
        assert!(wait_until(WAIT_TIMEOUT, || ["fd00::2", "10.0.0.2", "10.0.0.77"].into_iter().all(is_open)));
        assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);

        let close = || daemon.portknock(&["close", "ssh", "10.0.0.2"]);
        let closed = close();
        // Without waiting: it reports when it is done.
        let open = elements(&lab.server);
        assert_eq!((closed.code, &*closed.stdout), (Some(0), "ssh is closed for 10.0.0.2\n"), "{closed:?}");
        assert!(!open.contains("10.0.0.2 . "), "{open}");
        assert_ne!(lab.client.tcp_state("10.0.0.1", 22), PortState::Open);
        for other in ["fd00::2", "10.0.0.77"] {
            for port in ["6 . 22", "17 . 51820"] {
                assert!(open.contains(&format!("{other} . {port} timeout")), "{open}");
            }
        }
        assert!(seen_from(&lab.client, "10.0.0.77", "10.0.0.1").starts_with("open"));
        events.wait_for(
            r#""event":"open","door":"ssh","ip":"10.0.0.2","net":"10.0.0.2/32","command":null,"ports":["tcp/22","udp/51820"],"closes_at":1"#,
        );
        events.wait_for(r#""event":"close","door":"ssh","ip":"10.0.0.2","net":"10.0.0.2/32","command":null,"ports":["tcp/22","udp/51820"],"closes_at":"#);
        assert_eq!(daemon.count("10.0.0.2: ssh: command timeout"), 1, "{}", daemon.log());
        assert_eq!((close().code, daemon.status_json()["openings"].as_u64()), (Some(1), Some(2)));
        lab.knock_from("10.0.0.2", "10.0.0.1", "7000 8000:udp 9000");
        becomes(&lab, "10.0.0.1", 22, PortState::Open);
        assert_eq!(daemon.count("cannot"), 0, "{}", daemon.log());
    }
}

/// In addition a door that has to start a process.
fn with_command() -> String {
    format!("{SSH}[other]\n    sequence = 7001,8001\n    command = true\n")
}

#[test]
fn a_door_without_commands_starts_no_process() {
    require("strace");
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let trace = ["strace", "-D", "-f", "-q", "-e", "signal=none", "-e", "trace=process", "-o", "%DIR%/trace"];
    let mut daemon = Daemon::portknockd_under(&lab.server, &trace, &with_command());
    for _ in 0..2 {
        knock(&lab, "10.0.0.1");
        becomes(&lab, "10.0.0.1", 22, PortState::Open);
        becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    }
    daemon.wait_for_count("ssh: command timeout", 2, WAIT_TIMEOUT);
    lab.knock_from("10.0.0.2", "10.0.0.1", "7001 8001");
    daemon.wait_for("other: running command");
    assert!(daemon.stop().success());
    let trace = daemon.read("trace");
    let programs: Vec<_> = trace.lines().filter(|line| line.contains(" execve(")).collect();
    let [daemon, reader, command] = programs[..] else { panic!("{trace}") };
    assert!(daemon.contains("portknockd") && reader.contains("--reader") && command.contains("true"), "{trace}");
    let new = ["clone(", "clone3(", "fork("];
    let processes = trace.lines().filter(|line| new.iter().any(|call| line.contains(call)));
    let processes = processes.filter(|line| !line.contains("CLONE_THREAD")).count();
    assert_eq!(processes, 2, "the reader and the command of the other door: {trace}");
}

#[test]
fn a_door_without_commands_works_when_no_process_can_be_started() {
    if !other_users() {
        return;
    }
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    // The limit is for all processes of a user, so this user differs from that of other tests.
    let own = |word: &&str| word.replace("54321", "54322").replace("+net_raw", "+net_raw,+net_admin");
    let user: Vec<_> = CAPTURE_ONLY_USER.iter().map(own).collect();
    // For the daemon, its threads for standard output, standard error and the log file, and its
    // reader.
    let starter: Vec<_> = ["prlimit", "--nproc=5:5"].into_iter().chain(user.iter().map(String::as_str)).collect();
    let daemon = Daemon::portknockd_under(&lab.server, &starter, &with_command());
    lab.knock_from("10.0.0.2", "10.0.0.1", "7001 8001");
    daemon.wait_for("other: could not start the command");
    knock(&lab, "10.0.0.1");
    becomes(&lab, "10.0.0.1", 22, PortState::Open);
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    daemon.wait_for("ssh: command timeout");
}

#[test]
fn a_table_that_is_removed_repeatedly_neither_floods_the_log_nor_stays_away() {
    let lab = Lab::pair();
    let _listener = Listener::start(&lab.server, 22);
    let daemon = Daemon::portknockd(&lab.server, SSH);
    lab.server.ok("for i in $(seq 300); do nft flush ruleset; done");
    becomes(&lab, "10.0.0.1", 22, PortState::Closed);
    let restored = daemon.count("the table is restored");
    assert!((1..100).contains(&restored), "{restored} times");
}

#[test]
fn a_daemon_with_a_gate_sleeps_while_nothing_happens() {
    let lab = Lab::pair();
    let daemon = Daemon::portknockd(&lab.server, SSH);
    // Timers that will wake it, by the kernel's accounting (proc_pid_fdinfo(5)). The timer of the wall
    // clock, number 0, expires only if that clock is set.
    let timers = || {
        let files = fs::read_dir(format!("/proc/{}/fdinfo", daemon.id())).expect("the daemon runs");
        let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
        let timers: Vec<_> =
            texts.filter(|text| text.contains("it_value:") && !text.contains("clockid: 0\n")).collect();
        assert!(!timers.is_empty());
        timers.iter().filter(|text| !text.contains("it_value: (0, 0)")).count()
    };
    // One timer watches whether the reader is alive, and is postponed each time that the reader
    // reports.
    assert!(wait_until(WAIT_TIMEOUT, || timers() == 1), "another timer is set");
    knock(&lab, "10.0.0.1");
    daemon.wait_for("OPEN SESAME");
    assert!(timers() > 1, "for the end");
    daemon.wait_for("command timeout");
    assert!(wait_until(WAIT_TIMEOUT, || timers() == 1), "another timer is set");
}
