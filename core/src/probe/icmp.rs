//! ICMP errors (RFC 792, RFC 4443), mapped to reasons.

use std::net::IpAddr;

use super::state::Reason;
use crate::sys::error_queue::Origin;

/// The type and code of an ICMP error, in the numbering of its IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IcmpError {
    /// ICMP type and code.
    V4(u8, u8),
    /// ICMPv6 type and code.
    V6(u8, u8),
}

impl IcmpError {
    /// Returns the ICMP error of an entry in a socket's error queue; `None` if the error is local.
    pub(super) fn from_origin(origin: Origin) -> Option<Self> {
        match origin {
            Origin::Icmp(kind, code) => Some(Self::V4(kind, code)),
            Origin::Icmp6(kind, code) => Some(Self::V6(kind, code)),
            Origin::Local => None,
        }
    }

    /// Returns the reason that the error, sent by `from`, gives for the state of a port of `target`
    /// that was probed from `local`; `None` if the error is not about a port.
    pub(super) fn reason(self, from: Option<IpAddr>, local: IpAddr, target: IpAddr) -> Option<Reason> {
        match self.nmap_reason()? {
            // Sent by this machine itself: "host unreachable" means that the neighbour does not
            // answer, any other error comes from a rule of its firewall.
            Reason::HostUnreach => Some(Reason::HostUnreach),
            _ if from == Some(local) && local != target => Some(Reason::PermDenied),
            reason => Some(reason),
        }
    }

    /// Returns the reason in nmap's terms; `None` for messages that are not about a port, such as
    /// "fragmentation needed".
    fn nmap_reason(self) -> Option<Reason> {
        Some(match self {
            Self::V4(3, code) => match code {
                0 => Reason::NetUnreach,
                1 => Reason::HostUnreach,
                2 => Reason::ProtoUnreach,
                3 => Reason::PortUnreach,
                4 => return None,
                9 => Reason::NetProhibited,
                10 => Reason::HostProhibited,
                13 => Reason::AdminProhibited,
                _ => Reason::DestUnreach,
            },
            Self::V4(11, _) | Self::V6(3, _) => Reason::TimeExceeded,
            Self::V4(12, _) | Self::V6(4, _) => Reason::ParamProblem,
            Self::V6(1, code) => match code {
                0 => Reason::NoRoute,
                1 | 5 => Reason::AdminProhibited,
                2 => Reason::BeyondScope,
                3 => Reason::HostUnreach,
                4 => Reason::PortUnreach,
                6 => Reason::RejectRoute,
                _ => Reason::DestUnreach,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_nmaps_names() {
        let name = |error: IcmpError| error.nmap_reason().map(Reason::as_str);
        for (code, expected) in [
            (0, "net-unreach"),
            (1, "host-unreach"),
            (2, "proto-unreach"),
            (3, "port-unreach"),
            (9, "net-prohibited"),
            (10, "host-prohibited"),
            (13, "admin-prohibited"),
        ] {
            assert_eq!(name(IcmpError::V4(3, code)), Some(expected));
        }
        for (code, expected) in [
            (0, "no-route"),
            (1, "admin-prohibited"),
            (2, "beyond-scope"),
            (3, "host-unreach"),
            (4, "port-unreach"),
            (5, "admin-prohibited"),
            (6, "reject-route"),
        ] {
            assert_eq!(name(IcmpError::V6(1, code)), Some(expected));
        }
    }

    #[test]
    fn errors_that_are_not_about_a_port_have_no_reason() {
        for error in
            [IcmpError::V4(3, 4), IcmpError::V4(0, 0), IcmpError::V4(8, 0), IcmpError::V6(2, 0), IcmpError::V6(135, 0)]
        {
            assert_eq!(error.nmap_reason(), None, "{error:?}");
        }
    }

    #[test]
    fn the_own_firewall_is_distinguished_from_an_absent_neighbour() {
        let [local, target, router] = ["192.0.2.2", "192.0.2.1", "192.0.2.9"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let from = |from, code| IcmpError::V4(3, code).reason(Some(from), local, target);
        assert_eq!(from(local, 3), Some(Reason::PermDenied));
        assert_eq!(from(local, 1), Some(Reason::HostUnreach));
        assert_eq!(from(router, 3), Some(Reason::PortUnreach));
        assert_eq!(IcmpError::V4(3, 3).reason(Some(local), local, local), Some(Reason::PortUnreach));
    }
}
