//! Giving up rights (capabilities(7), credentials(7)).

use std::ffi::CStr;
use std::io;
use std::mem;
use std::ptr;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub user: u32,
    /// The number of its first group.
    pub group: u32,
}

/// The user of this name (getpwnam(3)); `None` where there is none.
pub fn find_user(name: &CStr) -> Option<User> {
    let mut buffer: [libc::c_char; 4096] = [0; 4096];
    // SAFETY: all zeros is a valid passwd.
    let mut entry: libc::passwd = unsafe { mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: the name is a string, the buffer is as long as said, and all of them outlive the call.
    let result =
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    (result == 0 && !found.is_null()).then_some(User { user: entry.pw_uid, group: entry.pw_gid })
}

/// Becomes this user for good, without any other group.
///
/// # Errors
/// `PermissionDenied` without the right to; `InvalidInput` in a user namespace that does not have the user.
pub fn become_user(User { user, group }: User) -> io::Result<()> {
    // SAFETY: no pointer is read where the number is zero.
    super::check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::setresgid(group, group, group) })?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::setresuid(user, user, user) }).map(drop)
}

/// Gives up the bounding set of capabilities, as far as this process may: no program that it starts can have them.
pub fn drop_bounding_set() {
    // The kernel knows fewer; it says so for the others.
    for capability in 0..64 {
        prctl(libc::PR_CAPBSET_DROP, capability);
    }
}

/// Gives up all capabilities.
///
/// # Errors
/// None that is known; see capset(2).
pub fn drop_capabilities() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong);
    // linux/capability.h: version 3 has two sets of 32 bits each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let nothing = [[0_u32; 3]; 2];
    // SAFETY: header and sets have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps others of the same user from looking into this process and from attaching to it, and leaves no core file.
pub fn hide() {
    prctl(libc::PR_SET_DUMPABLE, 0);
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> libc::c_int {
    // SAFETY: the options used here take numbers.
    unsafe { libc::prctl(option, value, 0, 0, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name() {
        assert_eq!(find_user(c"root"), Some(User { user: 0, group: 0 }));
        assert_eq!(find_user(c"no-such-user-as-this"), None);
    }
}
