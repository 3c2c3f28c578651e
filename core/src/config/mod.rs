//! knockd.conf: the values it means, and what is wrong with it. No file is read here but by [`load`].

mod diagnostic;
mod load;
mod model;
mod parse;
mod print;

pub use diagnostic::{Diagnostic, Fix, Report, Severity};
//pub use load::{LoadError, load};
pub use model::{Config, Door, DoorId, FlagMask, MAX_STEPS, OnStop, Options, Protocol, Sequence, SequenceError, Step};
//pub use parse::{Parsed, parse, parse_sequence};
