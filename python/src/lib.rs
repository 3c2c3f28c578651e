//! The native module of the Python package: `portknock_core` for Python.
//!
//! `python/portknock/__init__.pyi` documents it for Python programmers. The parts that are simplest in
//! Python are written in Python: values (`_values.py`), errors (`_errors.py`), the functions for plans
//! (`_client.py`) and asyncio (`aio.py`).
#![forbid(unsafe_code)]

mod arguments;
mod command_line;
mod config;
mod engine;
mod errors;
mod event;
mod frames;
mod job;
mod json;
mod key;
mod knock;
mod link_type;
mod listener;
mod probe;
mod replay;
mod task;

use pyo3::prelude::*;

// Every class is frozen, and locks protect the state that changes. So the classes do not need the global
// interpreter lock.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "the name follows the conventions of Python")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_export]
    use crate::command_line::{_knock, _main};
    #[pymodule_export]
    use crate::config::{Config, check, check_text};
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::event::{Close, Event, Extend, Fail, Open, Refused, Stage, Timeout};
    #[pymodule_export]
    use crate::job::Job;
    #[pymodule_export]
    use crate::key::{Key, packet, steps};
    #[pymodule_export]
    use crate::knock::KnockPlan;
    #[pymodule_export]
    use crate::listener::Listener;
    #[pymodule_export]
    use crate::probe::ProbePlan;
    #[pymodule_export]
    use crate::replay::{Replay, replay};

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        crate::link_type::LINK_TYPES
            .iter()
            .try_for_each(|&(name, number)| super::PyModuleMethods::add(module, name, number))
    }
}
