//! `knock`: the command line of knockd's client.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(portknock_cli::knock::run_original(env::args_os()))
}
