//! The reasons for which packets are refused.

use super::HmacDigest;

/// The reason for which a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FwknopError {
    /// The packet does not have the form of one, or its HMAC is not that of the key.
    #[error("the packet is not authentic")]
    NotAuthentic,
    /// The packet lacks a protection that the server requires.
    #[error(transparent)]
    Weak(WeakReason),
    /// The packet asks the server to run a command.
    #[error("the packet contains a command, which is never run")]
    Command,
    /// The packet asks for network address translation.
    #[error("the packet asks for network address translation, which is not available")]
    Nat,
    /// The packet names a user other than that of the key.
    #[error("the packet names another user than the key file")]
    User,
    /// The HMAC is right and the rest is not.
    #[error("the packet is authentic, but its encryption key is not that of the key file, or its content is invalid")]
    Malformed,
}

/// The protection that a packet lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum WeakReason {
    /// There is no HMAC.
    #[error("the packet has no HMAC; set USE_HMAC and HMAC_KEY_BASE64 in the client")]
    NoHmac,
    /// The HMAC uses MD5.
    #[error("the packet has an HMAC of MD5; set HMAC_DIGEST_TYPE to SHA256 in the client")]
    HmacMd5,
    /// The HMAC uses SHA-1.
    #[error("the packet has an HMAC of SHA-1; set HMAC_DIGEST_TYPE to SHA256 in the client")]
    HmacSha1,
    /// The HMAC uses a digest that the server accepts, but not the one that the key file names.
    #[error("the packet has an HMAC of {0}, and the key file has another HMAC_DIGEST_TYPE")]
    HmacDigest(HmacDigest),
    /// The HMAC is not that of the HMAC key with SHA-256, SHA-384 or SHA-512.
    #[error("the packet has an HMAC of SHA-3, or of another HMAC key")]
    HmacUnknown,
    /// The encryption key is a short passphrase that is padded, as by clients older than 2.5.
    #[error("the packet is encrypted in the legacy mode; set ENCRYPTION_MODE to CBC in the client")]
    Legacy,
    /// The encryption mode is not CBC.
    #[error("the packet is not encrypted in the mode CBC; set ENCRYPTION_MODE to CBC in the client")]
    Mode,
    /// The digest inside the packet does not match, and has the length of one of SHA-3.
    #[error("the packet has a digest of SHA-3; set DIGEST_TYPE to SHA256 in the client")]
    Digest,
}
