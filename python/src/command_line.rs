//! The command lines of `portknock`, which `python -m portknock` also runs, and of `knock`.

use std::ffi::OsString;
use std::io::{self, Write};

use pyo3::prelude::*;

/// Runs a command line, whose first argument is the program's name, and returns its exit status. Only
/// `__main__.py` may call it: it writes to the standard output of the process, can end the process, and
/// handles its signals.
#[pyfunction]
pub(crate) fn _main(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| {
        let status = portknock_cli::portknock::run(argv);
        // Rust does this at the end of a Rust program. A failure cannot be reported any more.
        let _ = io::stdout().flush();
        status
    })
}

/// Runs the command line of `knock`, the original client, as [`_main`] does for `portknock`.
#[pyfunction]
pub(crate) fn _knock(py: Python<'_>, argv: Vec<OsString>) -> u8 {
    py.detach(|| {
        let status = portknock_cli::knock::run_original(argv);
        let _ = io::stdout().flush();
        status
    })
}
