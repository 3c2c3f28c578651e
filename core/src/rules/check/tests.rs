//! Tests on packet filters written down here. `tests/tests/rules.rs` has more, on those that the kernel runs.

use super::chain::{Action, Base, Chain, Rule, Table};
use super::packet::Truth;
use super::running::Saved;
use super::*;
use std::collections::HashSet;
use std::sync::LazyLock;

fn packet(gate: &Gate, knocked: bool) -> Packet<'_> {
    static NOT_KNOWN: LazyLock<HashSet<IpAddr>> = LazyLock::new(HashSet::new);
    Packet { ipv6: false, protocol: Protocol::Tcp, port: 22, from: None, knocked, to: &NOT_KNOWN, gate }
}

/// The only finding for TCP port 22 over IPv4 of a machine whose iptables-save says this.
fn of_iptables(rules: &str) -> Outcome {
    let text = format!("*filter\n:INPUT DROP [0:0]\n:PORTKNOCK - [0:0]\n{rules}\nCOMMIT\n");
    let saved = vec![Saved { program: "iptables-legacy-save", ipv6: false, legacy: true, text }];
    let running = Running { saved, ..Running::default() };
    let from = Some("192.0.2.7".parse().unwrap());
    check(&running, &Gate::default(), &[(Protocol::Tcp, 22)], from).remove(0).outcome
}

fn shut_by(rule: &str) -> Outcome {
    Outcome::StaysShut(vec![format!("shut by table filter of iptables-legacy, chain INPUT: {rule}")])
}

#[test]
fn iptables_rules_are_understood() {
    let gate = "-A INPUT -j PORTKNOCK";
    assert_eq!(of_iptables(gate), Outcome::Opens);
    assert_eq!(
        of_iptables(""),
        Outcome::StaysShut(vec!["shut by the policy of table filter of iptables-legacy, chain INPUT".into()])
    );
    let open = |rule: &str| assert_eq!(of_iptables(rule), Outcome::OpenToEveryone, "{rule}");
    let does_not_matter = |rule: &str| assert_eq!(of_iptables(&format!("{rule}\n{gate}")), Outcome::Opens, "{rule}");
    let shuts = |rule: &str| assert_eq!(of_iptables(&format!("{rule}\n{gate}")), shut_by(rule), "{rule}");
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
        shuts(&format!("-A INPUT {matches} -j REJECT --reject-with icmp-port-unreachable"));
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
        let Outcome::CannotTell(doubts) = &outcome else { panic!("{rule}: {outcome:?}") };
        assert!(doubts.iter().any(|doubt| doubt.ends_with(rule)), "{rule}: {doubts:?}");
    }
}

/// Name, base, and what each rule may do.
type ChainOf<'a> = (&'a str, Option<Base>, Vec<(Truth, Action)>);

fn table(chains: &[ChainOf]) -> Table {
    let mut table = Table { name: "table t".into(), ..Table::default() };
    for (name, base, rules) in chains {
        let rule = |(at, (fits, action)): (usize, &(Truth, Action))| Rule {
            text: format!("rule {at}"),
            fits: *fits,
            action: action.clone(),
        };
        let base = base.as_ref().map(|base| Base { ..*base });
        table.chains.insert((*name).into(), Chain { base, rules: rules.iter().enumerate().map(rule).collect() });
    }
    table
}

const ACCEPTS: Option<Base> = Some(Base { accepts: true, sees_all: true });
const DROPS: Option<Base> = Some(Base { accepts: false, sees_all: true });

/// Accepted for sure, dropped for sure, or in doubt.
fn end_of(chains: &[ChainOf]) -> Truth {
    let gate = Gate::default();
    match Way::of(&table(chains).ends(&packet(&gate, false))) {
        Way::Through => Truth::Yes,
        Way::Shut(_) => Truth::No,
        Way::Doubtful(doubts) => {
            assert!(!doubts.is_empty());
            Truth::Maybe
        }
    }
}

#[test]
fn chains_are_followed_as_the_kernel_does() {
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
    // From a chain that was gone to, the policy is next.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, goto()), (Yes, drop.clone())]), ("b", None, vec![])]), Yes);
    // What may fit or not is a doubt only where it matters.
    assert_eq!(end_of(&[("a", DROPS, vec![(Maybe, accept.clone())])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Maybe, accept.clone())])]), Yes);
    assert_eq!(end_of(&[("a", DROPS, vec![(Maybe, jump())]), ("b", None, vec![(Yes, drop.clone())])]), No);
    assert_eq!(
        end_of(&[("a", ACCEPTS, vec![(Yes, jump())]), ("b", None, vec![(Maybe, Action::Return), (Yes, drop.clone())])]),
        Maybe
    );
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Maybe, goto()), (Yes, drop.clone())]), ("b", None, vec![])]), Maybe);
    // Each base chain has to let it through.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, accept.clone())]), ("z", DROPS, vec![])]), No);
    // What is not understood, a chain that is missing, and chains that call one another.
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, Action::Unknown)])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, jump())])]), Maybe);
    assert_eq!(end_of(&[("a", ACCEPTS, vec![(Yes, jump())]), ("b", None, vec![(Yes, jump())])]), Maybe);
    // For one interface only.
    let ingress = Some(Base { accepts: true, sees_all: false });
    assert_eq!(end_of(&[("a", ingress, vec![(Yes, drop)])]), Maybe);
}

#[test]
fn what_is_no_json_of_nfts_is_refused() {
    for text in ["", "[]", "{}", "{\"nftables\": 1}"] {
        assert!(nft::objects(text).is_err(), "{text}");
    }
    assert_eq!(nft::objects("{\"nftables\": []}").unwrap().len(), 0);
}

/// Docker drops what comes from outside for the addresses of containers, and for published ports on 127.0.0.1.
#[test]
fn a_packet_goes_to_an_address_of_this_host() {
    let text = "*filter\n:INPUT DROP [0:0]\n:PORTKNOCK - [0:0]\n-A INPUT -j PORTKNOCK\nCOMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\n";
    let outcome = |rule: &str, addresses: &[&str]| {
        let text = format!("{text}{rule}\nCOMMIT\n");
        let saved = vec![Saved { program: "iptables-legacy-save", ipv6: false, legacy: true, text }];
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let running = Running { saved, addresses, ..Running::default() };
        check(&running, &Gate::default(), &[(Protocol::Tcp, 22)], Some("192.0.2.7".parse().unwrap())).remove(0).outcome
    };
    let own = ["127.0.0.1", "192.0.2.1", "172.17.0.1", "fe80::1"];
    for rule in [
        "-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP",
        "-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 22 -j DROP",
    ] {
        assert_eq!(outcome(rule, &own), Outcome::Opens, "{rule}");
        assert!(matches!(outcome(rule, &[]), Outcome::CannotTell(_)), "{rule}");
    }
    let doubtful = "-A PREROUTING -d 172.17.0.0/16 ! -i docker0 -j DROP";
    assert!(matches!(outcome(doubtful, &own), Outcome::CannotTell(_)));
}
