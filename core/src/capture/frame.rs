//! What a capture hands on.

use crate::decode::LinkType;
use crate::packet::CaptureOrigin;
use crate::time::Timestamp;

/// The name of the interface that stands for all of them.
pub(super) const ANY: &str = "any";

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How its bytes begin.
    pub link_type: LinkType,
    /// When it was captured, by the wall clock.
    pub time: Timestamp,
    /// Where it was captured.
    pub origin: CaptureOrigin,
    /// The frame, as far as it was captured.
    pub bytes: &'a [u8],
}
