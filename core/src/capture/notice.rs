//! Notices about captures, and their counters.

use std::fmt;

use crate::printable::Excerpt;

/// A notice about a capture, for a log. Its `Display` text is one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureNotice {
    /// The set captures packets of the interface from now on.
    Listening {
        /// The interface.
        interface: String,
    },
    /// The interface cannot be captured yet. The set tries again when that may have changed.
    Waiting {
        /// The interface.
        interface: String,
        /// The reason.
        reason: Absence,
    },
    /// The capture of the interface has ended. The set starts another one when the interface comes
    /// back.
    Lost {
        /// The interface.
        interface: String,
        /// The reason.
        reason: Absence,
    },
    /// The kernel dropped packets that had passed the filter, because they came faster than the
    /// process read them.
    Dropped {
        /// The interface.
        interface: String,
        /// Number of packets since the last such notice.
        packets: u64,
    },
    /// The kernel does not accept the exact filter, so the process reads more packets than
    /// necessary. It misses none.
    CoarseFilter {
        /// The interface.
        interface: String,
        /// Length of the filter that the kernel accepted, in instructions; `None` if it accepted
        /// none.
        instructions: Option<usize>,
    },
}

/// Why an interface is not captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// No interface has this name.
    Missing {
        /// An existing interface with a similar name.
        near: Option<String>,
    },
    /// The interface is down.
    Down,
    /// Another interface has this name now.
    Replaced,
    /// The capture failed, with this message of the system or of libpcap.
    Failed(String),
}

/// One line without control characters.
impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { near: None } => f.write_str("there is no such interface"),
            Self::Missing { near: Some(near) } => {
                write!(f, "there is no such interface; did you mean `{}`?", Excerpt(near))
            }
            Self::Down => f.write_str("the interface is down"),
            Self::Replaced => f.write_str("another interface took its name"),
            Self::Failed(message) => Excerpt(message).fmt(f),
        }
    }
}

impl CaptureNotice {
    /// Returns the interface that the notice is about.
    pub(crate) fn interface(&self) -> &str {
        match self {
            Self::Listening { interface }
            | Self::Waiting { interface, .. }
            | Self::Lost { interface, .. }
            | Self::Dropped { interface, .. }
            | Self::CoarseFilter { interface, .. } => interface,
        }
    }
}

impl fmt::Display for CaptureNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = Excerpt(self.interface());
        match self {
            Self::Listening { .. } => write!(f, "listening on {interface}"),
            Self::Waiting { reason, .. } => write!(f, "waiting for {interface}: {reason}"),
            Self::Lost { reason, .. } => write!(f, "no longer listening on {interface}: {reason}"),
            Self::Dropped { packets, .. } => {
                write!(f, "{interface}: {packets} packets were dropped because they came too fast")
            }
            Self::CoarseFilter { instructions: Some(length), .. } => {
                write!(f, "{interface}: the filter was cut to {length} instructions and lets more packets through")
            }
            Self::CoarseFilter { instructions: None, .. } => {
                write!(f, "{interface}: the kernel accepts no filter and passes every packet")
            }
        }
    }
}

/// Counters of all captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureStats {
    /// Number of packets that passed the filter and were returned.
    pub received: u64,
    /// Number of packets that passed the filter and that the kernel dropped.
    pub dropped: u64,
    /// The counters of each interface, in the order in which the caller named them.
    pub interfaces: Vec<InterfaceStats>,
}

/// Counters of one interface since the set was opened, over all its captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// The interface.
    pub interface: String,
    /// True while the set captures its packets.
    pub listening: bool,
    /// Number of packets that passed the filter and were returned.
    pub received: u64,
    /// Number of packets that passed the filter and that the kernel dropped.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_the_reader_neither_forge_a_line_nor_fill_a_log() {
        let text = || format!("a\n\x1b[31m{}", "x".repeat(1 << 20));
        for notice in [
            CaptureNotice::Listening { interface: text() },
            CaptureNotice::Waiting { interface: text(), reason: Absence::Failed(text()) },
            CaptureNotice::Lost { interface: text(), reason: Absence::Failed(text()) },
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
