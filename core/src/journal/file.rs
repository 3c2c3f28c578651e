//! The file under a journal: read once, appended to, replaced as a whole.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

#[cfg(not(test))]
use super::disk;
#[cfg(test)]
use super::simulation::disk;
use crate::sys::lock::try_lock;
use crate::sys::process::effective_user;

/// `path` with `suffix` added to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the directory that `path` is in, for this user only, where there is none.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens the lock file and takes its lock; `None` where another process keeps it for a fifth of a second. A file of its
/// own, because the state file is replaced now and then; it stays behind, so that a full disk does not matter at the
/// next start.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    let path = beside(path, ".lock");
    let file = private().read(true).write(true).create(true).open(&path);
    // A lock file on a file system that is read-only now serves as well.
    let file = file.or_else(|error| private().read(true).open(&path).map_err(|_| error))?;
    // A command that a process just gone had begun to start holds the lock until its exec is done.
    for _ in 0..20 {
        if try_lock(&file)? {
            return Ok(Some(file));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

/// Opens the file to read and write, or only to read where it cannot be written (then the flag is false).
pub(super) fn open(path: &Path) -> io::Result<(File, bool)> {
    match private().read(true).write(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(error) => private().read(true).open(path).map(|file| (file, false)).map_err(|_| error),
    }
}

/// Why the contents of an open file must not be run with our rights; `None` where they may.
pub(super) fn distrust(file: &File) -> io::Result<Option<&'static str>> {
    let meta = file.metadata()?;
    Ok(if !meta.is_file() {
        Some("it is not a regular file")
    } else if meta.uid() != effective_user() && meta.uid() != 0 {
        Some("it belongs to another user")
    } else if meta.mode() & 0o022 != 0 {
        Some("its group or others can write to it")
    } else {
        None
    })
}

/// Everything in the file.
pub(super) fn read_all(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `bytes` at `end` and nothing behind them, synced to the disk where `sync` says so. After a failure the file
/// is as long as before, if the system lets it.
pub(super) fn append(file: &File, end: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
    if file.metadata()?.len() != end {
        disk::set_len(file, end)?;
    }
    let written = disk::write_at(file, bytes, end).and_then(|()| if sync { disk::sync_data(file) } else { Ok(()) });
    if written.is_err() {
        // Whatever remains is a torn line, or whole lines that are true; both are read right.
        let _ = disk::set_len(file, end);
    }
    written
}

/// Puts a file with these bytes in place of the one at `path`, at once: after a crash there is either the old file or the
/// new one. Which one, is only certain after [`make_last`].
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = beside(path, ".new");
    let file = create(&new, bytes);
    let replaced = file.and_then(|file| disk::rename(&new, path).map(|()| file));
    if replaced.is_err() {
        let _ = disk::remove(&new);
    }
    replaced
}

/// Makes a file last as it is now, and its name.
pub(super) fn make_last(file: &File, path: &Path) -> io::Result<()> {
    disk::sync_all(file)?;
    disk::sync_names(directory_of(path))
}

/// Makes a new file with these bytes, synced, in place of any that has this name.
pub(super) fn create(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match disk::remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk::create(path, private().read(true).write(true))?;
    disk::write(&file, bytes)?;
    disk::sync_all(&file)?;
    Ok(file)
}

/// Only for this user, and never through a symbolic link.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}
