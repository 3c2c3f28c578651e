//! openat(2): opening a path one component at a time.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Opens `name` in the directory `dir` with these flags of open(2) and close-on-exec. `mode` is the
/// mode of a new file.
///
/// # Errors
/// See openat(2).
pub fn open_at(dir: BorrowedFd<'_>, name: &OsStr, flags: libc::c_int, mode: libc::mode_t) -> io::Result<OwnedFd> {
    let name = CString::new(name.as_bytes())?;
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: the name is a string that outlives the call, and the directory is open for as long as
    // it is borrowed.
    super::owned(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })
}

/// Returns the target of a symbolic link that was opened with `O_PATH` and `O_NOFOLLOW`
/// (readlinkat(2)).
///
/// # Errors
/// Fails if the descriptor is not a symbolic link's, and if the target is longer than `PATH_MAX`.
pub fn link_target(link: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the empty name is a string, and the buffer has the length that is passed; both
    // outlive the call.
    let length = unsafe { libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    if length == target.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    target.truncate(length);
    Ok(OsString::from_vec(target).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_opened_itself_and_its_target_is_returned() {
        let dir = tempfile::tempdir().unwrap();
        symlink("some/where", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let opened = File::open(dir.path()).unwrap();
        let open = |name: &str| open_at(opened.as_fd(), OsStr::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0);
        assert_eq!(link_target(open("link").unwrap().as_fd()).unwrap(), PathBuf::from("some/where"));
        link_target(open("file").unwrap().as_fd()).unwrap_err();
        assert_eq!(open("none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
