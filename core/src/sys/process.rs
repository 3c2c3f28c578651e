//! Processes: waiting for a child by descriptor, becoming a daemon, who we are.

use std::io;
use std::os::fd::OwnedFd;

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
