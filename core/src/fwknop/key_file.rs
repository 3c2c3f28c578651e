//! A server's key file for fwknop's clients: the lines that `fwknop --key-gen` prints.

use std::path::Path;
use std::sync::Arc;

use data_encoding::BASE64_NOPAD;
use zeroize::Zeroizing;

use super::{FwknopKey, FwknopKeyError, HmacDigest};
use crate::keys::{KeyFileError, Readers, read_secrets};
use crate::printable::Printable;

/// The value of keys in fwknop's example files.
const PLACEHOLDER: &str = "__CHANGEME__";

/// The reason why a line of a key file is invalid. It never contains any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FwknopLineError {
    /// The line is not text.
    #[error("the line is not valid UTF-8")]
    NotText,
    /// The line is not a setting and its value.
    #[error("write `KEY_BASE64: value`, or `[name]` in front of the keys of a client")]
    NoValue,
    /// There is no such setting.
    #[error(
        "there is no such setting; the settings are KEY_BASE64, KEY, HMAC_KEY_BASE64, HMAC_KEY, HMAC_DIGEST_TYPE and \
         USERNAME"
    )]
    Unknown,
    /// The client has this setting already. The value is the number of the earlier line.
    #[error("line {0} has this setting of the client already; a line `[name]` begins the keys of the next client")]
    Repeated(usize),
    /// The client has no encryption key.
    #[error("the client has no KEY_BASE64")]
    NoKey,
    /// The client has no HMAC key.
    #[error("the client has no HMAC_KEY_BASE64; packets without an HMAC are refused")]
    NoHmacKey,
    /// A key is the text that fwknop's example files have in its place.
    #[error("{PLACEHOLDER} is not a key; run portknock keygen --fwknop")]
    Placeholder,
    /// A value cannot be used.
    #[error(transparent)]
    BadKey(#[from] FwknopKeyError),
    /// An earlier client has the same name.
    #[error("the client in line {line} has the name {} too; each client needs its own name", Printable(.name))]
    SameName {
        /// The name.
        name: String,
        /// The number of the first line of the earlier client.
        line: usize,
    },
    /// An earlier client has the same HMAC key. The value is the number of its first line.
    #[error("the client in line {0} has the same HMAC key; each client needs its own keys")]
    SameKey(usize),
}

/// Reads a server's key file for fwknop's clients.
///
/// The settings are the lines of `fwknop --key-gen`, `KEY_BASE64: …` and `HMAC_KEY_BASE64: …`, or
/// `KEY: …` and `HMAC_KEY: …` for passphrases, and optionally `HMAC_DIGEST_TYPE: …` (`SHA256`,
/// `SHA384` or `SHA512`) and `USERNAME: …`. A line `[name]` begins the settings of the client with this
/// name. The client of settings without such a line has the name of the user, or else the name of the
/// file without its extension. Empty lines and lines that begin with `#` are ignored. The owner and
/// the permissions must be as for [`load_key_file`](crate::keys::load_key_file).
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_fwknop_keys(path: &Path) -> Result<Arc<[FwknopKey]>, KeyFileError> {
    let bytes = read_secrets(path, Readers::Group)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    parse(&bytes, &stem).map_err(|(line, error)| KeyFileError::BadFwknopLine(path.to_owned(), line, error.into()))
}

/// The settings of a client, each with the number of its line.
#[derive(Default)]
struct Settings<'a> {
    /// The number of the first line.
    line: usize,
    name: Option<&'a str>,
    key: Option<(usize, Zeroizing<Vec<u8>>)>,
    hmac_key: Option<(usize, Zeroizing<Vec<u8>>)>,
    digest: Option<(usize, HmacDigest)>,
    user: Option<(usize, &'a str)>,
}

