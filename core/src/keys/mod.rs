//! The secret keys of replay-proof knocks: their text, their files, and what is derived from them.

mod file;
mod text;

use std::fmt;
use std::io;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

pub use file::{KeyFileError, LineError, is_name, load_key_file, read_private_file};
pub(crate) use file::{Readers, read_secrets};
pub use text::KeyTextError;

/// Length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;
/// Maximum length of a key's name, in bytes.
pub const MAX_NAME_LENGTH: usize = 64;

/// A secret key that a client and a server share. It authenticates time sequences and packets.
///
/// `Debug` does not show it, and dropping it erases it from memory. [`Key::to_text`] and
/// `FromStr` convert it to and from the text of key files.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<[u8; KEY_LENGTH]>);

impl Key {
    /// Returns a new key from the random numbers of the system.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut key = Self(Box::new([0; KEY_LENGTH]));
        getrandom::fill(&mut *key.0).map_err(io::Error::other)?;
        Ok(key)
    }

    /// Returns the key that consists of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(Box::new(*bytes))
    }

    /// Returns the key that a client with this key uses at one server. Knocks for that server mean
    /// nothing to any other server.
    pub fn for_server(&self, server: &str) -> Self {
        Self::from_bytes(self.derive(b"portknock server 1\0", server.as_bytes()))
    }

    /// Returns HMAC-SHA256 (RFC 2104) of both parts, which follow each other, with this key.
    pub(crate) fn derive(&self, purpose: &[u8], data: &[u8]) -> [u8; 32] {
        self.prepare().derive(purpose, data)
    }

    /// Returns the key in a form that derives faster.
    pub(crate) fn prepare(&self) -> PreparedKey {
        // HMAC accepts keys of every length.
        #[allow(clippy::expect_used, reason = "HMAC has no invalid key length")]
        PreparedKey(Hmac::new_from_slice(&*self.0).expect("HMAC accepts every key length"))
    }

    /// Returns the identity of the key under which the replay memory stores what was accepted. It
    /// reveals nothing of the key.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&self.derive(b"portknock fingerprint 1\0", &[])[..16]);
        Fingerprint(fingerprint)
    }

    /// The bytes that detect typing errors in the text of the key.
    fn checksum(&self) -> [u8; 2] {
        let digest = Sha256::digest(self.0.as_slice());
        [digest[0], digest[1]]
    }
}

/// Erases the key. The key is in a box, so that moving it leaves no copy.
impl Drop for Key {
    fn drop(&mut self) {
        self.0.as_mut().zeroize();
    }
}

/// The secret is hidden.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A key whose part of HMAC that does not depend on the data is done.
#[derive(Clone)]
pub(crate) struct PreparedKey(Hmac<Sha256>);

impl PreparedKey {
    pub(crate) fn derive(&self, purpose: &[u8], data: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(purpose);
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}

/// The secret is hidden.
impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedKey(..)")
    }
}

/// Identifies a key without revealing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint(pub(crate) [u8; 16]);

/// A key of a server's key file, with the name of the client that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// The client's name: 1 to [`MAX_NAME_LENGTH`] bytes of printable text without white space. It
    /// is not secret; events and logs contain it.
    pub name: Arc<str>,
    /// The key.
    pub key: Key,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The key of the test vectors.
    pub(crate) fn counting_key() -> Key {
        Key::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", counting_key(), counting_key().prepare());
        assert_eq!(shown, "Key(..) PreparedKey(..)");
    }

    /// A value that another implementation computed.
    #[test]
    fn the_key_of_a_server_is_that_of_another_implementation() {
        let hex = "cd5c9f7524b7a6ea5a3a909f613f4d7c4b33355d83e62c9b939a463582f45035";
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        assert!(counting_key().for_server("web1.example") == Key::from_bytes(bytes.try_into().unwrap()));
    }

    #[test]
    fn keys_differ_between_servers_and_from_run_to_run() {
        let key = counting_key();
        assert_ne!(key.for_server("a"), key.for_server("b"));
        assert_ne!(key.for_server("a").fingerprint(), key.fingerprint());
        assert_ne!(Key::generate().unwrap(), Key::generate().unwrap());
    }
}
