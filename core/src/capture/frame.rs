//! A captured frame.

use crate::decode::LinkType;
use crate::packet::CaptureOrigin;
use crate::time::Timestamp;

/// A captured frame. It borrows the capture's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The kind of link header that the bytes begin with.
    pub link_type: LinkType,
    /// The time of the capture, by the wall clock.
    pub time: Timestamp,
    /// The interface that captured it.
    pub origin: CaptureOrigin,
    /// True for a frame of the capture of long packets. It is for packets of fwknop's format alone: the
    /// other capture has the same frame if it matters to a sequence.
    pub is_long: bool,
    /// The captured part of the frame, from its link header on.
    pub bytes: &'a [u8],
}
