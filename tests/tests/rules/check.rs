//! `portknock rules --check`: its verdict on packet filters matches the kernel's behaviour.

use std::thread;

use portknock_tests::{Host, Lab, Listener, Output, PortState, binary};

use super::{ADDRESSES, By, feed, for_each, load, loaders};

/// Runs `portknock rules --check`, and returns its exit status and its output.
fn check(host: &Host, args: &str) -> (Option<i32>, String) {
    let output = Output::of(host.command(binary("portknock")).args(["rules", "--check"]).args(args.split_whitespace()));
    (output.code, format!("{}{}", output.stdout, output.stderr))
}

/// A table of another program, with a chain of these rules.
fn other_chain(rules: &str) -> String {
    format!("table inet other {{ chain input {{ type filter hook input priority 10; {rules}\n}}\n}}")
}

/// The table of `Gate = own`.
const MANAGED_TABLE: &str = "table inet portknock {
    set open4 { type ipv4_addr . inet_proto . inet_service; flags timeout; }
    set open6 { type ipv6_addr . inet_proto . inet_service; flags timeout; }
    set ports { type inet_proto . inet_service; elements = { tcp . 22 }; }
    chain input {
        type filter hook input priority filter - 10; policy accept;
        meta l4proto . th dport @ports jump gate
    }
    chain gate {
        iiftype loopback accept
        meta l4proto tcp tcp flags & (rst | ack) != 0 accept
        meta l4proto udp ct state established,related accept
        ip saddr . meta l4proto . th dport @open4 accept
        ip6 saddr . meta l4proto . th dport @open6 accept
        meta l4proto tcp reject with tcp reset
        reject with icmpx type port-unreachable
    }
}";

/// Whether the client can connect to port 22 before and after it has knocked, over IPv4 and over
/// IPv6.
fn can_connect(lab: &Lab) -> [[bool; 2]; 2] {
    let connects = || {
        thread::scope(|scope| {
            let ask = |address| scope.spawn(move || lab.client.tcp_state(address, 22) == PortState::Open);
            ADDRESSES.map(ask).map(|asked| asked.join().expect("tcp-state runs"))
        })
    };
    let before = connects();
    for table in ["portknock_host", "portknock"] {
        for (set, address) in [("open4", "10.0.0.2"), ("open6", "fd00::2")] {
            // Some cases have only one of the tables.
            lab.server.run(&format!("nft add element inet {table} {set} '{{ {address} . tcp . 22 timeout 1m }}'"));
        }
    }
    let after = connects();
    [[before[0], after[0]], [before[1], after[1]]]
}

