//! Payloads of UDP probes, for services that answer only valid requests.

/// A DNS query for the name servers of the root zone, without recursion desired (RFC 1035, section
/// 4.1).
const DNS: &[u8] = b"\x70\x6b\0\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";

/// An NTP version 4 client request (RFC 5905, section 7.3). A server treats all-zero fields as
/// unknown.
const NTP: &[u8; 48] = &{
    let mut request = [0; 48];
    request[0] = 0x23;
    request
};

/// An SNMPv1 GetRequest for the system description in the community `public` (RFC 1157, section
/// 4.1).
const SNMP: &[u8] = b"\x30\x26\x02\x01\0\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";

/// Returns the payload for a port; most ports get an empty datagram.
pub(super) fn payload(port: u16) -> &'static [u8] {
    match port {
        // Multicast DNS (5353) also answers unicast queries.
        53 | 5353 => DNS,
        123 => NTP,
        161 => SNMP,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_inside_are_right() {
        // An SNMP message is nested: each length is the number of bytes that follow it.
        let (mut rest, mut depth) = (SNMP, 0);
        for skipped in [11, 9, 0, 0] {
            assert_eq!(usize::from(rest[1]), rest.len() - 2, "{depth}");
            rest = &rest[2 + skipped..];
            depth += 1;
        }
        assert_eq!(rest[0], 0x06, "the object identifier");
        assert_eq!((DNS.len(), NTP.len()), (17, 48));
    }
}
