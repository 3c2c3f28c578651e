//! Running in the background: a separate process without a terminal, with its process id in a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::exit;

use portknock_core::sys::process::{Forked, fork, new_session, redirect_standard_streams};

/// The daemon's end of the pipe to the process that the caller started. That process exits when the
/// daemon is ready, or with the status 1 if the daemon fails to start.
#[derive(Debug)]
pub(crate) struct Detached {
    ready: PipeWriter,
    null: File,
}

/// Creates the daemon's process and returns in it. The original process exits when the daemon is
/// ready.
pub(crate) fn detach() -> io::Result<Detached> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let (mut waiting, ready) = io::pipe()?;
    if let Forked::Parent = fork()? {
        drop(ready);
        // One byte if the daemon is ready. Otherwise the pipe is closed, after the daemon reported
        // the error on standard error.
        let is_ready = waiting.read(&mut [0]).unwrap_or(0) == 1;
        exit(i32::from(!is_ready));
    }
    new_session()?;
    Ok(Detached { ready, null })
}

impl Detached {
    /// Detaches from the terminal, and lets the original process exit.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        redirect_standard_streams(self.null.as_fd())?;
        self.ready.write_all(b"1")
    }
}

/// A file with the process id of this process, removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file and replaces an older one. Never follows a symbolic link: in a directory
    /// that other users can write to, it can lead anywhere.
    pub(crate) fn write(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        writeln!(options.open(path)?, "{}", std::process::id())?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = format!("{}\n", std::process::id());
        // Another daemon can have replaced the file.
        if fs::read_to_string(&self.0).is_ok_and(|text| text == own) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_pid_file_is_replaced_a_link_is_not_followed_and_only_our_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, "99999999 and more text\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        PidFile::write(&link).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }
}
