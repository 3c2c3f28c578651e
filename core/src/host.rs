//! From the name of a host to its addresses, and to the one of ours that reaches it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::sys::socket;

/// Which IP versions are meant.
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
    /// True where addresses like `ip` are meant.
    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

/// Why a host has no address to send to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The name service knows no such host, or cannot be asked.
    #[error("cannot find the host `{}`: {error}", host.escape_default())]
    Resolve {
        /// The host as it was given.
        host: String,
        /// What the name service says.
        error: io::Error,
    },
    /// The host has no address of the family that was asked for.
    #[error("{host} has no {} address", match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
        Family::Any => "IP",
    })]
    NoAddress {
        /// The host as it was given.
        host: String,
        /// The family that was asked for, also by the address to send from.
        family: Family,
    },
    /// The address is of the link and does not say of which one.
    #[error("{address} is a link-local address, which every interface has: name the interface, as in {address}%eth0")]
    NoZone {
        /// The address.
        address: Ipv6Addr,
    },
}

/// The addresses of `host` (a name, an IPv4 address, or an IPv6 address with or without a zone, as in `fe80::1%eth0`)
/// that are of this family, and of that of `source`: the first one, or with `all` each of them once. Their port is 0.
/// Asks the name service, where `host` is a name.
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

/// The family that both allow.
fn wanted(family: Family, source: Option<IpAddr>) -> Family {
    match (family, source) {
        (Family::Any, Some(IpAddr::V4(_))) => Family::V4,
        (Family::Any, Some(IpAddr::V6(_))) => Family::V6,
        _ => family,
    }
}

/// A socket that sends datagrams to `to`, from `source` where that is given.
pub(crate) fn udp_socket(to: SocketAddr, source: Option<IpAddr>) -> io::Result<UdpSocket> {
    UdpSocket::bind(source.map_or(any_address(to), |source| socket::with_scope_of(source, to)))
}

/// The same address with this port.
pub(crate) fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// The address that stands for any of this machine's, in the family of `to`.
pub(crate) fn any_address(to: SocketAddr) -> SocketAddr {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// The address that packets to `to` come from, with port 0: the route's choice, where `source` is not given. An error
/// is what the kernel says to a destination without a route, or to a source that is not this machine's.
pub(crate) fn local_address(to: SocketAddr, source: Option<IpAddr>) -> io::Result<SocketAddr> {
    let probe = udp_socket(to, source)?;
    // To connect a UDP socket sends nothing; any port but 0 does.
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
    fn addresses_are_taken_as_they_are() {
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
    fn names_that_mean_nothing_are_named() {
        for host in ["", "no such host", "host\0"] {
            let error = first(host).unwrap_err();
            assert!(matches!(&error, HostError::Resolve { host: named, .. } if named == host), "{error}");
        }
    }
}
