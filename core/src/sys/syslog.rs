//! syslog(3).

use std::ffi::CString;

/// Connects to the system's log as `portknockd` with the process id, facility `daemon`, and holds the connection. It is
/// taken up again by itself when the log daemon is started anew.
pub fn open() {
    // SAFETY: the name is a constant, so it outlives every later call, as openlog demands.
    unsafe { libc::openlog(c"portknockd".as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, libc::LOG_DAEMON) };
}

/// Logs a line with the level `notice`, as knockd does. It is cut at a NUL byte.
pub fn notice(line: &str) {
    let end = line.find('\0').unwrap_or(line.len());
    let Ok(line) = CString::new(&line[..end]) else { return };
    // SAFETY: the format takes one string, and both are terminated and outlive the call.
    unsafe { libc::syslog(libc::LOG_NOTICE, c"%s".as_ptr(), line.as_ptr()) };
}
