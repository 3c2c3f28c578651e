//! Golden files: texts that are kept in the repository, so that a change of them is reviewed like a change of code.
//!
//! A test that finds another text fails with the difference. With `UPDATE_GOLDEN` in the environment it writes the file
//! instead; `make golden` does that for all files.
#![allow(clippy::missing_panics_doc, reason = "a test reports by a panic")]

mod diff;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Asserts that the file at `path`, from the root of the workspace, has this text.
#[track_caller]
pub fn assert_golden(path: &str, text: &str) {
    assert_golden_bytes(path, Some(text.as_bytes()));
}

/// The same for bytes; `None` if there must be no such file.
#[track_caller]
pub fn assert_golden_bytes(path: &str, bytes: Option<&[u8]>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let written = match bytes {
            Some(bytes) => fs::write(&file, bytes),
            None => fs::remove_file(&file).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
        };
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let kept = match fs::read(&file) {
        Ok(kept) => Some(kept),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{path}: {error}"),
    };
    if kept.as_deref() == bytes {
        return;
    }
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let existence = match (&kept, bytes) {
        (None, _) => " does not exist",
        (_, None) => " must not exist",
        _ => " differs (-: the file, +: the code)",
    };
    panic!(
        "{path}{existence}\n{}If the change is right, write all golden files: make golden",
        diff::lines(&text(kept.as_deref()), &text(bytes))
    );
}
