//! The resources that the process that reads packets may still use.
//!
//! Its share of the processor has no limit: it is one thread, so the scheduler gives the daemon, which sleeps most of the
//! time, its turn at once, while an honest flood needs all that the reader can get.

use portknock_core::sys::privileges::{address_space, limit_resources, prefer_for_oom};

/// Added to the score by which the kernel chooses a process to end when memory runs out: a process of ours that uses
/// half of the memory goes before any that does not.
const OOM_POINTS: i32 = 500;
/// Maximum number of descriptors. The reader opens none, but poll(2) needs room for those that it waits for.
const DESCRIPTORS: u64 = 16;

/// Has the kernel end this process before the daemon when memory runs out. Returns in words if it cannot.
pub(super) fn prefer_for_oom_killer() -> Option<String> {
    let error = prefer_for_oom(OOM_POINTS).err()?;
    Some(format!("its place before the out-of-memory killer ({error})"))
}

/// Limits this process to `memory` bytes more than it has. Returns in words what it cannot limit.
pub(super) fn limit(memory: u64) -> Option<String> {
    // Without /proc, what the process has now counts as well.
    let limit = address_space().unwrap_or(0).saturating_add(memory);
    let error = limit_resources(limit, DESCRIPTORS).err()?;
    Some(format!("unlimited memory ({error})"))
}
