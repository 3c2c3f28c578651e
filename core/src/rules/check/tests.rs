//! Tests with fixed rule sets. `tests/tests/rules` tests packet filters that the kernel runs.

use super::chain::{Action, Base, Chain, CheckedRule, Table};
use super::iptables::IptablesDump;
use super::packet::Truth;
use super::*;

/// Returns the outcome for TCP port 22 over IPv4 on a host with these lines in its iptables-save.
fn of_iptables(rules: &str) -> KnockOutcome {
    let text = format!("*filter\n:INPUT DROP [0:0]\n:PORTKNOCK - [0:0]\n{rules}\nCOMMIT\n");
    let dumps = vec![IptablesDump { program: "iptables-legacy-save", ipv6: false, legacy: true, text }];
    let ruleset = ActiveRuleset { dumps, ..ActiveRuleset::default() };
    let from = Some("192.0.2.7".parse().unwrap());
    check(&ruleset, &Gate::assumed(None), &[(Protocol::Tcp, 22)], from).remove(0).outcome
}

fn refused_by(rule: &str) -> KnockOutcome {
    KnockOutcome::StaysClosed(vec![format!("refused by table filter of iptables-legacy, chain INPUT: {rule}")])
}

#[test]
fn iptables_rules_are_understood() {
    let gate = "-A INPUT -j PORTKNOCK";
    assert_eq!(of_iptables(gate), KnockOutcome::Opens);
    assert_eq!(
        of_iptables(""),
        KnockOutcome::StaysClosed(vec!["refused by the policy of table filter of iptables-legacy, chain INPUT".into()])
    );
    let open = |rule: &str| assert_eq!(of_iptables(rule), KnockOutcome::OpenToEveryone, "{rule}");
    let does_not_matter =
        |rule: &str| assert_eq!(of_iptables(&format!("{rule}\n{gate}")), KnockOutcome::Opens, "{rule}");
    let refuses = |rule: &str| assert_eq!(of_iptables(&format!("{rule}\n{gate}")), refused_by(rule), "{rule}");
    for matches in [
        "-p tcp -m tcp --dport 20:25",
        "-p tcp -m multiport --dports 80,22,443",
        "-s 192.0.2.0/24",
        "! -s 10.0.0.0/8 -p 6",
        "! -i lo -m conntrack --ctstate INVALID,NEW",
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m limit --limit 3/min --limit-burst 3",
        "-m comment --comment \"-j DROP is \\\"not\\\" what this says\"",
        "-m addrtype --dst-type LOCAL -m pkttype --pkt-type unicast",
    ] {
        open(&format!("-A INPUT {matches} -j ACCEPT"));
        refuses(&format!("-A INPUT {matches} -j REJECT --reject-with icmp-port-unreachable"));
        does_not_matter(&format!("-A INPUT {matches} -j LOG --log-prefix \"-j DROP\""));
        does_not_matter(&format!("-A INPUT {matches}"));
    }
    for matches in [
        "-p udp",
        "-i lo",
        "-s 198.51.100.1/32",
        "-p tcp -m tcp ! --dport 22",
        "-m conntrack --ctstate RELATED,ESTABLISHED",
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE",
        "-p icmp -m icmp --icmp-type 8",
        "-m rt --rt-type 0",
        "-m rt ! --rt-type 0",
        "-p tcp -m hashlimit --hashlimit-above 5/sec --hashlimit-mode srcip --hashlimit-name x",
        "-m rpfilter --invert",
    ] {
        does_not_matter(&format!("-A INPUT {matches} -j DROP"));
        does_not_matter(&format!("-A INPUT {matches} -j ACCEPT"));
    }
    for rule in ["-m recent --update --name x -j DROP", "-i eth0 -j DROP", "-d 10.0.0.1/32 -j DROP", "-j NFQUEUE"] {
        let outcome = of_iptables(&format!("-A INPUT {rule}\n{gate}"));
        let KnockOutcome::Unknown(doubts) = &outcome else { panic!("{rule}: {outcome:?}") };
        assert!(doubts.iter().any(|doubt| doubt.ends_with(rule)), "{rule}: {doubts:?}");
    }
}

/// Name, base, and the evaluation and action of each rule.
type ChainOf<'a> = (&'a str, Option<Base>, Vec<(Truth, Action)>);

fn table(chains: &[ChainOf]) -> Table {
    let mut table = Table { name: "table t".into(), ..Table::default() };
    for (name, base, rules) in chains {
        let rule = |(at, (matches, action)): (usize, &(Truth, Action))| CheckedRule {
            text: format!("rule {at}"),
            matches: *matches,
            action: action.clone(),
        };
        let base = base.as_ref().map(|base| Base { ..*base });
        table.chains.insert((*name).into(), Chain { base, rules: rules.iter().enumerate().map(rule).collect() });
    }
    table
}

