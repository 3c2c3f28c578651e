//! What there is to tell about the reader itself.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::printable::Printable;

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
                Printable(reason)
            ),
            Self::NotStarted(reason) => {
                write!(f, "the process that reads packets cannot be started, trying again: {}", Printable(reason))
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
                    Printable(&rights.join("; "))
                )
            }
        }
    }
}
