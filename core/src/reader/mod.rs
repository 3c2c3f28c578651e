//! Reading packets in a process of its own, which has no rights.
//!
//! A packet is the one thing that anybody may hand to this program, so what looks at packets runs where a fault of it
//! does no harm: capture, decoder and matcher are in a process that has opened its captures and then given up its
//! rights. The daemon starts it, says which doors there are, and is told what happens at them: door, event, address. It
//! believes none of it before it has checked that it can be. Openings, files, commands and the log stay with the daemon.
//!
//! A reader opens nothing after its start. Where an interface comes up, the daemon starts another one, which takes over
//! the attempts; where a reader dies, the next one begins without any.

mod channel;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod memory;
mod notice;
mod process;
mod wire;
mod work;

pub use notice::ReaderNotice;
pub use process::ReaderProgram;
pub(crate) use process::{ReaderProcess, Seen};
pub(crate) use wire::{Counts, ReaderOptions, Start};
pub use work::run;
