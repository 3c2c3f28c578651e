//! Single packet authorization in the format of fwknop's clients, protocol version 3.0.0.
//!
//! ```text
//! encoded = random : b64(user) : time : version : type : b64(message) [: b64(nat)] [: b64(server_auth)] [: timeout]
//! plain   = encoded : b64(digest(encoded))
//! binary  = "Salted__" salt(8) AES-256-CBC(PKCS#7(plain))      key, iv = EVP_BytesToKey(MD5, 1 round, passphrase, salt)
//! text    = b64(binary)                                        standard alphabet, without "="
//! packet  = text without "U2FsdGVkX1" in front ‖ b64(HMAC(hmac_key, text))
//! ```
//!
//! The server accepts a part of the format: CBC with an HMAC of SHA-256, SHA-384 or SHA-512, and
//! requests for access (types 1 and 3). [`open`] and `diagnose` return the reason for which a
//! packet of another kind is refused.

mod base64;
mod cipher;
mod content;
mod diagnose;
mod error;
mod key;
mod key_file;
mod mac;
mod packet;
mod seal;
#[cfg(test)]
mod tests;

pub use error::WeakReason;
pub use key::{FwknopKey, FwknopKeyError};
pub use key_file::{FwknopLineError, decode_key, load_fwknop_keys};
pub use mac::HmacDigest;

#[doc(hidden)]
pub use content::FwknopContent;
#[doc(hidden)]
pub use diagnose::diagnose;
#[doc(hidden)]
pub use error::FwknopError;
#[doc(hidden)]
pub use mac::MacKey;
#[doc(hidden)]
pub use packet::{has_form, open};
#[doc(hidden)]
pub use seal::seal_with;

/// The beginning of every text, which packets omit: `Salted__` in base64, except its last four bits.
const OMITTED: &[u8] = b"U2FsdGVkX1";
