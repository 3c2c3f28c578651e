//! What was found at one port.

use std::net::SocketAddr;
use std::time::Duration;

use super::state::{PortState, Reason};
use crate::packet::Protocol;

/// What was found at one port of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeResult {
    /// The address and port that were probed.
    pub address: SocketAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// What was concluded.
    pub state: PortState,
    /// From what.
    pub reason: Reason,
    /// From the probe to its answer; `None` without an answer, and where it is not certain what was answered: which try, or
    /// by a SYN/ACK that got lost before and was repeated after a second.
    pub rtt: Option<Duration>,
}
