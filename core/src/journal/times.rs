//! The closing time of an opening by each clock. The documentation of the parent module describes
//! when each clock applies.

use std::sync::Arc;
use std::time::Duration;

use super::record::Times;
use crate::clock::Clocks;
use crate::time::Timestamp;

/// Returns the closing time of an opening by each clock.
pub(super) fn times(closes_at: Timestamp, clocks: Clocks, boot_id: Arc<str>) -> Times {
    let span = closes_at.saturating_since(clocks.now);
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Times {
        boot: nanos(clocks.boot.saturating_add(span)),
        wall: clocks.wall.saturating_add(span).as_nanos(),
        span: nanos(span),
        boot_id,
    }
}

/// Returns the time at which an opening closes, by the present clocks. An opening of another boot is
/// overdue, because the effects of its start command do not survive a reboot. If the system does not
/// identify its boots, the wall clock applies.
pub(super) fn closes_at(times: &Times, clocks: Clocks, boot_id: &str) -> Timestamp {
    let remaining = if boot_id.is_empty() || times.boot_id.is_empty() {
        Timestamp::from_nanos(times.wall).saturating_since(clocks.wall).min(Duration::from_nanos(times.span))
    } else if *times.boot_id == *boot_id {
        Duration::from_nanos(times.boot).saturating_sub(clocks.boot)
    } else {
        Duration::ZERO
    };
    clocks.now.saturating_add(remaining)
}
