//! The plain text of packets: its digest and its fields.

use std::net::Ipv4Addr;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{FwknopError, WeakReason, base64};
use crate::packet::OpenPort;
use crate::time::Timestamp;

/// Length of the random number, in digits.
const RANDOM_LENGTH: usize = 16;
/// Maximum length of the user's name, in bytes.
const MAX_USER_LENGTH: usize = 63;
/// Maximum length of the version, in bytes.
const MAX_VERSION_LENGTH: usize = 8;
/// Maximum length of the message, in bytes.
const MAX_MESSAGE_LENGTH: usize = 255;

/// Length of a token of the replay memory, in bytes.
const TOKEN_LENGTH: usize = 12;

/// The content of a packet that asks for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwknopContent {
    /// The wall clock of the client, in whole seconds.
    pub time: Timestamp,
    /// The address to open for; `None` for the source of the packet.
    pub address: Option<Ipv4Addr>,
    /// The ports that the client asks for; at least one.
    pub ports: Vec<OpenPort>,
    /// The client's user.
    pub user: String,
    /// The first bytes of the HMAC, by which the replay memory identifies the packet.
    pub token: [u8; TOKEN_LENGTH],
}

/// The fields of a plain text, of which every one has its form.
pub(super) struct Fields {
    pub(super) user: String,
    pub(super) time: Timestamp,
    kind: Kind,
    message: String,
}

/// The request of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Command,
    Access,
    Nat,
}

impl Fields {
    /// Reads a plain text.
    pub(super) fn of_plain(plain: &[u8]) -> Result<Self, FwknopError> {
        let plain = std::str::from_utf8(plain).ok().filter(|plain| plain.is_ascii()).ok_or(FwknopError::Malformed)?;
        let (encoded, digest) = plain.rsplit_once(':').ok_or(FwknopError::Malformed)?;
        let fields = Self::parse(encoded).ok_or(FwknopError::Malformed)?;
        match digest_of(encoded, digest.len()) {
            Some(expected) if expected == digest => Ok(fields),
            // The lengths that digests of SHA-3 have.
            Some(_) if matches!(digest.len(), 43 | 86) => Err(FwknopError::Weak(WeakReason::Digest)),
            _ => Err(FwknopError::Malformed),
        }
    }

    fn parse(encoded: &str) -> Option<Self> {
        let mut fields = encoded.split(':');
        let random = fields.next()?;
        let user = decode(fields.next()?)?;
        let time = fields.next()?;
        let version = fields.next()?;
        let (kind, has_timeout) = match fields.next()? {
            "0" => (Kind::Command, false),
            "1" => (Kind::Access, false),
            "2" | "5" => (Kind::Nat, false),
            "3" => (Kind::Access, true),
            "4" | "6" => (Kind::Nat, true),
            _ => return None,
        };
        let message = decode(fields.next()?)?;
        if has_timeout && !is_number(fields.next_back()?) {
            return None;
        }
        if kind == Kind::Nat {
            decode(fields.next()?)?;
        }
        // The text for the server's authentication, which no server needs in addition to the HMAC.
        fields.next().map_or(Some(String::new()), decode)?;
        let is_valid = fields.next().is_none()
            && random.len() == RANDOM_LENGTH
            && is_number(random)
            && is_user(&user)
            && is_number(time)
            && (1..=MAX_VERSION_LENGTH).contains(&version.len())
            && version.bytes().all(|byte| byte.is_ascii_graphic())
            && (1..=MAX_MESSAGE_LENGTH).contains(&message.len());
        is_valid.then_some(Self { user, time: seconds(time)?, kind, message })
    }

    /// Returns the content of a packet that asks for access.
    pub(super) fn content(self, token: [u8; TOKEN_LENGTH]) -> Result<FwknopContent, FwknopError> {
        match self.kind {
            Kind::Command => Err(FwknopError::Command),
            Kind::Nat => Err(FwknopError::Nat),
            Kind::Access => {
                let (address, ports) = access(&self.message).ok_or(FwknopError::Malformed)?;
                Ok(FwknopContent { time: self.time, address, ports, user: self.user, token })
            }
        }
    }
}

/// Returns the digest whose text has this length.
pub(super) fn digest_of(encoded: &str, length: usize) -> Option<String> {
    let digest = match length {
        22 => Md5::digest(encoded).to_vec(),
        27 => Sha1::digest(encoded).to_vec(),
        43 => Sha256::digest(encoded).to_vec(),
        64 => Sha384::digest(encoded).to_vec(),
        86 => Sha512::digest(encoded).to_vec(),
        _ => return None,
    };
    Some(base64::encode(&digest).to_string())
}

/// Decodes a field of text.
fn decode(field: &str) -> Option<String> {
    let text = std::str::from_utf8(&base64::decode(field.as_bytes())?).ok()?.to_owned();
    (!text.is_empty()).then_some(text)
}

fn is_number(field: &str) -> bool {
    !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the time that a number of seconds stands for, if it is one.
fn seconds(field: &str) -> Option<Timestamp> {
    let seconds: u64 = field.parse().ok()?;
    seconds.checked_mul(1_000_000_000).map(Timestamp::from_nanos)
}

/// True if a packet can contain the name of a user.
pub(super) fn is_user(name: &str) -> bool {
    (1..=MAX_USER_LENGTH).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"/\\[]:;|=,+*?<>".contains(&byte))
}

