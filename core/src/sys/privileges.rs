//! Dropping privileges (capabilities(7), credentials(7)).

use std::ffi::CStr;
use std::io;
use std::mem;
use std::ptr;

/// A user and its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user ID.
    pub user: u32,
    /// The ID of its primary group.
    pub group: u32,
}

/// Returns the user of this name (getpwnam(3)); `None` if there is none.
pub fn find_user(name: &CStr) -> Option<User> {
    let mut buffer: [libc::c_char; 4096] = [0; 4096];
    // SAFETY: all zeros is a valid passwd.
    let mut entry: libc::passwd = unsafe { mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: the name is a string, the buffer has the stated length, and all of them outlive the
    // call.
    let result =
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    (result == 0 && !found.is_null()).then_some(User { user: entry.pw_uid, group: entry.pw_gid })
}

/// User IDs that systemd assigns for the lifetime of a service, and that no distribution assigns
/// permanently (systemd.exec(5), `DynamicUser=`).
const DYNAMIC_USERS: std::ops::RangeInclusive<u32> = 61_184..=65_519;
/// Number of user IDs that are tried.
const TRIED_USERS: u32 = 16;

/// Returns a user ID that no user has now; `None` if none was found within 16 tries.
pub fn find_unused_user() -> Option<User> {
    let count = DYNAMIC_USERS.end() - DYNAMIC_USERS.start() + 1;
    // Two processes that search at the same time get different IDs.
    let first = std::process::id() % count;
    let numbers = (0..TRIED_USERS).map(|i| DYNAMIC_USERS.start() + (first + i) % count);
    numbers.map(|number| User { user: number, group: number }).find(|user| !is_known(*user))
}

/// Returns true if the system has a name for the user ID or for the group ID.
fn is_known(User { user, group }: User) -> bool {
    let mut buffer: [libc::c_char; 4096] = [0; 4096];
    // SAFETY: all zeros is a valid passwd.
    let mut entry: libc::passwd = unsafe { mem::zeroed() };
    let mut found = ptr::null_mut();
    // SAFETY: the buffer has the stated length, and all of the pointers outlive the call.
    unsafe { libc::getpwuid_r(user, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    // SAFETY: all zeros is a valid group.
    let mut group_entry: libc::group = unsafe { mem::zeroed() };
    let mut group_found = ptr::null_mut();
    let (at, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: as above; nothing of the first entry is read after this.
    unsafe { libc::getgrgid_r(group, &raw mut group_entry, at, length, &raw mut group_found) };
    !found.is_null() || !group_found.is_null()
}

/// Changes to this user permanently, without supplementary groups.
///
/// # Errors
/// `PermissionDenied` without the necessary capabilities; `InvalidInput` in a user namespace that
/// does not contain the user.
pub fn become_user(User { user, group }: User) -> io::Result<()> {
    // SAFETY: no pointer is read if the count is zero.
    super::check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::setresgid(group, group, group) })?;
    // SAFETY: no pointers are passed.
    super::check(unsafe { libc::setresuid(user, user, user) }).map(drop)
}

/// Drops the bounding set of capabilities, as far as this process is permitted to, so that no
/// program that it starts can gain them.
pub fn drop_bounding_set() {
    // The kernel has fewer capabilities, and reports an error for the other numbers.
    for capability in 0..64 {
        prctl(libc::PR_CAPBSET_DROP, capability);
    }
}

/// Drops all capabilities.
///
/// # Errors
/// None known; see capset(2).
pub fn drop_capabilities() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong);
    // linux/capability.h: version 3 has two sets of 32 bits each.
    let header: [u32; 2] = [0x2008_0522, 0];
    let nothing = [[0_u32; 3]; 2];
    // SAFETY: header and sets have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns true if no program that this process starts can gain privileges (prctl(2),
/// `PR_GET_NO_NEW_PRIVS`).
pub fn has_no_new_privileges() -> bool {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0) == 1
}

/// Prevents other processes of the same user from reading the memory of this process and from
/// attaching to it, and disables core files.
pub fn hide() {
    prctl(libc::PR_SET_DUMPABLE, 0);
}

/// Limits the address space of this process to `memory` bytes, and prevents it from writing core
/// files, growing files, creating processes, and opening descriptors beyond `descriptors`
/// (setrlimit(2)). The limits are permanent.
///
/// # Errors
/// None known; see setrlimit(2).
pub fn limit_resources(memory: u64, descriptors: u64) -> io::Result<()> {
    let limits = [
        (libc::RLIMIT_AS, memory),
        (libc::RLIMIT_NOFILE, descriptors),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_NPROC, 0),
    ];
    for (resource, value) in limits {
        // A limit that is already stricter cannot be raised, and need not be.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is valid and outlives the call.
        super::check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
        limit.rlim_max = limit.rlim_max.min(value);
        limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
        // SAFETY: as above.
        super::check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    }
    Ok(())
}

/// Returns the size of this process' address space in bytes (proc_pid_statm(5)).
///
/// # Errors
/// Fails without `/proc`.
pub fn address_space() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    // SAFETY: no memory is passed.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) });
    match (pages, page) {
        (Some(pages), Ok(page)) => Ok(pages.saturating_mul(page)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Makes the kernel kill this process before others when memory runs out: adds `points` to its
/// badness score (proc_pid_oom_score_adj(5)). It must be called before the process changes to
/// another user.
///
/// # Errors
/// Fails without a writable `/proc`.
pub fn prefer_for_oom(points: i32) -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let now: i32 = std::fs::read_to_string(FILE)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    std::fs::write(FILE, now.saturating_add(points).min(1000).to_string())
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> libc::c_int {
    // SAFETY: the options used here take integers.
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

    #[test]
    fn an_unused_user_has_no_name() {
        let user = find_unused_user().unwrap();
        assert!(DYNAMIC_USERS.contains(&user.user) && !is_known(user), "{user:?}");
        assert!(is_known(User { user: 0, group: user.group }), "root");
        assert!(is_known(User { user: user.user, group: 0 }), "its group");
    }
}
