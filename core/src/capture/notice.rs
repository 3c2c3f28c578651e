//! What captures tell about themselves.

use std::fmt;

use crate::printable::Excerpt;

/// Something about a capture that a log should say. Shown as one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        reason: Absence,
    },
    /// The interface was listened on and is no more; it is taken up again when it comes back.
    Lost {
        /// The interface.
        interface: String,
        /// Why.
        reason: Absence,
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

/// Why an interface is not captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// No interface has this name.
    Missing {
        /// The interface that is probably meant.
        near: Option<String>,
    },
    /// The interface is down.
    Down,
    /// Another interface has this name now.
    Replaced,
    /// The capture failed; the message of the system or of libpcap.
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
    /// The interface that the notice is about.
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
                write!(f, "{interface}: the kernel takes no filter, every packet is looked at")
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
