//! The machine's interfaces and addresses (getifaddrs(3)), and notifications of their changes
//! (rtnetlink(7)).

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use serde::{Deserialize, Serialize};

use super::{altnames, netlink_socket};

/// The state of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceState {
    /// The kernel's index of the interface. An interface that is created again under the same name
    /// has another index.
    pub index: u32,
    /// True if the interface is up (`IFF_UP`), with or without a carrier.
    pub up: bool,
    /// True for a loopback interface (`IFF_LOOPBACK`).
    pub is_loopback: bool,
}

/// The interfaces and addresses of the machine at one time, in this process' network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// The interfaces by name.
    pub interfaces: HashMap<String, InterfaceState>,
    /// The addresses of all interfaces.
    pub addresses: HashSet<IpAddr>,
    /// The broadcast addresses of their IPv4 networks.
    pub broadcasts: HashSet<IpAddr>,
    /// The labels of addresses, as in `eth0:0`, with their addresses.
    pub labels: HashMap<String, HashSet<IpAddr>>,
    /// The alternative names, with the names used in `interfaces`.
    pub altnames: HashMap<String, String>,
}

impl Network {
    /// Reads the current state from the kernel.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors or memory.
    pub(crate) fn read() -> io::Result<Self> {
        let mut network = Self::default();
        for entry in Entries::read()?.iter() {
            // SAFETY: `ifa_addr` is null or points to an address that is valid as long as the list.
            let family = unsafe { entry.ifa_addr.as_ref() }.map(|address| libc::c_int::from(address.sa_family));
            match family {
                Some(libc::AF_INET) => {
                    // SAFETY: an address of this family is a sockaddr_in.
                    let address = unsafe { ipv4(entry.ifa_addr) };
                    network.addresses.insert(address.into());
                    if !entry.ifa_netmask.is_null() {
                        // SAFETY: the mask of such an address is a sockaddr_in, too.
                        let mask = unsafe { ipv4(entry.ifa_netmask) };
                        network.broadcasts.extend(broadcast(address, mask).map(IpAddr::V4));
                    }
                    // SAFETY: `ifa_name` is a string that is valid as long as the list.
                    let label = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy();
                    if label.contains(':') {
                        network.labels.entry(label.into_owned()).or_default().insert(address.into());
                    }
                }
                Some(libc::AF_INET6) => {
                    // SAFETY: an address of this family is a sockaddr_in6.
                    let address = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                    network.addresses.insert(Ipv6Addr::from(address.sin6_addr.s6_addr).into());
                }
                // An interface. It has no address if it has no link layer, for example a tunnel.
                Some(libc::AF_PACKET) | None => {
                    // SAFETY: `ifa_name` is a string that is valid as long as the list.
                    let name = unsafe { CStr::from_ptr(entry.ifa_name) };
                    if let Some(index) = index_of(name)? {
                        let has = |flag: libc::c_int| entry.ifa_flags & flag.unsigned_abs() != 0;
                        let state =
                            InterfaceState { index, up: has(libc::IFF_UP), is_loopback: has(libc::IFF_LOOPBACK) };
                        network.interfaces.insert(name.to_string_lossy().into_owned(), state);
                    }
                }
                Some(_) => {}
            }
        }
        network.altnames = altnames::read()?;
        Ok(network)
    }

    /// Returns the name of the interface that has this name, this alternative name, or an address
    /// with this label.
    pub(crate) fn device<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let (device, _) = if self.labels.contains_key(name) { name.split_once(':')? } else { (name, "") };
        let device = self.altnames.get(device).map_or(device, String::as_str);
        self.interfaces.contains_key(device).then_some(device)
    }

    /// Returns the addresses that packets to these interfaces may be sent to: all of this
    /// machine's, unless each of the names is a label.
    pub(crate) fn addresses_of<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> HashSet<IpAddr> {
        let labelled = names.try_fold(HashSet::new(), |mut all, name| {
            let is_label = name.contains(':');
            all.extend(self.labels.get(name).into_iter().flatten());
            is_label.then_some(all)
        });
        labelled.unwrap_or_else(|| self.addresses.clone())
    }
}

/// Returns the address in a sockaddr_in.
///
/// # Safety
/// `address` must point to a sockaddr_in.
unsafe fn ipv4(address: *const libc::sockaddr) -> Ipv4Addr {
    // SAFETY: the caller guarantees that `address` points to a sockaddr_in.
    let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    u32::from_be(address.sin_addr.s_addr).into()
}

