//! Decodes an IP packet to a knock: IPv4 (RFC 791) and IPv6 (RFC 8200), TCP (RFC 9293) and UDP (RFC
//! 768).

use std::net::IpAddr;

use etherparse::{
    IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
};

use crate::decode::Knock;
use crate::packet::{Protocol, TcpFlags};
use crate::time::Timestamp;

/// The IPv6 extension headers that the decoder skips to reach the ports (RFC 8200, 4302, 6275).
pub(crate) const IPV6_EXTENSIONS: [IpNumber; 6] = [
    IpNumber::IPV6_HEADER_HOP_BY_HOP,
    IpNumber::IPV6_ROUTE_HEADER,
    IpNumber::IPV6_FRAGMENTATION_HEADER,
    IpNumber::AUTHENTICATION_HEADER,
    IpNumber::IPV6_DESTINATION_OPTIONS,
    IpNumber::MOBILITY_HEADER,
];

/// Maximum number of extension headers that the decoder follows. RFC 8200 permits each header once,
/// and one of them twice.
const MAX_EXTENSIONS: usize = 8;

/// A TCP or UDP segment, or one of another protocol, and the addresses of its packet.
pub(super) struct Segment<'a> {
    source: IpAddr,
    destination: IpAddr,
    pub(super) protocol: IpNumber,
    /// The segment, which may be cut.
    pub(super) bytes: &'a [u8],
}

/// Returns the knock in an IPv4 packet; `None` for another protocol, a later fragment, or a packet
/// that is cut before its ports.
pub(super) fn decode_v4(time: Timestamp, packet: &[u8]) -> Option<Knock> {
    segment_v4(packet)?.knock(time)
}

/// Returns the knock in an IPv6 packet; `None` for another protocol, a later fragment, more than
/// [`MAX_EXTENSIONS`] extension headers, or a packet that is cut before its ports.
pub(super) fn decode_v6(time: Timestamp, packet: &[u8]) -> Option<Knock> {
    segment_v6(packet)?.knock(time)
}

/// Returns the segment in an IPv4 packet; `None` for a later fragment.
#[inline]
pub(super) fn segment_v4(packet: &[u8]) -> Option<Segment<'_>> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    if header.fragments_offset().value() != 0 {
        return None;
    }
    let bytes = within(packet, usize::from(header.total_len())).get(header.slice().len()..)?;
    let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
    Some(Segment { source, destination, protocol: header.protocol(), bytes })
}

/// Returns the segment in an IPv6 packet; `None` for a later fragment or too many extension headers.
#[inline]
pub(super) fn segment_v6(packet: &[u8]) -> Option<Segment<'_>> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let mut rest = within(&packet[header.slice().len()..], usize::from(header.payload_length()));
    let mut next = header.next_header();
    for _ in 0..MAX_EXTENSIONS {
        let skipped;
        (next, skipped) = match next {
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let fragment = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                if fragment.fragment_offset().value() != 0 {
                    return None;
                }
                (fragment.next_header(), fragment.slice().len())
            }
            IpNumber::AUTHENTICATION_HEADER => {
                let authentication = IpAuthHeaderSlice::from_slice(rest).ok()?;
                (authentication.next_header(), authentication.slice().len())
            }
            extension if IPV6_EXTENSIONS.contains(&extension) => {
                let extension = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                (extension.next_header(), extension.slice().len())
            }
            _ => break,
        };
        rest = &rest[skipped..];
    }
    let (source, destination) = (header.source_addr().into(), header.destination_addr().into());
    Some(Segment { source, destination, protocol: next, bytes: rest })
}

/// Returns the part of `bytes` that belongs to the packet, without the padding that Ethernet adds
/// to short frames. A length of 0 means that the length is not known yet (the network card segments
/// the packet) or does not fit its field.
fn within(bytes: &[u8], length: usize) -> &[u8] {
    if length == 0 { bytes } else { &bytes[..length.min(bytes.len())] }
}

/// Returns the transport protocol; `None` for a protocol without knocks.
pub(super) fn protocol_of(protocol: IpNumber) -> Option<Protocol> {
    match protocol {
        IpNumber::TCP => Some(Protocol::Tcp),
        IpNumber::UDP => Some(Protocol::Udp),
        _ => None,
    }
}

impl Segment<'_> {
    /// Returns the knock in a TCP or UDP segment; `None` for another protocol, or if the segment is
    /// cut before its ports.
    #[inline]
    fn knock(self, time: Timestamp) -> Option<Knock> {
        let Self { source, destination, protocol, bytes: segment } = self;
        let protocol = protocol_of(protocol)?;
        let &[s0, s1, p0, p1] = segment.first_chunk()?;
        let (flags, sequence_number) = match protocol {
            Protocol::Udp => (TcpFlags::NONE, 0),
            // RFC 9293, section 3.1. Each field is read separately, because a frame may be cut between
            // them.
            Protocol::Tcp => (
                segment.get(13).map_or(TcpFlags::NONE, |byte| TcpFlags::from_bits(*byte)),
                segment[4..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)),
            ),
        };
        Some(Knock {
            time,
            source,
            destination,
            port: u16::from_be_bytes([p0, p1]),
            protocol,
            flags,
            source_port: u16::from_be_bytes([s0, s1]),
            sequence_number,
        })
    }
}
