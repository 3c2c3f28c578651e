//! Finds the reason for which a packet without an accepted HMAC is refused, if a key made it.

use zeroize::Zeroizing;

use super::cipher::{Encrypted, Mode, OTHER_MODES};
use super::content::Fields;
use super::{FwknopError, FwknopKey, HmacDigest, MacKey, WeakReason, has_form};
use crate::time::Timestamp;

/// The lengths of the HMACs of fwknop's clients, in characters, and of no HMAC.
const MAC_LENGTHS: [usize; 6] = [0, 22, 27, 43, 64, 86];
/// Length to which the legacy mode pads a passphrase, in bytes.
const LEGACY_LENGTH: usize = 16;

/// Recognises a packet that a key made without an HMAC that is accepted. Returns the reason for which
/// it is refused, and the wall clock of the client. Nothing protects the packet, so that an attacker
/// can have altered or repeated it.
pub fn diagnose(key: &FwknopKey, payload: &[u8]) -> Option<(FwknopError, Timestamp)> {
    if !has_form(payload) || key.mac.verify(payload) {
        return None;
    }
    let legacy = padded(&key.passphrase);
    let legacy = legacy.as_ref().map(|passphrase| &passphrase[..]);
    MAC_LENGTHS.into_iter().find_map(|length| {
        let text = payload.get(..payload.len().checked_sub(length)?)?;
        let encrypted = Encrypted::decode(text)?;
        let read = |passphrase: &[u8], mode| Fields::of_plain(&encrypted.decrypt(passphrase, mode)?).ok();
        let found = |fields: Fields, weak| Some((FwknopError::Weak(weak), fields.time));
        if let Some(fields) = read(&key.passphrase, Mode::Cbc) {
            return found(fields, weak_mac(key, length, payload));
        }
        if let Some(fields) = OTHER_MODES.into_iter().find_map(|mode| read(&key.passphrase, mode)) {
            return found(fields, WeakReason::Mode);
        }
        found(read(legacy?, Mode::Cbc)?, WeakReason::Legacy)
    })
}

/// Returns the reason for which the HMAC of this length, in characters, is refused.
fn weak_mac(key: &FwknopKey, length: usize, payload: &[u8]) -> WeakReason {
    match length {
        0 => WeakReason::NoHmac,
        22 => WeakReason::HmacMd5,
        27 => WeakReason::HmacSha1,
        _ => {
            let verifies = |digest: &HmacDigest| {
                MacKey::from_parts(*digest, key.mac.as_bytes()).is_ok_and(|mac| mac.verify(payload))
            };
            HmacDigest::ALL.into_iter().find(verifies).map_or(WeakReason::HmacUnknown, WeakReason::HmacDigest)
        }
    }
}

/// Returns the passphrase as the legacy mode uses it, if that is another one.
fn padded(passphrase: &[u8]) -> Option<Zeroizing<[u8; LEGACY_LENGTH]>> {
    let mut padded = Zeroizing::new([b'0'; LEGACY_LENGTH]);
    padded.get_mut(..passphrase.len())?.copy_from_slice(passphrase);
    (passphrase.len() < LEGACY_LENGTH).then_some(padded)
}
