//! Checks whether unauthorised users can read a file that contains secrets.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::printable::shown_path;
use crate::sys::privileges::find_user;
use crate::sys::process::effective_group;

const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;
/// The mode bits of a directory in which any user can create files, as in /tmp.
const SHARED: u32 = 0o1002;

/// A file that unauthorised users can read.
pub(super) struct Exposed {
    /// The users that can read it, as in `any user`.
    pub(super) readers: String,
    /// The commands that protect it.
    pub(super) help: String,
}

/// Returns `None` if only root, the daemon's user and the administrator's own group can read the
/// file. Also returns `None` for a file below a directory like /tmp, which is a draft and not in
/// use, and if the metadata cannot be read.
pub(super) fn exposed(path: &Path, is_one_time: bool) -> Option<Exposed> {
    let real = fs::canonicalize(path).ok()?;
    let is_shared = |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.mode() & SHARED == SHARED);
    if real.ancestors().skip(1).any(is_shared) { None } else { exposed_at(path, &real, is_one_time) }
}

fn exposed_at(path: &Path, real: &Path, is_one_time: bool) -> Option<Exposed> {
    let path_shown = shown_path(path);
    let file = fs::metadata(real).ok()?;
    let daemon = find_user(c"portknock");
    let (mode, group) = (file.mode(), file.gid());
    let is_own_group = [0, effective_group()].contains(&group) || daemon.is_some_and(|user| user.group == group);
    let readers = if mode & READ != 0 && reachable(real, |directory| directory.mode() & SEARCH != 0) {
        "any user".to_owned()
    } else if mode >> 3 & READ != 0
        && !is_own_group
        && reachable(real, |directory| {
            let through_group = directory.gid() == group && directory.mode() >> 3 & SEARCH != 0;
            through_group || directory.mode() & SEARCH != 0
        })
    {
        format!("the group {group}")
    } else {
        return None;
    };
    let run = match (daemon, is_one_time) {
        // The daemon marks the used lines.
        (Some(_), true) => format!("chown portknock {path_shown} && chmod 600 {path_shown}"),
        (Some(_), false) => format!("chgrp portknock {path_shown} && chmod 640 {path_shown}"),
        (None, _) => format!("chmod 600 {path_shown}"),
    };
    Some(Exposed { readers, help: format!("run: {run}") })
}

/// Returns true if `can_search` holds for all directories above the file.
fn reachable(file: &Path, can_search: impl Fn(&fs::Metadata) -> bool) -> bool {
    let mut directories = file.ancestors().skip(1).map(PathBuf::from);
    directories.all(|directory| fs::metadata(directory).is_ok_and(|metadata| can_search(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_exposed_if_its_mode_and_its_directories_let_others_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("knockd.conf");
        fs::write(&file, "").unwrap();
        let readers = |directory_mode, mode| {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            set_permissions(directory.path(), Permissions::from_mode(directory_mode)).unwrap();
            exposed_at(&file, &file, false).map(|exposed| exposed.readers)
        };
        for mode in [0o600, 0o640, 0o660, 0o603] {
            assert_eq!(readers(0o755, mode), None, "{mode:o}");
        }
        assert_eq!(readers(0o755, 0o644).as_deref(), Some("any user"));
        assert_eq!(readers(0o711, 0o604).as_deref(), Some("any user"));
        assert_eq!(readers(0o750, 0o644), None, "other users cannot search the directory");
        assert!(exposed(&directory.path().join("missing"), false).is_none());
        set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(exposed(&file, false).is_none(), "a draft in a directory like /tmp");
        assert_eq!(readers(0o1777, 0o644).as_deref(), Some("any user"));
    }

    #[test]
    fn another_group_that_can_read_is_reported_and_the_commands_protect_the_file() {
        let directory = tempfile::tempdir().unwrap();
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let file = directory.path().join("list");
        fs::write(&file, "").unwrap();
        set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // Only root can change the group of a file to any group.
        if std::os::unix::fs::chown(&file, None, Some(54_321)).is_err() {
            return;
        }
        let found = exposed_at(&file, &file, true).unwrap();
        assert_eq!(found.readers, "the group 54321");
        let command = found.help.strip_prefix("run: ").unwrap();
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        assert!(exposed_at(&file, &file, true).is_none(), "after {command}");
    }
}
