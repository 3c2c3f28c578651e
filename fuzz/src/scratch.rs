//! A folder of this process for files, in memory where TMPDIR is.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Works with the path of a file that has these bytes and that no one else can write to.
pub(crate) fn with_file(bytes: &[u8], work: impl FnOnce(&Path)) {
    thread_local!(static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) });
    let path: PathBuf = FOLDER.with_borrow_mut(|folder| {
        folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder for temporary files")).path().join("file")
    });
    fs::write(&path, bytes).expect("a file is written");
    work(&path);
}
