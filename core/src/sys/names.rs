//! Names of addresses and of services.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, SocketAddr};
use std::ptr;

/// Returns the host name of an address from the system's resolver (getnameinfo(3)); `None` if there
/// is none. The call can block for as long as a name server needs to answer.
pub fn host_name(ip: IpAddr) -> Option<String> {
    let mut name: [libc::c_char; libc::NI_MAXHOST as usize] = [0; libc::NI_MAXHOST as usize];
    let (address, length) = raw_socket_address(SocketAddr::new(ip, 0));
    // SAFETY: the address is a valid socket address of the given length, the buffer has the stated
    // length, both outlive the call, and no service is requested.
    let result = unsafe {
        libc::getnameinfo(
            (&raw const address).cast(),
            length,
            name.as_mut_ptr(),
            libc::NI_MAXHOST,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: after success the buffer holds a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

/// Returns the port of a service name from the system's list of services, usually services(5), for
/// any protocol. Returns `None` if the list does not contain the name. A text of digits is not a
/// name: getaddrinfo(3) treats it as a port.
pub fn service_port(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut found = ptr::null_mut();
    // SAFETY: the name is a NUL-terminated string, no host and no hints are passed, and `found` is
    // writable.
    let result = unsafe { libc::getaddrinfo(ptr::null(), name.as_ptr(), ptr::null(), &raw mut found) };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: after success `found` is the first entry of a list that has no other owner.
    let address = unsafe { &*found }.ai_addr.cast::<libc::sockaddr_in>();
    // SAFETY: each address has the length of its family, and sin_port and sin6_port are at the same
    // offset.
    let port = unsafe { &*address }.sin_port;
    // SAFETY: the list is freed once, and not used afterwards.
    unsafe { libc::freeaddrinfo(found) };
    Some(u16::from_be(port)).filter(|&port| port != 0)
}

/// Returns the service name of a port from the system's list of services, usually services(5);
/// `None` if the list does not contain the port.
pub fn service_name(port: u16, udp: bool) -> Option<String> {
    let mut name: [libc::c_char; 256] = [0; 256];
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (raw, length) = raw_socket_address(address);
    let flags = if udp { libc::NI_DGRAM } else { 0 };
    // SAFETY: the address is a valid socket address of the given length, the buffer has the stated
    // length, both outlive the call, and no host is requested.
    let result = unsafe {
        libc::getnameinfo((&raw const raw).cast(), length, ptr::null_mut(), 0, name.as_mut_ptr(), 256, flags)
    };
    if result != 0 {
        return None;
    }
    // SAFETY: after success the buffer holds a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    // getnameinfo(3) returns the number if there is no name.
    Some(name).filter(|name| name.parse() != Ok(port))
}

/// Returns the address in libc's form, and its length in bytes.
fn raw_socket_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: a sockaddr_storage is plain integers, for which zeros are valid.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let pointer = &raw mut storage;
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every kind of address.
            unsafe { pointer.cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: 0,
            };
            // SAFETY: a sockaddr_storage is large and aligned enough for every kind of address.
            unsafe { pointer.cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, libc::socklen_t::try_from(length).unwrap_or(0))
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_has_a_name() {
        assert_eq!(host_name("127.0.0.1".parse().unwrap()).as_deref(), Some("localhost"));
        // Not every machine has a name for this address; it must not be mistaken for another.
        let six = host_name("::1".parse().unwrap());
        assert!(six.is_none_or(|name| name.contains("local")));
    }

    #[test]
    fn services_have_the_ports_of_the_systems_list() {
        // Not every machine has a list of services.
        assert!(service_port("ssh").is_none_or(|port| port == 22));
        assert!(service_name(22, false).is_none_or(|name| name == "ssh"));
        assert_eq!(service_name(4, true), None, "no list of services has this port");
        for name in ["no-such-service", "", "ssh\0", "ssh\n"] {
            assert_eq!(service_port(name), None, "{name:?}");
        }
    }
}
