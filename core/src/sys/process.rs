//! Processes: waiting for a child by descriptor, becoming a daemon, credentials and limits.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// Returns a descriptor that becomes readable when the process `pid` ends (pidfd_open(2), Linux
/// 5.3). It is close-on-exec.
///
/// The process must be a child that the caller has not waited for yet; otherwise the number may
/// belong to another process.
///
/// # Errors
/// `ENOSYS` on older kernels, `EPERM` under a seccomp filter that does not allow the call, `EMFILE`
/// if no descriptor is free.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the call takes two integers and accesses no memory of this process.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    super::owned(libc::c_int::try_from(result).unwrap_or(-1))
}

/// Returns the effective user ID of this process (geteuid(2)).
pub fn effective_user() -> u32 {
    // SAFETY: the call has no arguments, accesses no memory and cannot fail.
    unsafe { libc::geteuid() }
}

/// Returns the effective group ID of this process (getegid(2)).
pub fn effective_group() -> u32 {
    // SAFETY: the call has no arguments, accesses no memory and cannot fail.
    unsafe { libc::getegid() }
}

/// Sets the name of this process as shown by ps(1) and similar programs, in at most 15 bytes
/// (prctl(2), `PR_SET_NAME`).
pub fn set_process_name(name: &CStr) {
    // SAFETY: the name is a string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Closes all descriptors that the parent program left open, except the standard streams
/// (close_range(2)). Kernels before Linux 5.9 leave them open. It must be called before anything
/// else is opened.
pub fn close_inherited() {
    // SAFETY: at the start of a program nothing owns a descriptor beyond the standard streams.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Marks all descriptors except the standard streams close-on-exec (close_range(2)), so that no
/// program that this one starts inherits the descriptors that its own parent left open. They remain
/// open here. It must be called before any thread starts.
pub fn close_inherited_on_exec() {
    let flags = libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: the call takes integers and closes nothing.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } == -1 {
        // Linux before 5.11, or a seccomp filter that does not allow the call.
        close_each_on_exec();
    }
}

/// Does the same descriptor by descriptor: for those that `/proc` lists, or without `/proc` for
/// those that the limit permits.
fn close_each_on_exec() {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<libc::c_int>>()
    });
    let limit = || descriptor_limit().map_or(1024, |limit| libc::c_int::try_from(limit.rlim_cur).unwrap_or(65_536));
    for fd in listed.unwrap_or_else(|_| (3..limit()).collect()).into_iter().filter(|fd| *fd > libc::STDERR_FILENO) {
        // SAFETY: fcntl takes integers here, and returns an error if the descriptor is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Restricts the inherited file mode mask (umask(2)). Files that this process and its programs
/// create are never writable by group or others, and always accessible to their owner.
pub fn restrict_umask() {
    // SAFETY: no memory is passed; the call cannot fail.
    let inherited = unsafe { libc::umask(0o077) };
    // SAFETY: as above.
    unsafe { libc::umask((inherited | 0o022) & 0o077) };
}

/// Returns the number of descriptors that this process may still open (getrlimit(2),
/// `RLIMIT_NOFILE`). Open descriptors are counted in `/proc`; without it, the number of open
/// descriptors is assumed to be zero.
pub fn descriptors_left() -> usize {
    let limit = descriptor_limit().map_or(0, |limit| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    limit.saturating_sub(open)
}

/// Raises the soft limit of descriptors of this process, and of the programs that it starts, to the
/// hard limit. Only for programs that do not pass descriptors to select(2), which supports 1,024 of
/// them.
///
/// # Errors
/// None known; see setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = descriptor_limit()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid and outlives the call.
    super::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(drop)
}

fn descriptor_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid and outlives the call.
    super::check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit)
}

/// Runs `work` with this file mode mask (umask(2)), and then restores the mask. The mask applies to
/// the whole process, so no other thread should create files in the meantime.
pub fn with_umask<T>(mask: libc::mode_t, work: impl FnOnce() -> T) -> T {
    // SAFETY: no memory is passed; the call cannot fail.
    let before = unsafe { libc::umask(mask) };
    let result = work();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    result
}

/// Returns the user ID of the peer process of a Unix socket, at the time of the connection
/// (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// Fails for sockets of other families.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let (fd, value) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: `peer` has the size that `length` states; both outlive the call.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    super::check(result).map(|_| peer.uid)
}

/// The process in which [`fork`] returned.
#[derive(Debug)]
pub enum Forked {
    /// The calling process.
    Parent,
    /// The new process.
    Child,
}

/// Creates a child process (fork(2)), for a program that becomes a daemon.
///
/// # Errors
/// Fails if more than one thread runs, because only the calling thread continues in the child, even
/// if the others held locks; and if fork(2) fails.
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("more than one thread runs"));
    }
    // SAFETY: this is the only thread, so all state is consistent in the child.
    match super::check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Leaves the terminal and the session (setsid(2)), for a child of [`fork`].
///
/// # Errors
/// Fails if the process is a process group leader.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no memory is passed.
    super::check(unsafe { libc::setsid() }).map(drop)
}

/// Redirects standard input, output and error to `file`.
///
/// # Errors
/// See dup2(2).
pub fn redirect_standard_streams(file: BorrowedFd<'_>) -> io::Result<()> {
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both descriptors are open, and the standard streams have no owner.
        super::check(unsafe { libc::dup2(file.as_raw_fd(), stream) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_peer_is_returned() {
        use std::os::fd::AsFd;
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_user(one.as_fd()).unwrap(), effective_user());
        let (pipe, _end) = io::pipe().unwrap();
        peer_user(pipe.as_fd()).unwrap_err();
    }

    #[test]
    fn without_close_range_each_descriptor_is_marked() {
        use std::os::fd::AsFd;
        let (pipe, _end) = io::pipe().unwrap();
        // SAFETY: fcntl takes integers here.
        let call = |command, value: libc::c_int| unsafe { libc::fcntl(pipe.as_fd().as_raw_fd(), command, value) };
        assert_eq!(call(libc::F_SETFD, 0), 0);
        close_each_on_exec();
        assert_eq!(call(libc::F_GETFD, 0), libc::FD_CLOEXEC);
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_what_is_allowed() {
        raise_descriptor_limit().unwrap();
        let limit = descriptor_limit().unwrap();
        assert_eq!(limit.rlim_cur, limit.rlim_max);
        let (limit, left) = (usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX), descriptors_left());
        assert!(left < limit && left > limit / 2, "{left} of {limit}");
    }
}
