//! The gate on the kernel, beside what nft says of it.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use super::elements::Lifetime;
use super::*;
use crate::config::parse;
use crate::service::tests::in_namespace_of;

const HOUR: Duration = Duration::from_secs(3600);

fn in_namespace(test: &str) -> bool {
    in_namespace_of("gate::tests", test)
}

fn nft(command: &str) -> String {
    nft_with("-n", command)
}

fn nft_with(option: &str, command: &str) -> String {
    let output = Command::new("nft").args([option, command]).output().expect("nft: apt-get install nftables");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn config(options: &str, open: &str) -> Config {
    let text = format!("[options]\n{options}\n[a]\nsequence = 7342,1201:udp,23045\n{open}\n");
    parse(text.as_bytes()).config.unwrap()
}

fn open(options: &str, ports: &str) -> Result<Gate, GateError> {
    let mut gate = Gate::find(&config(options, &format!("open = {ports}")))?.unwrap();
    gate.make().map(|()| gate)
}

fn element(addresses: &str, port: &str) -> Element {
    Element {
        net: crate::parse_network(addresses).unwrap(),
        port: config("", &format!("open = {port}")).doors[0].open[0],
    }
}

/// The rules of the table, as nft lists them, without the sets of what is open.
fn listed() -> String {
    let table = nft("list table inet portknock");
    table.lines().map(str::trim).skip_while(|line| !line.starts_with("set ports")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_table_is_what_nft_would_make() {
    if !in_namespace("the_table_is_what_nft_would_make") {
        return;
    }
    let of = |options, ports| {
        let gate = open(options, ports).unwrap();
        assert!(gate.is_own());
        listed()
    };
    let (with_udp, drop, tcp) =
        (of("", "tcp/22,udp/51820"), of("GateRefuse = drop", "tcp/22,udp/51820"), of("", "tcp/22"));
    // Sets that are added to a table are listed after those before.
    assert_eq!(remove_table(), Ok(true));
    let networks = of("", "tcp/22\nopen_prefix = 24,56");
    for (made, ports, refuses) in [
        (
            with_udp,
            "6 . 22, 17 . 51820",
            "meta l4proto 6 tcp flags rst,ack accept
             meta l4proto 17 ct state 0x2,0x4 accept
             ip saddr . meta l4proto . th dport @open4 accept
             ip6 saddr . meta l4proto . th dport @open6 accept
             meta l4proto 6 reject with tcp reset
             reject",
        ),
        (
            drop,
            "6 . 22, 17 . 51820",
            "ct state 0x2,0x4 accept
             ip saddr . meta l4proto . th dport @open4 accept
             ip6 saddr . meta l4proto . th dport @open6 accept
             drop",
        ),
        (
            tcp,
            "6 . 22",
            "meta l4proto 6 tcp flags rst,ack accept
             ip saddr . meta l4proto . th dport @open4 accept
             ip6 saddr . meta l4proto . th dport @open6 accept
             meta l4proto 6 reject with tcp reset
             reject",
        ),
        (
            networks,
            "6 . 22",
            "meta l4proto 6 tcp flags rst,ack accept
             ip saddr . meta l4proto . th dport @open4 accept
             ip6 saddr . meta l4proto . th dport @open6 accept
             ip saddr & 255.255.255.0 . meta l4proto . th dport @open4_24 accept
             ip6 saddr & ffff:ffff:ffff:ff00:: . meta l4proto . th dport @open6_56 accept
             meta l4proto 6 reject with tcp reset
             reject",
        ),
    ] {
        assert_eq!(remove_table(), Ok(true));
        let text = format!(
            "table inet portknock {{
                set open4 {{ type ipv4_addr . inet_proto . inet_service; flags timeout; size 131072; }}
                set open6 {{ type ipv6_addr . inet_proto . inet_service; flags timeout; size 131072; }}
                set open4_24 {{ type ipv4_addr . inet_proto . inet_service; flags timeout; size 131072; }}
                set open6_56 {{ type ipv6_addr . inet_proto . inet_service; flags timeout; size 131072; }}
                set ports {{ type inet_proto . inet_service; elements = {{ {ports} }} }}
                chain input {{
                    type filter hook input priority -10; policy accept;
                    meta l4proto . th dport @ports jump gate
                }}
                chain gate {{
                    iiftype loopback accept
                    {refuses}
                }}
             }}"
        );
        let text = text.replace("tcp flags rst,ack", "tcp flags & (rst | ack) != 0");
        let text = text.replace("ct state 0x2,0x4", "ct state established,related");
        let text = text.replace("reset\n             reject", "reset\n             reject with icmpx port-unreachable");
        nft(&text);
        let theirs = listed();
        assert_eq!(made, theirs, "{text}");
        nft("delete table inet portknock");
        open("", "tcp/1").unwrap();
    }
}

#[test]
fn what_is_opened_closes_by_itself_and_is_never_cut_short() {
    if !in_namespace("what_is_opened_closes_by_itself_and_is_never_cut_short") {
        return;
    }
    let mut gate = open("", "tcp/22,udp/51820").unwrap();
    let (ssh, vpn) = (element("10.0.0.2", "tcp/22"), element("2001:db8::2", "udp/51820"));
    assert_eq!(gate.add(&[(ssh, HOUR), (vpn, HOUR)]), []);
    let listed = nft("list table inet portknock");
    assert!(listed.contains("10.0.0.2 . 6 . 22 timeout 3600s expires 3"), "{listed}");
    assert!(listed.contains("2001:db8::2 . 17 . 51820 timeout 3600s expires 3"), "{listed}");

    let left = |gate: &mut Gate, element| match gate.lifetime(&element).unwrap() {
        Some(Lifetime::Limited(left)) => Some(left),
        Some(Lifetime::Unlimited) => panic!("{element:?} has no end"),
        None => None,
    };
    assert_eq!(gate.add(&[(ssh, HOUR / 2)]), []);
    assert!(left(&mut gate, ssh).unwrap() > HOUR / 2, "the later end counts");
    assert_eq!(gate.add(&[(ssh, HOUR * 2), (vpn, HOUR * 2)]), []);
    assert!(left(&mut gate, ssh).unwrap() > HOUR, "moved");
    let all: HashSet<Element> = gate.read().unwrap().into_keys().collect();
    assert_eq!(all, HashSet::from([ssh, vpn]));

    // The table of the daemon before is taken over, with what is open in it.
    let mut gate = open("GateRefuse = drop", "tcp/80").unwrap();
    assert_eq!(gate.read().unwrap().len(), 2);
    assert_eq!(gate.remove(&[ssh, element("10.0.0.9", "tcp/22")]), []);
    assert_eq!((left(&mut gate, ssh), gate.read().unwrap().len()), (None, 1));

    for brief in [Duration::from_millis(50), Duration::from_micros(1), Duration::ZERO] {
        assert_eq!(gate.add(&[(ssh, brief)]), []);
        while left(&mut gate, ssh).is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    nft("flush ruleset");
    let failed = gate.add(&[(ssh, HOUR)]);
    assert_eq!(failed, [(ssh, GateError::NoSet("inet portknock open4".into()))]);
    assert_eq!(gate.make(), Ok(()));
    assert_eq!(gate.add(&[(ssh, HOUR)]), []);
    assert_eq!((remove_table(), remove_table()), (Ok(true), Ok(false)));
}

#[test]
fn networks_have_sets_of_their_own_and_never_cut_each_other_short() {
    if !in_namespace("networks_have_sets_of_their_own_and_never_cut_each_other_short") {
        return;
    }
    let mut gate = open("", "tcp/22\nallow = 10.0.0.0/8,10.0.0.64/28,2001:db8::/32\nopen_prefix = 24,56").unwrap();
    // They overlap as far as they can.
    let [wide, host, six] = ["10.0.0.0/24", "10.0.0.0", "2001:db8::/56"].map(|net| element(net, "tcp/22"));
    assert_eq!(gate.add(&[(wide, HOUR), (host, HOUR / 2), (six, HOUR)]), []);
    let listed = nft("list table inet portknock");
    for (set, element) in [("open4_24", "10.0.0.0"), ("open4", "10.0.0.0"), ("open6_56", "2001:db8::")] {
        let list = nft(&format!("list set inet portknock {set}"));
        assert!(list.contains(&format!("{element} . 6 . 22 timeout")), "{list}");
    }
    assert!(!listed.contains("open4_28"), "it is a part of what may knock: {listed}");
    let left = |gate: &mut Gate, element| match gate.lifetime(&element).unwrap() {
        Some(Lifetime::Limited(left)) => left,
        other => panic!("{element:?}: {other:?}"),
    };
    assert!(left(&mut gate, wide) > HOUR / 2 && left(&mut gate, host) <= HOUR / 2);
    assert_eq!(gate.add(&[(wide, HOUR * 2), (six, HOUR / 2)]), []);
    assert!(left(&mut gate, wide) > HOUR && left(&mut gate, six) > HOUR / 2, "the later end counts");
    assert_eq!(gate.remove(&[host]), []);
    assert_eq!(gate.read().unwrap().into_keys().collect::<HashSet<_>>(), HashSet::from([wide, six]));

    // What nft writes it reads, as when nftables.service makes the table again.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules");
    std::fs::write(&file, format!("flush ruleset\n{}", nft("list table inet portknock"))).unwrap();
    let loaded = Command::new("nft").arg("-f").arg(&file).output().unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
    assert!(gate.was_changed() && gate.mend().is_ok());
    assert_eq!(gate.read().unwrap().len(), 2);

    // A configuration without prefixes keeps the sets of what is open.
    let mut next = Gate::find(&config("", "open = tcp/22")).unwrap().unwrap();
    next.keep([wide.net]);
    next.make().unwrap();
    let listed = nft("list table inet portknock");
    assert!(listed.contains("ip saddr & 255.255.255.0 . meta l4proto . th dport @open4_24 accept"), "{listed}");
    assert!(!listed.contains("@open6_56"), "{listed}");
    assert_eq!(next.read().unwrap().into_keys().collect::<Vec<_>>(), [wide]);

    // The administrator's sets are named in the same way.
    let sets = "Gate = set inet mine four six";
    nft("add table inet mine");
    for (name, kind) in [("four", "ipv4_addr"), ("six", "ipv6_addr"), ("four_24", "ipv4_addr")] {
        nft(&format!("add set inet mine {name} {{ type {kind} . inet_proto . inet_service; flags timeout; }}"));
    }
    let of = |prefix: &str| open(sets, &format!("tcp/22\nopen_prefix = {prefix}"));
    assert_eq!(of("24,56").unwrap_err(), GateError::NoSet("inet mine six_56".into()));
    let mut gate = of("24").unwrap();
    assert_eq!(gate.add(&[(wide, HOUR)]), []);
    assert!(nft("list set inet mine four_24").contains("10.0.0.0 . 6 . 22 timeout"));
}

#[test]
fn what_others_take_away_is_told_at_once_and_made_again() {
    if !in_namespace("what_others_take_away_is_told_at_once_and_made_again") {
        return;
    }
    let mut gate = open("", "tcp/22,udp/51820").unwrap();
    // Chains are listed in the order in which they were made.
    let sorted = || {
        let mut lines: Vec<_> = listed().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let whole = sorted();
    let ssh = element("10.0.0.2", "tcp/22");
    let handle_of = |rule: &str| {
        let table = nft_with("-na", "list table inet portknock");
        let line = table.lines().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("{rule}: {table}"));
        line.rsplit(' ').next().unwrap().to_owned()
    };
    for (what, keeps_open) in [
        ("flush ruleset", false),
        ("delete table inet portknock", false),
        ("flush ruleset; add table inet other", false),
        ("flush table inet portknock", true),
        ("flush chain inet portknock input", true),
        ("flush chain inet portknock gate", true),
        ("flush chain inet portknock input; delete chain inet portknock input", true),
        ("flush table inet portknock; delete set inet portknock ports; delete set inet portknock open4", false),
        ("delete rule inet portknock gate handle RESET", true),
        ("replace rule inet portknock gate handle RESET accept", true),
        ("flush set inet portknock ports", true),
        ("delete element inet portknock ports { tcp . 22 }", true),
        ("add table inet portknock { flags dormant; }", true),
    ] {
        assert_eq!(gate.add(&[(ssh, HOUR)]), []);
        assert!(!gate.was_changed(), "own changes are not told");
        nft(&what.replace("RESET", &handle_of("tcp reset")));
        assert!(gate.was_changed(), "{what}");
        assert_eq!(gate.mend(), Ok(true), "{what}");
        assert!(!nft("list table inet portknock").contains("dormant"), "{what}");
        assert_eq!(sorted(), whole, "{what}");
        assert_eq!(gate.read().unwrap().contains_key(&ssh), keeps_open, "{what}");
        assert_eq!((gate.was_changed(), gate.mend()), (false, Ok(false)), "{what}");
    }

    // What others add is theirs, and a removal is seen behind any number of openings.
    nft("insert rule inet portknock gate ip saddr 192.0.2.1 accept; add table inet other");
    assert_eq!((gate.was_changed(), gate.mend()), (true, Ok(false)));
    let hosts: Vec<String> = (0..2000).map(|host| format!("10.1.{}.{} . 6 . 22", host / 250, host % 250)).collect();
    let many = format!("add element inet portknock open4 {{ {} }}", hosts.join(", "));
    nft(&format!("{many}; flush chain inet portknock input"));
    assert_eq!((gate.was_changed(), gate.mend()), (true, Ok(true)));
    // While it opens many it does not listen, and so has to look.
    let port = element("10.0.0.1", "tcp/22").port;
    let hosts = (1..=200_u8).map(|host| (Element { net: IpAddr::from([10, 2, 0, host]).into(), port }, HOUR));
    for flush in [true, false] {
        assert_eq!(gate.add(&hosts.clone().collect::<Vec<_>>()), []);
        if flush {
            nft("flush ruleset");
        }
        assert_eq!((gate.is_paused(), gate.was_changed(), gate.mend()), (true, false, Ok(flush)));
        nft("add table inet third; delete table inet third");
        assert_eq!((gate.is_paused(), gate.was_changed()), (false, true));
    }
    nft("delete table inet portknock; add table inet portknock");
    assert_eq!((gate.was_changed(), gate.mend()), (true, Err(GateError::NotOurs)));
}

#[test]
fn what_is_the_administrators_stays_as_it_is() {
    if !in_namespace("what_is_the_administrators_stays_as_it_is") {
        return;
    }
    let own = "table inet portknock { comment \"mine\"; chain input { type filter hook input priority 0; }; }";
    nft(own);
    let before = nft("list ruleset");
    assert_eq!(open("", "tcp/22").unwrap_err(), GateError::NotOurs);
    assert_eq!(remove_table(), Err(GateError::NotOurs));
    assert_eq!(nft("list ruleset"), before);
    nft("delete table inet portknock");

    let gate = "Gate = set ip6 knocked four six";
    assert_eq!(open(gate, "tcp/22").unwrap_err(), GateError::NoSet("ip6 knocked four".into()));
    let set = |name: &str, kind: &str| format!("add set ip6 knocked {name} {{ {kind}; }}");
    nft("add table ip6 knocked");
    nft(&set("four", "type ipv4_addr . inet_proto . inet_service; flags timeout; size 3"));
    for wrong in ["type ipv6_addr; flags timeout", "type ipv6_addr . inet_proto . inet_service"] {
        nft(&set("six", wrong));
        let error = open(gate, "tcp/22").unwrap_err().to_string();
        let wanted = "the set `ip6 knocked six` is not of `type ipv6_addr . inet_proto . inet_service; flags timeout`";
        assert_eq!(error, wanted);
        nft("delete set ip6 knocked six");
    }
    nft(&set("six", "type ipv6_addr . inet_proto . inet_service; flags timeout"));
    let mut gate = open(gate, "tcp/22").unwrap();
    assert!(!gate.is_own());
    nft("add element ip6 knocked four { 10.0.0.1 . tcp . 22, 10.0.0.2 . tcp . 22 timeout 1d }");
    let hosts: Vec<Element> = (1..=4).map(|host| element(&format!("10.0.0.{host}"), "tcp/22")).collect();
    let six = element("2001:db8::1", "tcp/22");
    let wanted: Vec<_> = hosts.iter().map(|host| (*host, HOUR)).chain([(six, HOUR)]).collect();
    let failed = gate.add(&wanted);
    assert_eq!(failed, [(hosts[3], GateError::Full)], "there is room for one, and only what must fail fails");
    let listed = nft("list ruleset");
    assert!(listed.contains("10.0.0.1 . 6 . 22,") && listed.contains("10.0.0.2 . 6 . 22 timeout 86400s"), "{listed}");
    assert!(listed.contains("10.0.0.3 . 6 . 22 timeout 3600s") && listed.contains("2001:db8::1 . 6 . 22"), "{listed}");
    assert_eq!(gate.remove(&hosts), []);
    assert!(nft("list ruleset").contains("{ 10.0.0.1 . 6 . 22 }"), "what has no end is not ours");
}

#[test]
fn many_are_opened_together_and_none_is_lost() {
    if !in_namespace("many_are_opened_together_and_none_is_lost") {
        return;
    }
    let mut gate = open("", "tcp/22").unwrap();
    let port = element("10.0.0.1", "tcp/22").port;
    let wanted: Vec<_> = (0..60_000_u32)
        .map(|host| (Element { net: IpAddr::V4((0x0a00_0000 + host).into()).into(), port }, HOUR))
        .collect();
    for timeout in [HOUR, HOUR * 2] {
        let wanted: Vec<_> = wanted.iter().map(|(element, _)| (*element, timeout)).collect();
        assert_eq!(gate.add(&wanted), []);
        assert_eq!(gate.read().unwrap().len(), wanted.len());
    }
    // Some are closed by then.
    assert_eq!(gate.remove(&wanted.iter().step_by(7).map(|(element, _)| *element).collect::<Vec<_>>()), []);
    assert_eq!(gate.remove(&wanted[..30_000].iter().map(|(element, _)| *element).collect::<Vec<_>>()), []);
    let left = wanted[30_000..].iter().zip(30_000..).filter(|(_, host)| host % 7 != 0).count();
    assert_eq!(gate.read().unwrap().len(), left);
}

#[test]
fn without_the_right_nothing_is_changed() {
    // No namespace of its own: here is none, or this may be root's, in which nothing is touched by what follows.
    let Ok(mut socket) = NftSocket::open() else { return };
    let mut question = Messages::default();
    question.message(Kind::GetTable, 0, table::INET, |set| set.name(NFTA_TABLE_NAME, "no such table of portknock"));
    let asked = socket.ask(question, |_| panic!("there is none"));
    assert!(matches!(asked, Err(GateError::Kernel(libc::ENOENT) | GateError::NotAllowed)), "{asked:?}");
}
