//! `portknock`: the toolbox.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(portknock_cli::portknock::run(env::args_os()))
}
