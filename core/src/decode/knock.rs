//! The fields of a packet that the matcher reads.

use std::net::IpAddr;

use crate::packet::{Protocol, TcpFlags};
use crate::time::Timestamp;

/// A packet that may be a step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// Time of its arrival.
    pub time: Timestamp,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The destination port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The TCP flags; none for UDP, or if the frame was cut before them.
    pub flags: TcpFlags,
    /// The source port.
    pub source_port: u16,
    /// The TCP sequence number; 0 for UDP, or if the frame was cut before it.
    pub sequence_number: u32,
}