const ACCEPTS: Option<Base> = Some(Base { accepts: true, has_all_interfaces: true });
const DROPS: Option<Base> = Some(Base { accepts: false, has_all_interfaces: true });

/// Returns `Yes` for certainly accepted, `No` for certainly refused, and `Maybe` for uncertain.
fn end_of(chains: &[ChainOf]) -> Truth {
    match PathResult::of(&table(chains).ends()) {
        PathResult::Accepted => Truth::Yes,
        PathResult::Refused(_) => Truth::No,
        PathResult::Uncertain(doubts) => {
            assert!(!doubts.is_empty());
            Truth::Maybe
        }
    }
}

#[test]
fn chains_are_evaluated_as_in_the_kernel() {
    use Truth::{Maybe, No, Yes};
    let jump = || Action::Jump("b".into());
    let goto = || Action::Goto("b".into());
    let (accept, drop) = (Action::Accept, Action::Drop);
    // The called chain decides, or returns.
    assert_eq!(end_of(&[("a", DROPS, vec![(Yes, jump())]), ("b", None, vec![(Yes, accept.clone())])]), Yes);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, jump()), (Yes, drop.clone())]), ("b", None, vec![])]), No);
    assert_eq!(
        end_of(&[
            ("a", ACCEPTS, vec![(Yes, jump()), (Yes, drop.clone())]),
            ("b", None, vec![(Yes, Action::Return), (Yes, accept.clone())])
        ]),
        No
    );
    // After the target of a goto, the policy applies.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, goto()), (Yes, drop.clone())]), ("b", None, vec![])]), Yes);
    // A rule that may or may not match causes a doubt only if it decides.
    assert_eq!(end_of(&[("a", DROPS, vec![(Maybe, accept.clone())])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Maybe, accept.clone())])]), Yes);
    assert_eq!(end_of(&[("a", DROPS, vec![(Maybe, jump())]), ("b", None, vec![(Yes, drop.clone())])]), No);
    assert_eq!(
        end_of(&[("a", ACCEPTS, vec![(Yes, jump())]), ("b", None, vec![(Maybe, Action::Return), (Yes, drop.clone())])]),
        Maybe
    );
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Maybe, goto()), (Yes, drop.clone())]), ("b", None, vec![])]), Maybe);
    // Each base chain must accept the packet.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, accept.clone())]), ("z", DROPS, vec![])]), No);
    // An unknown action, a missing chain, and chains that call each other.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, Action::Unknown)])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, jump())])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, jump())]), ("b", None, vec![(Yes, jump())])]), Maybe);
    // A chain for one interface only.
    let ingress = Some(Base { accepts: true, has_all_interfaces: false });
    assert_eq!(end_of(&[("a", ingress, vec![(Yes, drop)])]), Maybe);
}

#[test]
fn json_that_is_not_from_nft_is_refused() {
    for text in ["", "[]", "{}", "{\"nftables\": 1}"] {
        assert!(nft::objects(text).is_err(), "{text}");
    }
    assert_eq!(nft::objects("{\"nftables\": []}").unwrap().len(), 0);
}

/// Docker drops packets from other hosts to the addresses of containers, and to published ports on
/// 127.0.0.1.
#[test]
fn a_packet_goes_to_an_address_of_this_host() {
    let text = "*filter\n:INPUT DROP [0:0]\n:PORTKNOCK - [0:0]\n-A INPUT -j PORTKNOCK\nCOMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\n";
    let outcome = |rule: &str, addresses: &[&str]| {
        let text = format!("{text}{rule}\nCOMMIT\n");
        let dumps = vec![IptablesDump { program: "iptables-legacy-save", ipv6: false, legacy: true, text }];
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let ruleset = ActiveRuleset { dumps, addresses, ..ActiveRuleset::default() };
        check(&ruleset, &Gate::assumed(None), &[(Protocol::Tcp, 22)], Some("192.0.2.7".parse().unwrap()))
            .remove(0)
            .outcome
    };
    let own = ["127.0.0.1", "192.0.2.1", "172.17.0.1", "fe80::1"];
    for rule in [
        "-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP",
        "-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 22 -j DROP",
    ] {
        assert_eq!(outcome(rule, &own), KnockOutcome::Opens, "{rule}");
        assert!(matches!(outcome(rule, &[]), KnockOutcome::Unknown(_)), "{rule}");
    }
    let doubtful = "-A PREROUTING -d 172.17.0.0/16 ! -i docker0 -j DROP";
    assert!(matches!(outcome(doubtful, &own), KnockOutcome::Unknown(_)));
}

