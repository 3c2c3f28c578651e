//! `portknock sequence`: prints the time sequence of a client.

use std::path::PathBuf;

use clap::Args;
use portknock_core::client_file::ClientFile;
use portknock_core::sys::privileges;
use portknock_core::{Timestamp, wall_clock};

use crate::SUCCESS;
use crate::output::{print, print_error};

/// The last second of [`Timestamp`]s, in the year 2554.
const LAST_SECOND: u64 = u64::MAX / 1_000_000_000;

/// The arguments of `portknock sequence`.
#[derive(Args, Clone, Debug)]
pub struct SequenceArgs {
    /// The client's file, which portknock keygen has written
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Print the sequence of the window that contains this time, in seconds since 1970, instead of
    /// the present window
    #[arg(long, value_name = "UNIX-SECONDS", value_parser = clap::value_parser!(u64).range(..=LAST_SECOND))]
    at: Option<u64>,
}

/// Prints a sequence. The exit status is 0, or 1 if the client's file cannot be used.
pub fn run(args: &SequenceArgs) -> u8 {
    privileges::hide();
    let file = match ClientFile::read(&args.key) {
        Ok(file) => file,
        Err(error) => return print_error("portknock", error),
    };
    let sequence = file.sequence_at(args.at.map_or_else(wall_clock, Timestamp::from_secs));
    let steps: Vec<String> = sequence.steps().iter().map(ToString::to_string).collect();
    print(format!("{}\n", steps.join(" ")).as_bytes());
    SUCCESS
}
