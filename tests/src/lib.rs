//! Support for the end-to-end tests: hosts in network namespaces, daemons, firewalls and listeners
//! on them.
//!
//! Everything here asserts: a part that cannot be set up panics with the reason. The tests run in
//! `scripts/sandbox` only, so they do not affect the machine.
//!
//! ```no_run
//! use portknock_tests::{Daemon, Firewall, Lab, Listener, PortState};
//!
//! let lab = Lab::pair();
//! let firewall = Firewall::closed(&lab.server);
//! let _listener = Listener::start(&lab.server, 22);
//! assert_eq!(lab.client.tcp_state("10.0.0.1", 22), PortState::Filtered);
//! let daemon = Daemon::portknockd(&lab.server, "[ssh]\nsequence = 7000,8000\ncommand = iptables …\n");
//! lab.client.ok("knock 10.0.0.1 7000 8000"); // the original; ours is `binary("knock")`
//! daemon.wait_for("OPEN SESAME");
//! ```
#![allow(clippy::missing_panics_doc, reason = "to panic is how this crate reports")]

mod both;
mod c;
mod capture_file;
mod compliance;
mod control;
pub mod cost;
mod counter;
mod daemon;
mod disk;
mod distant;
mod figures;
mod firewall;
mod frame;
mod host;
pub mod hostile;
mod lab;
mod listener;
mod matrix;
mod pktgen;
mod probe;
mod process;
mod random;
mod scans;
mod sniffer;
mod tools;

pub use both::Both;
pub use c::{Build, C, Linked};
pub use capture_file::{capture_header, capture_record};
pub use compliance::{ClientScenario, Expected, Scenario};
pub use counter::Counter;
pub use daemon::Daemon;
pub use disk::Disk;
pub use distant::{Capacity, Distant, LinkProperties};
pub use figures::{Table, median, percentile, ratio, save_figures};
pub use firewall::Firewall;
pub use frame::Frame;
pub use host::{Host, PortState};
pub use lab::{Lab, Routed};
pub use listener::Listener;
pub use matrix::{Case, CaseId, Family, Matrix, Truth, Verdict, Verdicts, nmap};
pub use pktgen::{Sent, ports_but};
pub use probe::{Probed, Scan, probe, probe_command};
pub use process::{Output, Process};
pub use random::{Disagreement, Run};
pub use scans::{SCANS, ScanResult, ScanResults, scan_all};
pub use sniffer::{Sniffed, Sniffer};
pub use tools::{CAPTURE_ONLY_USER, UNPRIVILEGED, binary, in_parallel, other_users, require, skipped, wait_until};

use std::time::Duration;

/// Timeout of events that are expected soon. It is long because a loaded machine is slow, and a
/// test that passes never waits for it.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
