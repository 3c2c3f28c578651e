//! The codes of authenticator apps: TOTP (RFC 6238) with SHA-1 and windows of 30 s, and the files that
//! contain the secrets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keys::{Fingerprint, KeyFileError, Readers, is_name, read_secrets};
use crate::printable::shown_path;

/// Length of the window of a code, in seconds.
pub const CODE_SECONDS: u64 = 30;
/// Length of the window of a code.
pub(crate) const CODE_WINDOW: Duration = Duration::from_secs(CODE_SECONDS);
/// Number of bytes of a secret that [`TotpSecret::generate`] makes, which RFC 4226 recommends.
const SECRET_LENGTH: usize = 20;
/// Minimum number of bytes of a secret, which some services use.
const MIN_SECRET_LENGTH: usize = 10;
/// Minimum number of bytes of a secret that RFC 4226 permits.
pub(crate) const RECOMMENDED_SECRET_LENGTH: usize = 16;
/// Maximum number of bytes of a secret: the block of SHA-1.
const MAX_SECRET_LENGTH: usize = 64;
/// The name that apps show for the secrets of portknock, next to the name of the secret.
const ISSUER: &str = "portknock";
/// The beginning of a URI of a secret.
const URI_PREFIX: &str = "otpauth://totp/";
/// Number of digits of a code if the URI does not contain it.
const DEFAULT_DIGITS: u8 = 6;

/// The secret that an authenticator app and a server share.
///
/// `Debug` does not show it, and dropping it erases it from memory.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl TotpSecret {
    /// Returns a new secret from the random numbers of the system.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut secret = Zeroizing::new(vec![0; SECRET_LENGTH]);
        getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
        Ok(Self(secret))
    }

    /// Returns the code of a window with this number of digits, 1 to 9: HOTP (RFC 4226, section 5.3).
    pub fn code(&self, window: u64, digits: u8) -> u32 {
        // HMAC accepts keys of every length.
        #[allow(clippy::expect_used, reason = "HMAC has no invalid key length")]
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC accepts every key length");
        mac.update(&window.to_be_bytes());
        let digest = mac.finalize().into_bytes();
        let offset = usize::from(digest[19] & 0x0f);
        let number = digest[offset..offset + 4].iter().fold(0, |number: u32, &byte| number << 8 | u32::from(byte));
        (number & 0x7fff_ffff) % 10_u32.pow(u32::from(digits.min(9)))
    }

    /// Returns the secret in the alphabet of RFC 4648, section 6 (base32), without padding. The text is
    /// erased from memory when it is dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(BASE32_NOPAD.encode_len(self.0.len())));
        BASE32_NOPAD.encode_append(&self.0, &mut text);
        text
    }

    /// Returns the URI that an authenticator app reads as a QR code. `name` must be a valid name
    /// ([`is_name`]).
    pub fn to_uri(&self, name: &str, digits: u8) -> Zeroizing<String> {
        let name = percent_encoded(name);
        let secret = self.to_text();
        // With enough capacity no copy of the secret is left behind in memory.
        let mut uri = Zeroizing::new(String::with_capacity(128 + name.len() + secret.len()));
        for part in [URI_PREFIX, ISSUER, ":", &name, "?secret=", &secret, "&issuer=", ISSUER] {
            uri.push_str(part);
        }
        if digits != DEFAULT_DIGITS {
            uri.push_str(&format!("&digits={digits}"));
        }
        uri
    }

    /// Returns the identity of the secret under which the replay memory stores what was accepted. It
    /// reveals nothing of the secret.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        #[allow(clippy::expect_used, reason = "HMAC has no invalid key length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC accepts every key length");
        mac.update(b"portknock totp fingerprint 1\0");
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Fingerprint(fingerprint)
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The secret is hidden.
impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(..)")
    }
}

/// Parses base32, as apps and services write it: the case does not matter, spaces between groups and
/// padding are ignored.
impl FromStr for TotpSecret {
    type Err = TotpTextError;

    fn from_str(text: &str) -> Result<Self, TotpTextError> {
        let mut characters = Zeroizing::new(Vec::with_capacity(text.len()));
        characters
            .extend(text.trim_end_matches('=').bytes().filter(|byte| *byte != b' ').map(|b| b.to_ascii_uppercase()));
        let length = BASE32_NOPAD.decode_len(characters.len()).map_err(|_| TotpTextError::NotBase32)?;
        let mut secret = Zeroizing::new(vec![0; length]);
        BASE32_NOPAD.decode_mut(&characters, &mut secret).map_err(|_| TotpTextError::NotBase32)?;
        if !(MIN_SECRET_LENGTH..=MAX_SECRET_LENGTH).contains(&length) {
            return Err(TotpTextError::Length(length));
        }
        Ok(Self(secret))
    }
}

