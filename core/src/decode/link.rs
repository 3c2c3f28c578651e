//! The link types of captures, and the network packet after their headers.

use crate::packet::CaptureOrigin;

/// The kind of link header that the frames of a capture begin with. The numbers are libpcap's
/// `DLT_`/`LINKTYPE_` values (<https://www.tcpdump.org/linktypes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// BSD loopback: the address family in the byte order of the capturing machine (0).
    Null,
    /// Ethernet, with any depth of VLAN tags (1).
    Ethernet,
    /// Raw IPv4 or IPv6 (101; 12 or 14 as a live `DLT_RAW`).
    Raw,
    /// OpenBSD loopback: the address family in network byte order (108).
    Loop,
    /// Linux cooked v1 (113).
    LinuxSll,
    /// Raw IPv4 (228).
    Ipv4,
    /// Raw IPv6 (229).
    Ipv6,
    /// Linux cooked v2 (276), the link type of captures on `any`.
    LinuxSll2,
}

impl LinkType {
    /// Returns the link type with this libpcap number; `None` if portknock cannot decode such
    /// frames.
    pub const fn from_dlt(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Ethernet,
            12 | 14 | 101 => Self::Raw,
            108 => Self::Loop,
            113 => Self::LinuxSll,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            276 => Self::LinuxSll2,
            _ => return None,
        })
    }
}

/// A network protocol that carries knocks.
pub(crate) enum Network {
    Ipv4,
    Ipv6,
}

/// Length of an Ethernet header without VLAN tags, in bytes.
const ETHERNET_HEADER: usize = 14;
/// Length of a Linux cooked v1 header, in bytes
/// (<https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>).
const SLL_HEADER: usize = 16;
/// Length of a Linux cooked v2 header, in bytes
/// (<https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>).
const SLL2_HEADER: usize = 20;
/// The packet type of both cooked headers for packets that this machine sends.
const OUTGOING: u16 = 4;
/// Length of a VLAN tag, in bytes (IEEE 802.1Q).
const VLAN_TAG: usize = 4;
/// The hardware type of a loopback interface (linux/if_arp.h).
const ARPHRD_LOOPBACK: u16 = libc::ARPHRD_LOOPBACK;

/// Returns the network protocol of a frame, and the packet after all link headers. `None` if the
/// packet is not IP, if a cooked header marks it as sent by this machine, or if the frame ends
/// before it.
#[allow(clippy::inline_always, reason = "callgrind: a call costs a tenth of decoding a frame")]
#[inline(always)]
pub(crate) fn network_packet(link_type: LinkType, frame: &[u8]) -> Option<(Network, &[u8])> {
    match link_type {
        LinkType::Ethernet => by_ether_type(u16_at(frame, 12)?, &frame[ETHERNET_HEADER..]),
        LinkType::LinuxSll => {
            let packet = frame.get(SLL_HEADER..)?;
            if u16_at(frame, 0)? == OUTGOING { None } else { by_ether_type(u16_at(frame, 14)?, packet) }
        }
        LinkType::LinuxSll2 => {
            let packet = frame.get(SLL2_HEADER..)?;
            if u16::from(frame[10]) == OUTGOING { None } else { by_ether_type(u16_at(frame, 0)?, packet) }
        }
        LinkType::Null | LinkType::Loop => by_address_family(frame),
        LinkType::Raw => match frame.first()? >> 4 {
            4 => Some((Network::Ipv4, frame)),
            6 => Some((Network::Ipv6, frame)),
            _ => None,
        },
        LinkType::Ipv4 => Some((Network::Ipv4, frame)),
        LinkType::Ipv6 => Some((Network::Ipv6, frame)),
    }
}

/// Returns the interface in a cooked header; `None` for other link types. The index is 0 in version
/// 1 of the header, which does not contain it.
pub(crate) fn cooked_origin(link_type: LinkType, frame: &[u8]) -> Option<CaptureOrigin> {
    let (interface, hardware) = match link_type {
        LinkType::LinuxSll => (0, u16_at(frame, 2)?),
        LinkType::LinuxSll2 => (u32::from_be_bytes(*frame.get(4..)?.first_chunk()?), u16_at(frame, 8)?),
        _ => return None,
    };
    Some(CaptureOrigin { interface, is_loopback: hardware == ARPHRD_LOOPBACK })
}

/// Skips any depth of VLAN tags in front of the packet.
#[inline]
fn by_ether_type(mut ether_type: u16, mut packet: &[u8]) -> Option<(Network, &[u8])> {
    loop {
        match ether_type {
            0x0800 => return Some((Network::Ipv4, packet)),
            0x86dd => return Some((Network::Ipv6, packet)),
            // 802.1Q, 802.1ad, and the number of the outer tag before 802.1ad.
            0x8100 | 0x88a8 | 0x9100 => {
                ether_type = u16_at(packet, 2)?;
                packet = &packet[VLAN_TAG..];
            }
            _ => return None,
        }
    }
}

/// Accepts both byte orders, because a capture file does not contain the byte order of the machine
/// that wrote it.
fn by_address_family(frame: &[u8]) -> Option<(Network, &[u8])> {
    let (family, packet) = frame.split_first_chunk::<4>()?;
    let family = match u32::from_be_bytes(*family) {
        small @ 0..=0xffff => small,
        large => large.swap_bytes(),
    };
    match family {
        2 => Some((Network::Ipv4, packet)),
        // AF_INET6 of Linux, of NetBSD and OpenBSD, of FreeBSD, of macOS.
        10 | 24 | 28 | 30 => Some((Network::Ipv6, packet)),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}
