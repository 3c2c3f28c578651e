//! Transport protocols, TCP flags and the origin of captured packets: types shared by all other
//! modules.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::BitOr;
use std::str::FromStr;

use etherparse::TcpHeader;

/// A transport protocol that knocks use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, knockd's default.
    Tcp,
    /// UDP.
    Udp,
}

/// `tcp` or `udp`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port that a door opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenPort {
    /// The protocol of incoming packets.
    pub protocol: Protocol,
    /// The destination port.
    pub port: NonZeroU16,
}

/// `tcp/22`.
impl fmt::Display for OpenPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}

/// From a text as in `tcp/22`.
impl FromStr for OpenPort {
    type Err = OpenPortError;

    fn from_str(text: &str) -> Result<Self, OpenPortError> {
        let (protocol, port) = text.split_once('/').ok_or(OpenPortError)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(OpenPortError),
        };
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.and_then(|port| port.parse().ok()).ok_or(OpenPortError)?;
        Ok(Self { protocol, port })
    }
}

/// A text is not a port with a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a port as in tcp/22 or udp/53")]
pub struct OpenPortError;

/// The six TCP flags that knockd supports, at their bits in the flag byte of the header (RFC 9293,
/// section 3.1).
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

    /// Returns the flags of a header's flag byte, without ECE and CWR, because no door can require
    /// them.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x3f)
    }

    /// Returns the flag byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns true if every flag of `other` is set.
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

/// A set of TCP segments: bit `n` is set if segments whose six flags are `n` belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentSet(u64);

impl SegmentSet {
    /// Every segment, whatever its flags.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// Returns the segments whose flags satisfy `belongs`.
    pub(crate) fn of(belongs: impl Fn(TcpFlags) -> bool) -> Self {
        Self((0..64).filter(|flags| belongs(TcpFlags::from_bits(*flags))).fold(0, |set, flags| set | 1 << flags))
    }

    /// Returns true if segments with these flags belong to the set.
    pub(crate) fn contains(self, flags: TcpFlags) -> bool {
        self.0 >> flags.bits() & 1 == 1
    }

    /// Returns true if no segment belongs to the set.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Returns the segments that belong to the set if `flag` (a single flag) is assumed to have the
    /// value `is_set`, whatever its actual value.
    pub(crate) fn given(self, flag: TcpFlags, is_set: bool) -> Self {
        let with = Self::of(|flags| flags.contains(flag)).0;
        let distance = flag.bits();
        if is_set {
            let kept = self.0 & with;
            Self(kept | kept >> distance)
        } else {
            let kept = self.0 & !with;
            Self(kept | kept << distance)
        }
    }
}

impl BitOr for SegmentSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The interface on which a packet was captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureOrigin {
    /// The kernel's index of the interface; 0 if it is unknown.
    pub interface: u32,
    /// True for a loopback interface.
    pub is_loopback: bool,
}

/// Sets the checksum in the header of a segment without a payload (RFC 9293, section 3.1).
///
/// Both addresses must be of the same family, as those of one route are. Otherwise the checksum
/// remains unchanged.
pub(crate) fn set_checksum(header: &mut TcpHeader, from: IpAddr, to: IpAddr) {
    let checksum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]),
        (IpAddr::V6(from), IpAddr::V6(to)) => header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]),
        _ => return,
    };
    // The computation fails only for payloads that are too long.
    header.checksum = checksum.unwrap_or(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_flag_no_longer_matters() {
        let set = SegmentSet::of(|flags| flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK));
        let open = set.given(TcpFlags::SYN, true).given(TcpFlags::ACK, false);
        assert_eq!(open, SegmentSet::ALL);
        assert!(set.given(TcpFlags::SYN, false).is_empty() && set.given(TcpFlags::ACK, true).is_empty());
        assert_eq!(set.given(TcpFlags::URG, true), set);
        assert_eq!(set.given(TcpFlags::FIN, false), set);
    }
}
