//! The reader: a separate process without privileges that reads packets.
//!
//! Any host can send a packet to this program, so a fault in the code that reads packets must not
//! harm the daemon. Capture, decoder and matcher are in a process that opens its captures and then
//! gives up its privileges. The daemon starts the reader and sends it the doors. The reader reports
//! events at doors: door, event, address. The daemon validates each report before it uses it.
//! Openings, files, commands and the log stay in the daemon.
//!
//! A reader opens nothing after its start. If an interface comes up, the daemon starts another
//! reader, to which the running reader hands over its attempts. If a reader ends, the next one
//! starts without attempts.

mod channel;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod memory;
mod notice;
mod packets;
mod process;
mod wire;
mod work;

pub use notice::ReaderNotice;
pub use process::ReaderProgram;
pub(crate) use process::{ReaderProcess, ReaderReport, ReportedPacket};
pub(crate) use wire::{Counts, ReaderOptions, Start};
pub use work::run;
