//! What there is to tell about the reader itself.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::printable::{Excerpt, Printable};

/// Something about the process that reads packets. Shown as one line without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderNotice {
    /// It has ended by itself, or was ended since it said what cannot be; another one takes its place.
    Ended(String),
    /// Another one could not be started; it is tried again.
    NotStarted(String),
    /// It could not give up these rights, since the system has no way to do so.
    Keeps(Vec<String>),
    /// A complete knock at a one-time door does not count, because the door was used less than a second before. Reported
    /// once for each use.
    UsedTooSoon {
        /// The door's name.
        door: Arc<str>,
        /// The address that knocked.
        ip: IpAddr,
    },
}

impl fmt::Display for ReaderNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(reason) => write!(
                f,
                "the process that reads packets has ended ({}); another one is started, attempts under way are lost",
                Excerpt(reason)
            ),
            Self::NotStarted(reason) => {
                write!(f, "the process that reads packets cannot be started, trying again: {}", Excerpt(reason))
            }
            Self::UsedTooSoon { door, ip } => write!(
                f,
                "{ip}: {}: complete knock refused, this one-time door was opened less than a second ago",
                Printable(door)
            ),
            Self::Keeps(rights) => {
                write!(
                    f,
                    "the process that reads packets keeps rights that it does not need: {}",
                    Excerpt(&rights.join("; "))
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_says_can_neither_forge_a_line_nor_fill_a_log() {
        let text = format!("a\n[2026-01-01 00:00] 10.0.0.1: ssh: OPEN SESAME{}", "x".repeat(1 << 20));
        let notices = [
            ReaderNotice::Ended(text.clone()),
            ReaderNotice::NotStarted(text.clone()),
            ReaderNotice::Keeps(vec![text.clone(), text]),
        ];
        for notice in notices {
            let line = notice.to_string();
            assert!(line.contains("a\\x0a[2026") && line.chars().count() < 400, "{}", line.len());
        }
    }
}
