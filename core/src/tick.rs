//! The interval at which a blocking call asks its caller whether to continue.

use std::time::Duration;

/// Interval between two calls of an observer. The documented maximum is a tenth of a second; half
/// of it leaves room for the work in between.
pub(crate) const TICK: Duration = Duration::from_millis(50);