/// Returns the outcomes of a knock at a door with these lines for TCP port 22, over IPv4 and IPv6,
/// on a host with these rules.
fn of_commands(rules: &str, door: &str) -> [KnockOutcome; 2] {
    let dump = |ipv6| IptablesDump {
        program: if ipv6 { "ip6tables-legacy-save" } else { "iptables-legacy-save" },
        ipv6,
        legacy: true,
        text: format!(
            "*filter\n:INPUT ACCEPT [0:0]\n{}\nCOMMIT\n",
            if ipv6 { rules.replace("ufw", "ufw6") } else { rules.into() }
        ),
    };
    let ruleset = ActiveRuleset { dumps: vec![dump(false), dump(true)], ..ActiveRuleset::default() };
    let text = format!("[door]\nsequence = 7264,3981:udp,5410\n{door}\n");
    let config = crate::config::parse(text.as_bytes()).config.unwrap();
    let gate = Gate::of_doors(&config.options.gate, &config.doors, None);
    let mut findings = check(&ruleset, &gate, &[(Protocol::Tcp, 22)], None);
    let six = findings.pop().unwrap();
    [findings.pop().unwrap().outcome, six.outcome]
}

const REFUSES: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j REJECT";

fn is_closed(outcome: &KnockOutcome) -> bool {
    matches!(outcome, KnockOutcome::StaysClosed(_))
}

#[test]
fn an_appended_rule_opens_nothing_after_a_rule_that_refuses() {
    let appends = "command = iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT";
    let [four, six] = of_commands(REFUSES, appends);
    assert_eq!(
        four,
        KnockOutcome::StaysClosed(vec![
            "refused by table filter of iptables-legacy, chain INPUT: -A INPUT -j REJECT".into()
        ])
    );
    let KnockOutcome::StaysClosed(by) = six else { panic!("{six:?}") };
    assert_eq!(by[0], "the door's command is for IPv4 only");
    let inserts = "command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n\
                   command_6 = ip6tables -I INPUT 1 -s %IP% -p tcp --dport 22 -j ACCEPT";
    assert_eq!(of_commands(REFUSES, inserts), [KnockOutcome::Opens, KnockOutcome::Opens]);
    let too_late = "command = iptables -I INPUT 3 -s %IP% -p tcp --dport 22 -j ACCEPT";
    assert!(is_closed(&of_commands(REFUSES, too_late)[0]));
    let in_time = "command = iptables -I INPUT 2 -s %IP% -p tcp --dport 22 -j ACCEPT";
    assert_eq!(of_commands(REFUSES, in_time)[0], KnockOutcome::Opens);
    let other_port = "command = iptables -I INPUT -s %IP% -p tcp --dport 2222 -j ACCEPT";
    assert!(is_closed(&of_commands(REFUSES, other_port)[0]));
}

#[test]
fn an_effect_on_other_packets_or_an_unknown_effect_is_a_doubt() {
    for command in [
        "iptables -I INPUT -i eth1 -s %IP% -p tcp --dport 22 -j ACCEPT",
        "/usr/local/bin/open %IP%",
        "ipset add open %IP%",
        "iptables -I INPUT -s %IP% -j mychain",
        "iptables -D INPUT -j REJECT",
    ] {
        let [four, _] = of_commands(REFUSES, &format!("command = {command}"));
        assert!(matches!(four, KnockOutcome::Unknown(_)), "{command}: {four:?}");
    }
    let [four, _] = of_commands(REFUSES, "command = iptables -I FORWARD -s %IP% -p tcp --dport 22 -j ACCEPT");
    assert!(is_closed(&four));
}

#[test]
fn ufw_has_separate_chains_and_a_limit_is_no_doubt() {
    let rules = ":ufw-user-input - [0:0]\n:ufw-user-limit - [0:0]\n:ufw-user-limit-accept - [0:0]\n\
        -A INPUT -j ufw-user-input\n-A INPUT -j DROP\n\
        -A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable\n-A ufw-user-limit-accept -j ACCEPT";
    let prepends = "command = ufw prepend allow from %IP% to any port 22 comment knockd";
    assert_eq!(of_commands(rules, prepends), [KnockOutcome::Opens, KnockOutcome::Opens]);
    let denies = format!("{rules}\n-A ufw-user-input -p tcp -m tcp --dport 22 -j DROP");
    assert_eq!(of_commands(&denies, prepends), [KnockOutcome::Opens, KnockOutcome::Opens]);
    assert!(of_commands(&denies, "command = ufw allow from %IP% to any port 22").iter().all(is_closed));
    let limits = "-A ufw-user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource\n\
        -A ufw-user-input -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 6 --name DEFAULT --mask 255.255.255.255 --rsource -j ufw-user-limit";
    let limited = format!("{rules}\n{limits}\n-A ufw-user-input -p tcp -m tcp --dport 22 -j ufw-user-limit-accept");
    assert_eq!(of_commands(&limited, "open = tcp/22"), [KnockOutcome::OpenToEveryone, KnockOutcome::OpenToEveryone]);
    let blocks = "-A INPUT -m recent ! --update --seconds 30 --hitcount 6 --name x --rsource -j DROP";
    assert!(matches!(of_iptables(&format!("{blocks}\n-A INPUT -j PORTKNOCK")), KnockOutcome::Unknown(_)));
}

