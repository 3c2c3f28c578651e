//! Notices about the reader itself.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::printable::{Excerpt, Printable};

/// A notice about the reader process, for a log. Its `Display` text is one line without control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderNotice {
    /// The reader has ended, or the daemon has ended it for the given reason. The daemon starts
    /// another reader.
    Ended(String),
    /// Another reader could not be started, for the given reason. The daemon tries again.
    NotStarted(String),
    /// The reader could not give up these privileges, because the system has no way to do so.
    KeptPrivileges(Vec<String>),
    /// A complete knock at a one-time door did not count, because the door had opened less than a
    /// second before. Reported once for each opening.
    UsedTooSoon {
        /// The door's name.
        door: Arc<str>,
        /// The source address of the knock.
        ip: IpAddr,
    },
}

impl fmt::Display for ReaderNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => write!(
                f,
                "the reader process has ended ({}); the daemon starts another one, attempts under way are lost",
                Excerpt(reason)
            ),
            Self::NotStarted(reason) => {
                write!(f, "the reader process cannot be started, trying again: {}", Excerpt(reason))
            }
            Self::UsedTooSoon { door, ip } => write!(
                f,
                "{ip}: {}: complete knock refused, this one-time door was opened less than a second ago",
                Printable(door)
            ),
            Self::KeptPrivileges(privileges) => {
                write!(
                    f,
                    "the reader process keeps privileges that it does not need: {}",
                    Excerpt(&privileges.join("; "))
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_reader_neither_forge_a_line_nor_fill_a_log() {
        let text = format!("a\n[2026-01-01 00:00] 10.0.0.1: ssh: OPEN SESAME{}", "x".repeat(1 << 20));
        let notices = [
            ReaderNotice::Ended(text.clone()),
            ReaderNotice::NotStarted(text.clone()),
            ReaderNotice::KeptPrivileges(vec![text.clone(), text]),
        ];
        for notice in notices {
            let line = notice.to_string();
            assert!(line.contains("a\\x0a[2026") && line.chars().count() < 400, "{}", line.len());
        }
    }
}
