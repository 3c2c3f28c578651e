//! Files of secrets that only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use portknock_core::Printable;

/// Creates a file, which only its owner can read. Never overwrites a file. The error is a message.
pub(crate) fn create(path: &Path, text: &str) -> Result<(), String> {
    let message = |error: io::Error| {
        let advice = match error.kind() {
            ErrorKind::AlreadyExists => "; existing files are never overwritten",
            _ => "",
        };
        format!("cannot create {}: {error}{advice}", Printable(&path.to_string_lossy()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(message)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        // The file is incomplete, and it is in the way of the next attempt.
        let _ = fs::remove_file(path);
        message(error)
    })
}
