//! Single packet authorization: a knock that is one authenticated, encrypted datagram.
//!
//! ```text
//! w       = seconds since 1970 / 60
//! hint(w) = first 8 bytes of HMAC-SHA256(key, "portknock hint 1\0" ‖ be64(w))
//! key(w)  = HMAC-SHA256(key, "portknock packet 1\0" ‖ be64(w))
//! packet  = hint(w) ‖ nonce(12) ‖ ChaCha20-Poly1305(key(w), nonce, aad = hint(w), plain(60)) ‖ tag(16)
//! plain   = kind(1) = 1 ‖ 0 ‖ be64(timestamp in ms) ‖ address(16) ‖ be32(seconds) ‖ door(30)
//! ```
//!
//! The address is an IPv6 address or an IPv4-mapped one; zero means the source of the datagram. The
//! name of the door is padded with zero bytes. The algorithm is that of RFC 8439.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroizing;

use crate::keys::{Key, PreparedKey};
use crate::time::Timestamp;

/// Length of a packet, in bytes.
pub const PACKET_LENGTH: usize = 96;
/// Length of a hint, in bytes.
pub(crate) const HINT_LENGTH: usize = 8;
/// Maximum length of the name of a door in a packet, in bytes.
pub const MAX_DOOR_LENGTH: usize = 30;
/// Length of the nonce, in bytes.
pub(crate) const NONCE_LENGTH: usize = 12;
/// Length of the encrypted part without its tag, in bytes.
const PLAIN_LENGTH: usize = 60;
/// Time for which a hint and a packet key are used.
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes before and after the permitted ones whose hints are known, so that a clock that is a
/// little off is diagnosed, and the next minute is ready before it begins.
const MARGIN_MINUTES: u64 = 1;
/// `kind` of a packet that asks for a door.
const KIND_OPEN: u8 = 1;

/// The content of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketContent {
    /// The wall clock of the client, in whole milliseconds.
    pub time: Timestamp,
    /// The address to open for; `None` for the source of the datagram.
    pub address: Option<IpAddr>,
    /// The time to open for, in seconds; 0 for the door's `cmd_timeout`.
    pub seconds: u32,
    /// The name of the door, at most [`MAX_DOOR_LENGTH`] bytes.
    pub door: String,
}

/// A packet could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The name of the door is empty, too long, or contains a zero byte.
    #[error("the name of a door in a packet has 1 to {MAX_DOOR_LENGTH} bytes, none of them zero")]
    DoorName,
    /// The system has no random numbers.
    #[error("the system has no random numbers: {0}")]
    NoRandomNumbers(#[source] getrandom::Error),
}

/// The number of the minute that contains a time by the wall clock.
pub(crate) fn minute_of(wall: Timestamp) -> u64 {
    wall.as_nanos() / (MINUTE.as_secs() * 1_000_000_000)
}

/// Returns the number of minutes before and after the present one whose hints are known.
pub(crate) fn reach_minutes(skew: Duration) -> u64 {
    skew.as_secs().div_ceil(60) + MARGIN_MINUTES
}

/// Returns the hint of packets of a minute, by which the server finds the key.
pub(crate) fn hint(key: &PreparedKey, minute: u64) -> [u8; HINT_LENGTH] {
    first(&key.derive(b"portknock hint 1\0", &minute.to_be_bytes()))
}

/// Returns a packet with a random nonce.
///
/// # Errors
/// Fails if the door's name does not fit, or if the system has no random numbers.
pub fn seal(key: &Key, content: &PacketContent) -> Result<[u8; PACKET_LENGTH], PacketError> {
    let mut nonce = [0; NONCE_LENGTH];
    getrandom::fill(&mut nonce).map_err(PacketError::NoRandomNumbers)?;
    seal_with(key, content, nonce)
}

