//! From a captured frame to a knock.

mod ip;
mod knock;
mod link;
#[cfg(test)]
mod tests;

pub(crate) use ip::IPV6_EXTENSIONS;
pub use knock::Knock;
pub use link::LinkType;
pub(crate) use link::{cooked_origin, network_packet};

use crate::time::Timestamp;

/// Reads the knock out of a frame, or `None` where the frame holds none. Never panics, whatever the bytes.
///
/// A knock is a TCP or UDP packet over IPv4 (with options) or IPv6 (with extension headers), whole or the first
/// fragment of one. The frame may be cut short anywhere behind its ports. It is no knock where a Linux cooked header
/// says that this machine sent it; the other link types don't tell.
pub fn decode(link_type: LinkType, time: Timestamp, frame: &[u8]) -> Option<Knock> {
    let (network, packet) = link::network_packet(link_type, frame)?;
    match network {
        link::Network::Ipv4 => ip::decode_v4(time, packet),
        link::Network::Ipv6 => ip::decode_v6(time, packet),
    }
}
