//! The logic of portknock: everything that the daemon, the command line, C and Python share.
//!
//! The pure part (`config`, `decode`, `filter`, `matcher`, `openings`, `engine`) does no I/O and reads no clock; the
//! shells around it (`capture`, `exec`, `journal`, `one_time`, `knock`, `probe`, `rules`, `service`, `sys`) touch the world.

mod arrivals;
pub mod capture;
mod clock;
pub mod config;
pub mod control;
pub mod decode;
pub mod engine;
mod event;
pub mod exec;
mod feed;
pub mod filter;
mod firewall_command;
pub mod gate;
pub mod host;
pub mod journal;
pub mod json;
pub mod knock;
mod local_addresses;
mod log_limit;
mod matcher;
#[cfg(test)]
mod messages;
mod network;
pub mod one_time;
mod openings;
mod packet;
mod port_list;
mod port_map;
mod printable;
pub mod probe;
mod programs;
mod rate_limit;
pub mod reader;
pub mod replay;
pub mod rules;
pub mod service;
pub mod sys;
mod tick;
mod time;
mod timeline;

pub use config::{Config, Diagnostic, Door, DoorId, FlagMask, OpenPort, OpenPrefix, Options, Sequence, Step};
pub use decode::{Knock, LinkType};
pub use engine::{Engine, EngineStats};
pub use event::{Action, CommandRequest, Event, EventKind, FailReason};
pub use ipnet::IpNet;
pub use local_addresses::LocalAddresses;
pub use log_limit::{EventCounts, Suppressed};
pub use network::{Written, parse_network};
pub use openings::Opening;
pub use packet::{Protocol, TcpFlags};
pub use printable::{Excerpt, Printable};
pub use time::Timestamp;
