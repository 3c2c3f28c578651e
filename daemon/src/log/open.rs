//! Opens the log file without following other users' symbolic links.
//!
//! The path is resolved name by name. A symbolic link in it is followed only if it belongs to root
//! or to the daemon's own user: any other user could point it to a file that only the daemon can
//! write to. The log file is a regular file, a FIFO or `/dev/null`, and opening it never waits for
//! the reader of a FIFO.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path};

use portknock_core::Printable;
use portknock_core::sys::open::{link_target, open_at};
use portknock_core::sys::process::effective_user;

/// Maximum number of symbolic links in a path.
const MAX_LINKS: usize = 16;
/// Mode of a new log file.
const MODE: libc::mode_t = 0o640;
/// Flags that open a name only to read its metadata.
const INSPECT: libc::c_int = libc::O_PATH | libc::O_NOFOLLOW;
/// Flags for the log file.
const APPEND: libc::c_int = libc::O_WRONLY | libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens the file at an absolute path for appending, and creates it if it does not exist.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut dir = File::open("/")?;
    let mut names = names(path);
    let mut links = 0;
    while let Some(name) = names.pop() {
        let is_last = names.is_empty();
        let open = |flags| open_at(dir.as_fd(), &name, flags, MODE).map(File::from);
        let mut entry = match open(INSPECT) {
            Err(error) if is_last && error.kind() == ErrorKind::NotFound => {
                return checked(open(APPEND | libc::O_NOFOLLOW | libc::O_CREAT)?);
            }
            entry => entry?,
        };
        let meta = entry.metadata()?;
        let mut follow = libc::O_NOFOLLOW;
        if meta.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            check_link(&meta, &name)?;
            if !is_in_proc(&meta) {
                let target = link_target(entry.as_fd())?;
                if target.is_absolute() {
                    dir = File::open("/")?;
                }
                names.extend(self::names(&target));
                continue;
            }
            // Only the kernel can follow this link: /proc/self/fd/1 of a pipe has no path.
            follow = 0;
            entry = open(libc::O_PATH)?;
        }
        if is_last {
            checked(entry)?;
            return checked(open(APPEND | follow)?);
        }
        dir = entry;
    }
    Err(ErrorKind::IsADirectory.into())
}

/// The names of a path, in reverse order.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.rev().collect()
}

/// Refuses a link that belongs to another user, or has a second hard link.
fn check_link(link: &Metadata, name: &OsStr) -> io::Result<()> {
    if [0, effective_user()].contains(&link.uid()) && link.nlink() == 1 {
        return Ok(());
    }
    let name = name.to_string_lossy();
    let (name, user) = (Printable(&name), link.uid());
    let message = format!(
        "the symbolic link {name} belongs to user {user}; the daemon follows only links of root and of the user that it runs as"
    );
    Err(io::Error::new(ErrorKind::PermissionDenied, message))
}

/// True for a link of proc(5).
fn is_in_proc(link: &Metadata) -> bool {
    fs::metadata("/proc/self").is_ok_and(|proc| proc.dev() == link.dev())
}

/// Refuses any other kind of file. Opening a device for writing can have arbitrary effects.
fn checked(file: File) -> io::Result<File> {
    let meta = file.metadata()?;
    let kind = meta.file_type();
    let is_null = kind.is_char_device() && meta.rdev() == libc::makedev(1, 3);
    if kind.is_file() || kind.is_fifo() || is_null {
        return Ok(file);
    }
    let message = if kind.is_dir() { "it is a directory" } else { "it is neither a file nor a FIFO" };
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_created_and_appended_to_also_through_own_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        symlink("../a/./b", dir.join("a/link")).unwrap();
        symlink(dir.join("a/link/log"), dir.join("log")).unwrap();
        write!(open(&dir.join("log")).unwrap(), "one ").unwrap();
        write!(open(&dir.join("a/link/../b/log")).unwrap(), "two").unwrap();
        let file = dir.join("a/b/log");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one two");
        assert_eq!(mode(&file) & !0o640, 0);
        symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(open(&dir.join("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(open(&dir.join("none/log")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn devices_directories_and_sockets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        for path in [dir.path(), &dir.path().join("socket"), Path::new("/dev/zero"), Path::new("/")] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains("it is ") || path == Path::new("/"), "{}: {error}", path.display());
        }
        open(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn a_fifo_is_opened_if_it_has_a_reader_and_refused_without_waiting_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(open(&path).unwrap_err().raw_os_error(), Some(libc::ENXIO));
        let _reader =
            open_at(File::open(dir.path()).unwrap().as_fd(), OsStr::new("fifo"), libc::O_RDONLY | libc::O_NONBLOCK, 0);
        open(&path).unwrap();
        let (_end, pipe) = io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&pipe);
        open(Path::new(&format!("/proc/self/fd/{number}"))).unwrap();
    }
}
