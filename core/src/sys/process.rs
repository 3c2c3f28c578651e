//! Processes: waiting for a child by descriptor, becoming a daemon, who we are, what we may use.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A descriptor that becomes readable when the process `pid` ends (pidfd_open(2), Linux 5.3). It is close-on-exec.
///
/// The caller names a child that it has not waited for yet, since only then the number cannot belong to another process.
///
/// # Errors
/// `ENOSYS` on older kernels, `EPERM` under a seccomp filter that does not know the call, `EMFILE` without a free
/// descriptor.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    super::owned(libc::c_int::try_from(result).unwrap_or(-1))
}

/// The user whose rights this process has (geteuid(2)).
pub fn effective_user() -> u32 {
    // SAFETY: the call takes nothing, touches nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The group whose rights this process has (getegid(2)).
pub fn effective_group() -> u32 {
    // SAFETY: the call takes nothing, touches nothing and cannot fail.
    unsafe { libc::getegid() }
}

/// Names this process for ps(1) and its like, in at most 15 bytes (prctl(2), `PR_SET_NAME`).
pub fn set_process_name(name: &CStr) {
    // SAFETY: the name is a string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Closes what the program that started this one left open besides the standard streams (close_range(2)); kernels before
/// Linux 5.9 leave it open. To be called before anything else is opened.
pub fn close_inherited() {
    // SAFETY: at the start of a program nothing owns a descriptor beyond the standard streams.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
}

/// Marks all descriptors besides the standard streams close-on-exec (close_range(2)), so that no program that this one
/// starts inherits what its own parent left open. They stay open here. To be called before any thread starts.
pub fn close_inherited_on_exec() {
    let flags = libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: the call takes numbers and closes nothing.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) } == -1 {
        // Linux before 5.11, or a seccomp filter that does not know the call.
        close_each_on_exec();
    }
}

/// The same descriptor by descriptor: those that `/proc` lists, without it those that the limit permits.
fn close_each_on_exec() {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect::<Vec<libc::c_int>>()
    });
    let limit = || descriptor_limit().map_or(1024, |limit| libc::c_int::try_from(limit.rlim_cur).unwrap_or(65_536));
    for fd in listed.unwrap_or_else(|_| (3..limit()).collect()).into_iter().filter(|fd| *fd > libc::STDERR_FILENO) {
        // SAFETY: fcntl takes numbers here, and says so where the descriptor is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Restricts the inherited mask for the modes of files (umask(2)): files that this process and its programs create are
/// never writable by group or others, and never unusable for their owner.
pub fn restrict_umask() {
    // SAFETY: no memory is passed; the call cannot fail.
    let inherited = unsafe { libc::umask(0o077) };
    // SAFETY: as above.
    unsafe { libc::umask((inherited | 0o022) & 0o077) };
}

/// How many more descriptors this process may open (getrlimit(2), `RLIMIT_NOFILE`), counted in `/proc`; where that is
/// missing, none are taken for open.
pub fn descriptors_left() -> usize {
    let limit = descriptor_limit().map_or(0, |limit| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    limit.saturating_sub(open)
}

/// Lets this process, and the programs that it starts, open as many descriptors as its user may allow it. For programs
/// that do not pass descriptors to select(2), which knows 1,024 of them.
///
/// # Errors
/// None that is known; see setrlimit(2).
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

/// Does `work` with this mask for the modes of files (umask(2)), and sets the mask back. The mask is the process's: no other
/// thread should make files meanwhile.
pub fn with_umask<T>(mask: libc::mode_t, work: impl FnOnce() -> T) -> T {
    // SAFETY: no memory is passed; the call cannot fail.
    let before = unsafe { libc::umask(mask) };
    let result = work();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    result
}

/// The user whose process made a connection of a Unix socket, as it was then (`SO_PEERCRED`, unix(7)).
///
/// # Errors
/// Fails for sockets of other families.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: libc::gid_t::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let (fd, value) = (socket.as_raw_fd(), (&raw mut peer).cast());
    // SAFETY: `peer` has as many bytes as `length` says; both outlive the call.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    super::check(result).map(|_| peer.uid)
}

/// Which of the two processes after [`fork`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that called.
    Parent,
    /// The new one.
    Child,
}

/// Makes a second process like this one (fork(2)), for a program that becomes a daemon.
///
/// # Errors
/// Fails where more than one thread runs, since only the caller lives on in the child, whatever the others held; and
/// where fork(2) does.
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("more than one thread runs"));
    }
    // SAFETY: this is the only thread, so the child has everything as it was.
    match super::check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        _ => Ok(Forked::Parent),
    }
}

/// Leaves the terminal and the session (setsid(2)), for a child of [`fork`].
///
/// # Errors
/// Fails where the process leads a process group.
pub fn new_session() -> io::Result<()> {
    // SAFETY: no memory is passed.
    super::check(unsafe { libc::setsid() }).map(drop)
}

/// Makes standard input, output and error those of `file`.
///
/// # Errors
/// See dup2(2).
pub fn redirect_standard_streams(file: BorrowedFd<'_>) -> io::Result<()> {
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both descriptors are open, and nobody owns the standard streams.
        super::check(unsafe { libc::dup2(file.as_raw_fd(), stream) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_peer_is_known() {
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
        // SAFETY: fcntl takes numbers here.
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
