//! `portknock probe`: which ports of a host are open, closed or filtered.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::{Args, ValueEnum};
use portknock_core::Protocol;
use portknock_core::probe::{self, PortList, PortState, ProbePlan, Progress};
use portknock_core::sys::process;

use crate::arguments::{FamilyArgs, positive_seconds};
use crate::interrupt::Interrupt;
use crate::output::{print, print_error};
use crate::progress::Bar;
use crate::{Format, SUCCESS};

/// Maximum number of result lines per write.
const LINE_BATCH: usize = 1_000;

/// The arguments of `portknock probe`.
#[derive(Args, Clone, Debug)]
pub struct ProbeArgs {
    /// Probe UDP ports (the default is TCP). Ports that do not answer are open|filtered
    #[arg(short, long)]
    udp: bool,
    /// How to probe TCP ports
    #[arg(long, value_enum, default_value_t = Method::Auto, conflicts_with = "udp")]
    method: Method,
    /// Seconds to wait for the answer of a port
    #[arg(long, value_name = "SECONDS", default_value = "3.3", value_parser = positive_seconds, allow_negative_numbers = true)]
    timeout: Duration,
    /// Repeat each unanswered probe N times, 9 at most; by default as often as the packet loss of
    /// the path requires
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9), allow_negative_numbers = true)]
    retries: Option<u8>,
    /// Maximum number of probes per second; by default as many as the path carries
    #[arg(long, value_name = "PPS", allow_negative_numbers = true)]
    rate: Option<NonZeroU32>,
    /// Probe from this address, which must belong to this machine
    #[arg(long, value_name = "ADDR")]
    source: Option<IpAddr>,
    /// Probe each address of the host, not only the first one
    #[arg(long)]
    all_addresses: bool,
    #[command(flatten)]
    family: FamilyArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The host to probe, a name or an address; an IPv6 address can have a zone, as in fe80::1%eth0
    host: String,
    /// The ports to probe: ports, ranges and names of services, separated by commas, as in
    /// 22,80,https,8000-8100. -100 ends at 100, 60000- begins at 60000, - is all ports. For the
    /// ports up to 4 or 6 write 1-4 or 1-6: -4 and -6 are options
    #[arg(allow_hyphen_values = true)]
    ports: Option<PortList>,
    /// Probe these ports, in the syntax of the argument PORTS; by default the most used ports
    #[arg(short, long = "ports", value_name = "PORTS", allow_hyphen_values = true, conflicts_with = "ports")]
    ports_option: Option<PortList>,
    /// Show open and open|filtered ports only
    #[arg(long)]
    open: bool,
    /// Exit with 3 unless all ports have this state
    #[arg(long, value_name = "STATE", value_enum)]
    expect: Option<Expected>,
}

/// Exit status for a port without the expected state.
const NOT_AS_EXPECTED: u8 = 3;

/// The expected state of all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Expected {
    /// A service accepts connections, or answers
    Open,
    /// The host answers that no service listens
    Closed,
    /// There is no answer, or a firewall refuses; for UDP only a refusal
    Filtered,
}

impl Expected {
    fn is(self, state: PortState) -> bool {
        match self {
            Self::Open => state == PortState::Open,
            Self::Closed => state == PortState::Closed,
            Self::Filtered => state == PortState::Filtered,
        }
    }
}

/// The method for TCP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// By SYN if raw sockets are permitted, otherwise by connect
    Auto,
    /// By bare SYNs from a raw socket (needs root or CAP_NET_RAW)
    Syn,
    /// By ordinary connections, which need no privileges
    Connect,
}

impl From<Method> for probe::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Syn => Self::Syn,
            Method::Connect => Self::Connect,
        }
    }
}

