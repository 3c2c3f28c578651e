//! The native module of the Python package: `portknock_core` for Python.
//!
//! Its contract is `python/portknock/__init__.pyi`, which speaks to Python programmers.
#![forbid(unsafe_code)]

mod command_line;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::command_line::_main;
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name is Python's")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
