//! The time of the modules without I/O. It arrives with each packet; they read no clock.

use std::fmt;
use std::time::Duration;

/// Number of nanoseconds per second.
const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A point in time in nanoseconds since the Unix epoch, in the years 1970 to 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Returns the time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the time `secs` seconds after the epoch, or the latest representable time if that is
    /// out of range.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC))
    }

    /// Returns the nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time `span` later, or the latest representable time if that is out of range.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let nanos = span.as_secs().saturating_mul(NANOS_PER_SEC).saturating_add(span.subsec_nanos().into());
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the time since `earlier`; zero if `earlier` is later than `self`.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Formats seconds with nine decimal places, as in `1690000000.123456789`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / NANOS_PER_SEC, self.0 % NANOS_PER_SEC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_seconds_with_all_nanosecond_digits() {
        assert_eq!(Timestamp::from_nanos(1_690_000_000_000_000_042).to_string(), "1690000000.000000042");
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let last = Timestamp::from_nanos(u64::MAX);
        assert_eq!(last.saturating_add(Duration::MAX), last);
        assert_eq!(Timestamp::from_secs(u64::MAX), last);
        assert_eq!(Timestamp::from_secs(1).saturating_since(Timestamp::from_secs(2)), Duration::ZERO);
    }
}