/// Probes, and prints the results. The exit status is 0 if the probe ran, whatever it found, and 3
/// if a port does not have the state that `--expect` names. It is 1 if the probe could not run to
/// its end, and 130 or 143 if SIGINT or SIGTERM stopped it.
pub fn run(args: &ProbeArgs) -> u8 {
    let plan = plan(args);
    let addresses = match plan.resolve() {
        Ok(addresses) => addresses,
        Err(error) => return print_error("portknock", error),
    };
    // Not before resolving: a name service that does not answer would delay the effect of the first
    // Ctrl-C.
    let interrupt = match Interrupt::register() {
        Ok(interrupt) => interrupt,
        Err(error) => return print_error("portknock", format_args!("cannot handle signals: {error}")),
    };
    // With connect, each port whose answer is outstanding uses a descriptor. If this fails, the
    // probe runs with fewer ports at the same time.
    let _ = process::raise_descriptor_limit();
    let mut bar = Bar::new();
    let result = plan.run(&addresses, &mut |progress: Progress| {
        bar.show(progress);
        if interrupt.status().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.clear();
    let scan = match result {
        Ok(scan) => scan,
        Err(error) => return print_error("portknock", error),
    };
    match args.format {
        Format::Text => print(probe::table(&plan, &addresses, &scan, args.open).as_bytes()),
        Format::Json => {
            let may_be_open = |state| matches!(state, PortState::Open | PortState::OpenFiltered);
            let selected: Vec<_> =
                scan.results.iter().filter(|result| !args.open || may_be_open(result.state)).collect();
            for results in selected.chunks(LINE_BATCH) {
                let lines: String =
                    results.iter().map(|result| probe::result_line(&plan.host, result) + "\n").collect();
                print(lines.as_bytes());
            }
        }
    }
    let as_expected = args.expect.is_none_or(|expected| scan.results.iter().all(|result| expected.is(result.state)));
    let status = match scan.error {
        Some(error) => print_error("portknock", error),
        None if as_expected => SUCCESS,
        None => NOT_AS_EXPECTED,
    };
    interrupt.status().unwrap_or(status)
}

fn plan(args: &ProbeArgs) -> ProbePlan {
    let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
    let ports = args.ports.as_ref().or(args.ports_option.as_ref()).cloned();
    let mut plan = ProbePlan::new(&args.host, ports.unwrap_or_else(|| PortList::most_used(protocol)));
    plan.protocol = protocol;
    plan.method = args.method.into();
    plan.family = args.family.family();
    plan.all_addresses = args.all_addresses;
    plan.source = args.source;
    plan.timeout = args.timeout;
    plan.retries = args.retries;
    plan.rate = args.rate;
    plan
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use portknock_core::host::Family;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        probe: ProbeArgs,
    }

    fn planned(args: &str) -> ProbePlan {
        plan(&Cli::parse_from(format!("probe {args}").split(' ')).probe)
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let plan = planned("host 22");
        let default = ProbePlan::new("host", "22".parse().unwrap());
        assert_eq!(format!("{plan:?}"), format!("{default:?}"));
    }

    #[test]
    fn options_reach_the_plan() {
        let options = "--udp --timeout 0.5 --retries 0 --rate 1000 --source ::1 --all-addresses";
        let plan = planned(&format!("{options} -4 host -6 -2,5"));
        assert_eq!((plan.protocol, plan.timeout, plan.retries), (Protocol::Udp, Duration::from_millis(500), Some(0)));
        assert_eq!((plan.rate, plan.all_addresses), (NonZeroU32::new(1000), true));
        assert_eq!((plan.family, plan.source), (Family::V6, "::1".parse().ok()));
        assert_eq!((plan.host.as_str(), plan.ports), ("host", "1,2,5".parse().unwrap()));
        assert_eq!(planned("--method syn host 22").method, probe::Method::Syn);
        for args in ["host -p 22,80", "-p 22,80 host", "--ports 22,80 host", "host --ports=22,80"] {
            assert_eq!(planned(args).ports, "22,80".parse().unwrap(), "{args}");
        }
        assert_eq!(planned("host").ports, PortList::most_used(Protocol::Tcp));
        assert_eq!(planned("host -u").ports, PortList::most_used(Protocol::Udp));
        assert!(Cli::try_parse_from(["probe", "host", "22", "-p", "80"]).is_err());
    }
}
