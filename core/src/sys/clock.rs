//! Clocks that std does not have.

use std::time::Duration;

/// The time since the machine was started, time asleep included (`CLOCK_BOOTTIME`, clock_gettime(2)). Nobody can set
/// this clock.
pub fn boottime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call. The call cannot fail: Linux has had this clock since
    // 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
