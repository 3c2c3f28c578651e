//! libportknock: `portknock_core` for C.
//!
//! The doc comments of exported items become those of `include/portknock.h`, so they address C
//! programmers.
#![allow(unsafe_code, reason = "C passes pointers")]
#![allow(non_camel_case_types, reason = "the names follow the conventions of C")]
#![allow(
    clippy::missing_safety_doc,
    reason = "the comment at the top of the header states the duties of callers for all functions"
)]

mod arguments;
mod boundary;
pub mod client;
pub mod config;
pub mod diagnostic;
pub mod engine;
pub mod error;
pub mod event;
mod guarded;
pub mod host;
pub mod knock;
pub mod link_type;
pub mod listener;
mod options;
pub mod probe;
pub mod replay;
pub mod status;
mod text;
pub mod version;
