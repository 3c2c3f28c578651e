//! Options of probes and knocks that concern the host.

use portknock_core::Protocol;
use portknock_core::host::Family;

use crate::error::Failure;

/// Selection of the host's addresses by IP version.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_family {
    /// IPv4 and IPv6.
    PORTKNOCK_FAMILY_ANY = 0,
    /// IPv4 only.
    PORTKNOCK_FAMILY_IPV4 = 4,
    /// IPv6 only.
    PORTKNOCK_FAMILY_IPV6 = 6,
}

/// A protocol with ports.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_protocol {
    /// TCP.
    PORTKNOCK_TCP = 0,
    /// UDP.
    PORTKNOCK_UDP = 1,
}

pub(crate) fn family(number: i32) -> Result<Family, Failure> {
    match number {
        0 => Ok(Family::Any),
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        _ => Err(Failure::argument(format!("family is {number}, which is not a portknock_family"))),
    }
}

pub(crate) fn protocol(number: i32) -> Result<Protocol, Failure> {
    match number {
        0 => Ok(Protocol::Tcp),
        1 => Ok(Protocol::Udp),
        _ => Err(Failure::argument(format!("protocol is {number}, which is not a portknock_protocol"))),
    }
}
