//! The network side of UDP probes: one ordinary socket, whose error queue holds the ICMP errors. No
//! privilege is needed.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::drive::Transport;
use super::error::ProbeError;
use super::icmp::IcmpError;
use super::payload::payload;
use super::schedule::{Probe, Schedule};
use super::state::{PortState, Reason};
use crate::host;
use crate::sys::error_queue;

/// Maximum number of pending errors that one call skips. Sending can fail because of the error of
/// an earlier probe; a host that sends errors without end must not block the probe.
const MAX_PENDING_ERRORS: usize = 1_000;

/// The socket for one address.
pub(super) struct UdpTransport {
    schedule: Schedule,
    socket: UdpSocket,
    target: SocketAddr,
    local: IpAddr,
    /// The number of the current pass. An answer does not show which try it belongs to.
    number: u16,
}

impl UdpTransport {
    pub(super) fn new(schedule: Schedule, target: SocketAddr, source: Option<IpAddr>) -> Result<Self, ProbeError> {
        let local = host::local_address(target, source).map_err(|error| ProbeError::route(target, source, error))?;
        let open = || -> io::Result<UdpSocket> {
            let socket = host::udp_socket(target, Some(local.ip()))?;
            socket.set_nonblocking(true)?;
            error_queue::enable(socket.as_fd(), target)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| ProbeError::System { what: "cannot open a UDP socket", error })?;
        Ok(Self { schedule, socket, target, local: local.ip(), number: 0 })
    }

    /// Removes all errors from the queue, and returns how many there were.
    fn take_errors(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<usize> {
        let mut count = 0;
        while let Some(error) = error_queue::next(self.socket.as_fd())? {
            count += 1;
            let Some(destination) = error.destination.filter(|destination| destination.ip() == self.target.ip()) else {
                continue;
            };
            let Some(reason) = IcmpError::from_origin(error.origin)
                .and_then(|icmp| icmp.reason(error.from, self.local, self.target.ip()))
            else {
                continue;
            };
            // A router or a firewall on the path may report a port as unreachable, but only the
            // host itself can report that it is closed.
            let is_closed = reason == Reason::PortUnreach && error.from == Some(self.target.ip());
            let state = if is_closed { PortState::Closed } else { PortState::Filtered };
            self.schedule.record(Probe { port: destination.port(), number: self.number }, state, reason, clock());
        }
        Ok(count)
    }

    /// Calls `call` on the socket. After an ICMP error the next call on the socket fails, whatever
    /// its purpose; the error is also in the queue. A failure that the queue does not explain is
    /// retried once, because the kernel fills the queue first.
    fn call<T>(
        &mut self,
        clock: &dyn Fn() -> Duration,
        mut call: impl FnMut(&UdpSocket) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut unexplained = false;
        for _ in 0..MAX_PENDING_ERRORS {
            match call(&self.socket) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    if self.take_errors(clock)? == 0 && std::mem::replace(&mut unexplained, true) {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Transport for UdpTransport {
    fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    fn send(&mut self, probes: &[Probe], clock: &dyn Fn() -> Duration) -> io::Result<usize> {
        let Some(&probe) = probes.first() else { return Ok(0) };
        self.number = probe.number;
        let to = host::at_port(self.target, probe.port);
        self.call(clock, |socket| socket.send_to(payload(probe.port), to)).map(|_| 1)
    }

    fn receive(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<()> {
        loop {
            self.take_errors(clock)?;
            match self.call(clock, |socket| socket.recv_from(&mut [0])) {
                Ok((_, from)) if from.ip() == self.target.ip() => {
                    let probe = Probe { port: from.port(), number: self.number };
                    self.schedule.record(probe, PortState::Open, Reason::UdpResponse, clock());
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd()]
    }
}
