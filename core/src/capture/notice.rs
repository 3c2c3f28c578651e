//! What captures tell about themselves.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::printable::Excerpt;

/// Something about a capture that a log should say. Shown as one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaptureNotice {
    /// Packets of the interface are captured from now on.
    Listening {
        /// The interface.
        interface: String,
    },
    /// The interface cannot be listened on yet; it is tried again when that may have changed.
    Waiting {
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// The interface was listened on and is no more; it is taken up again when it comes back.
    Lost {
        /// The interface.
        interface: String,
        /// Why.
        reason: String,
    },
    /// Packets that passed the filter were dropped, because they came faster than they were taken.
    Dropped {
        /// The interface.
        interface: String,
        /// How many since the last such notice.
        packets: u64,
    },
    /// The kernel does not take a filter that lets through only what matters: more packets than needed are looked at.
    /// Nothing is missed.
    CoarseFilter {
        /// The interface.
        interface: String,
        /// The length of the filter that the kernel took; `None` where it took none at all.
        instructions: Option<usize>,
    },
}

impl fmt::Display for CaptureNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { interface } => write!(f, "listening on {}", Excerpt(interface)),
            Self::Waiting { interface, reason } => {
                write!(f, "waiting for {}: {}", Excerpt(interface), Excerpt(reason))
            }
            Self::Lost { interface, reason } => {
                write!(f, "no longer listening on {}: {}", Excerpt(interface), Excerpt(reason))
            }
            Self::Dropped { interface, packets } => {
                write!(f, "{}: {packets} packets were dropped because they came too fast", Excerpt(interface))
            }
            Self::CoarseFilter { interface, instructions: Some(length) } => write!(
                f,
                "{}: the filter was cut to {length} instructions and lets more packets through",
                Excerpt(interface)
            ),
            Self::CoarseFilter { interface, instructions: None } => {
                write!(f, "{}: the kernel takes no filter, every packet is looked at", Excerpt(interface))
            }
        }
    }
}

/// Counters of all captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Packets that passed the filter and were handed on.
    pub received: u64,
    /// Packets that passed the filter and were dropped.
    pub dropped: u64,
    /// The same for each interface, in the order in which they were given.
    pub interfaces: Vec<InterfaceStats>,
}

/// Counters of one interface since the start, over all the times that it came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// The interface.
    pub interface: String,
    /// True while it is listened on.
    pub listening: bool,
    /// Packets that passed the filter and were handed on.
    pub received: u64,
    /// Packets that passed the filter and were dropped.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_the_reader_can_neither_forge_a_line_nor_fill_a_log() {
        let text = || format!("a\n\x1b[31m{}", "x".repeat(1 << 20));
        for notice in [
            CaptureNotice::Listening { interface: text() },
            CaptureNotice::Waiting { interface: text(), reason: text() },
            CaptureNotice::Lost { interface: text(), reason: text() },
            CaptureNotice::Dropped { interface: text(), packets: 1 },
            CaptureNotice::CoarseFilter { interface: text(), instructions: Some(1) },
            CaptureNotice::CoarseFilter { interface: text(), instructions: None },
        ] {
            let line = notice.to_string();
            assert!(line.contains("a\\x0a\\x1b[31m") && line.chars().count() < 500, "{}", line.len());
            assert!(!line.chars().any(char::is_control));
        }
    }
}
