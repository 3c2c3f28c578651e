//! Processes: waiting for a child by descriptor, becoming a daemon, who we are.

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
