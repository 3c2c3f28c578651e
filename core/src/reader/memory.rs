//! The maximum memory of a reader.

use crate::config::Config;

/// Bytes for doors, messages and their copies at a reload, whatever the number of attempts.
const BASE: u64 = 256 << 20;
/// Bytes for an attempt with its place in the tables, which double when they grow: about three times what it takes.
const PER_ATTEMPT: u64 = 256;
/// Bytes for a port that the scan guard remembers of an attempt, with the same reserve.
const PER_GUARDED_PORT: u64 = 16;

/// The maximum number of bytes that a reader allocates for this configuration, beyond those that it has when its
/// captures are open.
pub(super) fn memory_for(config: &Config) -> u64 {
    let options = &config.options;
    BASE + u64::from(options.max_attempts) * (PER_ATTEMPT + PER_GUARDED_PORT * u64::from(options.scan_guard))
}
