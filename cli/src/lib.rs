//! The command lines of `portknock` and `knock`: arguments in, text and exit status out. The logic
//! is in `portknock_core`.
#![forbid(unsafe_code)]

mod arguments;
pub mod check;
pub mod control;
mod interrupt;
pub mod keygen;
mod keygen_fwknop;
pub mod knock;
mod output;
pub mod portknock;
mod private_file;
pub mod probe;
mod progress;
mod qr;
pub mod replay;
pub mod rules;
pub mod sequence;

use clap::ValueEnum;

/// Exit status for success.
const SUCCESS: u8 = 0;
/// Exit status for an error.
const FAILURE: u8 = 1;
/// Exit status for bad usage.
const USAGE: u8 = 2;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}
