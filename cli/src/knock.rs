//! `knock` and `portknock knock`: send a sequence of knocks, or a knock that a key authenticates.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Args, Parser};
use portknock_core::client_file::ClientFile;
use portknock_core::knock::{
    AuthenticatedKnock, ExpectedPort, Hit, KnockError, KnockForm, KnockPlan, Observer, parse_steps,
};
use portknock_core::sys::privileges;
use portknock_core::{Printable, Protocol, Step};

use crate::arguments::{FamilyArgs, seconds};
use crate::output::{print_error, usage};
use crate::{FAILURE, SUCCESS, USAGE};

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
}

/// The arguments that only `portknock knock` has.
#[derive(Args, Clone, Debug, Default)]
pub struct MoreArgs {
    /// Instead of PORTs, send the knock of this moment by the client's key in this file, which
    /// portknock keygen has written: a time sequence, or a packet
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// With a packet, open the door for this address. By default the packet contains the address of
    /// this machine if it is a global one; otherwise the door opens for the source address that the
    /// server receives the packet from
    #[arg(long, value_name = "ADDR", requires = "key")]
    address: Option<IpAddr>,
    /// With a packet, ask the door to stay open for N seconds instead of its cmd_timeout
    #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
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
    /// Knock at each address of the host, not only the first one, or with a packet the first one of
    /// each IP version
    #[arg(long)]
    all_addresses: bool,
}

/// The positional arguments of `portknock knock`.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// The host to knock at, a name or an address; an IPv6 address can have a zone, as in
    /// fe80::1%eth0. With --key the default is the server that the file names
    #[arg(required_unless_present = "key")]
    host: Option<String>,
    /// The ports to knock on, in order, as numbers or names of services; PROTO is tcp (the default)
    /// or udp. Commas separate ports, too
    #[arg(value_name = "PORT[:PROTO]", required_unless_present = "key", value_parser = parse_steps)]
    ports: Vec<Vec<Step>>,
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
    /// The host to knock at, a name or an address; an IPv6 address can have a zone, as in
    /// fe80::1%eth0
    host: String,
    /// The ports to knock on, in order, as numbers or names of services; PROTO is tcp (the default)
    /// or udp. Commas separate ports, too
    #[arg(value_name = "PORT[:PROTO]", required = true, value_parser = parse_steps)]
    ports: Vec<Vec<Step>>,
}

/// Runs a command line of knockd's client and returns the exit status. The first argument is the
/// name of the program for usage texts.
pub fn run_original(args: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(args) {
        Err(error) => usage(&error),
        Ok(Cli { knock, host, ports }) => {
            let target = TargetArgs { host: Some(host), ports };
            run("knock", &knock, &MoreArgs::default(), &target)
        }
    }
}

/// Knocks. The exit status is 0 if all knocks were sent (and the port opened, with `--then`), 3 if
/// the port did not open, 2 if an option does not fit the client's file, 1 otherwise.
pub fn run(program: &str, args: &KnockArgs, more: &MoreArgs, target: &TargetArgs) -> u8 {
    let knock = match &more.key {
        None => Knock::Steps(plan(args, more, target)),
        Some(file) => match authenticated(file, args, more, target) {
            Ok(knock) => Knock::Authenticated(knock),
            Err((message, status)) => {
                print_error(program, message);
                return status;
            }
        },
    };
    let mut observer = |hit: Option<Hit>| {
        if let Some(hit) = hit.filter(|_| args.verbose) {
            print_line(&format!("hitting {} {}:{}", hit.step.protocol, hit.address.ip(), hit.step.port));
        }
        ControlFlow::Continue(())
    };
    let result = match more.then {
        None => knock.send(&mut observer),
        Some(port) => {
            let expected = ExpectedPort { port, wait: more.wait, retries: more.retries };
            send_until_open(program, args, &knock, expected, &mut observer)
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

/// The two kinds of knocks.
enum Knock {
    /// Steps of the command line.
    Steps(KnockPlan),
    /// A knock by a key.
    Authenticated(AuthenticatedKnock),
}

impl Knock {
    fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        match self {
            Self::Steps(plan) => plan.resolve(),
            Self::Authenticated(knock) => knock.resolve(),
        }
    }

    fn send(&self, observer: &mut Observer<'_>) -> Result<(), KnockError> {
        let addresses = self.resolve()?;
        let delay = match self {
            Self::Steps(plan) => plan.send(&addresses, observer).map(|()| plan.delay),
            Self::Authenticated(knock) => knock.send(&addresses, observer).map(|()| knock.plan.delay),
        };
        // As knockd's client does: the next command in a script finds the door open.
        delay.map(thread::sleep)
    }
}

fn send_until_open(
    program: &str,
    args: &KnockArgs,
    knock: &Knock,
    expected: ExpectedPort,
    observer: &mut Observer<'_>,
) -> Result<(), KnockError> {
    let addresses = knock.resolve()?;
    let opened = match knock {
        Knock::Steps(plan) => {
            if let Some(warning) = plan.watched_step(expected) {
                print_error(program, format_args!("warning: {warning}"));
            }
            plan.send_until_open(&addresses, expected, observer)
        }
        Knock::Authenticated(knock) => knock.send_until_open(&addresses, expected, observer),
    }?;
    if args.verbose {
        let (port, millis) = (opened.address.port(), opened.after.as_secs_f64() * 1_000.0);
        print_line(&format!("port {port} of {} is open after {millis:.1} ms", opened.address.ip()));
    }
    Ok(())
}

/// Returns the knock that the client's file describes, or a message and the exit status.
fn authenticated(
    path: &Path,
    args: &KnockArgs,
    more: &MoreArgs,
    target: &TargetArgs,
) -> Result<AuthenticatedKnock, (String, u8)> {
    // With `conflicts_with`, clap would accept the options that require --key without it.
    if args.udp || !target.ports.is_empty() {
        return Err(("the file of --key determines the knocks: omit PORTs and --udp".to_owned(), USAGE));
    }
    privileges::hide();
    let file = ClientFile::read(path).map_err(|error| (error.to_string(), FAILURE))?;
    let shown = path.to_string_lossy();
    let shown = Printable(&shown);
    let Some(host) = target.host.as_ref().or(file.server.as_ref()) else {
        return Err((format!("{shown} names no server: give the host to knock at"), USAGE));
    };
    let mut knock = AuthenticatedKnock::of_client(host, &file);
    match &mut knock.form {
        KnockForm::Packet(request) => {
            request.address = more.address;
            request.seconds = more.seconds.unwrap_or(0);
        }
        KnockForm::Time(_) if more.address.is_some() || more.seconds.is_some() => {
            let message = format!("--address and --seconds are for packets, but {shown} has the form time");
            return Err((message, USAGE));
        }
        KnockForm::Time(_) => {}
    }
    set_way(&mut knock.plan, args, more);
    Ok(knock)
}

fn plan(args: &KnockArgs, more: &MoreArgs, target: &TargetArgs) -> KnockPlan {
    let mut steps = target.ports.concat();
    if args.udp {
        steps.iter_mut().for_each(|step| step.protocol = Protocol::Udp);
    }
    let mut plan = KnockPlan::new(target.host.as_deref().unwrap_or_default(), steps);
    set_way(&mut plan, args, more);
    plan
}

/// Sets the options for the way in which knocks are sent.
fn set_way(plan: &mut KnockPlan, args: &KnockArgs, more: &MoreArgs) {
    plan.family = args.family.family();
    plan.delay = Duration::from_millis(args.delay.into());
    plan.source = more.source;
    plan.raw = more.raw;
    plan.all_addresses = more.all_addresses;
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
