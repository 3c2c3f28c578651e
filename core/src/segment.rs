//! What every TCP segment that is made here needs.

use std::net::IpAddr;

use etherparse::TcpHeader;

/// Puts the checksum of a segment without a payload into its header (RFC 9293, section 3.1).
///
/// Both addresses are of one family, as those of one route are; else no checksum is right, and it stays what it is.
pub(crate) fn set_checksum(header: &mut TcpHeader, from: IpAddr, to: IpAddr) {
    let checksum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]),
        (IpAddr::V6(from), IpAddr::V6(to)) => header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]),
        _ => return,
    };
    // It only fails for payloads that are too long.
    header.checksum = checksum.unwrap_or(0);
}
