//! A pair of keys that a client and a server share.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::content::is_user;
use super::mac::{HmacDigest, MAX_HMAC_KEY_LENGTH, MacKey};
use crate::keys::{Fingerprint, MAX_NAME_LENGTH, is_name};

/// Maximum length of a passphrase, in bytes.
const MAX_PASSPHRASE_LENGTH: usize = 32;
/// Length of a new HMAC key, in bytes: as fwknop's clients make it for SHA-256.
const NEW_HMAC_KEY_LENGTH: usize = 64;

/// A pair of keys of fwknop: the passphrase that encrypts and the key that authenticates packets.
///
/// `Debug` does not show them, and dropping them erases them from memory.
#[derive(Clone, PartialEq, Eq)]
pub struct FwknopKey {
    /// The name of the client that has the keys. It is not secret; events and logs contain it.
    pub name: Arc<str>,
    /// The user that the client's packets must name, if it matters.
    pub user: Option<Arc<str>>,
    pub(super) passphrase: Zeroizing<Box<[u8]>>,
    pub(super) mac: MacKey,
}

/// A pair of keys of fwknop cannot be used. The text never contains any part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FwknopKeyError {
    /// The name of the client cannot be used.
    #[error("the name of a client has 1 to {MAX_NAME_LENGTH} bytes of printable characters without spaces")]
    Name,
    /// The name of the user cannot be in a packet.
    #[error("the name of a user has 1 to 63 printable ASCII characters except \" / \\ [ ] : ; | = , + * ? < >")]
    User,
    /// The passphrase has this number of bytes.
    #[error("the encryption key has {0} bytes; it must have 1 to {MAX_PASSPHRASE_LENGTH}")]
    PassphraseLength(usize),
    /// The HMAC key has this number of bytes.
    #[error("the HMAC key has {0} bytes; it must have 1 to {MAX_HMAC_KEY_LENGTH}")]
    HmacKeyLength(usize),
    /// The HMAC has a digest that is not accepted.
    #[error("the HMAC must use SHA256, SHA384 or SHA512; set HMAC_DIGEST_TYPE in the client, too")]
    Digest,
    /// The text of a key is not base64.
    #[error("the key is not valid base64")]
    Base64,
    /// The system has no random numbers.
    #[error("the system has no random numbers: {0}")]
    NoRandomNumbers(#[source] getrandom::Error),
}

impl FwknopKey {
    /// Returns the keys that consist of these bytes.
    ///
    /// # Errors
    /// Fails if a name is not permitted or a key is empty or too long.
    pub fn new(
        name: &str,
        user: Option<&str>,
        passphrase: &[u8],
        digest: HmacDigest,
        hmac_key: &[u8],
    ) -> Result<Self, FwknopKeyError> {
        if !is_name(name) {
            return Err(FwknopKeyError::Name);
        }
        if user.is_some_and(|user| !is_user(user)) {
            return Err(FwknopKeyError::User);
        }
        if !(1..=MAX_PASSPHRASE_LENGTH).contains(&passphrase.len()) {
            return Err(FwknopKeyError::PassphraseLength(passphrase.len()));
        }
        let mac = MacKey::from_parts(digest, hmac_key)?;
        Ok(Self { name: name.into(), user: user.map(Into::into), passphrase: Zeroizing::new(passphrase.into()), mac })
    }

    /// Returns new keys from the random numbers of the system.
    ///
    /// # Errors
    /// Fails if a name is not permitted, or if the system has no random numbers.
    pub fn generate(name: &str, user: Option<&str>, digest: HmacDigest) -> Result<Self, FwknopKeyError> {
        let mut passphrase = Zeroizing::new([0; MAX_PASSPHRASE_LENGTH]);
        let mut hmac_key = Zeroizing::new([0; NEW_HMAC_KEY_LENGTH]);
        getrandom::fill(&mut *passphrase).map_err(FwknopKeyError::NoRandomNumbers)?;
        getrandom::fill(&mut *hmac_key).map_err(FwknopKeyError::NoRandomNumbers)?;
        Self::new(name, user, &*passphrase, digest, &*hmac_key)
    }

