//! The alternative names of interfaces (`ip link property`), which getifaddrs(3) does not return.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use super::netlink_socket;

/// Size in bytes of a netlink message header.
const HEADER: usize = size_of::<libc::nlmsghdr>();
/// Size in bytes of the part of RTM_NEWLINK before its attributes (rtnetlink(7)).
const LINK: usize = 16;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x1 | 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
/// Mask for the type of an attribute, without its flags.
const TYPE: u16 = 0x3fff;
/// Size of the receive buffer in bytes: more than the kernel puts into one datagram of a dump.
const BUFFER_BYTES: usize = 64 << 10;

/// Returns the alternative names of all interfaces in this network namespace, each with the name of
/// its interface.
///
/// # Errors
/// Fails if no descriptor is free, or if netlink sockets are forbidden.
pub(super) fn read() -> io::Result<HashMap<String, String>> {
    let mut socket = File::from(netlink_socket::open(libc::NETLINK_ROUTE, 0)?);
    let mut request = Vec::with_capacity(HEADER + LINK);
    request.extend(32_u32.to_ne_bytes());
    request.extend(libc::RTM_GETLINK.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.resize(HEADER + LINK, 0);
    socket.write_all(&request)?;
    let mut names = HashMap::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) if take_messages(buffer.get(..length).unwrap_or_default(), &mut names) => return Ok(names),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The kernel answers a dump during the calls.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(names),
            Err(error) => return Err(error),
        }
    }
}

/// Extracts the names from a datagram. Returns true at the end of the dump, or at an invalid
/// message.
fn take_messages(mut datagram: &[u8], names: &mut HashMap<String, String>) -> bool {
    while !datagram.is_empty() {
        let (Some(length), Some(kind)) = (number_32(datagram, 0), number_16(datagram, 4)) else { return true };
        let Some(message) = datagram.get(..length).filter(|_| length >= HEADER) else { return true };
        match kind {
            NLMSG_DONE => return true,
            libc::RTM_NEWLINK => take_link(message.get(HEADER + LINK..).unwrap_or_default(), names),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn take_link(attributes: &[u8], names: &mut HashMap<String, String>) {
    let all: Vec<_> = Attributes(attributes).collect();
    let Some(name) = all.iter().find(|(kind, _)| *kind == IFLA_IFNAME).map(|(_, value)| text(value)) else { return };
    let lists = all.iter().filter(|(kind, _)| *kind == IFLA_PROP_LIST).flat_map(|(_, list)| Attributes(list));
    names.extend(lists.filter(|(kind, _)| *kind == IFLA_ALT_IFNAME).map(|(_, value)| (text(value), name.clone())));
}

/// The attributes of a message: their types and values.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(number_16(self.0, 0)?);
        let kind = number_16(self.0, 2)? & TYPE;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn number_16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn number_32(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)?).ok()
}

/// Returns a NUL-terminated text.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_parsed_and_invalid_messages_are_harmless() {
        read().unwrap();
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).unwrap();
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let list = [attribute(IFLA_ALT_IFNAME, b"enp0s3\0"), attribute(IFLA_ALT_IFNAME, b"enx5254\0")].concat();
        let attributes = [attribute(IFLA_IFNAME, b"ens3\0"), attribute(IFLA_PROP_LIST | 0x8000, &list)].concat();
        let length = u32::try_from(HEADER + LINK + attributes.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(libc::RTM_NEWLINK.to_ne_bytes());
        message.resize(HEADER + LINK, 0);
        message.extend(attributes);
        let mut names = HashMap::new();
        assert!(!take_messages(&message, &mut names));
        let expected = [("enp0s3", "ens3"), ("enx5254", "ens3")].map(|(alt, name)| (alt.to_owned(), name.to_owned()));
        assert_eq!(names, HashMap::from(expected));
        for length in 0..message.len() {
            take_messages(&message[..length], &mut HashMap::new());
        }
    }
}