/// Returns a packet with this nonce, which must never be used again.
///
/// # Errors
/// Fails if the door's name does not fit.
#[doc(hidden)]
pub fn seal_with(
    key: &Key,
    content: &PacketContent,
    nonce: [u8; NONCE_LENGTH],
) -> Result<[u8; PACKET_LENGTH], PacketError> {
    let door = content.door.as_bytes();
    if !(1..=MAX_DOOR_LENGTH).contains(&door.len()) || door.contains(&0) {
        return Err(PacketError::DoorName);
    }
    let key = key.prepare();
    let minute = minute_of(content.time);
    let mut packet = [0; PACKET_LENGTH];
    let (head, sealed) = packet.split_at_mut(HINT_LENGTH + NONCE_LENGTH);
    head[..HINT_LENGTH].copy_from_slice(&hint(&key, minute));
    head[HINT_LENGTH..].copy_from_slice(&nonce);
    let (plain, tag) = sealed.split_at_mut(PLAIN_LENGTH);
    plain[0] = KIND_OPEN;
    plain[2..10].copy_from_slice(&(content.time.as_nanos() / 1_000_000).to_be_bytes());
    plain[10..26].copy_from_slice(&mapped(content.address).octets());
    plain[26..30].copy_from_slice(&content.seconds.to_be_bytes());
    plain[30..30 + door.len()].copy_from_slice(door);
    // Only a plain text of gigabytes fails.
    if let Ok(found) = cipher(&key, minute).encrypt_inout_detached(&nonce.into(), &head[..HINT_LENGTH], plain.into()) {
        tag.copy_from_slice(&found);
    }
    Ok(packet)
}

/// Opens a packet whose hint is that of this key in this minute. `None` if the packet was not made
/// with the key, or if its content is not valid.
pub(crate) fn open(key: &PreparedKey, minute: u64, packet: &[u8; PACKET_LENGTH]) -> Option<PacketContent> {
    let nonce: [u8; NONCE_LENGTH] = first(&packet[HINT_LENGTH..]);
    let mut plain: [u8; PLAIN_LENGTH] = first(&packet[HINT_LENGTH + NONCE_LENGTH..]);
    let tag: [u8; 16] = first(&packet[HINT_LENGTH + NONCE_LENGTH + PLAIN_LENGTH..]);
    let aad = &packet[..HINT_LENGTH];
    cipher(key, minute).decrypt_inout_detached(&nonce.into(), aad, plain.as_mut_slice().into(), &tag.into()).ok()?;
    content_of(&plain).filter(|content| minute_of(content.time) == minute)
}

/// Opens a packet at a time by the wall clock. For tests: the server finds the minute by the hint.
#[doc(hidden)]
pub fn open_at(key: &Key, wall: Timestamp, packet: &[u8; PACKET_LENGTH]) -> Option<PacketContent> {
    open(&key.prepare(), minute_of(wall), packet)
}

