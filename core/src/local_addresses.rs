//! The addresses to which knocks may be sent.

use std::collections::HashSet;
use std::net::IpAddr;

/// The addresses that count as this machine for doors without a `target`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalAddresses {
    /// Any destination (for capture files of unknown origin).
    #[default]
    Any,
    /// Only these addresses.
    Only(HashSet<IpAddr>),
}
