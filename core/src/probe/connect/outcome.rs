//! What a connection that was tried says about the port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::probe::icmp::IcmpError;
use crate::probe::state::{PortState, Reason};
use crate::sys::connecting::{Connecting, IcmpReport, Progress};

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
            let reason = of_icmp(report, connection.local_address()?.ip(), target.ip());
            Ok(Some((PortState::Filtered, reason)))
        }
        Progress::Unsent(error) => Err(error),
        Progress::Failed(error) => of_error(&error).map(Some).ok_or(error),
    }
}

pub(super) const REFUSED: Outcome = (PortState::Closed, Reason::ConnRefused);

fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// What an ICMP error says, which ended a connection from `local` to `target`.
fn of_icmp(report: IcmpReport, local: IpAddr, target: IpAddr) -> Reason {
    let error = if report.v6 { IcmpError::V6 } else { IcmpError::V4 }(report.kind, report.code);
    // The kernel hands on only errors that end a connection.
    let reason = error.reason().unwrap_or(Reason::DestUnreach);
    match reason {
        // This machine's own firewall, unless it is the one that was asked. Of an absent neighbour it says this:
        Reason::HostUnreach => reason,
        _ if report.from == local && local != target => Reason::PermDenied,
        _ => reason,
    }
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
    fn this_machines_own_refusal_is_no_answer() {
        let [ours, host, router] = ["10.0.0.2", "10.0.0.1", "10.0.0.9"].map(|ip| ip.parse().unwrap());
        let reason = |kind, code, from, target| of_icmp(IcmpReport { v6: false, kind, code, from }, ours, target);
        assert_eq!(reason(3, 3, host, host), Reason::PortUnreach);
        assert_eq!(reason(3, 13, router, host), Reason::AdminProhibited);
        assert_eq!(reason(3, 3, ours, host), Reason::PermDenied);
        assert_eq!(reason(3, 10, ours, host), Reason::PermDenied);
        assert_eq!(reason(3, 1, ours, host), Reason::HostUnreach, "no such neighbour");
        assert_eq!(reason(3, 3, ours, ours), Reason::PortUnreach, "a port of this machine");
        let report = IcmpReport { v6: true, kind: 1, code: 4, from: "fd00::2".parse().unwrap() };
        assert_eq!(of_icmp(report, "fd00::2".parse().unwrap(), "fd00::1".parse().unwrap()), Reason::PermDenied);
    }

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
