//! Decodes a captured frame to a knock.

mod ip;
mod knock;
mod link;
#[cfg(test)]
mod tests;

pub(crate) use ip::IPV6_EXTENSIONS;
pub use knock::Knock;
pub use link::LinkType;
pub(crate) use link::{cooked_origin, network_packet};

use crate::packet::Protocol;
use crate::time::Timestamp;

/// Returns the knock in a frame; `None` if the frame contains none. `time` becomes the knock's
/// time. Never panics, whatever the bytes.
///
/// A knock is a TCP or UDP packet over IPv4 (with options) or IPv6 (with extension headers), whole
/// or the first fragment of one. The frame may be cut anywhere after its ports. A frame is no knock
/// if its Linux cooked header marks it as sent by this machine; other link headers do not contain
/// the direction.
pub fn decode(link_type: LinkType, time: Timestamp, frame: &[u8]) -> Option<Knock> {
    let (network, packet) = link::network_packet(link_type, frame)?;
    match network {
        link::Network::Ipv4 => ip::decode_v4(time, packet),
        link::Network::Ipv6 => ip::decode_v6(time, packet),
    }
}

/// A UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    /// The length of the payload by the UDP header, in bytes.
    pub(crate) length: usize,
    /// The payload; only its beginning if the frame is cut.
    pub(crate) payload: &'a [u8],
}

/// Returns the UDP datagram in a frame; `None` if the frame contains none. Never panics, whatever the
/// bytes.
pub(crate) fn datagram(link_type: LinkType, frame: &[u8]) -> Option<Datagram<'_>> {
    let (network, packet) = link::network_packet(link_type, frame)?;
    let segment = match network {
        link::Network::Ipv4 => ip::segment_v4(packet)?,
        link::Network::Ipv6 => ip::segment_v6(packet)?,
    };
    if ip::protocol_of(segment.protocol)? != Protocol::Udp {
        return None;
    }
    // RFC 768: the length includes the header of 8 bytes.
    let length = segment.bytes.get(4..6)?.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)))?;
    let (length, payload) = (length.checked_sub(8)?, segment.bytes.get(8..)?);
    Some(Datagram { length, payload: &payload[..length.min(payload.len())] })
}
