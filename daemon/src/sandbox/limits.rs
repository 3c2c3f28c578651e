//! The resources that the reader process can use.
//!
//! Its processor time has no limit. It is a single thread, so the scheduler still runs the daemon,
//! which sleeps most of the time, without delay. Legitimate traffic at a high rate needs all the
//! processor time that the reader can get.

use portknock_core::sys::privileges::{address_space, limit_resources, prefer_for_oom};

/// Addition to the score, out of 1,000, by which the kernel selects a process to end when memory
/// runs out. The reader counts as if it used half of the memory in addition to its own use.
const OOM_POINTS: i32 = 500;
/// Maximum number of descriptors. The reader opens none, but poll(2) accepts at most this many.
const DESCRIPTORS: u64 = 16;

/// Makes the kernel end this process before the daemon when memory runs out. Returns a description
/// of the failure.
pub(super) fn prefer_for_oom_killer() -> Option<String> {
    let error = prefer_for_oom(OOM_POINTS).err()?;
    Some(format!("its default priority for the out-of-memory killer ({error})"))
}

/// Limits this process to `memory` bytes more than it has. Returns a description of the failure.
pub(super) fn limit(memory: u64) -> Option<String> {
    // Without /proc, the current memory of the process counts, too.
    let limit = address_space().unwrap_or(0).saturating_add(memory);
    let error = limit_resources(limit, DESCRIPTORS).err()?;
    Some(format!("unlimited memory ({error})"))
}
