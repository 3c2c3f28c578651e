//! The result of one port.

use std::net::SocketAddr;
use std::time::Duration;

use super::state::{PortState, Reason};
use crate::packet::Protocol;

/// The result of one port of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeResult {
    /// The address and port that were probed.
    pub address: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The state of the port.
    pub state: PortState,
    /// The reason for the state.
    pub reason: Reason,
    /// Time from the probe to its answer. `None` without an answer, or if it is uncertain which
    /// probe was answered: the answer may be to an earlier probe, or a SYN/ACK retransmitted after
    /// a second because the first one was lost.
    pub rtt: Option<Duration>,
}
