//! The errors and notices of a state file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::printable::shown_path;

/// The reason why a state file is not used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process has locked the file.
    #[error("the state file {path} is in use by another portknockd; one daemon listens on several interfaces (-i eth0,lo), or set StateFile to give each its own", path = shown_path(.0))]
    InUse(PathBuf),
    /// The file contains commands to run with this process's privileges, and another user could have
    /// written it. The text is the reason.
    #[error("the state file {path} is not trusted: {1}; remove it, or set StateFile to another path", path = shown_path(.0))]
    Untrusted(PathBuf, &'static str),
    /// The file has the format of another version, which the text names.
    #[error("the state file {path} has the unknown format {1:?}; close the doors in it and remove it", path = shown_path(.0))]
    Version(PathBuf, String),
}

/// A notice about a state file that is in use. Each has the path of the file.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateNotice {
    /// Openings cannot be saved; reported once. Doors still open, and they close while this process
    /// runs.
    NotSaved(PathBuf, io::Error),
    /// All openings are saved again after `NotSaved`.
    SavedAgain(PathBuf),
    /// The file cannot be locked, so a second daemon could use it.
    NotLocked(PathBuf, io::Error),
    /// The file cannot be read, so openings from before the start are unknown. The file is renamed,
    /// with `.corrupt` added.
    NotRead(PathBuf, io::Error),
    /// The last line was cut off, as by a crash during a write. If it records an opening, the start
    /// command had not run yet.
    Torn(PathBuf),
    /// Damaged lines were skipped. A copy of the damaged file has `.corrupt` added to its name.
    Damaged {
        /// The path of the state file.
        path: PathBuf,
        /// Number of damaged lines.
        lines: usize,
        /// The reason why no copy could be kept.
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
                write!(f, "{lines} damaged lines in {0} are skipped; the file is kept as {0}.corrupt", shown_path(path))
            }
            Self::Damaged { path, lines, not_kept: Some(error) } => write!(
                f,
                "{lines} damaged lines in {} are skipped; no copy of the file could be kept: {error}",
                shown_path(path)
            ),
        }
    }
}