/// Returns the keys, or the number of a bad line and its error.
fn parse(bytes: &[u8], stem: &str) -> Result<Arc<[FwknopKey]>, (usize, FwknopLineError)> {
    let mut clients: Vec<Settings<'_>> = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let at = |error| (number, error);
        let line = std::str::from_utf8(line).map_err(|_| at(FwknopLineError::NotText))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        if name.is_some() || clients.is_empty() {
            clients.push(Settings { line: number, name, ..Settings::default() });
        }
        if let (None, Some(client)) = (name, clients.last_mut()) {
            client.add(number, line).map_err(at)?;
        }
    }
    let mut keys: Vec<(usize, FwknopKey)> = Vec::new();
    for client in clients {
        let line = client.line;
        let key = client.finish(stem)?;
        for (earlier, other) in &keys {
            if other.name == key.name {
                return Err((line, FwknopLineError::SameName { name: key.name.to_string(), line: *earlier }));
            }
            if other.mac.as_bytes() == key.mac.as_bytes() {
                return Err((line, FwknopLineError::SameKey(*earlier)));
            }
        }
        keys.push((line, key));
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

impl<'a> Settings<'a> {
    fn add(&mut self, number: usize, line: &'a str) -> Result<(), FwknopLineError> {
        let (setting, value) = line
            .split_once(|c: char| c == ':' || c.is_whitespace())
            .map(|(setting, value)| (setting, value.trim()))
            .filter(|(_, value)| !value.is_empty())
            .ok_or(FwknopLineError::NoValue)?;
        match setting {
            "KEY" => set(&mut self.key, number, decode_key(value, false)?),
            "KEY_BASE64" => set(&mut self.key, number, decode_key(value, true)?),
            "HMAC_KEY" => set(&mut self.hmac_key, number, decode_key(value, false)?),
            "HMAC_KEY_BASE64" => set(&mut self.hmac_key, number, decode_key(value, true)?),
            "HMAC_DIGEST_TYPE" => set(&mut self.digest, number, value.parse()?),
            "USERNAME" => set(&mut self.user, number, value),
            _ => Err(FwknopLineError::Unknown),
        }
    }

    /// Returns the keys, or the number of a line and its error.
    fn finish(self, stem: &str) -> Result<FwknopKey, (usize, FwknopLineError)> {
        let (key_line, key) = self.key.ok_or((self.line, FwknopLineError::NoKey))?;
        let (hmac_line, hmac_key) = self.hmac_key.ok_or((self.line, FwknopLineError::NoHmacKey))?;
        let (user_line, user) = self.user.map_or((self.line, None), |(line, user)| (line, Some(user)));
        let digest = self.digest.map_or(HmacDigest::default(), |(_, digest)| digest);
        let name = self.name.or(user).unwrap_or(stem);
        FwknopKey::new(name, user, &key, digest, &hmac_key).map_err(|error| {
            let line = match error {
                FwknopKeyError::PassphraseLength(_) => key_line,
                FwknopKeyError::HmacKeyLength(_) => hmac_line,
                FwknopKeyError::User => user_line,
                _ => self.line,
            };
            (line, error.into())
        })
    }
}

fn set<T>(setting: &mut Option<(usize, T)>, line: usize, value: T) -> Result<(), FwknopLineError> {
    match setting.replace((line, value)) {
        Some((earlier, _)) => Err(FwknopLineError::Repeated(earlier)),
        None => Ok(()),
    }
}

/// Returns the bytes of a key in one of fwknop's files: those of the text, or those that it stands for in
/// base64, with `=` at its end or without.
///
/// # Errors
/// Fails if the text is not base64, or is the one that fwknop's example files have in place of a key.
pub fn decode_key(text: &str, is_base64: bool) -> Result<Zeroizing<Vec<u8>>, FwknopLineError> {
    if text == PLACEHOLDER {
        return Err(FwknopLineError::Placeholder);
    }
    if !is_base64 {
        return Ok(Zeroizing::new(text.as_bytes().to_vec()));
    }
    let text = text.trim_end_matches('=');
    BASE64_NOPAD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| FwknopKeyError::Base64.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const HMAC_KEY: &str = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl9gYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+fw==";

    fn error(text: &str) -> (usize, String) {
        let (line, error) = parse(text.as_bytes(), "phone").unwrap_err();
        (line, error.to_string())
    }

    #[test]
    fn the_lines_of_fwknop_are_a_client() {
        let text = format!("KEY_BASE64: {KEY}\nHMAC_KEY_BASE64: {HMAC_KEY}\n");
        let keys = parse(text.as_bytes(), "phone").unwrap();
        let passphrase: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hmac_key: [u8; 64] = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
        let expected = FwknopKey::new("phone", None, &passphrase, HmacDigest::Sha256, &hmac_key).unwrap();
        assert_eq!(*keys, [expected]);
        // As in access.conf, too, and without padding.
        let other = format!("  KEY_BASE64\t{}\r\n\n# mine\nHMAC_KEY_BASE64   {HMAC_KEY}  ", KEY.trim_end_matches('='));
        assert_eq!(parse(other.as_bytes(), "phone").unwrap(), keys);
    }

    #[test]
    fn a_file_has_several_clients() {
        let text = "HMAC_KEY: battery staple\nKEY: correct horse\nUSERNAME: carol\n\
                    [alice]\nKEY: abcd\nHMAC_KEY: efgh\nHMAC_DIGEST_TYPE: sha512\n[bob]\nKEY: abcd\nHMAC_KEY: x:y z";
        let keys = parse(text.as_bytes(), "phone").unwrap();
        let new = |name, user, key: &str, digest, hmac_key: &str| {
            FwknopKey::new(name, user, key.as_bytes(), digest, hmac_key.as_bytes()).unwrap()
        };
        let expected = [
            new("carol", Some("carol"), "correct horse", HmacDigest::Sha256, "battery staple"),
            new("alice", None, "abcd", HmacDigest::Sha512, "efgh"),
            new("bob", None, "abcd", HmacDigest::Sha256, "x:y z"),
        ];
        assert_eq!(*keys, expected);
        assert!(parse(b"# nothing\n", "phone").unwrap().is_empty());
        // The written lines are read back.
        let lines: String = keys.iter().map(|key| key.server_lines().to_string()).collect();
        assert_eq!(*parse(lines.as_bytes(), "other").unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_without_its_key() {
        for (text, line, message) in [
            ("KEY: a\nHMAC_KEY", 2, "write `KEY_BASE64: value`, or `[name]` in front of the keys of a client"),
            ("KEY: a\nHMAC_KEY:", 2, "write `KEY_BASE64: value`, or `[name]` in front of the keys of a client"),
            ("KEY: a\nKEY_BASE64: YQ==\n", 2, "line 1 has this setting of the client already; a line `[name]` begins"),
            ("\nHMAC_KEY: a", 2, "the client has no KEY_BASE64"),
            ("[a]\nKEY: a", 1, "the client has no HMAC_KEY_BASE64; packets without an HMAC are refused"),
            ("KEY: __CHANGEME__", 1, "__CHANGEME__ is not a key; run portknock keygen --fwknop"),
            ("KEY_BASE64: __CHANGEME__", 1, "__CHANGEME__ is not a key; run portknock keygen --fwknop"),
            ("KEY_BASE64: c2VjcmV0c2VjcmV0c2VjcmV0IQ!", 1, "the key is not valid base64"),
            ("HMAC_DIGEST_TYPE: MD5", 1, "the HMAC must use SHA256, SHA384 or SHA512; set HMAC_DIGEST_TYPE in the"),
            ("SOURCE: ANY", 1, "there is no such setting; the settings are KEY_BASE64, KEY, HMAC_KEY_BASE64, HMAC_KEY"),
            ("HMAC_KEY: a\nKEY: 123456789012345678901234567890123", 2, "the encryption key has 33 bytes; it must have"),
            ("KEY: a\n\nHMAC_KEY: b\nUSERNAME: a:b\n[x]", 4, "the name of a user has 1 to 63 printable ASCII"),
            ("\n[a b]\nKEY: a\nHMAC_KEY: b", 2, "the name of a client has 1 to 64 bytes of printable characters"),
            ("[a]\nKEY: a\nHMAC_KEY: b\n[a]\nKEY: c\nHMAC_KEY: d", 4, "the client in line 1 has the name a too; each"),
            ("[a]\nKEY: a\nHMAC_KEY: b\n[c]\nKEY: c\nHMAC_KEY: b", 4, "the client in line 1 has the same HMAC key;"),
        ] {
            let (found, error) = error(text);
            assert_eq!(found, line, "{text}");
            assert!(error.starts_with(message), "{text}: {error}");
            assert!(!error.contains("c2Vj") && !error.contains("12345"), "{error}");
        }
        assert_eq!(parse(b"\xff", "phone").unwrap_err(), (1, FwknopLineError::NotText));
    }

    #[test]
    fn the_name_and_the_permissions_of_the_file_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("phone.fwknop");
        fs::write(&path, format!("KEY_BASE64: {KEY}\nHMAC_KEY_BASE64: {HMAC_KEY}\nUSER: a")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_fwknop_keys(&path), Err(KeyFileError::Untrusted(..))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let message = load_fwknop_keys(&path).unwrap_err().to_string();
        assert!(message.contains("phone.fwknop:3: there is no such setting"), "{message}");
        fs::write(&path, format!("KEY_BASE64: {KEY}\nHMAC_KEY_BASE64: {HMAC_KEY}\n")).unwrap();
        assert_eq!(&*load_fwknop_keys(&path).unwrap()[0].name, "phone");
    }
}
