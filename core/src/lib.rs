//! The logic of portknock, a port-knocking daemon for Linux: everything that the daemon, the command
//! line and the C and Python bindings share.
//!
//! # Modules
//!
//! | task | start at |
//! |---|---|
//! | read a `knockd.conf`, report its errors, fix them | [`config`] |
//! | match packets that the program receives by its own means | [`Engine`] |
//! | listen on interfaces and run the doors' commands | [`service::Listener`], [`service::Service`] |
//! | find what the packets of a capture file would have opened | [`replay`] |
//! | send a knock, and wait for the port | [`knock`] |
//! | read or create the key file of a client | [`client_file`] |
//! | find open, closed and filtered ports | [`probe`] |
//! | print a packet filter for a host, or check the active one | [`rules`] |
//! | ask a running daemon for its status, or control it | [`control`] |
//!
//! [`Engine`] and what it is made of (configuration, decoder, matcher, openings) is pure: it does no
//! I/O and reads no clock, and the same packets always cause the same events. [`Engine`] documents
//! the run loop.
//!
//! # Examples
//!
//! Check a configuration, and fix what has one obvious meaning:
//!
//! ```
//! use portknock_core::config::{apply_fixes, parse};
//!
//! let text = b"[ssh]\nsequence = sequence = 7000,8000\nopen = tcp/22\n";
//! let parsed = parse(text);
//! assert!(parsed.config.is_none());
//! assert_eq!(parsed.report.diagnostics[0].code, "PK012");
//!
//! let fixed = apply_fixes(text, &parsed.report);
//! let config = parse(&fixed).config.ok_or("the file still has errors")?;
//! assert_eq!(&*config.doors[0].name, "ssh");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Print the events that the packets of a capture file cause:
//!
//! ```no_run
//! use portknock_core::{LocalAddresses, config, replay::Replay};
//!
//! let config = config::load("/etc/knockd.conf".as_ref())?.config.ok_or("the file has errors")?;
//! let mut replay = Replay::open(&config, LocalAddresses::default(), "knocks.pcap".as_ref())?;
//! while let Some(event) = replay.next_event()? {
//!     println!("{event}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Listen on the interfaces of the configuration, and open doors:
//!
//! ```no_run
//! use portknock_core::config;
//! use portknock_core::service::{Listener, ServiceOptions};
//!
//! let config = config::load("/etc/knockd.conf".as_ref())?.config.ok_or("the file has errors")?;
//! let listener = Listener::open(config, ServiceOptions::default())?;
//! while let Some(notice) = listener.next(None)? {
//!     println!("{notice}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Print a packet filter that closes every port except HTTPS:
//!
//! ```
//! use portknock_core::config::Refusal;
//! use portknock_core::rules::{Format, RuleSet};
//!
//! let rules = RuleSet { refusal: Refusal::Reject, allow: "443".parse()?, explain: false };
//! assert!(rules.render(Format::Nft).contains("table inet portknock_host"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Conventions
//!
//! - **Platform:** Linux 5.10 or later, with libpcap.
//! - **Minimum supported Rust version:** 1.88. A new minor version of the crate can raise it.
//! - **Panics:** no function panics on invalid input. A panic is a bug of this crate.
//! - **Logging and signals:** the crate writes no log, installs no signal handler and never ends the
//!   process. It reports through events, notices and errors.
//! - **Units:** times are [`Timestamp`]s, in nanoseconds since 1970; durations are
//!   [`Duration`](std::time::Duration)s; ports are in host byte order.
//! - **Text from outside:** `Display` escapes the names, paths and addresses that it prints.

mod arrivals;
pub mod capture;
pub mod client_file;
mod clock;
mod clock_search;
pub mod config;
pub mod control;
pub mod decode;
pub mod engine;
mod event;
mod exec;
mod feed;
mod filter;
mod firewall_command;
pub mod fwknop;
mod fwknop_keys;
pub mod gate;
pub mod host;
mod journal;
pub mod json;
pub mod keys;
pub mod knock;
mod live_windows;
mod local_addresses;
mod log_limit;
mod mac_detector;
mod matcher;
#[cfg(test)]
mod messages;
mod network;
mod one_time;
mod openings;
mod packet;
mod packet_keys;
mod port_list;
mod port_map;
mod printable;
pub mod probe;
mod programs;
mod rate_limit;
pub mod reader;
pub mod replay;
mod replay_memory;
pub mod rules;
pub mod service;
pub mod spa;
pub mod sys;
mod tick;
mod time;
mod timeline;
mod weak_search;

pub use clock::wall_clock;
pub use config::{
    Config, Diagnostic, Door, DoorId, FlagMask, OpenPort, OpenPrefix, Options, PacketAddress, PacketFormat, Sequence,
    Step, TimeSequence,
};
pub use decode::{Knock, LinkType};
pub use engine::{Engine, EngineStats};
pub use event::{Action, CommandRequest, Event, EventKind, FailReason, RefusalReason};
pub use exec::{CommandId, CommandResult, CommandResultKind};
pub use ipnet::IpNet;
pub use journal::{StateError, StateNotice};
pub use local_addresses::LocalAddresses;
pub use log_limit::{EventCounts, Suppressed};
pub use network::{DisplayNetwork, parse_network};
pub use one_time::OneTimeError;
pub use openings::Opening;
pub use packet::{Protocol, TcpFlags};
pub use printable::{Excerpt, Printable};
pub use time::Timestamp;

/// Parts that the tests of this crate and the fuzz targets use. They are not public interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::filter::{PortFilter, Program};
    pub use crate::fwknop::{
        FwknopContent, FwknopError, MacKey, WeakReason, diagnose, has_form, open as open_fwknop,
        seal_with as seal_fwknop,
    };
    pub use crate::journal::{Clocks, OpeningId, Restored, StateFile};
    pub use crate::one_time::{OneTimeFile, unused_sequences};
    pub use crate::spa::{open_at, seal_with};
    pub use crate::sys::bpf::attach_filter;
}
