//! Captures on real interfaces, each test in its own network namespace.
//!
//! The tests work as root and as a user who may create user namespaces. Each test runs this program
//! again, through unshare(1).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod busy;
mod filtering;
mod following;
mod receiving;
mod refused;
mod support;
