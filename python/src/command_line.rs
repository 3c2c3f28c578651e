//! The command lines of `portknock`, also for `python -m portknock`, and of `knock`.

use std::ffi::OsString;
use std::io::{self, Write};

use pyo3::prelude::*;

/// Runs a command line, whose first argument is the program's name, and gives its exit status. It is for
/// `__main__.py` alone: it writes to the process's own standard output, may end the process, and takes its signals.
#[pyfunction]
pub(crate) fn _main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| {
        let status = portknock_cli::portknock::run(argv);
        // Rust does this where a Rust program ends. Nobody is left to be told of a failure.
        let _ = io::stdout().flush();
        status
    })
}

/// The same for the command line of the original client, `knock`.
#[pyfunction]
pub(crate) fn _knock(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| {
        let status = portknock_cli::knock::run_original(argv);
        let _ = io::stdout().flush();
        status
    })
}
