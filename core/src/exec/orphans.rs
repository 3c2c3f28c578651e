//! Commands that an executor before this one started and left running, as a crash does.
//!
//! They are known by what they were given: a process group of their own, and the state file, the door and the
//! network in their environment, as proc_pid_environ(5) shows it.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::queue::Key;
use super::{DOOR, IP, NET, STATE_FILE};
use crate::network::parse_network;
use crate::sys::process::{effective_user, pidfd_open};

/// A command that somebody else has to wait for.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) key: Key,
    /// Readable when it has ended.
    pub(super) pidfd: OwnedFd,
}

/// Those of this user that belong to one of `keys`, with openings in this state file. What cannot be looked at is passed
/// over.
pub(super) fn find(keys: &[Key], state_file: &Path) -> Vec<Orphan> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let names = processes.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| orphan(name.parse().ok()?, keys, state_file)).collect()
}

fn orphan(pid: u32, keys: &[Key], state_file: &Path) -> Option<Orphan> {
    let key = key_of(pid, keys, state_file)?;
    let pidfd = pidfd_open(pid).ok()?;
    // Once more, since the number may have gone to another process before it was opened.
    (key_of(pid, keys, state_file)? == key).then(|| Orphan { key: key.clone(), pidfd })
}

fn key_of<'a>(pid: u32, keys: &'a [Key], state_file: &Path) -> Option<&'a Key> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    if fs::metadata(file("")).ok()?.uid() != effective_user() {
        return None;
    }
    // PID (NAME) STATE PARENT GROUP …; the name may hold anything. What a command leaves in the background is in the
    // group, but does not lead it.
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
    // A portknockd that knew no networks gave its commands the address alone.
    let net = parse_network(std::str::from_utf8(variable(NET).or_else(|| variable(IP))?).ok()?)?;
    let door = variable(DOOR)?;
    keys.iter().find(|(its_door, its_net)| its_door.as_bytes() == door && *its_net == net)
}
