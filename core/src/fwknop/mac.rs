//! The HMAC of packets (RFC 2104), which covers the text with its omitted beginning.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{FwknopKeyError, OMITTED, base64};

/// Maximum length of an HMAC key, in bytes.
pub(super) const MAX_HMAC_KEY_LENGTH: usize = 128;
/// Length of the longest HMAC, in bytes.
const MAX_MAC_LENGTH: usize = 64;

/// The digest of an HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HmacDigest {
    /// SHA-256, the default of fwknop's clients.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HmacDigest {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Returns the name in fwknop's files, as in `SHA256`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }

    /// Length of the HMAC, in bytes.
    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// `SHA256`.
impl fmt::Display for HmacDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From the name in fwknop's files, in upper or lower case.
impl FromStr for HmacDigest {
    type Err = FwknopKeyError;

    fn from_str(text: &str) -> Result<Self, FwknopKeyError> {
        Self::ALL.into_iter().find(|digest| digest.as_str().eq_ignore_ascii_case(text)).ok_or(FwknopKeyError::Digest)
    }
}

/// The part of a key that authenticates packets. It cannot decrypt them.
///
/// `Debug` does not show it, and dropping it erases it from memory.
#[derive(Clone)]
pub struct MacKey {
    digest: HmacDigest,
    bytes: Zeroizing<Box<[u8]>>,
    prepared: Prepared,
}

/// A key whose part of HMAC that does not depend on the data is done. In a box, because the sizes
/// differ, and so that moving it leaves no copy.
#[derive(Clone)]
enum Prepared {
    Sha256(Box<Hmac<Sha256>>),
    Sha384(Box<Hmac<Sha384>>),
    Sha512(Box<Hmac<Sha512>>),
}

impl MacKey {
    /// Returns the key that consists of these bytes.
    ///
    /// # Errors
    /// Fails if there are no bytes, or more than 128.
    pub fn from_parts(digest: HmacDigest, bytes: &[u8]) -> Result<Self, FwknopKeyError> {
        if !(1..=MAX_HMAC_KEY_LENGTH).contains(&bytes.len()) {
            return Err(FwknopKeyError::HmacKeyLength(bytes.len()));
        }
        let prepared = match digest {
            HmacDigest::Sha256 => Prepared::Sha256(Box::new(prepare(bytes))),
            HmacDigest::Sha384 => Prepared::Sha384(Box::new(prepare(bytes))),
            HmacDigest::Sha512 => Prepared::Sha512(Box::new(prepare(bytes))),
        };
        Ok(Self { digest, bytes: Zeroizing::new(bytes.into()), prepared })
    }

    /// Returns the digest.
    pub fn digest(&self) -> HmacDigest {
        self.digest
    }

    /// Returns the bytes of the key, from which [`MacKey::from_parts`] makes an equal one.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if the packet ends with the HMAC of this key. The time for the comparison does not depend
    /// on the HMAC.
    pub fn verify(&self, payload: &[u8]) -> bool {
        let Some((text, mac)) = self.split(payload) else { return false };
        let mut decoded = [0; MAX_MAC_LENGTH];
        let decoded = &mut decoded[..self.digest.length()];
        if !base64::decode_into(mac, decoded) {
            return false;
        }
        match &self.prepared {
            Prepared::Sha256(prepared) => with_text(&**prepared, text).verify_slice(decoded).is_ok(),
            Prepared::Sha384(prepared) => with_text(&**prepared, text).verify_slice(decoded).is_ok(),
            Prepared::Sha512(prepared) => with_text(&**prepared, text).verify_slice(decoded).is_ok(),
        }
    }

    /// Returns the text without its omitted beginning and the HMAC, of which neither is checked.
    pub(super) fn split<'a>(&self, payload: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let text = payload.len().checked_sub(base64::text_length(self.digest.length()))?;
        payload.split_at_checked(text)
    }

    /// Returns the HMAC of a text, which is without its omitted beginning.
    pub(super) fn compute(&self, text: &[u8]) -> Vec<u8> {
        match &self.prepared {
            Prepared::Sha256(prepared) => with_text(&**prepared, text).finalize().into_bytes().to_vec(),
            Prepared::Sha384(prepared) => with_text(&**prepared, text).finalize().into_bytes().to_vec(),
            Prepared::Sha512(prepared) => with_text(&**prepared, text).finalize().into_bytes().to_vec(),
        }
    }
}

