//! Reads the key files of a configuration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::model::{Config, Door, PacketFormat};
use crate::fwknop::{FwknopKey, load_fwknop_keys};
use crate::keys::{KeyFileError, NamedKey, load_key_file};
use crate::printable::{Printable, shown_path};
use crate::spa::{HINT_LENGTH, reach_minutes};
use crate::totp::{TotpFileError, load_totp_file};

/// Maximum number of doors, and of three live windows for each key of a door with `sequence = time`.
const MAX_DOORS_AND_WINDOWS: usize = 1 << 16;
/// Maximum number of keys of the doors with `sequence = time`, if there are no other doors.
pub(super) const MAX_TIME_KEYS: usize = (MAX_DOORS_AND_WINDOWS - 1) / 3;

/// Maximum size of the hints of all packet keys in all minutes, in bytes: the reader receives them in one
/// message.
pub(crate) const MAX_HINT_BYTES: usize = 40 << 20;

/// An error of the key files of a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The key file of a door cannot be used.
    #[error("{}: {error}", Printable(.door))]
    File {
        /// The door's name.
        door: Arc<str>,
        /// The error of its file.
        #[source]
        error: KeyFileError,
    },
    /// The file of `totp_secret` cannot be used.
    #[error("{}: {error}", Printable(.door))]
    Totp {
        /// The door's name.
        door: Arc<str>,
        /// The error of its file.
        #[source]
        error: TotpFileError,
    },
    /// The app shows codes with another number of digits than those in the sequence.
    #[error("{}: the codes of {} have {app} digits, and the sequence contains {sequence}", Printable(.door), shown_path(.path))]
    Digits {
        /// The door's name.
        door: Arc<str>,
        /// The file of its secret.
        path: PathBuf,
        /// The number of digits that the app shows.
        app: u8,
        /// The number of digits in the sequence.
        sequence: u8,
    },
    /// The doors with `sequence = time` have too many keys: their number, and the maximum.
    #[error("the doors with `sequence = time` have {0} keys; the maximum is {1}: use `packet = portknock` instead")]
    TooMany(usize, usize),
    /// The doors with `packet` have too many keys for this `ClockSkew`.
    #[error(
        "the doors with `packet` have {keys} keys; with `ClockSkew = {skew}` the maximum is {max}: use a smaller \
         `ClockSkew`",
        skew = .skew.as_secs()
    )]
    TooManyForSkew {
        /// Number of keys.
        keys: usize,
        /// `ClockSkew`.
        skew: Duration,
        /// Maximum number of keys.
        max: usize,
    },
}

impl Config {
    /// Reads the key file of each door into [`Door::keys`](super::Door::keys), or into
    /// [`Door::fwknop_keys`](super::Door::fwknop_keys) if the door has `packet = fwknop`. Doors with
    /// the same file share the keys.
    ///
    /// # Errors
    /// Fails if a key file cannot be used, or if the doors have too many keys.
    pub fn load_keys(&mut self) -> Result<(), KeysError> {
        let mut files: HashMap<PathBuf, Arc<[NamedKey]>> = HashMap::new();
        let mut fwknop_files: HashMap<PathBuf, Arc<[FwknopKey]>> = HashMap::new();
        for door in &mut self.doors {
            load_totp(door)?;
            let Some(path) = &door.key_file else { continue };
            let failed = |error| KeysError::File { door: door.name.clone(), error };
            if door.packet == Some(PacketFormat::Fwknop) {
                door.fwknop_keys = shared(&mut fwknop_files, path, load_fwknop_keys).map_err(failed)?;
            } else {
                door.keys = shared(&mut files, path, load_key_file).map_err(failed)?;
            }
        }
        let count = self.doors.iter().map(Door::window_keys).sum();
        let max = MAX_DOORS_AND_WINDOWS.saturating_sub(self.doors.len()) / 3;
        if count > max {
            return Err(KeysError::TooMany(count, max));
        }
        // A file that several doors have counts once.
        let with_hints = self.doors.iter().filter(|door| door.packet == Some(PacketFormat::Portknock));
        let by_file: HashMap<_, _> = with_hints.map(|door| (&door.key_file, door.keys.len())).collect();
        let keys = by_file.values().sum();
        let skew = self.options.clock_skew;
        let minutes = usize::try_from(2 * reach_minutes(skew) + 1).unwrap_or(usize::MAX);
        let max = MAX_HINT_BYTES / HINT_LENGTH / minutes;
        if keys > max { Err(KeysError::TooManyForSkew { keys, skew, max }) } else { Ok(()) }
    }
}

