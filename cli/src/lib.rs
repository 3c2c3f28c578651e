//! The command lines of `portknock` and `knock`: arguments in, text and exit status out. The logic is in
//! `portknock_core`.
#![forbid(unsafe_code)]

pub mod knock;
