//! Whether a port is open, seen from outside.

mod wait;

pub use wait::{LastAnswer, NotOpen, Opened, wait_open};