/// Returns the broadcast address of the network of an address with this mask; networks of one or
/// two addresses have none.
fn broadcast(address: Ipv4Addr, mask: Ipv4Addr) -> Option<Ipv4Addr> {
    let hosts = !mask.to_bits();
    (hosts > 1).then(|| Ipv4Addr::from_bits(address.to_bits() | hosts))
}

/// Returns the index of an interface; `None` if it no longer exists.
fn index_of(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: `name` is a string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index != 0 {
        return Ok(Some(index));
    }
    // The call needs a descriptor, so it can also fail for other reasons.
    let error = io::Error::last_os_error();
    if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) { Ok(None) } else { Err(error) }
}

/// The list that getifaddrs(3) returns.
struct Entries(*mut libc::ifaddrs);

impl Entries {
    fn read() -> io::Result<Self> {
        let mut first = ptr::null_mut();
        // SAFETY: `first` outlives the call, which stores a list in it that `drop` frees.
        super::check(unsafe { libc::getifaddrs(&raw mut first) })?;
        Ok(Self(first))
    }

    fn iter(&self) -> impl Iterator<Item = &libc::ifaddrs> {
        // SAFETY: the pointer is null or points to the first entry of a list that is valid as long
        // as `self`.
        let first = unsafe { self.0.as_ref() };
        std::iter::successors(first, |entry| {
            // SAFETY: the pointer is null or points to the next entry of the same list.
            unsafe { entry.ifa_next.as_ref() }
        })
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: getifaddrs allocated the list, and it is freed only here.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// A descriptor that becomes readable when an interface or an address is added, removed or changed.
#[derive(Debug)]
pub(crate) struct NetworkWatch(OwnedFd);

impl NetworkWatch {
    /// Starts watching.
    ///
    /// # Errors
    /// Fails if the process or the system is out of descriptors, or if netlink sockets are
    /// forbidden.
    pub(crate) fn new() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        netlink_socket::open(libc::NETLINK_ROUTE, groups.unsigned_abs()).map(Self)
    }

    /// Acknowledges all changes so far. Returns true if there was one. The messages are not parsed,
    /// because the kernel drops some if they arrive too fast; call [`Network::read`] for the new
    /// state.
    ///
    /// # Errors
    /// See recv(2).
    pub(crate) fn acknowledge(&self) -> io::Result<bool> {
        netlink_socket::acknowledge(&self.0)
    }
}

impl AsFd for NetworkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        let network = Network::read().unwrap();
        let loopback = network.interfaces["lo"];
        assert!(loopback.index > 0 && loopback.is_loopback);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(!loopback.up || network.addresses.contains(&address));
    }

    #[test]
    fn the_broadcast_address_is_the_last_of_the_network() {
        let of = |address: [u8; 4], mask: [u8; 4]| broadcast(address.into(), mask.into()).map(|ip| ip.octets());
        assert_eq!(of([10, 0, 0, 1], [255, 255, 255, 0]), Some([10, 0, 0, 255]));
        assert_eq!(of([172, 16, 5, 4], [255, 240, 0, 0]), Some([172, 31, 255, 255]));
        assert_eq!(of([10, 0, 0, 1], [255, 255, 255, 252]), Some([10, 0, 0, 3]));
        assert_eq!(of([10, 0, 0, 1], [255, 255, 255, 254]), None);
        assert_eq!(of([10, 0, 0, 1], [255, 255, 255, 255]), None);
    }

    #[test]
    fn labels_and_alternative_names_resolve_to_the_device() {
        let mut network = Network::default();
        network.interfaces.insert("ens3".into(), InterfaceState { index: 2, up: true, is_loopback: false });
        network.altnames.insert("enp0s3".into(), "ens3".into());
        let (own, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.9".parse().unwrap());
        network.addresses.extend([own, other]);
        network.labels.insert("ens3:0".into(), HashSet::from([other]));
        for (name, device) in [
            ("ens3", Some("ens3")),
            ("enp0s3", Some("ens3")),
            ("ens3:0", Some("ens3")),
            ("ens3:1", None),
            ("eth0", None),
        ] {
            assert_eq!(network.device(name), device, "{name}");
        }
        let of = |names: &[&str]| network.addresses_of(names.iter().copied());
        assert_eq!(of(&["ens3:0"]), HashSet::from([other]));
        assert_eq!(of(&["ens3:1"]), HashSet::new(), "the label may be added later");
        assert_eq!(of(&["ens3:0", "enp0s3"]), network.addresses);
    }

    #[test]
    fn without_changes_there_is_no_notification() {
        let watch = NetworkWatch::new().unwrap();
        while watch.acknowledge().unwrap() {}
        assert!(!watch.acknowledge().unwrap());
    }
}
