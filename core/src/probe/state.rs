//! The states of a port and the reasons for them, in nmap's terms.

use std::fmt;

/// Whether a port can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortState {
    /// A program listens at the port: it answered a TCP probe by a SYN/ACK, or a UDP probe by a
    /// datagram.
    Open,
    /// No program listens at the port, or a firewall answers in its place: the answer was an RST
    /// for TCP, or an ICMP "port unreachable" from the host itself for UDP.
    Closed,
    /// A device on the path blocks the probes: there was no answer, or another ICMP error.
    Filtered,
    /// UDP only: no answer. The port may be open or filtered.
    OpenFiltered,
}

impl PortState {
    /// Returns nmap's name: `open`, `closed`, `filtered` or `open|filtered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Filtered => "filtered",
            Self::OpenFiltered => "open|filtered",
        }
    }
}

/// Formats nmap's name.
impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The observation that a [`PortState`] is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A SYN/ACK, or an established connection.
    SynAck,
    /// An RST.
    Reset,
    /// An RST, which connect(2) reports as `ECONNREFUSED`.
    ConnRefused,
    /// A UDP datagram.
    UdpResponse,
    /// No answer.
    NoResponse,
    /// ICMP 3/0: the network is unreachable.
    NetUnreach,
    /// ICMP 3/1 or ICMPv6 1/3: the host is unreachable. From an address of this machine: the
    /// neighbour does not exist.
    HostUnreach,
    /// ICMP 3/2: the host does not support the protocol.
    ProtoUnreach,
    /// ICMP 3/3 or ICMPv6 1/4: the port is unreachable.
    PortUnreach,
    /// ICMP 3/9: the network is prohibited.
    NetProhibited,
    /// ICMP 3/10: the host is prohibited.
    HostProhibited,
    /// ICMP 3/13, ICMPv6 1/1 or 1/5: prohibited by an administrator, or by a policy.
    AdminProhibited,
    /// ICMPv6 1/0: no route.
    NoRoute,
    /// ICMPv6 1/2: the destination is beyond the scope of the source address.
    BeyondScope,
    /// ICMPv6 1/6: a `reject` route.
    RejectRoute,
    /// Another ICMP "destination unreachable".
    DestUnreach,
    /// ICMP 11 or ICMPv6 3: the packet was in a routing loop, or passed too many routers.
    TimeExceeded,
    /// ICMP 12 or ICMPv6 4: a device on the path reports an invalid header.
    ParamProblem,
    /// This machine's own firewall blocks the probe.
    PermDenied,
}

impl Reason {
    /// Returns nmap's name, as in `syn-ack`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SynAck => "syn-ack",
            Self::Reset => "reset",
            Self::ConnRefused => "conn-refused",
            Self::UdpResponse => "udp-response",
            Self::NoResponse => "no-response",
            Self::NetUnreach => "net-unreach",
            Self::HostUnreach => "host-unreach",
            Self::ProtoUnreach => "proto-unreach",
            Self::PortUnreach => "port-unreach",
            Self::NetProhibited => "net-prohibited",
            Self::HostProhibited => "host-prohibited",
            Self::AdminProhibited => "admin-prohibited",
            Self::NoRoute => "no-route",
            Self::BeyondScope => "beyond-scope",
            Self::RejectRoute => "reject-route",
            Self::DestUnreach => "dest-unreach",
            Self::TimeExceeded => "time-exceeded",
            Self::ParamProblem => "param-problem",
            Self::PermDenied => "perm-denied",
        }
    }
}

/// Formats nmap's name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
