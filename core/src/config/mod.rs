//! Parses and checks knockd.conf: returns its values and reports its errors. Only [`load()`],
//! [`load_text()`] and [`Loaded::check_deployment`] read files.

mod assign;
mod checks;
mod code_sequence;
mod code_steps;
mod codes;
mod command_checks;
mod deployment;
mod diagnostic;
mod draft;
mod findings;
mod fix;
mod fwknop_checks;
mod json;
mod key_files;
mod keyed;
mod keyed_checks;
mod keys;
mod load;
mod locate;
mod model;
mod open;
mod parse;
mod port_ranges;
mod print;
mod quoted;
mod quotes;
mod render;
mod sequence;
mod sequence_lines;
mod slice;
mod steps;
mod summary;
mod time_sequence;
mod typography;
mod used_ports;
mod values;

pub use crate::packet::{OpenPort, OpenPortError};
pub use code_sequence::{CodeSequence, CodeSequenceError, CodeStep};
pub use deployment::service_is_confined;
pub use diagnostic::{Diagnostic, Fix, Report, Severity};
pub use fix::apply_fixes;
pub use json::check_json;
pub use key_files::KeysError;
pub(crate) use key_files::MAX_HINT_BYTES;
pub use load::{LoadError, Loaded, load, load_text};
pub use locate::{Locator, Position};
pub(crate) use model::GATE_ELEMENTS;
pub use model::{
    Config, DEFAULT_PACKET_PORT, DEFAULT_SOCKET, Door, DoorId, FlagMask, Gate, GateSets, OnStop, OpenPrefix, Options,
    PacketAddress, PacketFormat, Refusal, TableFamily,
};
pub use open::MAX_OPEN_PORTS;
pub use parse::{Parsed, parse};
pub use sequence::parse_sequence;
pub(crate) use sequence_lines::{SequenceLine, unused_lines};
pub use steps::{MAX_STEPS, Sequence, SequenceError, Step};
pub use summary::CheckSummary;
pub(crate) use time_sequence::{LIVE_WINDOWS, WINDOW_SECONDS, WINDOW_SECONDS_TEXT};
pub use time_sequence::{MAX_TIME_STEPS, StepProtocols, StepProtocolsError, TimeSequence};
pub(crate) use used_ports::UsedPorts;
