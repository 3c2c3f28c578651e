//! A server's key file: one client a line, as in `alice pk1:…`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::text::PREFIX;
use super::{Key, KeyTextError, MAX_NAME_LENGTH, NamedKey};
use crate::printable::{Printable, shown_path};
use crate::sys;

/// Maximum size of a key file, in bytes.
const MAX_FILE_SIZE: u64 = 4 << 20;

/// An error of a key file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the keys in {path}: {1}", path = shown_path(.0))]
    Unreadable(PathBuf, #[source] io::Error),
    /// Users other than the owner have permissions that make the keys worthless. The text is the
    /// reason with the command that repairs it.
    #[error("refused to use the keys in {path}: {1}", path = shown_path(.0))]
    Untrusted(PathBuf, String),
    /// A line is not a name and a key: the number of the line, counted from 1, and the reason.
    #[error("{path}:{1}: {2}", path = shown_path(.0))]
    BadLine(PathBuf, usize, LineError),
    /// A line of a key file for fwknop's clients is invalid: the number of the line, counted from 1,
    /// and the reason.
    #[error("{path}:{1}: {2}", path = shown_path(.0))]
    BadFwknopLine(PathBuf, usize, #[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The reason why a line of a key file is invalid. It never contains any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The line is not text.
    #[error("the line is not valid UTF-8")]
    NotText,
    /// The line is not a name and a key.
    #[error("write the client's name, a space and its key")]
    NotTwoWords,
    /// The name cannot be used.
    #[error("a name has 1 to {MAX_NAME_LENGTH} bytes of printable characters")]
    BadName,
    /// The second word is no key.
    #[error(transparent)]
    BadKey(#[from] KeyTextError),
    /// An earlier line has the same name.
    #[error("line {line} has the name {} too; each client needs its own name", Printable(.name))]
    SameName {
        /// The name.
        name: String,
        /// The number of the earlier line.
        line: usize,
    },
    /// An earlier line has the same key. The value is the number of that line.
    #[error("line {0} has the same key; each client needs its own key: run portknock keygen")]
    SameKey(usize),
}

/// The users who may read a file of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only the owner.
    Owner,
    /// The owner and the group.
    Group,
}

/// Reads a server's key file. Empty lines and lines that begin with `#` are ignored. The file must
/// belong to root or to the user of this process. Only its owner may write it, and only its owner
/// and its group may read it.
///
/// # Errors
/// See [`KeyFileError`].
pub fn load_key_file(path: &Path) -> Result<Arc<[NamedKey]>, KeyFileError> {
    let bytes = read_secrets(path, Readers::Group)?;
    parse(&bytes).map_err(|(line, error)| KeyFileError::BadLine(path.to_owned(), line, error))
}

/// Reads a client's file of secrets. It must belong to root or to the user of this process, and no
/// other user may read or write it.
///
/// # Errors
/// See [`KeyFileError`].
pub fn read_private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    read_secrets(path, Readers::Owner)
}

/// Reads a file of secrets that these users at most may read.
pub(crate) fn read_secrets(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let unreadable = |error| KeyFileError::Unreadable(path.to_owned(), error);
    // A FIFO must not block the start.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    if let Some(reason) = distrust(&file, path, readers).map_err(unreadable)? {
        return Err(KeyFileError::Untrusted(path.to_owned(), reason));
    }
    let size = file.metadata().map_err(unreadable)?.len();
    if size > MAX_FILE_SIZE {
        let too_large = io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB");
        return Err(unreadable(too_large));
    }
    // With enough capacity no copy of the keys is left behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    file.take(MAX_FILE_SIZE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Returns the reason not to use the file; `None` if it can be used.
fn distrust(file: &File, path: &Path, readers: Readers) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Some("it is not a regular file".to_owned()));
    }
    let shown = shown_path(path);
    if metadata.uid() != 0 && metadata.uid() != sys::process::effective_user() {
        return Ok(Some(format!("it belongs to another user; run chown root {shown}")));
    }
    let (forbidden, mode) = match readers {
        Readers::Owner => (0o077, "600"),
        Readers::Group => (0o027, "640"),
    };
    let found = metadata.mode() & forbidden;
    if found == 0 {
        return Ok(None);
    }
    let verb = if found & 0o022 != 0 { "write" } else { "read" };
    Ok(Some(format!("other users can {verb} it; run chmod {mode} {shown}, and make new keys if others had access")))
}