#[test]
fn ufw_inserts_only_at_the_number_of_a_rule_for_the_same_ip_version() {
    let chains = ":ufw-user-input - [0:0]\n-A INPUT -j ufw-user-input\n-A INPUT -j DROP\n";
    let denies = format!("{chains}-A ufw-user-input -p tcp -m tcp --dport 22 -j DROP");
    let inserts = |number| format!("command = ufw insert {number} allow from %IP% to any port 22");
    for refused in of_commands(chains, &inserts(1)) {
        let KnockOutcome::StaysClosed(by) = refused else { panic!("{refused:?}") };
        assert!(by[0].starts_with("ufw refuses to insert a rule for IPv"), "{by:?}");
    }
    let [four, six] = of_commands(&denies, &inserts(1));
    assert_eq!(four, KnockOutcome::Opens);
    assert!(is_closed(&six), "rules for IPv4 have the first numbers: {six:?}");
    let [four, six] = of_commands(&denies, &inserts(2));
    assert!(matches!((&four, &six), (KnockOutcome::Unknown(_), KnockOutcome::Unknown(_))), "{four:?}, {six:?}");
}

#[test]
fn the_position_of_an_assumed_rule_can_decide() {
    let text = format!("*filter\n:INPUT ACCEPT [0:0]\n{REFUSES}\nCOMMIT\n");
    let dumps = vec![IptablesDump { program: "iptables-legacy-save", ipv6: false, legacy: true, text }];
    let ruleset = ActiveRuleset { dumps, ..ActiveRuleset::default() };
    let from = Some("192.0.2.7".parse().unwrap());
    let outcome = check(&ruleset, &Gate::assumed(Some("INPUT")), &[(Protocol::Tcp, 22)], from).remove(0).outcome;
    let KnockOutcome::Unknown(doubts) = outcome else { panic!("{outcome:?}") };
    assert!(doubts[0].starts_with("it depends on the position of the command's rule in chain INPUT"), "{doubts:?}");
}

#[test]
fn firewalld_has_a_chain_for_each_zone() {
    let chain = |name: &str, hook: &str| {
        format!(r#"{{"chain": {{"family": "inet", "table": "firewalld", "name": "{name}"{hook}}}}}"#)
    };
    let jump = |from: &str, to: &str| {
        format!(
            r#"{{"rule": {{"family": "inet", "table": "firewalld", "chain": "{from}", "handle": 1, "expr": [{{"jump": {{"target": "{to}"}}}}]}}}}"#
        )
    };
    let json = format!(
        r#"{{"nftables": [{{"table": {{"family": "inet", "name": "firewalld"}}}}, {}, {}, {}, {}, {}]}}"#,
        chain("filter_INPUT", r#", "hook": "input", "policy": "accept""#),
        chain("filter_IN_public", ""),
        chain("filter_IN_public_allow", ""),
        jump("filter_INPUT", "filter_IN_public_allow"),
        r#"{"rule": {"family": "inet", "table": "firewalld", "chain": "filter_INPUT", "handle": 2, "expr": [{"reject": null}]}}"#,
    );
    let ruleset = ActiveRuleset { nft: nft::objects(&json).unwrap(), ..ActiveRuleset::default() };
    let text = "[door]\nsequence = 7264,3981:udp,5410\ncommand = firewall-cmd --zone=public --add-rich-rule='rule family=\"ipv4\" source address=\"%IP%\" port port=\"22\" protocol=\"tcp\" accept' --timeout=3600\n";
    let config = crate::config::parse(text.as_bytes()).config.unwrap();
    assert_eq!(opened_ports(&config.doors[0]), [(Protocol::Tcp, 22)]);
    let gate = Gate::of_doors(&config.options.gate, &config.doors, None);
    let findings = check(&ruleset, &gate, &[(Protocol::Tcp, 22)], None);
    assert_eq!(findings[0].outcome, KnockOutcome::Opens);
    assert!(is_closed(&findings[1].outcome), "the rule is for IPv4");
}
