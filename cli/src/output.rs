//! Writing to standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process;

use crate::FAILURE;

/// Exit status that a shell reports for a program that SIGPIPE ended, as it ends most programs
/// whose reader has gone.
const BROKEN_PIPE: i32 = 141;

/// Writes to standard output. An error ends the program: its reader has gone, or the disk is full.
pub(crate) fn print(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            process::exit(BROKEN_PIPE);
        }
        print_error("portknock", format_args!("cannot write to standard output: {error}"));
        process::exit(1);
    }
}

/// Writes a line to standard error and returns the exit status for an error.
pub(crate) fn print_error(program: &str, message: impl Display) -> u8 {
    // There is no other place to report an error of this write.
    let _ = writeln!(io::stderr(), "{program}: {message}");
    FAILURE
}

/// Prints the help or the usage error that the parser returned. Returns the exit status.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    // There is no other place to report an error of this write.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(FAILURE)
}