/// Packet filters, and the verdict of `--check --port 22` for IPv4 and for IPv6, which matches the
/// kernel's behaviour.
#[test]
fn check_finds_the_rules_that_block() {
    const OPENS: &str = "a knock opens it";
    const OPEN: &str = "it is open to everyone, without a knock";
    const CLOSED: &str = "a knock does not open it";
    const DOUBT: &str = "unknown";
    let chain = other_chain;
    let cases = [
        ("".into(), OPENS, OPENS),
        // A foreign chain that drops, by its policy or by a rule; one family alone; one that does
        // not concern the port.
        (chain("policy drop; ct state established accept; tcp dport 80 accept;"), CLOSED, CLOSED),
        (chain("policy drop; tcp dport { 22, 80 } accept;"), OPENS, OPENS),
        (chain("tcp dport 20-25 reject;"), CLOSED, CLOSED),
        (chain("tcp dport != 80 ct state new drop;"), CLOSED, CLOSED),
        (chain("meta nfproto ipv6 tcp dport 22 drop;"), OPENS, CLOSED),
        (chain("ip protocol tcp drop;"), CLOSED, OPENS),
        (chain("udp dport 22 drop; ct state invalid drop; iif lo drop; icmp type echo-request drop;"), OPENS, OPENS),
        (chain("tcp flags & (fin | syn | rst | ack) == syn drop;"), CLOSED, CLOSED),
        (chain("tcp flags & (fin | syn) == (fin | syn) drop; tcp flags & (fin | syn | ack) == 0 drop;"), OPENS, OPENS),
        (chain("ct state vmap { established : accept, invalid : drop, new : drop };"), CLOSED, CLOSED),
        (chain("tcp dport vmap { 1-21 : drop, 22 : accept, 23-65535 : drop }; drop;"), OPENS, OPENS),
        (chain("ip saddr { 192.0.2.0/24, 198.51.100.7 } drop; ip saddr != 0.0.0.0/0 drop;"), OPENS, OPENS),
        (chain("tcp dport 22 limit rate over 3/minute drop; tcp dport 22 ct count over 5 drop;"), OPENS, OPENS),
        (
            chain("fib saddr . iif oif missing drop; fib daddr type != local drop; meta pkttype multicast drop;"),
            OPENS,
            OPENS,
        ),
        (chain("rt type 0 drop; ip daddr 10.0.0.9 drop; ip daddr 127.0.0.1 iif != lo drop;"), OPENS, OPENS),
        // Rules whose effect cannot be determined.
        (chain("meta mark 0x1 drop;"), DOUBT, DOUBT),
        (chain("iifname \"eth7\" drop;"), DOUBT, DOUBT),
        (chain("ip daddr 10.0.0.1 drop;"), DOUBT, OPENS),
        (chain("meta mark 0x1 accept; drop;"), DOUBT, DOUBT),
        // Whatever the uncertain rules do, the packet is dropped in the end.
        (chain("meta mark 0x1 log prefix \"x\"; drop;"), CLOSED, CLOSED),
        // On other interfaces.
        (
            "table inet other { chain first { type filter hook prerouting priority raw; tcp dport 22 drop;\n}\n}"
                .into(),
            CLOSED,
            CLOSED,
        ),
        (
            "table inet other { chain out { type filter hook output priority 0; tcp dport 22 drop;\n}\n}".into(),
            OPENS,
            OPENS,
        ),
        (
            "table ip nat { chain p { type nat hook prerouting priority dstnat; tcp dport 22 redirect to :2222;\n}\n}"
                .into(),
            DOUBT,
            OPENS,
        ),
        (
            "table netdev n { chain i { type filter hook ingress device eth0 priority 0; tcp dport 22 drop;\n}\n}"
                .into(),
            DOUBT,
            DOUBT,
        ),
        // Chains of chains, and named sets.
        (
            "table inet other { set ports { type inet_service; flags interval; elements = { 20-25, 80 };
              }
              chain ports { tcp dport @ports goto end;
              }
              chain end { drop;
              }
              chain input { type filter hook input priority 10; jump ports; accept;
              }
              }"
            .into(),
            CLOSED,
            CLOSED,
        ),
        // The daemon's managed table, alone and before ours.
        (format!("flush ruleset\n{MANAGED_TABLE}"), OPENS, OPENS),
        (MANAGED_TABLE.into(), OPENS, OPENS),
        // An accept in another table does not open the ports that ours refuses, nor does it close
        // them.
        (chain("accept;"), OPENS, OPENS),
        // Rules of ours that are too late or missing.
        ("insert rule inet portknock_host input tcp dport 22 accept".into(), OPEN, OPEN),
        ("insert rule inet portknock_host input ip6 nexthdr tcp drop".into(), OPENS, CLOSED),
        ("flush chain inet portknock_host input".into(), CLOSED, CLOSED),
        ("flush ruleset".into(), OPEN, OPEN),
        ("table inet portknock_host { flags dormant; }".into(), OPEN, OPEN),
    ];
    for_each(cases.chunks(cases.len().div_ceil(4)), |cases| {
        let lab = Lab::pair();
        let server = &lab.server;
        let _listener = Listener::start(server, 22);
        for (more, v4, v6) in cases {
            server.ok("nft flush ruleset");
            load(server, By::Nft, "");
            if !more.is_empty() {
                feed(server, "nft -f -", &format!("{more}\n"));
            }
            let (code, output) = check(server, "--port 22");
            let status = if (*v4, *v6) == (OPENS, OPENS) { 0 } else { 1 };
            assert_eq!(code, Some(status), "{more}\n{output}");
            let connects = can_connect(&lab);
            for (version, expected, [before, after]) in [("IPv4", *v4, connects[0]), ("IPv6", *v6, connects[1])] {
                assert!(output.contains(&format!("tcp/22 over {version}: {expected}\n")), "{more}\n{output}");
                let right = match expected {
                    OPENS => !before && after,
                    OPEN => before,
                    CLOSED => !after,
                    _ => true,
                };
                assert!(right, "{more}\n{version}: {output}\nbefore the knock {before}, after it {after}");
            }
        }
    });
}

