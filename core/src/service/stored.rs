//! The state file of a configuration whose doors have state to store.

use std::collections::VecDeque;
use std::path::Path;

use super::notice::{Notice, ServiceError};
use crate::clock::{Clocks, boot_id};
use crate::config::{Config, DEFAULT_SOCKET, Door};
use crate::journal::{Restored, StateError, StateFile};

/// Opens the state file, and thereby locks it against other daemons. Returns `None` if no door can
/// have state to store and the file contains nothing: then several daemons can use the same
/// configuration, each on its own interface.
///
/// # Errors
/// Fails as [`StateFile::open`] does, except if another process has locked the file and no door has
/// state to store.
pub(super) fn open_state(
    config: &Config,
    clocks: Clocks,
    notices: &mut VecDeque<Notice>,
) -> Result<Option<(StateFile, Restored)>, ServiceError> {
    let stores = config.doors.iter().any(stores);
    match open_file(config, &config.options.state_file, clocks) {
        Ok((mut file, restored)) if stores || !restored.openings.is_empty() || !restored.unfinished.is_empty() => {
            take_notices(&mut file, notices);
            Ok(Some((file, restored)))
        }
        Ok((mut file, _)) => {
            take_notices(&mut file, notices);
            Ok(None)
        }
        Err(StateError::InUse(_)) if !stores => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens the state file at this path.
///
/// # Errors
/// Fails as [`StateFile::open`] does.
pub(super) fn open_file(config: &Config, path: &Path, clocks: Clocks) -> Result<(StateFile, Restored), StateError> {
    let socket = config.options.control_socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET));
    StateFile::open_marked(path, &boot_id(), socket.parent(), config.options.clock_skew, clocks)
}

fn take_notices(file: &mut StateFile, notices: &mut VecDeque<Notice>) {
    notices.extend(std::iter::from_fn(|| file.poll_notice()).map(Notice::State));
}

/// True for a door whose openings a command closes, and for a door whose one-time sequences or
/// authenticated knocks two daemons must not accept at the same time.
fn stores(door: &Door) -> bool {
    let runs = |command: &Option<String>| command.as_ref().is_some_and(|text| !text.is_empty());
    runs(&door.stop_command) || runs(&door.stop_command_6) || door.one_time_sequences.is_some() || door.has_secrets()
}
