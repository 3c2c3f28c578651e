//! Live captures on several interfaces that come and go, with one descriptor to wait for.

mod coalescer;
mod error;
mod frame;
mod interface;
mod missing;
mod names;
mod notice;
mod set;
mod state;

pub use crate::packet::CaptureOrigin;
pub use error::CaptureError;
pub use frame::Frame;
pub(crate) use interface::timestamp;
pub use missing::missing_interfaces;
pub use notice::{Absence, CaptureNotice, CaptureStats, InterfaceStats};
pub use set::CaptureSet;
pub(crate) use state::RestartRequest;
