//! The two clients: the packets that each sends, and that each opens the doors of each daemon.

use super::scenario::{
    Act::{Knock, OurKnock},
    Expected,
};
use super::{OPENED, Scenario};
use crate::{Lab, Output, Sniffed, Sniffer, binary};

/// Each client with the same arguments.
#[derive(Clone, Debug)]
pub struct ClientScenario {
    /// The name of the scenario, as in `services`.
    pub name: &'static str,
    /// The result of our client.
    pub expected: Expected<ClientResult>,
    knock: ClientResult,
    args: &'static str,
}

/// The exit status, and the knocks that the client sent, as in `7000:tcp`.
pub(super) type ClientResult = (i32, &'static [&'static str]);

const WRONG: &str = "a wrong knock is worse than none";
const HALF: &str = "half a sequence is useless";
const USAGE: &str = "scripts can distinguish it from a failure";

/// A name, arguments, and the result of the original; if ours has another result, that result and
/// the reason.
type Row = (&'static str, &'static str, ClientResult, Option<(ClientResult, &'static str)>);

const ROWS: &[Row] = &[
    ("ports_and_protocols", "10.0.0.1 7000 8000:udp 9000:tcp", (0, &["7000:tcp", "8000:udp", "9000:tcp"]), None),
    ("udp_by_default", "-u 10.0.0.1 7000 8000:tcp", (0, &["7000:udp", "8000:udp"]), None),
    ("a_knock_three_times", "10.0.0.1 7000 7000 7000", (0, &["7000:tcp", "7000:tcp", "7000:tcp"]), None),
    ("zeros_before_a_port", "10.0.0.1 007000", (0, &["7000:tcp"]), None),
    ("a_service", "10.0.0.1 ssh", (0, &["22:tcp"]), None),
    ("a_service_by_udp", "10.0.0.1 ssh:udp", (0, &["22:udp"]), None),
    ("services", "10.0.0.1 tftp domain:udp", (0, &["69:tcp", "53:udp"]), None),
    ("services_with_u", "-u 10.0.0.1 ssh", (0, &["22:udp"]), None),
    ("a_delay", "-d 20 10.0.0.1 7000 8000", (0, &["7000:tcp", "8000:tcp"]), None),
    ("the_host_by_address_family", "-64 10.0.0.1 7000", (0, &["7000:tcp"]), None),
    ("an_unknown_host", "no-such-host.invalid 7000", (1, &[]), None),
    ("ipv6_for_an_ipv4_address", "-6 10.0.0.1 7000", (1, &[]), None),
    ("ipv4_for_an_ipv6_address", "-4 fd00::1 7000", (1, &[]), None),
    ("both_families_for_one_address", "-46 10.0.0.1 7000", (1, &[]), None),
    ("the_version", "-V", (0, &[]), None),
    ("a_port_too_high", "10.0.0.1 70000", (0, &["4464:tcp"]), Some(((2, &[]), WRONG))),
    ("port_zero", "10.0.0.1 0", (0, &["0:tcp"]), Some(((2, &[]), WRONG))),
    ("a_port_with_a_sign", "10.0.0.1 +7000", (0, &["7000:tcp"]), Some(((2, &[]), WRONG))),
    ("a_protocol_with_trailing_characters", "10.0.0.1 80:udp8", (0, &["80:tcp"]), Some(((2, &[]), WRONG))),
    ("an_unknown_protocol", "10.0.0.1 80:foo", (0, &["80:tcp"]), Some(((2, &[]), WRONG))),
    ("an_empty_protocol", "10.0.0.1 80:", (0, &["80:tcp"]), Some(((2, &[]), WRONG))),
    ("a_delay_that_is_no_number", "-d soon 10.0.0.1 7000", (0, &["7000:tcp"]), Some(((2, &[]), WRONG))),
    ("an_unknown_service", "10.0.0.1 7000 no-such-service 9000", (1, &["7000:tcp"]), Some(((2, &[]), HALF))),
    ("a_service_in_capitals", "10.0.0.1 7000 SSH", (1, &["7000:tcp"]), Some(((2, &[]), HALF))),
    (
        "a_protocol_in_capitals",
        "10.0.0.1 80:UDP 81",
        (0, &["80:tcp", "81:tcp"]),
        Some(((0, &["80:udp", "81:tcp"]), "the configuration accepts capitals too")),
    ),
    (
        "ports_with_commas",
        "10.0.0.1 7000,8000:udp",
        (1, &[]),
        Some(((0, &["7000:tcp", "8000:udp"]), "a sequence can be copied out of the configuration")),
    ),
    ("no_route", "10.9.9.9 7000", (0, &[]), Some(((1, &[]), "nothing was sent"))),
    ("no_port", "10.0.0.1", (1, &[]), Some(((2, &[]), USAGE))),
    ("no_arguments", "", (1, &[]), Some(((2, &[]), USAGE))),
    ("an_unknown_option", "-x 10.0.0.1 7000", (1, &[]), Some(((2, &[]), USAGE))),
    ("a_delay_below_zero", "-d -5 10.0.0.1 7000", (1, &[]), Some(((2, &[]), USAGE))),
    ("the_help", "-h", (1, &[]), Some(((0, &[]), USAGE))),
];

impl ClientScenario {
    /// All scenarios.
    pub fn all() -> Vec<Self> {
        let of_row = |&(name, args, knock, ours): &Row| {
            let expected = ours.map_or(Expected::Same, |(ours, why)| Expected::Differs { ours, why });
            Self { name, expected, knock, args }
        };
        ROWS.iter().map(of_row).collect()
    }

    /// The error in the row itself, if there is one.
    pub fn fault(&self) -> Option<String> {
        match &self.expected {
            Expected::Differs { ours, .. } if *ours == self.knock => {
                Some(format!("{}: a difference that is none", self.name))
            }
            _ => None,
        }
    }

    /// Runs both clients in a new lab. Panics if one of them does not have the result of the table.
    pub fn run(&self) {
        let lab = Lab::pair();
        let ours = match self.expected {
            Expected::Same => self.knock,
            Expected::Differs { ours, .. } => ours,
        };
        for (original, (code, sent)) in [(true, self.knock), (false, ours)] {
            let sent = sent.iter().map(ToString::to_string).collect::<Vec<_>>();
            let expected = (Some(code), sent);
            assert_eq!(
                outcome(&lab, original, self.args),
                expected,
                "{}: {}, original: {original}",
                self.name,
                self.args
            );
        }
    }
}

/// The exit status and the knocks that the client sent.
fn outcome(lab: &Lab, original: bool, args: &str) -> (Option<i32>, Vec<String>) {
    let sniffer = Sniffer::start(&lab.client, "eth0", "src host 10.0.0.2");
    let program = if original { "knock".into() } else { binary("knock") };
    let output = Output::of(lab.client.command(program).args(args.split_whitespace()));
    // A knock that is always sent, after all others.
    lab.client.ok("knock -u 10.0.0.1 65000");
    sniffer.wait_for(1, |packet| packet.port == 65_000);
    let mut seen = sniffer.knocks();
    seen.retain(|packet| packet.port != 65_000);
    (output.code, seen.iter().map(Sniffed::step).collect())
}

/// Each client opens the doors of each daemon.
pub(super) fn with_daemons() -> Vec<Scenario> {
    let doors = "[door]\nsequence = 7000,8000:udp,9000\ntcpflags = syn\n";
    let datagrams = "[door]\nsequence = 1111:udp,2222:udp\n";
    let over_ipv6 = "fd00::2: door";
    vec![
        Scenario::same("the_original_client", doors, &[Knock("10.0.0.1 7000 8000:udp 9000")], &[OPENED]),
        Scenario::same("our_client", doors, &[OurKnock("10.0.0.1 7000 8000:udp 9000")], &[OPENED]),
        Scenario::same("the_original_client_with_u", datagrams, &[Knock("-u 10.0.0.1 1111 2222")], &[OPENED]),
        Scenario::same("our_client_with_u", datagrams, &[OurKnock("-u 10.0.0.1 1111 2222")], &[OPENED]),
        Scenario::same(
            "the_original_client_over_ipv6",
            doors,
            &[Knock("-d 20 -6 fd00::1 7000:tcp 8000:udp 9000:tcp")],
            &[over_ipv6],
        ),
        Scenario::same(
            "our_client_over_ipv6",
            doors,
            &[OurKnock("-d 20 -6 fd00::1 7000:tcp 8000:udp 9000:tcp")],
            &[over_ipv6],
        ),
    ]
}
