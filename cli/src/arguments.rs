//! Arguments that several commands share.

use std::time::Duration;

use clap::Args;
use portknock_core::host::Family;

/// Selects the address family of a host; the last option on the command line takes precedence.
#[derive(Args, Clone, Debug)]
pub(crate) struct FamilyArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, overrides_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long, overrides_with = "ipv4")]
    ipv6: bool,
}

impl FamilyArgs {
    pub(crate) fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }
}

/// Parses a number of seconds, which can be 0.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds, as in 5 or 0.5".into())
}

/// Parses a number of seconds above 0.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0, as in 5 or 0.5".into())
}
