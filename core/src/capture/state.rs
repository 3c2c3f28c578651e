//! The states of a capture set: where it learns of the network, and what it asks of its caller.

use crate::sys::netlink::Network;

/// Where a set learns the state of the network.
#[derive(Debug)]
pub(super) enum NetworkSource {
    /// From the kernel.
    Kernel,
    /// From its caller, because this process is in the sandbox.
    Caller(NetworkReport),
}

/// The caller's report about the network.
#[derive(Debug)]
pub(super) enum NetworkReport {
    /// Nothing has changed since the last one.
    NotNeeded,
    /// The network has changed, so the caller must report.
    Wanted,
    /// The next turn uses this report.
    Received(Box<Network>),
    /// This turn uses the report.
    InUse,
}

impl NetworkSource {
    /// Prepares for a turn. A report that was received before another change is outdated.
    pub(super) fn begin_turn(&mut self, changed: bool) {
        let Self::Caller(report) = self else { return };
        if matches!(report, NetworkReport::InUse) || changed && matches!(report, NetworkReport::Received(_)) {
            *report = NetworkReport::NotNeeded;
        }
    }

    /// True if the next turn has a report to use.
    pub(super) fn has_report(&self) -> bool {
        matches!(self, Self::Caller(NetworkReport::Received(_)))
    }

    /// Asks the caller for a report, if it reports at all and has not done so for this turn. True if it is asked.
    pub(super) fn ask_caller(&mut self) -> bool {
        match self {
            Self::Kernel | Self::Caller(NetworkReport::Received(_) | NetworkReport::InUse) => false,
            Self::Caller(report) => {
                *report = NetworkReport::Wanted;
                true
            }
        }
    }
}

/// Why only a new set can listen on an interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartRequest {
    /// An interface has come up.
    Untried,
    /// On every such interface this set has failed to listen, so the next one may fail as well.
    AfterFailure,
}

impl RestartRequest {
    /// Adds an interface that waits for a new set.
    pub(super) fn add(request: Option<Self>, has_failed: bool) -> Self {
        if has_failed && request != Some(Self::Untried) { Self::AfterFailure } else { Self::Untried }
    }
}

/// A poll of all captures, whether their descriptors are readable or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullPoll {
    Idle,
    /// The next turn makes it.
    Requested,
    /// It polled this many captures without an error.
    Done(usize),
}

/// Whether the descriptors have been polled for the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Unknown,
    /// Just now.
    Polled,
}
