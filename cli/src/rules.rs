//! `portknock rules`: a packet filter for a whole host, and whether a knock would open a port in the one that runs.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use portknock_core::rules::check::{Gate, Outcome, Running, check};
use portknock_core::rules::{self, AllowedPorts, RuleSet};

use crate::output::{complain, print};
use crate::{FAILURE, SUCCESS};

/// The arguments of `portknock rules`.
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    /// What happens to packets that nobody allowed
    #[arg(long, value_enum, default_value_t = Style::Reject)]
    style: Style,
    /// Which program loads the rule set
    #[arg(long, value_enum, default_value_t = Format::Nft)]
    format: Format,
    /// Keep these ports open for everyone: ports, ranges and names of services with commas between, as in
    /// 443,8000-8100,53/udp; TCP's unless written with /udp, udp/ or behind nmap's U:
    #[arg(long, value_name = "PORTS", allow_hyphen_values = true)]
    allow: Option<AllowedPorts>,
    /// Say before each rule what breaks without it
    #[arg(long)]
    explain: bool,
    /// Print no rules: read the packet filter that is in force and say whether a knock would open these ports (needs root)
    #[arg(long, requires = "port", conflicts_with_all = ["style", "format", "allow", "explain"])]
    check: bool,
    /// The ports to check, written as for --allow
    #[arg(long, value_name = "PORTS", requires = "check")]
    port: Option<AllowedPorts>,
    /// The address that knocks; by default one that no rule names
    #[arg(long, value_name = "ADDR", requires = "check")]
    from: Option<IpAddr>,
    /// The chain of iptables' table `filter` into which the commands of doors insert their rules
    #[arg(long, value_name = "CHAIN", requires = "check", default_value = rules::OPEN_CHAIN)]
    chain: String,
}

/// How a rule set treats what nobody allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Style {
    /// It is refused, as by a host on which nothing listens
    Reject,
    /// It gets no answer, as from a host that is not there
    Drop,
}

/// The program that loads a rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For nft -f, IPv4 and IPv6
    Nft,
    /// For iptables-restore, IPv4
    Iptables,
    /// For ip6tables-restore, IPv6
    Ip6tables,
}

/// Prints a rule set, or checks the one in force: then the status is 0 where a knock opens all of the ports, and 1 where not,
/// or where that cannot be told.
pub fn run(args: &RulesArgs) -> u8 {
    match &args.port {
        Some(ports) => check_running(args, ports),
        None => {
            print(rule_set(args).render(args.format.into()).as_bytes());
            SUCCESS
        }
    }
}

fn rule_set(args: &RulesArgs) -> RuleSet {
    let style = match args.style {
        Style::Reject => rules::Style::Reject,
        Style::Drop => rules::Style::Drop,
    };
    RuleSet { style, allow: args.allow.clone().unwrap_or_default(), explain: args.explain }
}

impl From<Format> for rules::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Nft => Self::Nft,
            Format::Iptables => Self::Iptables,
            Format::Ip6tables => Self::Ip6tables,
        }
    }
}

fn check_running(args: &RulesArgs, ports: &AllowedPorts) -> u8 {
    let running = match Running::read() {
        Ok(running) => running,
        Err(error) => return complain("portknock", error),
    };
    let gate = Gate { chain: args.chain.clone(), ..Gate::default() };
    let findings = check(&running, &gate, &ports.iter().collect::<Vec<_>>(), args.from);
    print(findings.iter().map(|finding| format!("{finding}\n")).collect::<String>().as_bytes());
    if findings.iter().all(|finding| finding.outcome == Outcome::Opens) { SUCCESS } else { FAILURE }
}
