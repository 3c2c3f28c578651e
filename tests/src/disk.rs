//! A small disk that can be full or read-only.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::{Daemon, Host, Output};

/// A file system in memory of 64 KiB, visible to the daemons that are started after it. It is
/// removed when this is dropped.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// An empty, writable file system.
    pub fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        mount(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"]).arg(directory.path()));
        Self { directory }
    }

    /// A path on it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fills it completely.
    pub fn fill(&self) {
        let mut filler = File::create(self.path("filler")).expect("the disk can be written to");
        // The kernel allocates whole pages.
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    /// Frees the space again.
    pub fn free(&self) {
        fs::remove_file(self.path("filler")).expect("the disk was filled");
    }

    /// Makes it read-only for the daemons that are started from now on.
    pub fn protect(&self) {
        mount(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(self.directory.path()));
    }

    /// Makes it writable again for a running daemon, which has its own mounts, and for later ones.
    pub fn release(&self, host: &Host, daemon: &Daemon) {
        let directory = self.directory.path();
        mount(Command::new("mount").args(["-o", "remount,rw,bind"]).arg(directory));
        host.ok(&format!("nsenter -t {} -m mount -o remount,rw,bind {}", daemon.id(), directory.display()));
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The sandbox removes it at the latest.
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).output();
    }
}

fn mount(command: &mut Command) {
    let output = Output::of(command);
    assert_eq!(output.code, Some(0), "{command:?}: {}", output.stderr);
}
