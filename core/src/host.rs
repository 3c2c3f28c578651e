//! Resolving the name of a host to its addresses, and choosing the local address that reaches it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::sys::socket;

/// The IP versions to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// Returns true if the family includes the IP version of `ip`.
    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

/// The reason why a host has no address to send to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The name service has no such host, or cannot be queried.
    #[error("cannot find the host `{}`: {error}", host.escape_default())]
    Resolve {
        /// The host as it was given.
        host: String,
        /// The name service's error.
        error: io::Error,
    },
    /// The host has no address of the requested family.
    #[error("{host} has no {} address", match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
        Family::Any => "IP",
    })]
    NoAddress {
        /// The host as it was given.
        host: String,
        /// The requested family, including the restriction by the source address.
        family: Family,
    },
    /// The address is link-local and has no zone.
    #[error("{address} is a link-local address, which every interface has: name the interface, as in {address}%eth0")]
    NoZone {
        /// The address.
        address: Ipv6Addr,
    },
}

/// Resolves `host`, which is a name, an IPv4 address, or an IPv6 address with or without a zone, as
/// in `fe80::1%eth0`. Queries the name service if it is a name. Returns the addresses of this
/// family and of the family of `source`: the first one, or with `all` each of them once. Their port
/// is 0.
pub(crate) fn resolve(
    host: &str,
    family: Family,
    source: Option<IpAddr>,
    all: bool,
) -> Result<Vec<SocketAddr>, HostError> {
    let found = (host, 0).to_socket_addrs().map_err(|error| HostError::Resolve { host: host.into(), error })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        let reachable = source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
        if reachable && family.has(address.ip()) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if !all {
        addresses.truncate(1);
    }
    if addresses.is_empty() {
        return Err(HostError::NoAddress { host: host.into(), family: wanted(family, source) });
    }
    let without_zone = |address: &SocketAddr| match address {
        SocketAddr::V6(six) if six.ip().is_unicast_link_local() && six.scope_id() == 0 => Some(*six.ip()),
        _ => None,
    };
    match addresses.iter().find_map(without_zone) {
        Some(address) => Err(HostError::NoZone { address }),
        None => Ok(addresses),
    }
}

/// Returns the family that both allow.
fn wanted(family: Family, source: Option<IpAddr>) -> Family {
    match (family, source) {
        (Family::Any, Some(IpAddr::V4(_))) => Family::V4,
        (Family::Any, Some(IpAddr::V6(_))) => Family::V6,
        _ => family,
    }
}

/// Returns a socket that sends datagrams to `to`, from `source` if given.
pub(crate) fn udp_socket(to: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    UdpSocket::bind(source.map_or(any_address(to), |source| socket::with_scope_of(source, to)))
}

/// Returns the same address with this port.
pub(crate) fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Returns the unspecified address in the family of `to`.
pub(crate) fn any_address(to: SocketAddr) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// Returns the address that packets to `to` come from, with port 0: `source`, or else the kernel's
/// choice for the route. Fails if the destination has no route, or if the source is not an address
/// of this machine.
pub(crate) fn local_address(to: SocketAddr, source: Option<IpAddr>) -> io::Result<SocketAddr> {
    let probe = udp_socket(to, source)?;
    // Connecting a UDP socket sends nothing; any port except 0 is valid.
    probe.connect(at_port(to, 9))?;
    Ok(at_port(probe.local_addr()?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(host: &str) -> Result<Vec<SocketAddr>, HostError> {
        resolve(host, Family::Any, None, false)
    }

    #[test]
    fn numeric_addresses_resolve_to_themselves() {
        assert_eq!(first("192.0.2.1").unwrap(), ["192.0.2.1:0".parse().unwrap()]);
        assert_eq!(first("2001:db8::1").unwrap(), ["[2001:db8::1]:0".parse().unwrap()]);
    }

    #[test]
    fn a_zone_is_an_interface() {
        assert_eq!(first("fe80::1%lo").unwrap(), ["[fe80::1%1]:0".parse().unwrap()]);
    }

    #[test]
    fn family_and_source_leave_out_addresses() {
        let message = |host, family, source: Option<&str>| {
            resolve(host, family, source.map(|ip| ip.parse().unwrap()), true).unwrap_err().to_string()
        };
        assert_eq!(message("192.0.2.1", Family::V6, None), "192.0.2.1 has no IPv6 address");
        assert_eq!(message("2001:db8::1", Family::Any, Some("192.0.2.1")), "2001:db8::1 has no IPv4 address");
        assert_eq!(message("2001:db8::1", Family::V6, Some("192.0.2.1")), "2001:db8::1 has no IPv6 address");
    }

    #[test]
    fn an_error_quotes_the_name_that_cannot_be_resolved() {
        for host in ["", "no such host", "host\0"] {
            let error = first(host).unwrap_err();
            assert!(matches!(&error, HostError::Resolve { host: named, .. } if named == host), "{error}");
        }
    }
}
