//! Makes packets, for tests and benchmarks.

use super::cipher::{Encrypted, SALT_LENGTH};
use super::content::digest_of;
use super::{FwknopKey, base64};

/// Length of the text of a digest of SHA-256, in characters.
const DIGEST_LENGTH: usize = 43;

/// Returns the packet of a key with these fields, to which the digest is added.
#[doc(hidden)]
pub fn seal_with(key: &FwknopKey, encoded: &str, salt: [u8; SALT_LENGTH]) -> Vec<u8> {
    let digest = digest_of(encoded, DIGEST_LENGTH).unwrap_or_default();
    let text = Encrypted::encrypt(format!("{encoded}:{digest}").as_bytes(), &key.passphrase, salt);
    let mac = base64::encode(&key.mac.compute(text.as_bytes()));
    [text.as_bytes(), mac.as_bytes()].concat()
}
