//! What a state file has to say.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::printable::shown_path;

/// Why a state file is not used at all.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process holds it.
    #[error("the state file {path} is in use by another portknockd; one daemon listens on several interfaces (-i eth0,lo), or set StateFile to give each its own", path = shown_path(.0))]
    InUse(PathBuf),
    /// Its contents cannot be trusted with this process's rights, since they are commands to run. The text says why.
    #[error("the state file {path} is not trusted: {1}; remove it, or set StateFile to another path", path = shown_path(.0))]
    Untrusted(PathBuf, &'static str),
    /// It was written in a format of another version.
    #[error("the state file {path} has the unknown format {1:?}; close the doors in it and remove it", path = shown_path(.0))]
    Version(PathBuf, String),
}

/// Something to log about a state file that is used.
#[derive(Debug)]
pub enum StateNotice {
    /// Openings cannot be saved. Told once; doors still open, and close while this process lives.
    NotSaved(PathBuf, io::Error),
    /// After `NotSaved`: everything is saved again.
    SavedAgain(PathBuf),
    /// The file cannot be locked, so nothing keeps a second daemon from it.
    NotLocked(PathBuf, io::Error),
    /// The file cannot be read; openings from before the start are not known. It is put aside with `.corrupt` added.
    NotRead(PathBuf, io::Error),
    /// The last line was cut off, as a crash in the middle of writing leaves it; what it says had not been acted upon.
    Torn(PathBuf),
    /// Lines that are damaged were passed over; the damaged file is kept beside it with `.corrupt` added.
    Damaged {
        /// The state file.
        path: PathBuf,
        /// How many lines.
        lines: usize,
        /// Why no copy could be kept.
        not_kept: Option<io::Error>,
    },
}

/// The line for a log.
impl fmt::Display for StateNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSaved(path, error) => write!(
                f,
                "cannot save openings to {}: {error}; doors still open and close, but after a crash or a power cut \
                 they stay open",
                shown_path(path)
            ),
            Self::SavedAgain(path) => write!(f, "openings are saved to {} again", shown_path(path)),
            Self::NotLocked(path, error) => write!(f, "cannot lock the state file {}: {error}", shown_path(path)),
            Self::NotRead(path, error) => {
                write!(
                    f,
                    "cannot read the state file {}: {error}; doors left open before the start stay open",
                    shown_path(path)
                )
            }
            Self::Torn(path) => write!(f, "the last line of {} was cut off and is dropped", shown_path(path)),
            Self::Damaged { path, lines, not_kept: None } => {
                write!(
                    f,
                    "{lines} damaged lines in {0} are passed over; the file is kept as {0}.corrupt",
                    shown_path(path)
                )
            }
            Self::Damaged { path, lines, not_kept: Some(error) } => write!(
                f,
                "{lines} damaged lines in {} are passed over; no copy of the file could be kept: {error}",
                shown_path(path)
            ),
        }
    }
}
