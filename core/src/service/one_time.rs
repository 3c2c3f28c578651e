//! The one-time doors of a configuration.

use std::collections::HashMap;

use super::notice::ServiceError;
use crate::config::{Config, DoorId, Sequence};
use crate::one_time::{OneTimeError, OneTimeFile};

/// The files of all one-time doors.
#[derive(Debug, Default)]
pub(super) struct OneTimeDoors(HashMap<DoorId, OneTimeFile>);

impl OneTimeDoors {
    /// Opens the files and sets the current sequences of the doors of `config`.
    pub(super) fn open(config: &mut Config) -> Result<Self, ServiceError> {
        let mut files = HashMap::new();
        for (i, door) in config.doors.iter_mut().enumerate() {
            let (Some(path), Ok(i)) = (&door.one_time_sequences, u16::try_from(i)) else { continue };
            let file =
                OneTimeFile::open(path).map_err(|error| ServiceError::OneTime { door: door.name.clone(), error })?;
            door.sequence = file.current().cloned();
            files.insert(DoorId(i), file);
        }
        Ok(Self(files))
    }

    /// Marks the sequence that just opened this door as consumed. Returns `None` if it is no
    /// one-time door. The first value is an error if the opening does not count, the second is the
    /// door's next sequence.
    pub(super) fn consume(&mut self, door: DoorId) -> Option<(Result<(), OneTimeError>, Next)> {
        let file = self.0.get_mut(&door)?;
        let marked = file.mark_used();
        // A sequence that could not be marked would be read again as unused.
        let next = match &marked {
            Ok(()) | Err(OneTimeError::Edited(..)) => file.advance().map(Option::<&Sequence>::cloned),
            Err(_) => Ok(None),
        };
        Some((marked, next))
    }

    /// Reads all files again and returns the current sequence of each door.
    pub(super) fn reread(&mut self) -> Vec<(DoorId, Next)> {
        let files = self.0.iter_mut();
        files.map(|(&door, file)| (door, file.advance().map(Option::<&Sequence>::cloned))).collect()
    }

    /// Returns the current sequence without marking it, for a dry run.
    pub(super) fn current(&self, door: DoorId) -> Option<Sequence> {
        self.0.get(&door)?.current().cloned()
    }
}

/// The next sequence; `None` if none is left.
pub(super) type Next = Result<Option<Sequence>, OneTimeError>;
