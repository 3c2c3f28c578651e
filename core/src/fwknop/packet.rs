//! Recognises packets, and opens those that a key made.

use super::cipher::{Encrypted, Mode, OTHER_MODES};
use super::content::Fields;
use super::{FwknopContent, FwknopError, FwknopKey, WeakReason, base64};

/// Minimum and maximum length of a packet, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 36..=1500;

/// True if a payload may be a packet, of any key: it has a permitted length and consists of base64
/// characters, of which the first contains the end of the omitted beginning.
pub fn has_form(payload: &[u8]) -> bool {
    LENGTHS.contains(&payload.len())
        && matches!(payload[0], b'8' | b'9' | b'+' | b'/')
        // Without an early end, so that the compiler checks many bytes at a time.
        && payload.iter().fold(true, |all, &byte| all & base64::is_character(byte))
}

/// Opens a packet that a key made and that asks for access.
///
/// # Errors
/// See [`FwknopError`].
pub fn open(key: &FwknopKey, payload: &[u8]) -> Result<FwknopContent, FwknopError> {
    if !has_form(payload) || !key.mac.verify(payload) {
        return Err(FwknopError::NotAuthentic);
    }
    let (text, mac) = key.mac.split(payload).ok_or(FwknopError::NotAuthentic)?;
    let encrypted = Encrypted::decode(text).ok_or(FwknopError::Malformed)?;
    let decrypt = |mode| encrypted.decrypt(&key.passphrase, mode).ok_or(FwknopError::Malformed);
    let read = |mode| decrypt(mode).and_then(|plain| Fields::of_plain(&plain));
    let fields = match read(Mode::Cbc) {
        Err(FwknopError::Malformed) if OTHER_MODES.into_iter().any(|mode| read(mode).is_ok()) => {
            return Err(FwknopError::Weak(WeakReason::Mode));
        }
        other => other?,
    };
    if key.user.as_deref().is_some_and(|user| *user != fields.user) {
        return Err(FwknopError::User);
    }
    let mac = base64::decode(mac).ok_or(FwknopError::NotAuthentic)?;
    fields.content(*mac.first_chunk().ok_or(FwknopError::NotAuthentic)?)
}
