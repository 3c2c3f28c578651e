//! All calls from this crate into libc, each wrapped so that the other modules need no `unsafe`.
//!
//! These modules serve the front ends of this workspace and may change in any release.
#![allow(unsafe_code, reason = "the only module that calls libc")]

mod altnames;
pub(crate) mod bpf;
pub mod clock;
pub(crate) mod connecting;
pub mod epoll;
pub(crate) mod error_queue;
pub mod lock;
pub mod names;
pub(crate) mod netlink;
mod netlink_socket;
pub(crate) mod nfnetlink;
pub mod open;
pub(crate) mod packet;
pub mod poll;
pub mod privileges;
pub mod process;
pub(crate) mod raw;
pub mod signals;
pub(crate) mod socket;
pub mod syslog;
pub(crate) mod timer;
pub mod wake;
pub(crate) mod wall_clock;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Converts the -1 of a libc call to the error in `errno`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes ownership of a descriptor that libc just returned, or returns its error.
fn owned(result: RawFd) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the call succeeded, so `fd` is open and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
