//! How often somebody who waits is asked whether to go on.

use std::time::Duration;

/// The promise is a tenth of a second; half of it leaves room for what comes in between.
pub(crate) const TICK: Duration = Duration::from_millis(50);
