//! The state of a port as shown by a connection.

use std::io;
use std::net::SocketAddr;

use crate::probe::icmp::IcmpError;
use crate::probe::state::{PortState, Reason};
use crate::sys::connecting::{Connecting, ConnectionState};

/// The state of a port, and the reason for it.
pub(in crate::probe) type Verdict = (PortState, Reason);

/// Returns the verdict on `target`, which `connection` was begun to; `None` if there is none yet.
///
/// # Errors
/// Fails with an error that is not the result of an answer, for example if the route is lost.
pub(in crate::probe) fn verdict(connection: &Connecting, target: SocketAddr) -> io::Result<Option<Verdict>> {
    match connection.state()? {
        ConnectionState::Waiting => Ok(None),
        // A port of this machine can connect to itself if the kernel happens to choose it as the
        // source.
        ConnectionState::Connected if is_same(connection.local_address()?, target) => Ok(Some(REFUSED)),
        ConnectionState::Connected => Ok(Some((PortState::Open, Reason::SynAck))),
        ConnectionState::Icmp(report) => {
            let icmp = IcmpError::from_origin(report.origin);
            let reason =
                icmp.and_then(|icmp| icmp.reason(report.from, connection.local_address().ok()?.ip(), target.ip()));
            // The kernel reports only errors that end a connection.
            Ok(Some((PortState::Filtered, reason.unwrap_or(Reason::DestUnreach))))
        }
        ConnectionState::Unsent(error) => Err(error),
        ConnectionState::Failed(error) => verdict_of_error(&error).map(Some).ok_or(error),
    }
}

/// The verdict of an RST in answer to the SYN.
pub(super) const REFUSED: Verdict = (PortState::Closed, Reason::ConnRefused);

fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// Returns the verdict of an error without an ICMP error in the queue: an RST, or an ICMP error on
/// a kernel before Linux 5.8, which keeps none. See icmp(7) for the errors that the kernel maps
/// ICMP errors to.
fn verdict_of_error(error: &io::Error) -> Option<Verdict> {
    let reason = match error.raw_os_error()? {
        libc::ECONNREFUSED => return Some(REFUSED),
        // The connection was established before: by a SYN proxy, or by a listener that ended it
        // immediately.
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
            let verdict = verdict_of_error(&io::Error::from_raw_os_error(errno));
            verdict.map(|(state, reason)| format!("{state} {reason}"))
        };
        assert_eq!(shown(libc::ECONNREFUSED).unwrap(), "closed conn-refused");
        assert_eq!(shown(libc::ECONNRESET).unwrap(), "open syn-ack");
        assert_eq!(shown(libc::ETIMEDOUT).unwrap(), "filtered no-response");
        assert_eq!(shown(libc::EHOSTUNREACH).unwrap(), "filtered host-unreach");
        assert_eq!(shown(libc::EBADF), None);
    }
}
