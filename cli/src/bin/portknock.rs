//! `portknock`: the toolbox.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portknock_cli::knock::{self, KnockArgs, MoreArgs};

/// Port knocking: check configurations, replay captures, knock
#[derive(Parser)]
#[command(name = "portknock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Knock on ports in order, so that a port-knocking server opens a door
    #[command(after_help = "Exit status: 0 when all knocks were sent (and the port opened, with --then), 1 when not, \
                            2 for bad usage, 3 when the port did not open.")]
    Knock {
        #[command(flatten)]
        knock: KnockArgs,
        #[command(flatten)]
        more: MoreArgs,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Knock { knock, more } => knock::run("portknock", knock, more),
    }
}