    /// Returns the digest of the HMAC.
    pub fn hmac_digest(&self) -> HmacDigest {
        self.mac.digest()
    }

    /// Returns the part that authenticates packets.
    pub fn mac_key(&self) -> &MacKey {
        &self.mac
    }

    /// Returns the encryption key as the value of `KEY_BASE64`. The text is erased from memory when it
    /// is dropped.
    pub fn key_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&self.passphrase))
    }

    /// Returns the HMAC key as the value of `HMAC_KEY_BASE64`. The text is erased from memory when it
    /// is dropped.
    pub fn hmac_key_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.mac.as_bytes()))
    }

    /// Returns the lines of the server's key file. The text is erased from memory when it is dropped.
    pub fn server_lines(&self) -> Zeroizing<String> {
        // With enough capacity no copy of the keys is left behind in memory.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        // Writing to a string never fails.
        let _ = writeln!(text, "[{}]\nKEY_BASE64: {}", self.name, *self.key_base64());
        let _ = writeln!(text, "HMAC_KEY_BASE64: {}", *self.hmac_key_base64());
        if self.mac.digest() != HmacDigest::default() {
            let _ = writeln!(text, "HMAC_DIGEST_TYPE: {}", self.mac.digest());
        }
        if let Some(user) = &self.user {
            let _ = writeln!(text, "USERNAME: {user}");
        }
        text
    }

    /// Returns the identity of the keys under which the replay memory stores what was accepted. It
    /// reveals nothing of them.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        // HMAC accepts keys of every length.
        #[allow(clippy::expect_used, reason = "HMAC has no invalid key length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.mac.as_bytes()).expect("HMAC accepts every key length");
        mac.update(b"portknock fwknop fingerprint 1\0");
        mac.update(&self.passphrase);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Fingerprint(fingerprint)
    }
}

/// The keys are hidden.
impl fmt::Debug for FwknopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FwknopKey").field("name", &self.name).field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(passphrase: &[u8], hmac_key: &[u8]) -> FwknopKey {
        FwknopKey::new("alice", None, passphrase, HmacDigest::Sha256, hmac_key).unwrap()
    }

    #[test]
    fn the_fingerprint_depends_on_both_keys_and_on_nothing_else() {
        let fingerprint = key(b"a", b"b").fingerprint();
        assert_ne!(fingerprint, key(b"c", b"b").fingerprint());
        assert_ne!(fingerprint, key(b"a", b"c").fingerprint());
        let other = FwknopKey::new("bob", Some("bob"), b"a", HmacDigest::Sha512, b"b").unwrap();
        assert_eq!(fingerprint, other.fingerprint());
    }

    #[test]
    fn new_keys_differ_and_have_the_lengths_of_fwknop() {
        let [one, two] = [(); 2].map(|()| FwknopKey::generate("alice", None, HmacDigest::Sha256).unwrap());
        assert_ne!(one, two);
        assert_eq!((one.key_base64().len(), one.hmac_key_base64().len()), (44, 88));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let new = |name, user, length| FwknopKey::new(name, user, &vec![1; length], HmacDigest::Sha256, b"b").err();
        assert_eq!(new("alice", Some("alice"), 32), None);
        assert_eq!(new("a b", None, 1), Some(FwknopKeyError::Name));
        assert_eq!(new("a", Some("a:b"), 1), Some(FwknopKeyError::User));
        for length in [0, 33] {
            assert_eq!(new("a", None, length), Some(FwknopKeyError::PassphraseLength(length)));
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", key(b"secret", b"secret"));
        assert_eq!(shown, "FwknopKey { name: \"alice\", user: None, .. }");
    }
}
