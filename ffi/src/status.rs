//! Statuses: the results of calls.

use std::ffi::{CStr, c_char};

/// Result of a call: 0, 1, or negative for a failure.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_status {
    /// Success.
    PORTKNOCK_OK = 0,
    /// Nothing (more) to return: no event, no timeout, or the end of a file. Also if the time is
    /// over or the wait was interrupted.
    PORTKNOCK_END = 1,
    /// An argument cannot be used: NULL if that is not allowed, text that is not UTF-8, a size or a
    /// number out of range. The message names the argument. Nothing was done.
    PORTKNOCK_ERR_ARGUMENT = -1,
    /// A configuration has errors: see portknock_error_diagnostic().
    PORTKNOCK_ERR_CONFIG = -2,
    /// A file cannot be read, must not be used, or is damaged: see portknock_error_file().
    PORTKNOCK_ERR_FILE = -3,
    /// The link type of the frames is not supported.
    PORTKNOCK_ERR_LINK_TYPE = -4,
    /// The process lacks the privilege to capture packets or to send through raw sockets
    /// (CAP_NET_RAW), or to change the firewall (CAP_NET_ADMIN).
    PORTKNOCK_ERR_PERMISSION = -5,
    /// The host is not found, or has no address of the requested family.
    PORTKNOCK_ERR_HOST = -6,
    /// Packets could not be sent: there is no route, or the source address is not an address of
    /// this host.
    PORTKNOCK_ERR_NETWORK = -7,
    /// All knocks were sent, and the port did not open.
    PORTKNOCK_ERR_NOT_OPEN = -8,
    /// Another system call failed, mostly because the process is out of file descriptors.
    PORTKNOCK_ERR_SYSTEM = -9,
    /// A bug in this library: the call, or an earlier one on the same handle, was aborted. Such a
    /// handle can only be freed.
    PORTKNOCK_ERR_PANICKED = -10,
    /// A forked child used a listener of its parent. Nothing was done.
    PORTKNOCK_ERR_FORKED = -11,
}

/// Returns the name of a status without its prefix, as in "ok" or "argument"; "unknown" for other
/// numbers. The text is static.
#[unsafe(no_mangle)]
pub extern "C" fn portknock_status_name(status: i32) -> *const c_char {
    let name: &CStr = match status {
        0 => c"ok",
        1 => c"end",
        -1 => c"argument",
        -2 => c"config",
        -3 => c"file",
        -4 => c"link-type",
        -5 => c"permission",
        -6 => c"host",
        -7 => c"network",
        -8 => c"not-open",
        -9 => c"system",
        -10 => c"panicked",
        -11 => c"forked",
        _ => c"unknown",
    };
    name.as_ptr()
}
