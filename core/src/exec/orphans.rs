//! Orphans: commands that an earlier executor started and that still run after a crash.
//!
//! They are recognised by their own process group, and by the state file, the door and the network in
//! their environment; see proc_pid_environ(5).

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::queue::Key;
use super::{DOOR, IP, NET, STATE_FILE};
use crate::network::parse_network;
use crate::sys::process::{effective_user, pidfd_open};

/// A command of an earlier executor, for which the commands of the same key wait.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) key: Key,
    /// Readable when the command has ended.
    pub(super) pidfd: OwnedFd,
}

/// Finds the orphans of this user that belong to one of `keys` and to this state file. Skips processes
/// that cannot be examined.
pub(super) fn find(keys: &[Key], state_file: &Path) -> Vec<Orphan> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let names = processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| orphan(name.parse().ok()?, keys, state_file)).collect()
}

fn orphan(pid: u32, keys: &[Key], state_file: &Path) -> Option<Orphan> {
    let key = key_of(pid, keys, state_file)?;
    let pidfd = pidfd_open(pid).ok()?;
    // Checked again, because another process may have got the number before it was opened.
    (key_of(pid, keys, state_file)? == key).then(|| Orphan { key: key.clone(), pidfd })
}

fn key_of<'a>(pid: u32, keys: &'a [Key], state_file: &Path) -> Option<&'a Key> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    if fs::metadata(file("")).ok()?.uid() != effective_user() {
        return None;
    }
    // PID (NAME) STATE PARENT GROUP …; the name may contain any characters. A background process of a
    // command is in its group, but does not lead the group.
    let stat = fs::read_to_string(file("stat")).ok()?;
    let group = stat.rsplit_once(')')?.1.split_whitespace().nth(2)?;
    if group.parse() != Ok(pid) {
        return None;
    }
    let environment = fs::read(file("environ")).ok()?;
    let variable = |name: &str| {
        let values = environment.split(|&byte| byte == 0);
        values.filter_map(|text| text.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
    };
    if variable(STATE_FILE)? != state_file.as_os_str().as_bytes() {
        return None;
    }
    // An older portknockd, without support for networks, set only the address.
    let net = parse_network(std::str::from_utf8(variable(NET).or_else(|| variable(IP))?).ok()?)?;
    let door = variable(DOOR)?;
    keys.iter().find(|(its_door, its_net)| its_door.as_bytes() == door && *its_net == net)
}