/// Returns the keys, or the number of a bad line and its error.
fn parse(bytes: &[u8]) -> Result<Arc<[NamedKey]>, (usize, LineError)> {
    let mut keys: Vec<NamedKey> = Vec::new();
    let (mut names, mut fingerprints) = (HashMap::new(), HashMap::new());
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let line = std::str::from_utf8(line).map_err(|_| (number, LineError::NotText))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let found = parse_line(line).map_err(|error| (number, error))?;
        if let Some(earlier) = names.insert(found.name.clone(), number) {
            return Err((number, LineError::SameName { name: found.name.to_string(), line: earlier }));
        }
        if let Some(earlier) = fingerprints.insert(found.key.fingerprint(), number) {
            return Err((number, LineError::SameKey(earlier)));
        }
        keys.push(found);
    }
    Ok(keys.into())
}

fn parse_line(line: &str) -> Result<NamedKey, LineError> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(key), None) = (words.next(), words.next(), words.next()) else {
        return Err(LineError::NotTwoWords);
    };
    let key = Key::from_str(key)?;
    if is_name(name) { Ok(NamedKey { name: name.into(), key }) } else { Err(LineError::BadName) }
}

/// True if the text can be the name of a client. A text with a key in it cannot, because names are
/// shown.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && !name.starts_with('#')
        && Printable(name).to_string() == name
        && !name.contains(char::is_whitespace)
        && !name.contains(PREFIX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(number: u8) -> String {
        Key::from_bytes([number; 32]).to_text().to_string()
    }

    fn names(text: &str) -> Vec<String> {
        parse(text.as_bytes()).unwrap().iter().map(|key| key.name.to_string()).collect()
    }

    #[test]
    fn a_line_is_a_name_and_a_key() {
        let text = format!("# clients\n\nalice {}\r\n  bob\t{}  \n#carol {}\n", key(1), key(2), key(3));
        assert_eq!(names(&text), ["alice", "bob"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn a_bad_line_is_reported_with_its_number_and_without_its_key() {
        let (one, two) = (key(1), key(2));
        let wrong = format!("{}A", &two[..49]);
        for (text, line, message) in [
            (format!("a {one}\nb"), 2, "write the client's name, a space and its key".to_owned()),
            (format!("a b {one}"), 1, "write the client's name, a space and its key".to_owned()),
            (format!("a {wrong}"), 1, "the key contains a typing error: its checksum does not match".to_owned()),
            (format!("a {one}\n\na {two}"), 3, "line 1 has the name a too; each client needs its own name".to_owned()),
            (
                format!("a {one}\nb {one}"),
                2,
                "line 1 has the same key; each client needs its own key: run portknock keygen".to_owned(),
            ),
            (format!("{} {one}", "x".repeat(65)), 1, "a name has 1 to 64 bytes of printable characters".to_owned()),
            (format!("{two} {one}"), 1, "a name has 1 to 64 bytes of printable characters".to_owned()),
            (format!("{one} a"), 1, "a key begins with `pk1:`".to_owned()),
            (format!("a\u{1b}b {one}"), 1, "a name has 1 to 64 bytes of printable characters".to_owned()),
        ] {
            let (found, error) = parse(text.as_bytes()).unwrap_err();
            assert_eq!((found, error.to_string()), (line, message), "{text}");
            assert!(!format!("{error:?}").contains(&one[4..]));
        }
        assert_eq!(parse(b"\xff").unwrap_err(), (1, LineError::NotText));
    }

    #[test]
    fn a_file_that_others_can_read_or_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        fs::write(&path, format!("alice {}\n", key(1))).unwrap();
        for mode in 0..0o1000_u32 {
            // Root reads what it has no permission for.
            let owner = mode | 0o600;
            fs::set_permissions(&path, fs::Permissions::from_mode(owner)).unwrap();
            assert_eq!(load_key_file(&path).is_ok(), owner & 0o027 == 0, "{owner:o}");
            assert_eq!(read_private_file(&path).is_ok(), owner & 0o077 == 0, "{owner:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let message = load_key_file(&path).unwrap_err().to_string();
        assert!(message.contains("other users can read it; run chmod 640 "), "{message}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let message = load_key_file(&path).unwrap_err().to_string();
        assert!(message.contains("other users can write it; run chmod 640 "), "{message}");
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(load_key_file(directory.path()), Err(KeyFileError::Untrusted(..))));
        assert!(matches!(load_key_file(&directory.path().join("none")), Err(KeyFileError::Unreadable(..))));
    }
}
