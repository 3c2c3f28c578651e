//! A configuration that has been parsed but not yet checked as a whole.

use std::collections::BTreeMap;
use std::ops::Range;

use super::findings::Findings;
use super::keys::Key;
use super::model::{Door, Options};
use super::time_sequence::TimeSequence;

/// The parsed values, with the locations that later checks report.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) found: Findings,
    pub(super) options: Options,
    pub(super) options_seen: Seen,
    pub(super) doors: Vec<DoorDraft>,
}

/// A door with the locations of its header and keys in the text.
#[derive(Debug)]
pub(super) struct DoorDraft {
    pub(super) door: Door,
    pub(super) header: Range<usize>,
    /// The line of the header, counted from 1.
    pub(super) line: usize,
    pub(super) seen: Seen,
    /// The values for `sequence = time`, which can precede that line or be without it.
    pub(super) time: TimeSequence,
    /// True if the last `sequence` is `time`.
    pub(super) is_time: bool,
    /// True if the last `sequence` contains digits of a code.
    pub(super) is_code: bool,
}

/// The location of each key's last occurrence in a section.
pub(super) type Seen = BTreeMap<Key, KeyLocation>;

/// The location of a key and its value.
#[derive(Clone, Debug)]
pub(super) struct KeyLocation {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The bytes of the key.
    pub(super) key: Range<usize>,
    /// The bytes of the value, without a comment.
    pub(super) value: Range<usize>,
}
