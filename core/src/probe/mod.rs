//! Port probes: whether ports are open, closed or filtered as seen from outside, in nmap's terms.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use portknock_core::probe::ProbePlan;
//!
//! let plan = ProbePlan::new("host.example.org", "22,80,8000-8100".parse()?);
//! let scan = plan.run(&plan.resolve()?, &mut |_| ControlFlow::Continue(()))?;
//! for result in scan.results {
//!     println!("{} is {} ({})", result.address, result.state, result.reason);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer_capture;
mod connect;
mod drive;
mod error;
mod icmp;
mod json;
mod payload;
mod plan;
mod rate_control;
mod raw;
mod report;
mod result;
mod rtt;
mod run;
mod schedule;
#[cfg(test)]
mod simulation;
mod state;
mod syn;
mod udp;
mod wait;

pub use crate::port_list::{PortList, PortListError};
pub use error::ProbeError;
pub use json::result_line;
pub use plan::{DEFAULT_TIMEOUT, Method, ProbePlan};
pub use report::table;
pub use result::ProbeResult;
pub use run::{Progress, Scan};
pub use state::{PortState, Reason};
pub use wait::{NotOpen, Opened, wait_open};
