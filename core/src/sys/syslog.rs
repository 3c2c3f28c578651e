//! syslog(3).

use std::ffi::CString;

/// Opens a connection to the system log as `portknockd`, with the process ID and facility `daemon`.
/// libc reconnects if the log daemon is restarted.
pub fn open() {
    // SAFETY: the name is a constant, so it outlives every later call, as openlog requires.
    unsafe { libc::openlog(c"portknockd".as_ptr(), libc::LOG_PID | libc::LOG_NDELAY, libc::LOG_DAEMON) };
}

/// Logs a line with level `notice`, as knockd does. The line is cut at a NUL byte.
pub fn notice(line: &str) {
    let end = line.find('\0').unwrap_or(line.len());
    let Ok(line) = CString::new(&line[..end]) else { return };
    // SAFETY: the format takes one string, and both are NUL-terminated and outlive the call.
    unsafe { libc::syslog(libc::LOG_NOTICE, c"%s".as_ptr(), line.as_ptr()) };
}
