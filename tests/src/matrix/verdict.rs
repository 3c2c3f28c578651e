//! The verdict of a program about a case.

use std::collections::BTreeMap;
use std::fmt;

use super::CaseId;

/// State and reason, both in nmap's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// As in `filtered`.
    pub state: String,
    /// As in `no-response`; empty if there is none.
    pub reason: String,
}

impl Verdict {
    /// nmap's verdict about a host that it considers absent: nothing about its ports.
    pub const HOST_DOWN: &str = "host-down";

    /// Stands for our own error message that this machine has no route.
    pub const NO_ROUTE_HERE: [&str; 2] = ["error", "no-route"];

    /// The verdict with this state and this reason.
    pub fn new(state: &str, reason: &str) -> Self {
        Self { state: state.into(), reason: reason.into() }
    }
}

/// As in `filtered, no-response`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.state, self.reason)
    }
}

/// The verdicts of a program about many cases.
pub type Verdicts = BTreeMap<CaseId, Verdict>;
