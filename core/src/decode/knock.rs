//! What the matcher sees of a packet.

use std::net::IpAddr;
use std::ops::BitOr;

use crate::config::Protocol;
use crate::time::Timestamp;

/// The six TCP flags that knockd knows, as they stand in the header's flag byte (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// FIN.
    pub const FIN: Self = Self(0x01);
    /// SYN.
    pub const SYN: Self = Self(0x02);
    /// RST.
    pub const RST: Self = Self(0x04);
    /// PSH.
    pub const PSH: Self = Self(0x08);
    /// ACK.
    pub const ACK: Self = Self(0x10);
    /// URG.
    pub const URG: Self = Self(0x20);

    /// The flags of a header's flag byte; ECE and CWR are left out, since no door can ask for them.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x3f)
    }

    /// The flag byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True where every flag of `other` is set here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

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
