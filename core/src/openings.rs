//! Doors that stand open and the times at which they close.

use std::net::IpAddr;
use std::sync::Arc;

use crate::time::Timestamp;

/// A door that stands open for one address, with what closes it and when. It holds all that is needed to close the door
/// even where the configuration no longer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The door's name.
    pub door: Arc<str>,
    /// The source address it is open for.
    pub ip: IpAddr,
    /// When the stop command is due.
    pub closes_at: Timestamp,
    /// The stop command, `%IP%` replaced.
    pub stop_command: String,
}
