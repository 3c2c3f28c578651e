//! A file of this process, in memory if TMPDIR is.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("portknock-fuzz-{}", std::process::id()));
    fs::create_dir(&directory).expect("a new directory of this process");
    directory
});

/// Calls the function with the path of a file that has these bytes and that no other process can
/// write to.
pub(crate) fn with_file(bytes: &[u8], work: impl FnOnce(&Path)) {
    let path = DIRECTORY.join("file");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(bytes)).expect("a file is written");
    work(&path);
}