/// Parses a message, as in `192.0.2.7,tcp/22,udp/53`.
fn access(message: &str) -> Option<(Option<Ipv4Addr>, Vec<OpenPort>)> {
    let (address, ports) = message.split_once(',')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let ports = ports.split(',').map(|port| port.parse().ok()).collect::<Option<_>>()?;
    Some((Some(address).filter(|address| !address.is_unspecified()), ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODED: &str = "1790393497757183:YWxpY2U:1796030418:3.0.0:1:MTkyLjAuMi43LHRjcC8yMg";

    /// A text of fields, of which one is replaced.
    fn with(at: usize, field: &str) -> String {
        let mut fields: Vec<&str> = ENCODED.split(':').collect();
        fields[at] = field;
        fields.join(":")
    }

    fn message(text: &str) -> Option<(Option<Ipv4Addr>, usize)> {
        let fields = Fields::parse(&with(5, &base64::encode(text.as_bytes())))?;
        fields.content([0; 12]).ok().map(|content| (content.address, content.ports.len()))
    }

    #[test]
    fn each_field_must_have_its_form() {
        assert!(Fields::parse(ENCODED).is_some());
        for (at, field, is_valid) in [
            (0, "179039349775718", false),
            (0, "17903934977571834", false),
            (0, "179039349775718x", false),
            (1, "", false),
            (1, "YWxpY2U=", false),
            (1, "YWxpY2V", false),
            (1, "YTpi", false),
            (1, "YSBi", true),
            (2, "", false),
            (2, "-1", false),
            (2, "+1", false),
            (2, "18446744073", true),
            (2, "18446744074", false),
            (2, "99999999999999999999999", false),
            (3, "", false),
            (3, "2.0.2", true),
            (3, "3.0.0.0.0", false),
            (4, "7", false),
            (4, "01", false),
            (4, "", false),
            (5, "", false),
        ] {
            assert_eq!(Fields::parse(&with(at, field)).is_some(), is_valid, "{at} {field}");
        }
        let user = |length| base64::encode("u".repeat(length).as_bytes());
        assert!(Fields::parse(&with(1, &user(63))).is_some());
        assert!(Fields::parse(&with(1, &user(64))).is_none());
        for other in b'\x01'..=b'\x7f' {
            let is_valid = Fields::parse(&with(1, &base64::encode(&[b'a', other]))).is_some();
            assert_eq!(is_valid, is_user(std::str::from_utf8(&[other]).unwrap()), "{other}");
        }
        assert!(!is_user("ä") && !is_user("") && !is_user("a\n") && is_user("a.b-c_d@e"));
    }

    #[test]
    fn each_type_has_its_number_of_fields() {
        for (kind, more, is_valid) in [
            ("0", "", true),
            ("1", "", true),
            ("1", ":60", false),
            ("1", ":YQ", true),
            ("1", ":YQ:YQ", false),
            ("2", "", false),
            ("2", ":YQ", true),
            ("2", ":YQ:YQ", true),
            ("2", ":YQ:YQ:YQ", false),
            ("3", "", false),
            ("3", ":60", true),
            ("3", ":", false),
            ("3", ":-60", false),
            ("3", ":YQ:60", true),
            ("3", ":YQ:YQ:60", false),
            ("4", ":60", false),
            ("4", ":YQ:60", true),
            ("4", ":YQ:YQ:60", true),
            ("5", ":YQ", true),
            ("6", ":YQ:60", true),
        ] {
            assert_eq!(Fields::parse(&(with(4, kind) + more)).is_some(), is_valid, "{kind}{more}");
        }
    }

    #[test]
    fn a_message_is_an_address_and_ports() {
        let seven = Some(Ipv4Addr::new(192, 0, 2, 7));
        for (text, expected) in [
            ("192.0.2.7,tcp/22", Some((seven, 1))),
            ("0.0.0.0,udp/53,tcp/1,tcp/65535", Some((None, 3))),
            ("192.0.2.7", None),
            ("192.0.2.7,", None),
            ("192.0.2.7,tcp/22,", None),
            ("192.0.2.7,tcp/0", None),
            ("192.0.2.7,tcp/65536", None),
            ("192.0.2.7,tcp/+22", None),
            ("192.0.2.7,icmp/1", None),
            ("192.0.2,tcp/22", None),
            ("2001:db8::7,tcp/22", None),
            (" 192.0.2.7,tcp/22", None),
            ("192.0.2.7, tcp/22", None),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
        let ports = |count: usize| format!("192.0.2.7{}", ",tcp/22".repeat(count));
        assert_eq!(message(&ports(35)), Some((seven, 35)), "254 characters");
        assert_eq!(message(&ports(36)), None);
    }

    #[test]
    fn the_digest_must_fit() {
        for (length, other) in [
            (22, FwknopError::Malformed),
            (27, FwknopError::Malformed),
            (43, FwknopError::Weak(WeakReason::Digest)),
            (64, FwknopError::Malformed),
            (86, FwknopError::Weak(WeakReason::Digest)),
        ] {
            let digest = digest_of(ENCODED, length).unwrap();
            assert_eq!(digest.len(), length);
            assert!(Fields::of_plain(format!("{ENCODED}:{digest}").as_bytes()).is_ok());
            let wrong = format!("{ENCODED}:{}", "A".repeat(length));
            assert_eq!(Fields::of_plain(wrong.as_bytes()).err(), Some(other));
        }
        for plain in ["", ":", "a:b", ENCODED, &format!("{ENCODED}:"), &format!("{ENCODED}:ä")] {
            assert_eq!(Fields::of_plain(plain.as_bytes()).err(), Some(FwknopError::Malformed), "{plain}");
        }
        assert_eq!(Fields::of_plain(b"\xff").err(), Some(FwknopError::Malformed));
    }
}
