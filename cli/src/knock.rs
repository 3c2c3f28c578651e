//! `knock` and `portknock knock`: send a sequence of knocks.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser};
use portknock_core::knock::{ExpectedPort, Hit, KnockError, KnockPlan, Observer, parse_steps};
use portknock_core::{Protocol, Step};

use crate::SUCCESS;
use crate::arguments::{FamilyArgs, seconds};
use crate::output::{print_error, usage};

/// Exit status for a port that did not open.
const NOT_OPEN: u8 = 3;

/// The arguments of `knock`, which knockd's client has, too.
#[derive(Args, Clone, Debug)]
pub struct KnockArgs {
    /// Send all knocks over UDP, whatever their PROTO (the default is TCP)
    #[arg(short, long)]
    udp: bool,
    /// Milliseconds to wait after each knock
    #[arg(short, long, value_name = "MS", default_value_t = 0, allow_negative_numbers = true)]
    delay: u32,
    #[command(flatten)]
    family: FamilyArgs,
    /// Print each knock to standard output
    #[arg(short, long)]
    verbose: bool,
    /// The host to knock at, a name or an address; an IPv6 address can have a zone, as in
    /// fe80::1%eth0
    host: String,
    /// The ports to knock on, in order, as numbers or names of services; PROTO is tcp (the default)
    /// or udp. Commas separate ports, too
    #[arg(value_name = "PORT[:PROTO]", required = true, value_parser = parse_steps)]
    ports: Vec<Vec<Step>>,
}

/// The arguments that only `portknock knock` has.
#[derive(Args, Clone, Debug, Default)]
pub struct MoreArgs {
    /// After the knocks, wait until this TCP port is open; exit with 3 if it does not open
    #[arg(long, value_name = "PORT")]
    then: Option<NonZeroU16>,
    /// Seconds to wait for the port to open after each round of knocks
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds, requires = "then", allow_negative_numbers = true)]
    wait: Duration,
    /// Knock again, up to N times, if the port does not open
    #[arg(long, value_name = "N", default_value_t = 0, requires = "then")]
    retries: u32,
    /// Send TCP knocks as bare SYNs through a raw socket (needs root or CAP_NET_RAW)
    #[arg(long)]
    raw: bool,
    /// Knock from this address, which must belong to this machine
    #[arg(long, value_name = "ADDR")]
    source: Option<IpAddr>,
    /// Knock at each address of the host, not only the first one
    #[arg(long)]
    all_addresses: bool,
}

/// Knock on ports in order, to make a port-knocking server open a door
#[derive(Parser)]
#[command(
    name = "knock",
    version,
    infer_long_args = true,
    after_help = "Exit status: 0 if all knocks were sent, 1 otherwise, 2 for bad usage.\n\
                  Example: knock myserver.example.com 123:tcp 456:udp 789:tcp\n\
                  `portknock knock` has more options."
)]
struct Cli {
    #[command(flatten)]
    knock: KnockArgs,
}

/// Runs a command line of knockd's client and returns the exit status. The first argument is the
/// name of the program for usage texts.
pub fn run_original(args: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(args) {
        Err(error) => usage(&error),
        Ok(Cli { knock }) => run("knock", knock, MoreArgs::default()),
    }
}

/// Knocks. The exit status is 0 if all knocks were sent (and the port opened, with `--then`), 3 if
/// the port did not open, 1 otherwise.
pub fn run(program: &str, args: KnockArgs, more: MoreArgs) -> u8 {
    let mut observer = |hit: Option<Hit>| {
        if let Some(hit) = hit.filter(|_| args.verbose) {
            print_line(&format!("hitting {} {}:{}", hit.step.protocol, hit.address.ip(), hit.step.port));
        }
        ControlFlow::Continue(())
    };
    let result = match more.then {
        None => send(&args, &more, &mut observer),
        Some(port) => {
            let expected = ExpectedPort { port, wait: more.wait, retries: more.retries };
            send_until_open(program, &args, &more, expected, &mut observer)
        }
    };
    match result {
        Ok(()) => SUCCESS,
        Err(error) => {
            let failure = print_error(program, &error);
            if matches!(error, KnockError::NotOpen { .. }) { NOT_OPEN } else { failure }
        }
    }
}

fn send(args: &KnockArgs, more: &MoreArgs, observer: &mut Observer<'_>) -> Result<(), KnockError> {
    let plan = plan(args, more);
    plan.send(&plan.resolve()?, observer)?;
    // As knockd's client does: the next command in a script finds the door open.
    thread::sleep(plan.delay);
    Ok(())
}

fn send_until_open(
    program: &str,
    args: &KnockArgs,
    more: &MoreArgs,
    expected: ExpectedPort,
    observer: &mut Observer<'_>,
) -> Result<(), KnockError> {
    let plan = plan(args, more);
    if let Some(warning) = plan.watched_step(expected) {
        print_error(program, format_args!("warning: {warning}"));
    }
    let opened = plan.send_until_open(&plan.resolve()?, expected, observer)?;
    if args.verbose {
        let (port, millis) = (opened.address.port(), opened.after.as_secs_f64() * 1_000.0);
        print_line(&format!("port {port} of {} is open after {millis:.1} ms", opened.address.ip()));
    }
    Ok(())
}

fn plan(args: &KnockArgs, more: &MoreArgs) -> KnockPlan {
    let mut steps = args.ports.concat();
    if args.udp {
        steps.iter_mut().for_each(|step| step.protocol = Protocol::Udp);
    }
    let mut plan = KnockPlan::new(&args.host, steps);
    plan.family = args.family.family();
    plan.delay = Duration::from_millis(args.delay.into());
    plan.source = more.source;
    plan.raw = more.raw;
    plan.all_addresses = more.all_addresses;
    plan
}

/// Writes a line to standard output. An error does not stop the knocking.
fn print_line(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_manual_and_the_completions_are_up_to_date() {
        portknock_packaging::assert_up_to_date("knock.1", Cli::command());
    }
}
