//! Checks whether the service on this host is confined, as the packaged service is, or runs as
//! root.

use std::fs;
use std::path::Path;

use crate::sys::privileges::has_no_new_privileges;
use crate::sys::process::effective_user;

/// The directories of systemd units, in order of precedence (systemd.unit(5)).
const DIRECTORIES: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
const UNIT: &str = "portknockd.service";

/// Returns true if commands run without root and cannot become root: in this process, or in the
/// service portknockd as it is installed on this host, with its drop-ins.
pub fn service_is_confined() -> bool {
    effective_user() != 0 && has_no_new_privileges() || unit_is_confined(Path::new("/"))
}

fn unit_is_confined(root: &Path) -> bool {
    let units = DIRECTORIES.iter().map(|directory| root.join(directory).join(UNIT));
    let Some(unit) = units.into_iter().find_map(|path| fs::read_to_string(path).ok()) else { return false };
    let mut user = user_of(&unit).unwrap_or_default();
    // systemd reads the drop-ins of all directories in the order of their names. For a name in
    // several directories, the first directory takes precedence.
    let mut drop_ins: Vec<_> = DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(root.join(directory).join(format!("{UNIT}.d"))).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    drop_ins.dedup_by(|later, first| later.file_name() == first.file_name());
    for text in drop_ins.iter().filter_map(|path| fs::read_to_string(path).ok()) {
        user = user_of(&text).unwrap_or(user);
    }
    !matches!(&*user, "" | "root" | "0")
}

/// Returns the last `User=` of a unit or drop-in.
fn user_of(text: &str) -> Option<String> {
    text.lines().filter_map(|line| line.trim().strip_prefix("User=")).next_back().map(|user| user.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGED: &str = include_str!("../../../../packaging/systemd/portknockd.service");
    const DROP_IN: &str = include_str!("../../../../packaging/systemd/root.conf");

    #[test]
    fn the_packaged_unit_is_confined_until_the_drop_in_is_there() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(!unit_is_confined(root.path()), "no unit");
        write("lib/systemd/system/portknockd.service", PACKAGED);
        assert!(unit_is_confined(root.path()));
        write("etc/systemd/system/portknockd.service.d/other.conf", "[Service]\nNice=1\n");
        assert!(unit_is_confined(root.path()));
        write("etc/systemd/system/portknockd.service.d/root.conf", DROP_IN);
        assert!(!unit_is_confined(root.path()), "the drop-in");
        write("etc/systemd/system/portknockd.service.d/zz.conf", "[Service]\nUser=other\n");
        assert!(unit_is_confined(root.path()), "a later one");
        write("etc/systemd/system/portknockd.service", "[Service]\nExecStart=/usr/sbin/portknockd\n");
        fs::remove_dir_all(root.path().join("etc/systemd/system/portknockd.service.d")).unwrap();
        assert!(!unit_is_confined(root.path()), "the administrator's own unit");
    }
}
