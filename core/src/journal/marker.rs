//! The marker of a state file: a file on a medium that survives the process but not the boot. It shows
//! whether the state file contains every accepted knock, although the process did not stop in order.
//!
//! It contains the identifier of the boot and the length of the state file up to the last accepted
//! knock. It is empty from the first failed write of the state file until the file contains everything
//! again, so that a process that dies meanwhile leaves an empty marker.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(not(test))]
use super::disk;
use super::file::with_suffix;
#[cfg(test)]
use super::simulation::disk;

/// The content of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// No process of this boot that could write the marker has used the state file.
    Absent,
    /// The state file contains every accepted knock of this boot, in its first bytes, of which this is
    /// the number.
    Saved(u64),
    /// Knocks may have been accepted that the state file does not contain.
    Unsaved,
}

#[derive(Debug)]
pub(super) struct Marker {
    /// `None` without a directory that a boot clears.
    path: Option<PathBuf>,
    boot_id: Arc<str>,
    /// The content that this process wrote last, if it was written.
    mark: Option<Mark>,
}

impl Marker {
    /// The marker of the state file at `path` in `directory`, which a boot clears. Its name contains a
    /// checksum of the path, so that each state file has a separate marker.
    pub(super) fn new(directory: Option<&Path>, path: &Path, boot_id: Arc<str>) -> Self {
        let sum = crc32fast::hash(path.as_os_str().as_encoded_bytes());
        Self { path: directory.map(|directory| directory.join(format!("saved-{sum:08x}"))), boot_id, mark: None }
    }

    /// Reads the marker that the process before this one left.
    pub(super) fn read(&self) -> Mark {
        let Some(path) = &self.path else { return Mark::Absent };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Mark::Absent,
            Err(_) => return Mark::Unsaved,
        };
        match text.strip_suffix('\n').and_then(|line| line.split_once(' ')) {
            Some((boot_id, len)) if *boot_id == *self.boot_id && !boot_id.is_empty() => {
                len.parse().map_or(Mark::Unsaved, Mark::Saved)
            }
            // Of another boot: the directory is not cleared.
            Some((boot_id, _)) if !boot_id.is_empty() => Mark::Absent,
            _ => Mark::Unsaved,
        }
    }

    /// Records that the first `len` bytes of the state file contain every accepted knock. If this
    /// fails, the next start distrusts the file without need.
    pub(super) fn save(&mut self, len: u64) {
        let Some(path) = &self.path else { return };
        if self.mark == Some(Mark::Saved(len)) || self.boot_id.is_empty() {
            return;
        }
        let new = with_suffix(path, ".new");
        let text = format!("{} {len}\n", self.boot_id);
        let written = make_directory(path)
            .and_then(|()| disk::write_marker(&new, &text))
            .and_then(|()| disk::rename_marker(&new, path));
        self.mark = written.ok().map(|()| Mark::Saved(len));
    }

    /// Records that the state file may be about to have no more than `len` bytes, although it contains
    /// every accepted knock.
    pub(super) fn shorten(&mut self, len: u64) {
        if matches!(self.mark, Some(Mark::Saved(before)) if before > len) {
            self.save(len);
        }
    }

    /// Records that the state file does not contain every accepted knock.
    pub(super) fn clear(&mut self) {
        let Some(path) = &self.path else { return };
        if self.mark == Some(Mark::Unsaved) {
            return;
        }
        let written = make_directory(path).and_then(|()| disk::write_marker(path, ""));
        // Without a marker, the next start trusts the file only if it ends with `end`.
        let written = written.or_else(|_| disk::remove_marker(path));
        self.mark = written.ok().map(|()| Mark::Unsaved);
    }

    /// Records that the state file does not contain every accepted knock, whatever is written to it from
    /// now on.
    pub(super) fn abandon(&mut self) {
        self.clear();
        self.path = None;
    }
}

/// Creates the directory of a marker if it does not exist. Others can use it, too: it can be the
/// directory of the control socket.
fn make_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
