//! What the matcher sees of a packet.

use std::net::IpAddr;

use crate::packet::{Protocol, TcpFlags};
use crate::time::Timestamp;

/// A packet that may be a step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// When it was captured.
    pub time: Timestamp,
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// The destination port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The TCP flags; none for UDP, and where the frame was cut before them.
    pub flags: TcpFlags,
    /// The source port.
    pub source_port: u16,
    /// The TCP sequence number; 0 for UDP, and where the frame was cut before it.
    pub sequence_number: u32,
}
