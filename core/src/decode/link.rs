//! The link types that captures come with.

/// How the frames of a capture begin. The numbers are libpcap's `DLT_`/`LINKTYPE_` values
/// (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// BSD loopback: the address family in the byte order of the capturing machine (0).
    Null,
    /// Ethernet, with any depth of VLAN tags (1).
    Ethernet,
    /// Raw IPv4 or IPv6 (101; 12 or 14 as a live `DLT_RAW`).
    Raw,
    /// OpenBSD loopback: the address family in network byte order (108).
    Loop,
    /// Linux cooked v1 (113).
    LinuxSll,
    /// Raw IPv4 (228).
    Ipv4,
    /// Raw IPv6 (229).
    Ipv6,
    /// Linux cooked v2 (276), which captures on `any` have.
    LinuxSll2,
}

impl LinkType {
    /// The link type with this libpcap number; `None` where portknock cannot read such frames.
    pub const fn from_dlt(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 => Self::Raw,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }
}
