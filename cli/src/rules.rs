//! `portknock rules`: prints a packet filter for a whole host, or checks whether a knock would open
//! a port in the active one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use portknock_core::config::Refusal;
use portknock_core::rules::check::{ActiveRuleset, Gate, KnockOutcome, check, opened_ports};
use portknock_core::rules::{self, AllowedPorts, RuleSet};
use portknock_core::sys::privileges;
use portknock_core::{Config, Printable, Protocol, config};

use crate::output::{print, print_error};
use crate::{FAILURE, SUCCESS};

/// The arguments of `portknock rules`.
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    /// How the rules treat packets that no rule allows
    #[arg(long = "style", id = "style", value_name = "STYLE", value_parser = refusals(), default_value_t = Refusal::Reject)]
    refusal: Refusal,
    /// The program that loads the rule set
    #[arg(long, value_enum, default_value_t = Format::Nft)]
    format: Format,
    /// Keep these ports open for all hosts: ports, ranges and names of services, separated by
    /// commas, as in 443,8000-8100,53/udp. Ports are TCP ports unless written with /udp, udp/ or
    /// after nmap's U:
    #[arg(long, value_name = "PORTS", allow_hyphen_values = true)]
    allow: Option<AllowedPorts>,
    /// Explain before each rule what breaks without it
    #[arg(long)]
    explain: bool,
    /// Print no rules, but check whether a knock would open the ports of the doors in the active
    /// packet filter (needs root)
    #[arg(long, conflicts_with_all = ["style", "format", "allow", "explain"])]
    check: bool,
    /// Check these ports, written as for --allow, instead of the ports that the doors open
    #[arg(long, value_name = "PORTS", requires = "check")]
    port: Option<AllowedPorts>,
    /// The configuration file with the doors, whose `open` and commands name the ports; by default
    /// /etc/knockd.conf, or none with --port
    #[arg(short, long, value_name = "FILE", requires = "check")]
    config: Option<PathBuf>,
    /// The address that knocks; by default an address that no rule names
    #[arg(long, value_name = "ADDR", requires = "check")]
    from: Option<IpAddr>,
    /// The chain of iptables' table `filter` to which doors add their rules: without a
    /// configuration (by default PORTKNOCK), or for commands that the check cannot interpret
    #[arg(long, value_name = "CHAIN", requires = "check")]
    chain: Option<String>,
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

/// The values of `--style`.
fn refusals() -> impl TypedValueParser<Value = Refusal> {
    let reject = PossibleValue::new("reject").help("Refuse them, as a host does on which no service listens");
    let drop = PossibleValue::new("drop").help("Drop them without an answer, as if the host did not exist");
    PossibleValuesParser::new([reject, drop]).map(|name| if name == "drop" { Refusal::Drop } else { Refusal::Reject })
}

/// Prints a rule set, or checks the active one. The exit status of a check is 0 if a knock opens
/// all of the ports, and 1 if not or if the check cannot determine this.
pub fn run(args: &RulesArgs) -> u8 {
    if !args.check {
        print(rule_set(args).render(args.format.into()).as_bytes());
        return SUCCESS;
    }
    match check_running(args) {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        Err(error) => print_error("portknock", error),
    }
}

fn rule_set(args: &RulesArgs) -> RuleSet {
    RuleSet { refusal: args.refusal, allow: args.allow.clone().unwrap_or_default(), explain: args.explain }
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

/// Prints the effect of a knock; true if it opens all of the ports.
fn check_running(args: &RulesArgs) -> Result<bool, String> {
    let chain = args.chain.as_deref();
    let given = args.port.as_ref().map(|ports| ports.iter().collect::<Ports>());
    let checks = match (given, &args.config) {
        (Some(ports), None) => vec![(Gate::assumed(chain), ports)],
        (ports, file) => of_doors(file.as_deref().unwrap_or(Path::new("/etc/knockd.conf")), ports, chain)?,
    };
    let ruleset = ActiveRuleset::read().map_err(|error| error.to_string())?;
    let mut findings: Vec<_> =
        checks.iter().flat_map(|(gate, ports)| check(&ruleset, gate, ports, args.from)).collect();
    findings.sort_by_key(|finding| finding.ipv6);
    print(findings.iter().map(|finding| format!("{finding}\n")).collect::<String>().as_bytes());
    Ok(findings.iter().all(|finding| finding.outcome == KnockOutcome::Opens))
}

/// Ports to check.
type Ports = Vec<(Protocol, u16)>;

/// Returns each port with the gate that a knock changes for it: the gate of the doors that name the
/// port, or if none does, of all doors.
fn of_doors(file: &Path, ports: Option<Ports>, chain: Option<&str>) -> Result<Vec<(Gate, Ports)>, String> {
    // The configuration can name files of keys.
    privileges::hide();
    let loaded = config::load(file).map_err(|error| error.to_string())?;
    let name = file.to_string_lossy();
    let Some(Config { options, doors }) = loaded.config else {
        return Err(format!("the configuration has errors\n{}", loaded.report.render(&name, &loaded.text)));
    };
    let opened: Vec<_> = doors.iter().map(opened_ports).collect();
    let ports = ports.unwrap_or_else(|| BTreeSet::from_iter(opened.iter().flatten().copied()).into_iter().collect());
    if ports.is_empty() {
        let name = Printable(&name);
        return Err(format!("no door of {name} has `open` or a command that names a port; give the ports with --port"));
    }
    let gate = |port: (Protocol, u16)| {
        let named: Vec<_> =
            doors.iter().zip(&opened).filter(|(_, opened)| opened.contains(&port)).map(|(door, _)| door).collect();
        match named.is_empty() {
            true => Gate::of_doors(&options.gate, &doors, chain),
            false => Gate::of_doors(&options.gate, named, chain),
        }
    };
    Ok(ports.into_iter().map(|port| (gate(port), vec![port])).collect())
}
