//! `portknock` as a whole, for the program of this name and for `python -m portknock`.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::check::{self, CheckArgs};
use crate::control::{self, CloseArgs, SocketArgs, StatusArgs};
use crate::knock::{self, KnockArgs, MoreArgs};
use crate::output::usage;
use crate::probe::{self, ProbeArgs};
use crate::replay::{self, ReplayArgs};
use crate::rules::{self, RulesArgs};

/// Port knocking: check configurations, replay captures, knock, probe ports, print rule sets, control the daemon
#[derive(Parser)]
#[command(name = "portknock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is wrong with a configuration, or mend it
    #[command(
        after_help = "Exit status: 0 without errors (warnings are no errors), 1 with errors, 2 for bad usage or \
                            a file that cannot be read."
    )]
    Check(CheckArgs),
    /// Show what the packets of a capture file would have done; nothing is run
    #[command(after_help = "Exit status: 0 when all of the capture was read, 1 when not or when the configuration is \
                            refused, 2 for bad usage.")]
    Replay(ReplayArgs),
    /// Knock on ports in order, so that a port-knocking server opens a door
    #[command(after_help = "Exit status: 0 when all knocks were sent (and the port opened, with --then), 1 when not, \
                            2 for bad usage, 3 when the port did not open.")]
    Knock {
        #[command(flatten)]
        knock: KnockArgs,
        #[command(flatten)]
        more: MoreArgs,
    },
    /// Show which ports of a host are open, closed or filtered
    #[command(
        after_help = "A port that does not answer takes the whole --timeout, 3.3 s by default; ports are waited for \
                      together.\n\n\
                      Exit status: 0 when the probe ran, whatever it found; 1 when it could not, or was cut short by an \
                      error; 2 for bad usage. Ctrl-C and SIGTERM print what is known so far and end with 130 and 143; \
                      a second one ends at once.\n\
                      Example: portknock probe myserver.example.com 22,80,8000-8100"
    )]
    Probe(ProbeArgs),
    /// Print a packet filter for a whole host behind doors, or check the one in force
    #[command(
        after_help = "Exit status: 0 when the rules were printed; with --check 0 when a knock opens all of the ports, 1 \
                            when not, or when that cannot be told; 2 for bad usage.\n\
                            Examples: portknock rules --allow 80,443 > rules.nft && nft -f rules.nft\n          \
                            portknock rules --check"
    )]
    Rules(RulesArgs),
    /// Show what the running daemon holds and has counted
    #[command(after_help = "Exit status: 0, 1 when no daemon answers, 2 for bad usage.")]
    Status(StatusArgs),
    /// Close a door for an address now, instead of when its time is over
    #[command(after_help = "Exit status: 0 when its stop command is on its way, 1 when the door is not open for this \
                            address or no daemon answers, 2 for bad usage.")]
    Close(CloseArgs),
    /// Have the running daemon read its configuration again
    #[command(
        after_help = "Exit status: 0 when the new configuration is in force, 1 when it is refused (what is wrong \
                            with it is shown) or no daemon answers, 2 for bad usage."
    )]
    Reload(SocketArgs),
    /// Follow the events of the running daemon as they happen, as lines of JSON
    #[command(after_help = "The lines are those of `portknock replay --format json`.\n\n\
                            Exit status: 1 when the daemon ends or no daemon answers, 2 for bad usage.")]
    Events(SocketArgs),
}

/// Runs a command line, of which the first argument is the name of the program for usage texts, and gives the exit
/// status. Where standard output has gone, or by a second Ctrl-C, the process ends at once.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(args) {
        Err(error) => usage(&error),
        Ok(Cli { command }) => match command {
            Command::Check(args) => check::run(&args),
            Command::Replay(args) => replay::run(&args),
            Command::Knock { knock, more } => knock::run("portknock", knock, more),
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