#[test]
fn check_names_the_rule_and_considers_the_source() {
    let lab = Lab::pair();
    let server = &lab.server;
    load(server, By::Nft, "");
    feed(server, "nft -f -", &format!("{}\n", other_chain("tcp dport 22 counter drop comment \"mine\";")));
    let (_, output) = check(server, "--port 22,udp/53 --from 10.0.0.2");
    assert_eq!(
        output,
        "tcp/22 over IPv4: a knock does not open it\n    \
         refused by table inet other, chain input: tcp dport 22 counter drop comment \"mine\"\n\
         udp/53 over IPv4: a knock opens it\n"
    );
    // An address that a rule names.
    feed(
        server,
        "nft -f -",
        &format!("flush chain inet other input\n{}\n", other_chain("ip saddr 192.0.2.0/24 drop;")),
    );
    assert_eq!(check(server, "--port 22 --from 10.0.0.2").0, Some(0));
    assert_eq!(check(server, "--port 22 --from 192.0.2.9").0, Some(1));
}

#[test]
fn check_uses_the_ports_and_the_sets_of_the_configuration() {
    let lab = Lab::pair();
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let check_with = |options: &str, door: &str| {
        let file = directory.path().join("knockd.conf");
        let text = format!("[options]\n{options}\n[door]\nsequence = 7000,5000\n{door}\n");
        std::fs::write(&file, text).expect("a file can be written");
        check(&lab.server, &format!("-c {}", file.display()))
    };
    load(&lab.server, By::Nft, "");
    let set = "Gate = set inet portknock_host open4 open6";
    let both = "open = tcp/22,udp/53";
    assert_eq!(check_with(set, both), (Some(0), opens(&["tcp/22", "udp/53"])));
    // With a managed table the daemon adds nothing to the sets of the rules that drop.
    let (code, output) = check_with("", both);
    assert_eq!(code, Some(1));
    assert!(output.contains("tcp/22 over IPv4: a knock does not open it"), "{output}");
    let (code, output) = check_with(set, "command = true");
    assert_eq!(code, Some(1));
    assert!(output.contains("give the ports with --port"), "{output}");
    assert_eq!(check_with(set, "open = 22/tcp").0, Some(1));
    assert_eq!(check(&lab.server, "-c /nonexistent").0, Some(1));
}

