//! `knock`: the command line of the original client.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use portknock_cli::knock::{self, KnockArgs, MoreArgs};

/// Knock on ports in order, so that a port-knocking server opens a door
#[derive(Parser)]
#[command(
    name = "knock",
    version,
    infer_long_args = true,
    after_help = "Exit status: 0 when all knocks were sent, 1 when not, 2 for bad usage.\n\
                  Example: knock myserver.example.com 123:tcp 456:udp 789:tcp\n\
                  `portknock knock` has more options."
)]
struct Cli {
    #[command(flatten)]
    knock: KnockArgs,
}

fn main() -> ExitCode {
    ExitCode::from(knock::run("knock", Cli::parse().knock, MoreArgs::default()))
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