/// The reason why a text is not a secret. It never contains any part of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TotpTextError {
    /// The text is not base32.
    #[error("the secret is not base32: it consists of the letters A to Z and the digits 2 to 7")]
    NotBase32,
    /// The secret has the wrong length. The value is its number of bytes.
    #[error("the secret has {0} bytes; it must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH}")]
    Length(usize),
    /// The URI has no secret.
    #[error("the URI has no `secret`")]
    NoSecret,
    /// The URI asks for codes that portknock does not support.
    #[error("the codes of this secret are not supported: they must use SHA-1, a period of 30 s, and 6 or 8 digits")]
    Unsupported,
    /// The file has no line, or more than one.
    #[error("write one line: the secret in base32, or its URI `otpauth://totp/…`")]
    NotOneLine,
}

/// The secret of a file, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotpKey {
    /// The name of the secret, which events and logs contain.
    pub name: Arc<str>,
    /// The secret.
    pub secret: TotpSecret,
    /// The number of digits that the app shows, if the file contains it.
    pub digits: Option<u8>,
}

impl TotpKey {
    /// Parses the line of a file. `stem` is the name of a secret that is not in a URI.
    fn parse(line: &str, stem: &str) -> Result<Self, TotpTextError> {
        let prefix = line.get(..URI_PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(URI_PREFIX));
        if prefix.is_none() {
            return Ok(Self { name: stem.into(), secret: line.parse()?, digits: None });
        }
        let (label, query) = line[URI_PREFIX.len()..].split_once('?').ok_or(TotpTextError::NoSecret)?;
        let label = percent_decoded(label);
        let name = label.split_once(':').map_or(&*label, |(_, name)| name).trim();
        let name = if is_name(name) { name } else { stem };
        let (mut secret, mut digits) = (None, DEFAULT_DIGITS);
        for (key, value) in query.split('&').filter_map(|field| field.split_once('=')) {
            let is_supported = match key {
                "secret" => {
                    secret = Some(value.parse()?);
                    true
                }
                "algorithm" => value.eq_ignore_ascii_case("SHA1"),
                "period" => value.parse() == Ok(CODE_SECONDS),
                "digits" => {
                    digits = value.parse().unwrap_or(0);
                    [6, 8].contains(&digits)
                }
                _ => true,
            };
            if !is_supported {
                return Err(TotpTextError::Unsupported);
            }
        }
        Ok(Self { name: name.into(), secret: secret.ok_or(TotpTextError::NoSecret)?, digits: Some(digits) })
    }
}

/// An error of a file of `totp_secret`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TotpFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file does not contain a secret.
    #[error("{path}: {1}", path = shown_path(.0))]
    BadSecret(PathBuf, TotpTextError),
}

/// Reads the file of a secret: one line with the secret in base32, or with its URI. Empty lines and
/// lines that begin with `#` are ignored. The file must have the owner and the permissions of a key
/// file ([`load_key_file`](crate::keys::load_key_file)).
///
/// # Errors
/// See [`TotpFileError`].
pub fn load_totp_file(path: &Path) -> Result<TotpKey, TotpFileError> {
    let bytes = read_secrets(path, Readers::Group)?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_name(stem)).unwrap_or("totp");
    parse(&bytes, stem).map_err(|error| TotpFileError::BadSecret(path.to_owned(), error))
}

fn parse(bytes: &[u8], stem: &str) -> Result<TotpKey, TotpTextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| TotpTextError::NotBase32)?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => TotpKey::parse(line, stem),
        _ => Err(TotpTextError::NotOneLine),
    }
}

