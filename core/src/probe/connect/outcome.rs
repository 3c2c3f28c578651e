//! What a connection that was tried says about the port.

use std::io;
use std::net::SocketAddr;

use crate::probe::icmp::IcmpError;
use crate::probe::state::{PortState, Reason};
use crate::sys::connecting::{Connecting, Progress};

/// What a port was found to be, and from what.
pub(in crate::probe) type Outcome = (PortState, Reason);

/// What `connection` says about `target`, which it was begun to; `None` where it says nothing yet.
///
/// # Errors
/// An error that no answer of the network leads to, as the loss of the route.
pub(in crate::probe) fn outcome(connection: &Connecting, target: SocketAddr) -> io::Result<Option<Outcome>> {
    match connection.progress()? {
        Progress::Waiting => Ok(None),
        // A port of this machine can be connected to itself, where the kernel happens to choose it as the source.
        Progress::Connected if is_same(connection.local_address()?, target) => Ok(Some(REFUSED)),
        Progress::Connected => Ok(Some((PortState::Open, Reason::SynAck))),
        Progress::Icmp(report) => {
            let icmp = IcmpError::from_origin(report.origin);
            let reason =
                icmp.and_then(|icmp| icmp.reason(report.from, connection.local_address().ok()?.ip(), target.ip()));
            // The kernel hands on only errors that end a connection.
            Ok(Some((PortState::Filtered, reason.unwrap_or(Reason::DestUnreach))))
        }
        Progress::Unsent(error) => Err(error),
        Progress::Failed(error) => of_error(&error).map(Some).ok_or(error),
    }
}

pub(super) const REFUSED: Outcome = (PortState::Closed, Reason::ConnRefused);

fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// What an error says that no ICMP error in the queue goes with: an RST, or an ICMP error on a kernel before Linux 5.8,
/// which keeps none. See icmp(7) for the errors that it makes of them.
fn of_error(error: &io::Error) -> Option<Outcome> {
    let reason = match error.raw_os_error()? {
        libc::ECONNREFUSED => return Some(REFUSED),
        // The connection was made before: a proxy for SYNs, or a listener that ended it at once.
        libc::ECONNRESET | libc::EPIPE => return Some((PortState::Open, Reason::SynAck)),
        libc::ETIMEDOUT => Reason::NoResponse,
        libc::EHOSTUNREACH => Reason::HostUnreach,
        libc::ENETUNREACH => Reason::NetUnreach,
        libc::ENOPROTOOPT => Reason::ProtoUnreach,
        libc::EACCES => Reason::AdminProhibited,
        _ => return None,
    };
    Some((PortState::Filtered, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_an_icmp_error_are_answers_too() {
        let shown = |errno| {
            let outcome = of_error(&io::Error::from_raw_os_error(errno));
            outcome.map(|(state, reason)| format!("{state} {reason}"))
        };
        assert_eq!(shown(libc::ECONNREFUSED).unwrap(), "closed conn-refused");
        assert_eq!(shown(libc::ECONNRESET).unwrap(), "open syn-ack");
        assert_eq!(shown(libc::ETIMEDOUT).unwrap(), "filtered no-response");
        assert_eq!(shown(libc::EHOSTUNREACH).unwrap(), "filtered host-unreach");
        assert_eq!(shown(libc::EBADF), None);
    }
}