fn content_of(plain: &[u8; PLAIN_LENGTH]) -> Option<PacketContent> {
    if plain[0] != KIND_OPEN || plain[1] != 0 {
        return None;
    }
    let millis = u64::from_be_bytes(first(&plain[2..]));
    let address = Ipv6Addr::from(first::<16>(&plain[10..])).to_canonical();
    let name = &plain[30..];
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    if name[length..].iter().any(|&byte| byte != 0) {
        return None;
    }
    Some(PacketContent {
        time: Timestamp::from_nanos(millis.checked_mul(1_000_000)?),
        address: Some(address).filter(|address| *address != IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        seconds: u32::from_be_bytes(first(&plain[26..])),
        door: std::str::from_utf8(&name[..length]).ok().filter(|name| !name.is_empty())?.to_owned(),
    })
}

fn cipher(key: &PreparedKey, minute: u64) -> ChaCha20Poly1305 {
    let key = Zeroizing::new(key.derive(b"portknock packet 1\0", &minute.to_be_bytes()));
    ChaCha20Poly1305::new((&*key).into())
}

fn mapped(address: Option<IpAddr>) -> Ipv6Addr {
    match address {
        None => Ipv6Addr::UNSPECIFIED,
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped(),
        Some(IpAddr::V6(address)) => address,
    }
}

/// Returns the first bytes of a slice that has at least as many.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes.get(i).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::counting_key;

    fn content() -> PacketContent {
        PacketContent {
            time: Timestamp::from_nanos(1_796_030_418_123_000_000),
            address: None,
            seconds: 0,
            door: "ssh".into(),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// A value that another implementation of the format computed.
    #[test]
    fn the_packet_is_that_of_another_implementation() {
        let nonce = std::array::from_fn(|i| 100 + u8::try_from(i).unwrap());
        let expected = "f5508a0dfc2b94bb6465666768696a6b6c6d6e6f80e782bff3e47e505a8a0e9aef99dd50e978667b6834f38a6112\
                        6530287bf9d08deb2d531fd5cb847fd2631145c4aaf85a4d9f297b0699ff1310fcf344cfb2326829e548d2593a7b\
                        38c7efb8";
        assert_eq!(hex(&seal_with(&counting_key(), &content(), nonce).unwrap()), expected);
    }

    #[test]
    fn the_content_is_read_back() {
        let key = counting_key();
        for (address, seconds, door) in [
            (None, 0, "s"),
            (Some(IpAddr::from([192, 0, 2, 7])), 30, "ssh"),
            (Some("2001:db8::7".parse().unwrap()), u32::MAX, "dddddddddddddddddddddddddddddd"),
        ] {
            let content = PacketContent { address, seconds, door: door.into(), ..content() };
            let packet = seal(&key, &content).unwrap();
            let minute = minute_of(content.time);
            assert_eq!(packet[..HINT_LENGTH], hint(&key.prepare(), minute));
            assert_eq!(open(&key.prepare(), minute, &packet), Some(content));
        }
    }

    #[test]
    fn a_packet_opens_with_its_own_key_and_minute_only() {
        let key = counting_key();
        let packet = seal(&key, &content()).unwrap();
        let minute = minute_of(content().time);
        assert_eq!(open(&key.for_server("other").prepare(), minute, &packet), None);
        for other in [0, minute - 1, minute + 1, u64::MAX] {
            assert_eq!(open(&key.prepare(), other, &packet), None);
        }
        for at in 0..PACKET_LENGTH {
            for bit in 0..8 {
                let mut altered = packet;
                altered[at] ^= 1 << bit;
                assert_eq!(open(&key.prepare(), minute, &altered), None, "byte {at}");
            }
        }
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        for door in ["", "a\0b", "ddddddddddddddddddddddddddddddd"] {
            let content = PacketContent { door: door.into(), ..content() };
            assert!(matches!(seal(&counting_key(), &content), Err(PacketError::DoorName)), "{door:?}");
        }
    }

    #[test]
    fn a_plain_text_with_another_form_is_no_content() {
        let key = counting_key().prepare();
        let valid = {
            let packet = seal(&counting_key(), &content()).unwrap();
            let mut plain: [u8; PLAIN_LENGTH] = first(&packet[HINT_LENGTH + NONCE_LENGTH..]);
            let nonce: [u8; NONCE_LENGTH] = first(&packet[HINT_LENGTH..]);
            let tag: [u8; 16] = first(&packet[80..]);
            let aad = &packet[..HINT_LENGTH];
            let cipher = cipher(&key, minute_of(content().time));
            cipher.decrypt_inout_detached(&nonce.into(), aad, plain.as_mut_slice().into(), &tag.into()).unwrap();
            plain
        };
        assert_eq!(content_of(&valid), Some(content()));
        for (at, byte) in [(0, 0), (0, 2), (1, 1), (2, 0xff), (30, 0), (30, 0xff), (59, b'x')] {
            let mut plain = valid;
            plain[at] = byte;
            assert_eq!(content_of(&plain), None, "byte {at}");
        }
    }
}