fn prepare<M: KeyInit>(bytes: &[u8]) -> M {
    // HMAC accepts keys of every length.
    #[allow(clippy::expect_used, reason = "HMAC has no invalid key length")]
    M::new_from_slice(bytes).expect("HMAC accepts every key length")
}

fn with_text<M: Mac + Clone>(prepared: &M, text: &[u8]) -> M {
    let mut mac = prepared.clone();
    mac.update(OMITTED);
    mac.update(text);
    mac
}

impl PartialEq for MacKey {
    fn eq(&self, other: &Self) -> bool {
        (self.digest, &self.bytes) == (other.digest, &other.bytes)
    }
}

impl Eq for MacKey {}

/// The secret is hidden.
impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({}, ..)", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases of RFC 4231: the key and the data, and the beginnings of the HMACs of SHA-256, SHA-384
    /// and SHA-512.
    const VECTORS: [(&[u8], &[u8], [&str; 3]); 5] = [
        (&[0x0b; 20], b"Hi There", ["b0344c61d8db3853", "afd03944d8489562", "87aa7cdea5ef619d"]),
        (b"Jefe", b"what do ya want for nothing?", ["5bdcc146bf60754e", "af45d2e376484031", "164b7a7bfcf819e2"]),
        (&[0xaa; 20], &[0xdd; 50], ["773ea91e36800e46", "88062608d3e6ad8a", "fa73b0089d56a284"]),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            ["60e431591ee0b67f", "4ece084485813e90", "80b24263c7c1a3eb"],
        ),
        (
            &[0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to \
              be hashed before being used by the HMAC algorithm.",
            ["9b09ffa71b942fcb", "6617178e941f020d", "e37b6a775dc87dba"],
        ),
    ];

    fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> String {
        let mut mac: M = prepare(key);
        mac.update(data);
        data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()[..8])
    }

    #[test]
    fn the_hmac_is_that_of_the_rfc() {
        for (key, data, expected) in VECTORS {
            let found =
                [mac::<Hmac<Sha256>>(key, data), mac::<Hmac<Sha384>>(key, data), mac::<Hmac<Sha512>>(key, data)];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_hmac_of_each_digest_verifies_and_no_other_text_does() {
        for digest in HmacDigest::ALL {
            let key = MacKey::from_parts(digest, &[7; 100]).unwrap();
            for text in ["", "8", "8abc"] {
                let mac = base64::encode(&key.compute(text.as_bytes()));
                let payload = format!("{text}{}", *mac);
                assert!(key.verify(payload.as_bytes()));
                for other in [format!("{payload}="), format!("{payload}A"), format!("x{payload}"), payload[1..].into()]
                {
                    assert!(!key.verify(other.as_bytes()), "{other}");
                }
                for at in 0..payload.len() {
                    for with in 0..=u8::MAX {
                        let mut altered = payload.clone().into_bytes();
                        altered[at] = with;
                        assert_eq!(key.verify(&altered), altered == payload.as_bytes());
                    }
                }
                for other in [&[7; 99][..], &[8; 100]] {
                    assert!(!MacKey::from_parts(digest, other).unwrap().verify(payload.as_bytes()));
                }
            }
            assert!(!key.verify(b""));
        }
    }

    #[test]
    fn a_key_has_1_to_128_bytes_and_is_not_shown() {
        for length in [0, 129, 1_000] {
            let error = MacKey::from_parts(HmacDigest::Sha256, &vec![1; length]).unwrap_err();
            assert_eq!(error, FwknopKeyError::HmacKeyLength(length));
        }
        let key = MacKey::from_parts(HmacDigest::Sha384, &[b'k'; 128]).unwrap();
        assert_eq!(format!("{key:?}"), "MacKey(SHA384, ..)");
        assert!(MacKey::from_parts(key.digest(), key.as_bytes()).unwrap() == key);
    }

    #[test]
    fn the_names_of_digests_are_those_of_fwknop() {
        for digest in HmacDigest::ALL {
            assert_eq!(digest.to_string().parse(), Ok(digest));
            assert_eq!(digest.to_string().to_lowercase().parse(), Ok(digest));
        }
        for other in ["", "MD5", "SHA1", "SHA3_256", "SHA3_512", "SHA-256"] {
            assert_eq!(other.parse::<HmacDigest>(), Err(FwknopKeyError::Digest), "{other}");
        }
    }
}
