//! A configuration that has been read but not checked as a whole.

use std::collections::BTreeMap;
use std::ops::Range;

use super::findings::Findings;
use super::keys::Key;
use super::model::{Door, Options};

/// What has been read, with the places that later checks point at.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) found: Findings,
    pub(super) options: Options,
    pub(super) options_seen: Seen,
    pub(super) doors: Vec<DoorDraft>,
}

/// A door with its places in the text.
#[derive(Debug)]
pub(super) struct DoorDraft {
    pub(super) door: Door,
    pub(super) header: Range<usize>,
    pub(super) line: usize,
    pub(super) seen: Seen,
}

/// Where each key of a section was last written.
pub(super) type Seen = BTreeMap<Key, Place>;

/// Where a key was written.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}
