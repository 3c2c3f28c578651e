//! What UDP probes carry: services that only answer to what they understand get that.

/// A DNS query for the name servers of the root, without a wish for recursion (RFC 1035, section 4.1).
const DNS: &[u8] = b"\x70\x6b\0\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";

/// An NTP request of a client, version 4 (RFC 5905, section 7.3); a server takes the rest for unknown.
const NTP: &[u8; 48] = &{
    let mut request = [0; 48];
    request[0] = 0x23;
    request
};

/// An SNMPv1 request for the system's description in the community `public` (RFC 1157, section 4.1).
const SNMP: &[u8] = b"\x30\x26\x02\x01\0\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";

/// The payload for a port; most get an empty datagram.
pub(super) fn payload(port: u16) -> &'static [u8] {
    match port {
        // And the multicast one, which answers to unicast too.
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
        // An SNMP message is nested: each length is the number of the bytes behind it.
        let (mut rest, mut depth) = (SNMP, 0);
        for skipped in [11, 9, 0, 0] {
            assert_eq!(usize::from(rest[1]), rest.len() - 2, "{depth}");
            rest = &rest[2 + skipped..];
            depth += 1;
        }
        assert_eq!(rest[0], 0x06, "the name of what is asked for");
        assert_eq!((DNS.len(), NTP.len()), (17, 48));
    }
}
