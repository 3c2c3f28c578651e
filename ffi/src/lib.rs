//! libportknock: `portknock_core` for C.
//!
//! The comments of what is exported become those of `include/portknock.h`, so they speak to C programmers.
#![allow(unsafe_code, reason = "C hands over pointers")]
#![allow(non_camel_case_types, reason = "the names are C's")]
#![allow(clippy::missing_safety_doc, reason = "what callers have to keep stands at the head of the header, for all")]

mod arguments;
mod border;
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
