//! UDP on the wire: one ordinary socket, whose error queue has the ICMP errors. No right is needed.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::drive::Wire;
use super::error::ProbeError;
use super::icmp::IcmpError;
use super::payload::payload;
use super::schedule::{Schedule, Try};
use super::state::{PortState, Reason};
use crate::host;
use crate::sys::error_queue;

/// To send can fail by the error that an earlier probe met. Somebody who sends errors without end is not waited for.
const PENDING_ERRORS: usize = 1_000;

/// The socket for one address.
pub(super) struct UdpWire {
    schedule: Schedule,
    socket: UdpSocket,
    target: SocketAddr,
    local: IpAddr,
    /// The pass under way. An answer does not tell which try it is for.
    number: u16,
}

impl UdpWire {
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

    /// Takes all errors out of the queue, and gives how many those were.
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
            // A router or a firewall in between may call a port unreachable; only the host knows that it is closed.
            let is_closed = reason == Reason::PortUnreach && error.from == Some(self.target.ip());
            let state = if is_closed { PortState::Closed } else { PortState::Filtered };
            self.schedule.found(Try { port: destination.port(), number: self.number }, state, reason, clock());
        }
        Ok(count)
    }

    /// Calls the socket. By an ICMP error, the next call fails, whatever it is for; the error waits in the queue too. What
    /// the queue does not explain gets another chance, since the kernel fills it first.
    fn call<T>(
        &mut self,
        clock: &dyn Fn() -> Duration,
        mut call: impl FnMut(&UdpSocket) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut unexplained = false;
        for _ in 0..PENDING_ERRORS {
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

impl Wire for UdpWire {
    fn schedule(&mut self) -> &mut Schedule {
        &mut self.schedule
    }

    fn send(&mut self, probes: &[Try], clock: &dyn Fn() -> Duration) -> io::Result<usize> {
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
                    let probe = Try { port: from.port(), number: self.number };
                    self.schedule.found(probe, PortState::Open, Reason::UdpResponse, clock());
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
