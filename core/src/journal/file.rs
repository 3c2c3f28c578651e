//! The file of a journal: opening and locking it, appending to it, and replacing it as a whole.

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

/// Returns `path` with `suffix` added to its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Creates the directory of `path` if it does not exist, accessible to this user only.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens the lock file and locks it. `None` if another process keeps the lock for a fifth of a
/// second. The lock has a separate file, because a rewrite replaces the state file. The lock file is
/// never removed, so that the next start also succeeds on a full disk.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    let path = with_suffix(path, ".lock");
    let file = private().read(true).write(true).create(true).open(&path);
    // An existing lock file can also be locked on a read-only file system.
    let file = file.or_else(|error| private().read(true).open(&path).map_err(|_| error))?;
    // A child of an ended process inherits the lock and holds it until it executes its command.
    for _ in 0..20 {
        if try_lock(&file)? {
            return Ok(Some(file));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

/// Opens the file for reading and writing, or only for reading if it cannot be written. The flag is
/// true if the file can be written.
pub(super) fn open(path: &Path) -> io::Result<(File, bool)> {
    match private().read(true).write(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(error) => private().read(true).open(path).map(|file| (file, false)).map_err(|_| error),
    }
}

/// Returns the reason why the commands in an open file must not run with this process's privileges;
/// `None` if they may.
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

/// Reads the whole file.
pub(super) fn read_all(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `bytes`, which can be empty, at the offset `end` and removes anything after them.
/// After a failure the file is as long as before, if the system permits that.
pub(super) fn append(file: &File, end: u64, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() != end {
        disk::set_len(file, end)?;
    }
    if bytes.is_empty() {
        return Ok(());
    }
    let written = disk::write_at(file, bytes, end);
    if written.is_err() {
        // If this fails, a torn line or complete and correct lines remain. The next start reads both
        // correctly.
        let _ = disk::set_len(file, end);
    }
    written
}

/// Syncs the contents of a file.
pub(super) fn sync(file: &File) -> io::Result<()> {
    disk::sync_data(file)
}

/// Replaces the file at `path` atomically by one with these bytes. After a crash there is either the
/// old file or the new one. Only after [`sync_with_name`] is it certainly the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let new = with_suffix(path, ".new");
    let file = create(&new, bytes);
    let replaced = file.and_then(|file| disk::rename(&new, path).map(|()| file));
    if replaced.is_err() {
        let _ = disk::remove(&new);
    }
    replaced
}

/// Syncs a file and its name, so that both survive a loss of power.
pub(super) fn sync_with_name(file: &File, path: &Path) -> io::Result<()> {
    disk::sync_all(file)?;
    disk::sync_names(directory_of(path))
}

/// Creates a file with these bytes and syncs it. Removes an existing file of the same name first.
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

/// Options for a file that is accessible to this user only and never opened through a symbolic link.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}
