//! Link types: the formats of frames.

use portknock_core::LinkType;

use crate::error::Failure;
use crate::status::portknock_status::PORTKNOCK_ERR_LINK_TYPE;

/// Frames of a BSD loopback: the address family in the byte order of the capturing machine.
pub const PORTKNOCK_LINKTYPE_NULL: i32 = 0;
/// Ethernet frames, with any depth of VLAN tags.
pub const PORTKNOCK_LINKTYPE_ETHERNET: i32 = 1;
/// IPv4 or IPv6 packets without a link-layer header. The numbers 12 and 14, which libpcap uses for
/// the same format on some systems, are accepted too.
pub const PORTKNOCK_LINKTYPE_RAW: i32 = 101;
/// Frames of an OpenBSD loopback: the address family in network byte order.
pub const PORTKNOCK_LINKTYPE_LOOP: i32 = 108;
/// Linux "cooked" frames, version 1.
pub const PORTKNOCK_LINKTYPE_LINUX_SLL: i32 = 113;
/// IPv4 packets.
pub const PORTKNOCK_LINKTYPE_IPV4: i32 = 228;
/// IPv6 packets.
pub const PORTKNOCK_LINKTYPE_IPV6: i32 = 229;
/// Linux "cooked" frames, version 2.
pub const PORTKNOCK_LINKTYPE_LINUX_SLL2: i32 = 276;

pub(crate) fn link_type(number: i32) -> Result<LinkType, Failure> {
    LinkType::from_dlt(number)
        .ok_or_else(|| Failure::new(PORTKNOCK_ERR_LINK_TYPE, format!("frames of link type {number} cannot be read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_type_of_core_has_a_name() {
        let named = [
            PORTKNOCK_LINKTYPE_NULL,
            PORTKNOCK_LINKTYPE_ETHERNET,
            PORTKNOCK_LINKTYPE_RAW,
            PORTKNOCK_LINKTYPE_LOOP,
            PORTKNOCK_LINKTYPE_LINUX_SLL,
            PORTKNOCK_LINKTYPE_IPV4,
            PORTKNOCK_LINKTYPE_IPV6,
            PORTKNOCK_LINKTYPE_LINUX_SLL2,
        ];
        let supported: Vec<_> =
            (0..1_000).filter(|number| link_type(*number).is_ok() && ![12, 14].contains(number)).collect();
        assert_eq!(supported, named);
    }
}
