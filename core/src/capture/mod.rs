//! Packets off the wire: captures on several interfaces that come and go, behind one descriptor.

mod error;
mod frame;
mod interface;
mod missing;
mod notice;
mod pace;
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