/// Returns the text with every byte as `%XX` that a label of a URI cannot contain (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Returns the text with the bytes that `%XX` stands for; bytes that are not UTF-8 are replaced.
fn percent_decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The secret of the vectors in RFC 4226, appendix D, and RFC 6238, appendix B.
    pub(crate) fn rfc_secret() -> TotpSecret {
        TotpSecret(Zeroizing::new(b"12345678901234567890".to_vec()))
    }

    /// RFC 6238, appendix B, the rows of SHA-1.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (unix, code) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            assert_eq!(rfc_secret().code(unix / CODE_SECONDS, 8), code, "{unix}");
            assert_eq!(rfc_secret().code(unix / CODE_SECONDS, 6), code % 1_000_000, "{unix}");
        }
    }

    /// RFC 4226, appendix D.
    #[test]
    fn codes_are_those_of_rfc_4226() {
        let codes = [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(rfc_secret().code(counter, 6), code, "{counter}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = TotpKey { name: "a".into(), secret: rfc_secret(), digits: Some(6) };
        assert_eq!(format!("{key:?}"), r#"TotpKey { name: "a", secret: TotpSecret(..), digits: Some(6) }"#);
    }

    #[test]
    fn secrets_are_read_in_the_forms_that_apps_and_services_write() {
        let text = rfc_secret().to_text();
        assert_eq!(*text, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for written in [&*text, "gezd gnbv gy3t qojq gezd gnbv gy3t qojq", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ===="] {
            assert_eq!(written.parse(), Ok(rfc_secret()), "{written}");
        }
        for (wrong, error) in [
            ("GEZDGNBVGY3TQOJ0", TotpTextError::NotBase32),
            ("GEZDGNBVGY3TQOJ", TotpTextError::NotBase32),
            ("", TotpTextError::Length(0)),
            ("GEZDGNBVGY3TQO", TotpTextError::NotBase32),
            ("GEZDGNBV", TotpTextError::Length(5)),
        ] {
            assert_eq!(wrong.parse::<TotpSecret>(), Err(error), "{wrong}");
        }
        assert_ne!(TotpSecret::generate().unwrap(), TotpSecret::generate().unwrap());
        assert_eq!(TotpSecret::generate().unwrap().len(), 20);
    }

    #[test]
    fn a_file_has_one_line_with_the_secret_or_its_uri() {
        let read = |text: &str| parse(text.as_bytes(), "stem");
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let named = |name: &str, digits| Ok(TotpKey { name: name.into(), secret: rfc_secret(), digits });
        assert_eq!(read(&format!("# emergency\n\n {secret} \n")), named("stem", None));
        for digits in [6, 8] {
            let uri = rfc_secret().to_uri("my-phone", digits);
            assert_eq!(read(&uri), named("my-phone", Some(digits)), "{}", *uri);
        }
        for (uri, name) in [
            (
                format!("otpauth://totp/ACME%20Co:john%40example.com?issuer=ACME%20Co&secret={secret}"),
                "john@example.com",
            ),
            (format!("OTPAUTH://totp/alice?algorithm=sha1&digits=6&period=30&secret={secret}"), "alice"),
            (format!("otpauth://totp/two%20words?secret={secret}&image=x"), "stem"),
            (format!("otpauth://totp/%zz%?secret={secret}"), "%zz%"),
        ] {
            assert_eq!(read(&uri), named(name, Some(6)), "{uri}");
        }
        for (text, error) in [
            (String::new(), TotpTextError::NotOneLine),
            (format!("{secret}\n{secret}"), TotpTextError::NotOneLine),
            ("otpauth://totp/a?issuer=b".into(), TotpTextError::NoSecret),
            ("otpauth://totp/a".into(), TotpTextError::NoSecret),
            (format!("otpauth://totp/a?secret={secret}&digits=7"), TotpTextError::Unsupported),
            (format!("otpauth://totp/a?secret={secret}&period=60"), TotpTextError::Unsupported),
            (format!("otpauth://totp/a?secret={secret}&algorithm=SHA256"), TotpTextError::Unsupported),
            (format!("otpauth://hotp/a?secret={secret}"), TotpTextError::NotBase32),
        ] {
            assert_eq!(read(&text), Err(error), "{text}");
            assert!(!error.to_string().contains(&secret[..8]));
        }
        assert_eq!(parse(b"\xff", "stem"), Err(TotpTextError::NotBase32));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("phone.totp");
        fs::write(&path, &*rfc_secret().to_text()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(&*load_totp_file(&path).unwrap().name, "phone");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_totp_file(&path), Err(TotpFileError::File(KeyFileError::Untrusted(..)))));
    }

    #[test]
    fn names_are_encoded_in_uris() {
        let uri = rfc_secret().to_uri("a/b?c#d&é:", 6);
        assert!(uri.starts_with("otpauth://totp/portknock:a%2Fb%3Fc%23d%26%C3%A9%3A?secret=GEZD"), "{}", *uri);
        assert_eq!(percent_decoded(&percent_encoded("a/b?c#d&é:%")), "a/b?c#d&é:%");
    }
}
