//! The socket file: created so that no other user can ever connect to it, and never taken from a
//! running daemon.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use portknock_core::sys::lock::try_lock;
use portknock_core::sys::process::{effective_user, with_umask};

/// Umask for a socket that only its owner can use.
const PRIVATE_UMASK: libc::mode_t = 0o177;

/// A listening socket with its name in the file system, which is removed when this value is
/// dropped.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Held while the daemon runs: only the holder can replace the socket.
    _lock: File,
}

impl Socket {
    /// Creates the socket, and its directory if that is missing. The socket has the mode 0600 from
    /// the start, and gets its name when it listens. It replaces the socket that a dead daemon left
    /// behind.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            match DirBuilder::new().mode(0o755).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        if is_replaceable(path)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "other users can replace files in its directory, including the socket",
            ));
        }
        let lock = lock(path)?;
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let new = with_suffix(path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_umask(PRIVATE_UMASK, || UnixListener::bind(&new))?;
        let named = listener.set_nonblocking(true).and_then(|()| fs::rename(&new, path));
        if let Err(error) = named {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// Accepts the next connection; `None` if there is none.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(true).map(|()| Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Readable when a client connects.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock is still held, so the name belongs to this socket. The lock file stays, because
        // another daemon can have opened it already.
        let _ = fs::remove_file(&self.path);
    }
}

/// True if users other than root and the daemon's user can rename files in the directory, and so
/// replace the socket. They can if the directory belongs to them, or if it is writable for them
/// without the sticky bit.
fn is_replaceable(path: &Path) -> io::Result<bool> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let meta = fs::metadata(directory)?;
    let is_shared = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
    Ok(is_shared || ![0, effective_user()].contains(&meta.uid()))
}

/// Locks a dedicated file, as for the state file, because the socket's name is created and removed.
fn lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(with_suffix(path, ".lock"))?;
    match try_lock(&file)? {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::AddrInUse, "another portknockd uses it")),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_is_private_replaces_a_stale_one_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        let socket = Socket::create(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("run"))), (0o600, 0o755));
        assert!(socket.accept().unwrap().is_none());
        let _stream = UnixStream::connect(&path).unwrap();
        assert!(socket.accept().unwrap().is_some());
        let error = Socket::create(&path).unwrap_err();
        assert_eq!(error.to_string(), "another portknockd uses it");
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a stale socket");
        let _socket = Socket::create(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_directory_where_others_can_replace_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let set = |mode| fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
        for mode in [0o777, 0o775, 0o733] {
            set(mode);
            let error = Socket::create(&path).unwrap_err();
            assert_eq!(error.to_string(), "other users can replace files in its directory, including the socket");
            assert!(!path.exists() && !dir.path().join("control.lock").exists());
        }
        for mode in [0o700, 0o755, 0o1777] {
            set(mode);
            Socket::create(&path).unwrap();
        }
        // Only root may give a directory away.
        if effective_user() == 0 && std::os::unix::fs::chown(dir.path(), Some(54_321), None).is_ok() {
            set(0o755);
            assert!(Socket::create(&path).is_err());
        }
    }

    #[test]
    fn nothing_but_a_socket_is_replaced_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let in_the_way: [fn(&Path, &Path) -> io::Result<()>; 2] =
            [|_, path| fs::write(path, "precious"), |file, path| symlink(file, path)];
        for make in in_the_way {
            make(&file, &path).unwrap();
            let error = Socket::create(&path).unwrap_err();
            assert_eq!(error.to_string(), "the path exists and is not a socket");
            fs::remove_file(&path).unwrap();
        }
        fs::remove_file(dir.path().join("control.lock")).unwrap();
        symlink(&file, dir.path().join("control.lock")).unwrap();
        Socket::create(&path).unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        Socket::create(&dir.path().join("no/such/control")).unwrap_err();
    }
}
