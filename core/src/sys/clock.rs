//! Clocks that std does not provide.

use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time since the machine was started, including sleep (`CLOCK_BOOTTIME`,
/// clock_gettime(2)). No process can set this clock.
pub fn boottime() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call. The call cannot fail: Linux has
    // had this clock since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A moment in the local time of the machine, as a log shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The year, as in 2026.
    pub year: i32,
    /// The month, 1 to 12.
    pub month: i32,
    /// The day of the month, 1 to 31.
    pub day: i32,
    /// The hour, 0 to 23.
    pub hour: i32,
    /// The minute, 0 to 59.
    pub minute: i32,
    /// The second, 0 to 60.
    pub second: i32,
}

/// Returns the current local time, in the time zone that tzset(3) found at the first call; UTC if
/// there is none.
pub fn local_time() -> LocalTime {
    static ZONE: Once = Once::new();
    ZONE.call_once(|| {
        // SAFETY: tzset reads the environment, which nothing in this workspace changes.
        unsafe { tzset() };
    });
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(since_epoch.as_secs()).unwrap_or(libc::time_t::MAX);
    // SAFETY: a tm is plain integers and a pointer, for which zeros are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid and outlive the call. It fails only for years that no clock shows;
    // then `tm` remains zero.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
    LocalTime {
        year: tm.tm_year + 1900,
        month: tm.tm_mon + 1,
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
    }
}

unsafe extern "C" {
    fn tzset();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_agrees_with_date() {
        let now = local_time();
        let output = std::process::Command::new("date").arg("+%Y-%-m-%-d").output().unwrap();
        let today = format!("{}-{}-{}\n", now.year, now.month, now.day);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), today);
    }

    #[test]
    fn boottime_advances() {
        let before = boottime();
        assert!(before > Duration::ZERO);
        assert!(boottime() >= before);
    }
}
