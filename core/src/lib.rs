//! The logic of portknock: everything that the daemon, the command line, C and Python share.
//!
//! The pure part (`config`, `decode`, `filter`, `matcher`, `openings`, `engine`) does no I/O and reads no clock; the
//! shells around it (`capture`, `exec`, `journal`, `one_time`, `knock`, `probe`, `rules`, `service`, `sys`) touch the world.

mod arrivals;
pub mod capture;
pub mod config;
pub mod control;
pub mod decode;
pub mod engine;
mod event;
pub mod exec;
pub mod filter;
mod firewall_command;
pub mod gate;
pub mod host;
mod intake;
pub mod journal;
pub mod json;
pub mod knock;
mod log_limit;
mod matcher;
mod network;
pub mod one_time;
mod openings;
mod printable;
pub mod probe;
mod rate_limit;
pub mod reader;
pub mod replay;
pub mod rules;
mod segment;
pub mod service;
mod spelling;
pub mod sys;
mod tick;
mod time;
mod timeline;

pub use config::{Config, Diagnostic, Door, DoorId, FlagMask, OpenPort, OpenPrefix, Options, Protocol, Sequence, Step};
pub use decode::{Knock, LinkType, TcpFlags};
pub use engine::{Engine, EngineStats, LocalAddresses};
pub use event::{Action, CommandRequest, Event, EventKind, FailReason};
pub use ipnet::IpNet;
pub use log_limit::{EventCounts, Suppressed};
pub use network::{Written, parse_network};
pub use openings::Opening;
pub use printable::{Excerpt, Printable};
pub use time::Timestamp;