#[test]
fn check_reads_iptables_too() {
    for by in loaders().into_iter().filter(|by| *by != By::Nft) {
        let lab = Lab::pair();
        let server = &lab.server;
        let tables = if by == By::Legacy { "iptables-legacy" } else { "iptables" };
        load(server, by, "");
        assert_eq!(check(server, "--port 22,udp/53"), (Some(0), opens(&["tcp/22", "udp/53"])), "{by:?}");
        // An accept in one table has no effect if another base chain drops.
        feed(
            server,
            "nft -f -",
            "table inet other { chain input { type filter hook input priority 10; policy drop;\n}\n}\n",
        );
        let (code, output) = check(server, "--port 22");
        assert_eq!(code, Some(1));
        assert!(output.contains("refused by the policy of table inet other, chain input"), "{by:?}: {output}");
        server.ok("nft delete table inet other");
        // The same applies if an earlier rule drops.
        server.ok(&format!("{tables} -I INPUT -p tcp -m multiport --dports 22,80 -m comment --comment mine -j DROP"));
        let (code, output) = check(server, "--port 22 --from 10.0.0.2");
        assert_eq!(code, Some(1));
        assert!(output.contains("chain INPUT: -A INPUT -p tcp -m multiport --dports 22,80"), "{by:?}: {output}");
        server.ok(&format!("{tables} -D INPUT 1; {tables} -I INPUT -m recent --name x --rcheck -j DROP"));
        let (code, output) = check(server, "--port 22 --from 10.0.0.2");
        assert_eq!((code, output.lines().next()), (Some(1), Some("tcp/22 over IPv4: unknown")), "{by:?}: {output}");
        // Commands that insert into INPUT itself.
        server.ok(&format!("{tables} -D INPUT 1; {tables} -F; {tables} -X PORTKNOCK"));
        assert_eq!(check(server, "--port 22 --from 10.0.0.2").0, Some(1));
        assert_eq!(
            check(server, "--port 22 --from 10.0.0.2 --chain INPUT"),
            (Some(0), "tcp/22 over IPv4: a knock opens it\n".into())
        );
    }
}

/// The check assumes the rules of commands at the positions at which the commands really insert
/// them: its verdict matches the kernel's behaviour.
#[test]
fn check_reads_the_commands_of_doors() {
    for by in loaders().into_iter().filter(|by| *by != By::Nft) {
        let lab = Lab::pair();
        let server = &lab.server;
        let _listener = Listener::start(server, 2222);
        let program = if by == By::Legacy { "iptables-legacy" } else { "iptables-nft" };
        server
            .ok(&format!("{program} -A INPUT -m state --state ESTABLISHED -j ACCEPT && {program} -A INPUT -j REJECT"));
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let file = directory.path().join("knockd.conf");
        for (how, opens) in [("-A INPUT", false), ("-I INPUT", true), ("-I INPUT 2", true), ("-I INPUT 3", false)] {
            let rule = format!("{program} {how} -s %IP% -p tcp --dport 2222 -j ACCEPT");
            let text = format!("[openSSH]\nsequence = 7011,3013,9017\ncommand = {rule}\n");
            std::fs::write(&file, text).expect("a file can be written");
            let (_, output) = check(server, &format!("-c {} --from 10.0.0.2", file.display()));
            let expected = if opens { "a knock opens it" } else { "a knock does not open it" };
            assert!(output.starts_with(&format!("tcp/2222 over IPv4: {expected}")), "{by:?} {how}: {output}");
            let (_, output) = check(server, &format!("-c {} --chain INPUT", file.display()));
            assert!(output.contains("tcp/2222 over IPv6: it is open to everyone"), "{output}");
            server.ok(&rule.replace("%IP%", "10.0.0.2"));
            assert_eq!(lab.client.tcp_state("10.0.0.1", 2222) == PortState::Open, opens, "{by:?} {how}");
            server.ok(&rule.replace(how, "-D INPUT").replace("%IP%", "10.0.0.2"));
        }
        // Without the configuration the position of the rule is unknown.
        let (code, output) = check(server, "--port 2222 --from 10.0.0.2 --chain INPUT");
        assert_eq!((code, output.lines().next()), (Some(1), Some("tcp/2222 over IPv4: unknown")), "{by:?}: {output}");
    }
}

fn opens(ports: &[&str]) -> String {
    let lines = ["IPv4", "IPv6"]
        .into_iter()
        .flat_map(|version| ports.iter().map(move |port| format!("{port} over {version}: a knock opens it\n")));
    lines.collect()
}
