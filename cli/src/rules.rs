//! `portknock rules`: a packet filter for a whole host, and whether a knock would open a port in the one that runs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portknock_core::config::{self, GateSets, Protocol};
use portknock_core::gate;
use portknock_core::rules::check::{Gate, Outcome, Running, check};
use portknock_core::rules::{self, AllowedPorts, RuleSet};
use portknock_core::{Config, Printable};

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
    #[arg(long, conflicts_with_all = ["style", "format", "allow", "explain"])]
    check: bool,
    /// Check these ports, written as for --allow, instead of those of the doors' `open`
    #[arg(long, value_name = "PORTS", requires = "check")]
    port: Option<AllowedPorts>,
    /// The configuration with the doors to check
    #[arg(
        short,
        long,
        value_name = "FILE",
        requires = "check",
        conflicts_with = "port",
        default_value = "/etc/knockd.conf"
    )]
    config: PathBuf,
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
    if !args.check {
        print(rule_set(args).render(args.format.into()).as_bytes());
        return SUCCESS;
    }
    match check_running(args) {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        Err(error) => complain("portknock", error),
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

/// Tells what would become of a knock; true where it opens everything.
fn check_running(args: &RulesArgs) -> Result<bool, String> {
    let (gate, ports) = match &args.port {
        Some(ports) => (Gate { chain: args.chain.clone(), ..Gate::default() }, ports.iter().collect()),
        None => of_doors(&args.config, &args.chain)?,
    };
    let running = Running::read().map_err(|error| error.to_string())?;
    let findings = check(&running, &gate, &ports, args.from);
    print(findings.iter().map(|finding| format!("{finding}\n")).collect::<String>().as_bytes());
    Ok(findings.iter().all(|finding| finding.outcome == Outcome::Opens))
}

/// Where the daemon with this configuration puts openings, and the ports of its doors.
fn of_doors(file: &Path, chain: &str) -> Result<(Gate, Vec<(Protocol, u16)>), String> {
    let loaded = config::load(file).map_err(|error| error.to_string())?;
    let name = file.to_string_lossy();
    let Some(Config { options, doors }) = loaded.config else {
        return Err(format!("the configuration is refused\n{}", loaded.report.render(&name, &loaded.text)));
    };
    let ports: BTreeSet<_> =
        doors.iter().flat_map(|door| &*door.open).map(|open| (open.protocol, open.port.get())).collect();
    if ports.is_empty() {
        return Err(format!("no door of {} has `open`; name the ports with --port", Printable(&name)));
    }
    let set = match options.gate {
        config::Gate::Own => ("inet".to_owned(), gate::TABLE.to_owned(), gate::SETS.map(str::to_owned).to_vec()),
        config::Gate::Sets(GateSets { family, table, set4, set6 }) => (family.to_string(), table, vec![set4, set6]),
    };
    Ok((Gate { sets: vec![set], chain: chain.to_owned() }, ports.into_iter().collect()))
}
