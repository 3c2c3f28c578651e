//! A key as text: `pk1:` and 46 characters.

use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::{KEY_LENGTH, Key};

/// The beginning of every key's text; the number is the version of the format.
pub(super) const PREFIX: &str = "pk1:";

/// A text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyTextError {
    /// The text does not begin with `pk1:`.
    #[error("a key begins with `pk1:`")]
    Prefix,
    /// The text has the wrong length. The value is its number of characters after `pk1:`.
    #[error("the key has {0} characters after `pk1:`; it must have 46")]
    Length(usize),
    /// The text contains a character that no key has.
    #[error("a character of the key is not a letter, digit, `-` or `_`")]
    Character,
    /// The checksum does not match.
    #[error("the key contains a typing error: its checksum does not match")]
    Checksum,
}

impl Key {
    /// Returns the text: `pk1:`, and the key with a checksum in the alphabet of RFC 4648, section 5
    /// (base64url), without padding. The text is erased from memory when it is dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH + 2]);
        bytes[..KEY_LENGTH].copy_from_slice(&*self.0);
        bytes[KEY_LENGTH..].copy_from_slice(&self.checksum());
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 46));
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&*bytes, &mut text);
        text
    }
}

impl FromStr for Key {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(KeyTextError::Prefix)?;
        let mut bytes = Zeroizing::new([0; KEY_LENGTH + 2]);
        let length = encoded.chars().count();
        if length != BASE64URL_NOPAD.encode_len(bytes.len()) {
            return Err(KeyTextError::Length(length));
        }
        if !encoded.is_ascii() {
            return Err(KeyTextError::Character);
        }
        match BASE64URL_NOPAD.decode_mut(encoded.as_bytes(), &mut *bytes) {
            Ok(_) => {}
            // The last character has bits that belong to no byte, so another character may be wrong
            // although the alphabet has it.
            Err(error) if error.error.kind == data_encoding::DecodeKind::Trailing => {
                return Err(KeyTextError::Checksum);
            }
            Err(_) => return Err(KeyTextError::Character),
        }
        let mut key = Self(Box::new([0; KEY_LENGTH]));
        key.0.copy_from_slice(&bytes[..KEY_LENGTH]);
        if key.checksum() != bytes[KEY_LENGTH..] {
            return Err(KeyTextError::Checksum);
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::counting_key;
    use super::*;

    #[test]
    fn the_text_is_read_back() {
        let key = counting_key();
        let text = key.to_text();
        assert_eq!(text.len(), 50);
        assert!(text.starts_with("pk1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh"), "{}", *text);
        assert!(text.parse::<Key>() == Ok(key));
    }

    #[test]
    fn every_typing_error_is_found() {
        let key = counting_key();
        let text = key.to_text();
        for at in PREFIX.len()..text.len() {
            for with in "Aa0-_.=ä".chars() {
                let wrong = format!("{}{with}{}", &text[..at], &text[at + 1..]);
                assert!(wrong == **text || wrong.parse::<Key>().is_err(), "{wrong}");
            }
        }
        let error = |text: &str| text.parse::<Key>().unwrap_err();
        assert_eq!(error(&text[1..]), KeyTextError::Prefix);
        assert_eq!(error(""), KeyTextError::Prefix);
        assert_eq!(error(&text[..49]), KeyTextError::Length(45));
        assert_eq!(error(&format!("{}=", *text)), KeyTextError::Length(47));
        assert_eq!(error(&format!("{}=", &text[..49])), KeyTextError::Character);
    }
}
