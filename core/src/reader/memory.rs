//! The memory limit of a reader.

use crate::config::Config;

/// Number of bytes for doors, messages and their copies during a reload, independent of the number
/// of attempts.
const BASE: u64 = 256 << 20;
/// Number of bytes per attempt, with its entries in the tables, which double when they grow: about
/// three times the bytes in use.
const PER_ATTEMPT: u64 = 256;
/// Number of bytes per port that the scan guard stores of an attempt, with the same reserve.
const PER_GUARDED_PORT: u64 = 16;

/// Returns the maximum number of bytes that a reader allocates for this configuration after it has
/// opened its captures.
pub(super) fn memory_for(config: &Config) -> u64 {
    let options = &config.options;
    BASE + u64::from(options.max_attempts) * (PER_ATTEMPT + PER_GUARDED_PORT * u64::from(options.scan_guard))
}
