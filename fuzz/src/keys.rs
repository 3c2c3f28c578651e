//! Files of keys, of a server and of a client: a file that can be read has the same meaning when it
//! is written again, and no message contains a key.

use std::path::Path;

use portknock_core::client_file::ClientFile;
use portknock_core::keys::{KEY_LENGTH, Key, KeyFileError, LineError, NamedKey, load_key_file};

use crate::scratch::with_file;

/// The file that an input contains, as its first byte.
const SERVER: u8 = 0;
const CLIENT: u8 = 1;
/// A byte that represents the text of a key; the next byte selects the key.
const KEY: u8 = b'\x01';
/// Length of the shortest part of a key that no message contains. It is longer than the beginning
/// that all keys have, and than the words of messages.
const SECRET_LENGTH: usize = 20;

/// Files of both kinds, valid and with errors.
pub fn seeds() -> Vec<Vec<u8>> {
    let server =
        ["# clients\n\nalice \x01a\n  bob\t\x01b\r\n", "a \x01a\na \x01b\n", "a \x01a\nb \x01a\n", "a pk1:x\n", "a"];
    let client = [
        "name = alice\nkey = \x01a\n",
        "# mine\nname = a\nkey=\x01b\nserver = web1.example\nform = packet\ndoor = ssh\nport = 4000\n",
        "name = a\nkey = \x01c\nform = time\ntime_steps = 6\ntime_ports = 9-99\ntime_protocols = both\ntime_step = 60\n",
        "name = a\nname = b\n",
        "key = pk1:AAAA\n",
    ];
    let with = |kind: u8| move |text: &str| [&[kind], text.as_bytes()].concat();
    server.into_iter().map(with(SERVER)).chain(client.into_iter().map(with(CLIENT))).collect()
}

/// Reads the file that the bytes describe.
pub fn check(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let (file, keys) = with_keys(text);
    with_file(&file, |path| if kind % 2 == CLIENT { check_client(path, &keys) } else { check_server(path, &keys) });
}

/// Replaces each [`KEY`] and the byte after it by the text of a key. Returns these texts, too.
fn with_keys(text: &[u8]) -> (Vec<u8>, Vec<String>) {
    let (mut file, mut keys) = (Vec::new(), Vec::new());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (&KEY, Some(&number)) => {
                bytes.next();
                let key = Key::from_bytes([number; KEY_LENGTH]).to_text().to_string();
                file.extend(key.bytes());
                keys.push(key);
            }
            _ => file.push(*byte),
        }
    }
    (file, keys)
}

fn check_server(path: &Path, keys: &[String]) {
    let read = match load_key_file(path) {
        Ok(read) => read,
        // A name is shown, and may happen to be a part of a key.
        Err(KeyFileError::BadLine(_, _, LineError::SameName { .. })) => return,
        Err(error) => return check_message(&format!("{error} {error:?}"), keys),
    };
    let shown: Vec<_> = read.iter().map(|named| &named.key).collect();
    check_message(&format!("{shown:?}"), keys);
    let line = |named: &NamedKey| format!("{} {}\n", named.name, *named.key.to_text());
    let text: String = read.iter().map(line).collect();
    with_file(text.as_bytes(), |path| assert_eq!(load_key_file(path).expect("the same keys"), read));
}

fn check_client(path: &Path, keys: &[String]) {
    let read = match ClientFile::read(path) {
        Ok(read) => read,
        Err(error) => return check_message(&format!("{error} {error:?}"), keys),
    };
    check_message(&format!("{:?} {:?}", read.key, read.shared_key()), keys);
    read.check().expect("a file that was read is valid");
    with_file(read.settings().as_bytes(), |path| assert_eq!(ClientFile::read(path).expect("the same file"), read));
    // The line fits into the key file of a server.
    with_file(read.server_line().as_bytes(), |path| {
        let expected = [NamedKey { name: read.name.as_str().into(), key: read.shared_key() }];
        assert_eq!(*load_key_file(path).expect("a line of a server"), expected);
    });
}

/// Panics if the message contains a part of a key of the file.
fn check_message(message: &str, keys: &[String]) {
    for key in keys {
        let is_shown = key
            .as_bytes()
            .windows(SECRET_LENGTH)
            .any(|part| message.as_bytes().windows(SECRET_LENGTH).any(|found| found == part));
        assert!(!is_shown, "the message contains a key: {message}");
    }
}
