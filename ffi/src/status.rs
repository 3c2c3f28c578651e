//! How a call went.

use std::ffi::{CStr, c_char};

/// How a call went: 0, 1, or negative for a failure.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum portknock_status {
    /// It did what it should.
    PORTKNOCK_OK = 0,
    /// There is nothing (more) to give: no event, no timeout, the end of a file; the time is over or the wait was
    /// interrupted.
    PORTKNOCK_END = 1,
    /// An argument cannot be used: NULL where that is not allowed, text that is not UTF-8, a size or a number out of
    /// range. The message names it. Nothing was done.
    PORTKNOCK_ERR_ARGUMENT = -1,
    /// A configuration has errors: see portknock_error_diagnostic().
    PORTKNOCK_ERR_CONFIG = -2,
    /// A file cannot be read, must not be used, or is damaged: see portknock_error_file().
    PORTKNOCK_ERR_FILE = -3,
    /// Frames of this link type cannot be read.
    PORTKNOCK_ERR_LINK_TYPE = -4,
    /// The process has no right to capture packets or to send through raw sockets (CAP_NET_RAW), or to change the firewall
    /// (CAP_NET_ADMIN).
    PORTKNOCK_ERR_PERMISSION = -5,
    /// The host is not found, or has no address of the wanted kind.
    PORTKNOCK_ERR_HOST = -6,
    /// Packets could not be sent: no route, a source address that is not this machine's.
    PORTKNOCK_ERR_NETWORK = -7,
    /// All knocks were sent, and the port did not open.
    PORTKNOCK_ERR_NOT_OPEN = -8,
    /// The system refused something else, mostly for want of file descriptors.
    PORTKNOCK_ERR_SYSTEM = -9,
    /// A fault of this library: the call, or an earlier one on the same handle, ended in the middle. Such a handle can
    /// only be freed.
    PORTKNOCK_ERR_PANICKED = -10,
    /// A listener is used in a child process of the one that opened it. Nothing was done.
    PORTKNOCK_ERR_FORKED = -11,
}

/// The name of a status without its prefix, as in "ok" or "argument"; "unknown" for other numbers. The text is static.
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
