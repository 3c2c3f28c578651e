//! What a capture hands on.

use crate::decode::{LinkType, cooked_origin};
use crate::time::Timestamp;

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// How its bytes begin.
    pub link_type: LinkType,
    /// When it was captured, by the wall clock.
    pub time: Timestamp,
    /// Where it was captured.
    pub origin: Origin,
    /// The frame, as far as it was captured.
    pub bytes: &'a [u8],
}

/// Where a frame was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The kernel's number of the interface; 0 if it is unknown.
    pub interface: u32,
    /// True for a loopback interface.
    pub is_loopback: bool,
}

/// `ARPHRD_LOOPBACK` (linux/if_arp.h).
const LOOPBACK: u16 = 772;

impl Origin {
    /// The origin that the header of a frame captured on `any` names.
    pub(super) fn of_cooked(link_type: LinkType, frame: &[u8]) -> Self {
        let (interface, hardware) = cooked_origin(link_type, frame).unwrap_or_default();
        Self { interface, is_loopback: hardware == LOOPBACK }
    }
}
