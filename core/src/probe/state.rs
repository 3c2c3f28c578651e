//! What a probe can find, in nmap's words.

use std::fmt;

/// Whether a port can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortState {
    /// Something listens there: TCP was answered by a SYN/ACK, UDP by a datagram.
    Open,
    /// Nothing listens there, or a firewall says so: TCP was answered by an RST, UDP by an ICMP "port unreachable" of the
    /// host itself.
    Closed,
    /// Something on the way lets nothing through: no answer, or another ICMP error.
    Filtered,
    /// UDP only: no answer, which is what an open port and a filtered one have in common.
    OpenFiltered,
}

impl PortState {
    /// nmap's word for it: `open`, `closed`, `filtered` or `open|filtered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Filtered => "filtered",
            Self::OpenFiltered => "open|filtered",
        }
    }
}

/// nmap's word for it.
impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a [`PortState`] was concluded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A SYN/ACK, or a connection that was made.
    SynAck,
    /// An RST.
    Reset,
    /// An RST, which connect(2) reports as `ECONNREFUSED`.
    ConnRefused,
    /// A UDP datagram.
    UdpResponse,
    /// Nothing.
    NoResponse,
    /// ICMP 3/0: the network is unreachable.
    NetUnreach,
    /// ICMP 3/1 or ICMPv6 1/3: the host is unreachable. From an address of this machine: there is no such neighbour.
    HostUnreach,
    /// ICMP 3/2: the host does not speak the protocol.
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
    /// ICMPv6 1/6: a route that rejects.
    RejectRoute,
    /// Another ICMP "destination unreachable".
    DestUnreach,
    /// ICMP 11 or ICMPv6 3: the packet went round in circles or over too many routers.
    TimeExceeded,
    /// ICMP 12 or ICMPv6 4: something on the way does not understand the packet.
    ParamProblem,
    /// This machine's own firewall does not let the probe out.
    PermDenied,
}

impl Reason {
    /// nmap's word for it, as in `syn-ack`.
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

/// nmap's word for it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
