//! Base64 in the standard alphabet without `=`. The bits that belong to no byte must be zero, so that
//! there is one text for each sequence of bytes.

use data_encoding::BASE64_NOPAD;
use zeroize::Zeroizing;

/// Decodes a text. The bytes are erased from memory when they are dropped.
pub(super) fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; BASE64_NOPAD.decode_len(text.len()).ok()?]);
    (BASE64_NOPAD.decode_mut(text, &mut bytes).ok()? == bytes.len()).then_some(bytes)
}

/// Decodes a text into a buffer, if it has exactly as many bytes.
pub(super) fn decode_into(text: &[u8], bytes: &mut [u8]) -> bool {
    BASE64_NOPAD.decode_len(text.len()) == Ok(bytes.len()) && BASE64_NOPAD.decode_mut(text, bytes).is_ok()
}

/// Returns the number of characters for a number of bytes.
pub(super) fn text_length(bytes: usize) -> usize {
    BASE64_NOPAD.encode_len(bytes)
}

pub(super) fn encode(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64_NOPAD.encode(bytes))
}

/// True for a character of the alphabet.
pub(super) const fn is_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_text_for_each_sequence_of_bytes() {
        for length in 0..40_u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37)).collect();
            let text = encode(&bytes);
            assert_eq!(text.len(), text_length(bytes.len()));
            assert_eq!(**decode(text.as_bytes()).unwrap(), bytes);
            let mut other = vec![0; bytes.len()];
            assert!(decode_into(text.as_bytes(), &mut other) && other == bytes);
            assert!(!decode_into(text.as_bytes(), &mut vec![0; bytes.len() + 1]));
            for at in 0..text.len() {
                for with in 0..=u8::MAX {
                    let mut altered = text.as_bytes().to_vec();
                    altered[at] = with;
                    assert!(altered == text.as_bytes() || decode(&altered).is_none_or(|found| *found != bytes));
                }
            }
            for end in ["=", "==", "A", "\n"] {
                assert!(decode(format!("{}{end}", *text).as_bytes()).is_none_or(|found| *found != bytes));
            }
        }
        assert!(decode(b"AB").is_none(), "bits that belong to no byte");
        assert!(decode(b"AA==").is_none());
    }
}
