//! The whole command line of `portknock`, for the program of this name and for `python -m
//! portknock`.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::check::{self, CheckArgs};
use crate::control::{self, CloseArgs, SocketArgs, StatusArgs};
use crate::keygen::{self, KeygenArgs};
use crate::knock::{self, KnockArgs, MoreArgs, TargetArgs};
use crate::output::usage;
use crate::probe::{self, ProbeArgs};
use crate::replay::{self, ReplayArgs};
use crate::rules::{self, RulesArgs};
use crate::sequence::{self, SequenceArgs};

/// Port knocking: check configurations, replay captures, make keys, knock, probe ports, print rule
/// sets, control the daemon
#[derive(Parser)]
#[command(name = "portknock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report the errors and warnings of a configuration, or fix it
    #[command(
        after_help = "Exit status: 0 without errors (warnings are not errors), 1 with errors, 2 for bad usage or \
                            a file that cannot be read."
    )]
    Check(CheckArgs),
    /// Show the events that the packets of a capture file would have caused, without running
    /// commands
    #[command(after_help = "Exit status: 0 if the whole capture was read, 1 otherwise or if the configuration has \
                            errors, 2 for bad usage.")]
    Replay(ReplayArgs),
    /// Make a client's key, for knocks that open nothing when they are recorded and sent again
    #[command(
        after_help = "Prints the line for the server's key file on standard output, and what to do next on standard \
                      error. Writes the client's file, which only its owner can read, and never overwrites a file. \
                      The client uses it with portknock knock --key FILE and portknock sequence --key FILE.\n\n\
                      Exit status: 0 if the file was written, 1 otherwise, 2 for bad usage.\n\
                      Examples: portknock keygen alice --server web1.example\n          \
                      portknock keygen alice --server web1.example --form packet --door ssh\n          \
                      portknock keygen --fwknop phone --host server.example --open tcp/22 --qr"
    )]
    Keygen(KeygenArgs),
    /// Print the time sequence of this moment, for any program that knocks
    #[command(after_help = "Prints the ports in order, separated by spaces, as knock and the client of knockd accept \
                      them. Each sequence opens a door once, in its own window and in the windows before and after \
                      it. It opens doors with `sequence = time`, also if the form in the client's file is \
                      packet.\n\n\
                      Exit status: 0 on success, 1 if the file cannot be used, 2 for bad usage.\n\
                      Example: knock web1.example $(portknock sequence --key alice.key)")]
    Sequence(SequenceArgs),
    /// Knock on ports in order, or by a key, to make a port-knocking server open a door
    #[command(
        after_help = "Exit status: 0 if all knocks were sent (and the port opened, with --then), 1 otherwise, 2 \
                            for bad usage, 3 if the port did not open."
    )]
    Knock {
        #[command(flatten)]
        knock: KnockArgs,
        #[command(flatten)]
        more: MoreArgs,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Show which ports of a host are open, closed or filtered
    #[command(
        after_help = "A port that does not answer takes the whole --timeout, 3.3 s by default. The probe waits for all \
                      ports at the same time.\n\n\
                      Exit status: 0 if the probe ran, whatever it found; 1 if it could not run, or an error stopped it; \
                      2 for bad usage; 3 if --expect is not met. On Ctrl-C and SIGTERM it prints the results so far and \
                      exits with 130 and 143. A second signal ends it immediately.\n\
                      Example: portknock probe myserver.example.com 22,80,8000-8100"
    )]
    Probe(ProbeArgs),
    /// Print a packet filter for a host whose ports are protected by doors, or check the active one
    #[command(
        after_help = "Exit status: 0 if the rules were printed; with --check 0 if a knock opens all of the ports, 1 if \
                            not or if the check cannot determine this; 2 for bad usage.\n\
                            Examples: portknock rules --allow 80,443 > rules.nft && nft -f rules.nft\n          \
                            portknock rules --check"
    )]
    Rules(RulesArgs),
    /// Show the doors, the openings and the counters of the running daemon
    #[command(after_help = "Exit status: 0 on success, 1 if no daemon answers, 2 for bad usage.")]
    Status(StatusArgs),
    /// Close a door for an address now, before its time is over
    #[command(
        after_help = "Exit status: 0 if the daemon has started to close the door, 1 if the door is not open for this \
                            address or no daemon answers, 2 for bad usage."
    )]
    Close(CloseArgs),
    /// Make the running daemon read its configuration again
    #[command(
        after_help = "Exit status: 0 if the new configuration is in force, 1 if it has errors (they are printed) or \
                            no daemon answers, 2 for bad usage."
    )]
    Reload(SocketArgs),
    /// Print the events of the running daemon as they happen, as lines of JSON
    #[command(after_help = "The lines have the format of `portknock replay --format json`.\n\n\
                            Exit status: 1 if the daemon exits or no daemon answers, 2 for bad usage.")]
    Events(SocketArgs),
}

/// Runs a command line and returns the exit status. The first argument is the name of the program
/// for usage texts. A standard output without a reader, or a second Ctrl-C, ends the process
/// immediately.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(args) {
        Err(error) => usage(&error),
        Ok(Cli { command }) => match command {
            Command::Check(args) => check::run(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Keygen(args) => keygen::run(&args),
            Command::Sequence(args) => sequence::run(&args),
            Command::Knock { knock, more, target } => knock::run("portknock", &knock, &more, &target),
            Command::Probe(args) => probe::run(&args),
            Command::Rules(args) => rules::run(&args),
            Command::Status(args) => control::status(&args),
            Command::Close(args) => control::close(&args),
            Command::Reload(args) => control::reload(&args),
            Command::Events(args) => control::events(&args),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_manual_and_the_completions_are_up_to_date() {
        portknock_packaging::assert_up_to_date("portknock.1", Cli::command());
    }
}
