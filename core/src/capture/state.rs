//! The states of a capture set: the source of its network state, and its requests to the caller.

use crate::sys::netlink::Network;

/// The source from which a set reads the state of the network.
#[derive(Debug)]
pub(super) enum NetworkSource {
    /// The kernel.
    Kernel,
    /// The caller, because this process is in the sandbox.
    Caller(NetworkReport),
}

/// The state of the caller's report about the network.
#[derive(Debug)]
pub(super) enum NetworkReport {
    /// The network has not changed since the last report.
    NotNeeded,
    /// The network has changed, so the caller must report.
    Requested,
    /// The next turn uses this report.
    Received(Box<Network>),
    /// This turn uses the report.
    InUse,
}

impl NetworkSource {
    /// Prepares for a turn. If the network has `changed` since the caller reported, the report is
    /// outdated.
    pub(super) fn begin_turn(&mut self, changed: bool) {
        let Self::Caller(report) = self else { return };
        if matches!(report, NetworkReport::InUse) || changed && matches!(report, NetworkReport::Received(_)) {
            *report = NetworkReport::NotNeeded;
        }
    }

    /// Returns true if the next turn has a report to use.
    pub(super) fn has_report(&self) -> bool {
        matches!(self, Self::Caller(NetworkReport::Received(_)))
    }

    /// Requests a report, unless the kernel is the source or there is a report for this turn.
    /// Returns true if the caller must report.
    pub(super) fn ask_caller(&mut self) -> bool {
        match self {
            Self::Kernel | Self::Caller(NetworkReport::Received(_) | NetworkReport::InUse) => false,
            Self::Caller(report) => {
                *report = NetworkReport::Requested;
                true
            }
        }
    }
}

/// The reason why a new set must listen on an interface that is up. A set in the sandbox cannot
/// open captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartRequest {
    /// An interface has come up.
    Untried,
    /// This set has failed to listen on every such interface, so the next set may fail as well.
    AfterFailure,
}

impl RestartRequest {
    /// Adds an interface that waits for a new set; `has_failed` if this set has failed to listen on
    /// it.
    pub(super) fn add(request: Option<Self>, has_failed: bool) -> Self {
        if has_failed && request != Some(Self::Untried) { Self::AfterFailure } else { Self::Untried }
    }
}

/// A poll of all captures, whether their descriptors are readable or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullPoll {
    /// No poll is requested.
    Idle,
    /// The next turn polls all captures.
    Requested,
    /// The last turn polled this many captures without an error.
    Done(usize),
}

/// Whether the descriptors have been polled for the next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// The turn polls them itself.
    Unknown,
    /// [`CaptureSet::wait`](super::CaptureSet::wait) has just polled them.
    Polled,
}
