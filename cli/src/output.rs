//! Writing to standard output and standard error.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process;

use crate::FAILURE;

/// The status that a shell reports for a program that SIGPIPE ended, as it does most others whose reader went away.
const BROKEN_PIPE: i32 = 141;

/// Writes to standard output. Where that is not possible the program ends: there is nobody left to work for, or no
/// room.
pub(crate) fn print(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            process::exit(BROKEN_PIPE);
        }
        complain("portknock", format_args!("cannot write to standard output: {error}"));
        process::exit(1);
    }
}

/// Writes a line to standard error, and gives the status for failures.
pub(crate) fn complain(program: &str, message: impl Display) -> u8 {
    // Where even this fails, nobody can be told.
    let _ = writeln!(io::stderr(), "{program}: {message}");
    FAILURE
}

/// Writes what the parser has to say: the help that was asked for, or what is wrong with the arguments. Gives the
/// status.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    // Where this fails, nobody can be told.
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(FAILURE)
}