/// Reads the secret of a door with a code.
fn load_totp(door: &mut Door) -> Result<(), KeysError> {
    let Some(path) = &door.totp_file else { return Ok(()) };
    let key = load_totp_file(path).map_err(|error| KeysError::Totp { door: door.name.clone(), error })?;
    if let (Some(app), Some(code)) = (key.digits, &door.code)
        && app != code.digits()
    {
        return Err(KeysError::Digits { door: door.name.clone(), path: path.clone(), app, sequence: code.digits() });
    }
    door.totp = Some(Arc::new(key));
    Ok(())
}

/// Returns the keys of a file, which is read if no earlier door has it.
fn shared<T: ?Sized, E>(
    files: &mut HashMap<PathBuf, Arc<T>>,
    path: &Path,
    load: impl Fn(&Path) -> Result<Arc<T>, E>,
) -> Result<Arc<T>, E> {
    if let Some(keys) = files.get(path) {
        return Ok(keys.clone());
    }
    let keys = load(path)?;
    files.insert(path.to_owned(), keys.clone());
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::time_sequence::TimeSequence;
    use super::*;
    use crate::keys::Key;

    fn config(paths: &[&Path]) -> Config {
        let door = |path: &&Path| Door {
            key_file: Some(path.to_path_buf()),
            time_sequence: Some(TimeSequence::default()),
            ..Door::new("ssh", None)
        };
        Config { doors: paths.iter().map(door).collect(), ..Config::default() }
    }

    fn write(path: &Path, keys: usize) {
        let mut text = String::new();
        for number in 0..keys {
            let key = Key::from_bytes(std::array::from_fn(|i| if i < 8 { number.to_be_bytes()[i] } else { 0 }));
            writeln!(text, "client{number} {}", *key.to_text()).unwrap();
        }
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }

    #[test]
    fn doors_with_one_file_share_its_keys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        write(&path, 3);
        let mut config = config(&[&path, &path]);
        config.load_keys().unwrap();
        assert_eq!(config.doors[0].keys.len(), 3);
        assert!(Arc::ptr_eq(&config.doors[0].keys, &config.doors[1].keys));
        // The keys are not part of the text.
        assert!(!config.to_string().contains("pk1:"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_door() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        let message = config(&[&path]).load_keys().unwrap_err().to_string();
        assert!(message.starts_with("ssh: cannot read the keys in "), "{message}");
    }

    #[test]
    fn the_number_of_keys_for_time_sequences_is_limited() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        write(&path, 21_845);
        config(&[&path]).load_keys().unwrap();
        write(&path, 21_846);
        let message = config(&[&path]).load_keys().unwrap_err().to_string();
        assert!(message.contains("have 21846 keys; the maximum is 21845"), "{message}");
    }

    #[test]
    fn the_number_of_keys_for_packets_depends_on_the_skew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let mut config = config(&[&path, &path]);
        for door in &mut config.doors {
            (door.time_sequence, door.packet) = (None, Some(PacketFormat::Portknock));
        }
        config.options.clock_skew = Duration::from_secs(3600);
        let max = MAX_HINT_BYTES / 8 / 123;
        write(&path, max);
        config.load_keys().unwrap();
        write(&path, max + 1);
        let message = config.load_keys().unwrap_err().to_string();
        let expected = format!("have {} keys; with `ClockSkew = 3600` the maximum is {max}: use a smaller", max + 1);
        assert!(message.contains(&expected), "{message}");
        config.options.clock_skew = Duration::from_secs(60);
        config.load_keys().unwrap();
    }
}
