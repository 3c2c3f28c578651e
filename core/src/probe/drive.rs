//! The loop between a schedule and the network: it sends the probes that are due, receives the
//! answers and waits for the next event.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::error::ProbeError;
use super::schedule::{Next, Probe, Schedule};
use crate::sys::poll::{self, Interest};
use crate::sys::raw::BATCH;
use crate::tick::TICK;

/// Delay before the next send after this machine's transmit queue was full.
const FULL_QUEUE_DELAY: Duration = Duration::from_millis(1);

/// A way to send probes and to receive the answers.
pub(super) trait Transport {
    /// Returns the schedule of the probes.
    fn schedule(&mut self) -> &mut Schedule;

    /// Sends these probes, at most [`BATCH`], and returns how many were sent. Fails if not even the
    /// first one was sent. `clock` returns the time since the start of the run.
    fn send(&mut self, probes: &[Probe], clock: &dyn Fn() -> Duration) -> io::Result<usize>;

    /// Receives all waiting answers and reports them to the schedule. `clock` returns the time
    /// since the start of the run.
    fn receive(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<()>;

    /// Returns the descriptors that become readable when an answer arrives. The first one is also
    /// the one used for sending.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

/// Probes until every port has a result, the observer stops the run, or an error occurs. The
/// observer receives the number of ports with a result and the approximate share of the work that
/// is done.
pub(super) fn drive(
    transport: &mut dyn Transport,
    target: SocketAddr,
    observer: &mut dyn FnMut(usize, f32) -> ControlFlow<()>,
) -> Result<(), ProbeError> {
    let start = Instant::now();
    let clock = || start.elapsed();
    let mut due: VecDeque<Probe> = VecDeque::with_capacity(BATCH);
    let mut next_tick = Duration::ZERO;
    loop {
        transport.receive(&clock).map_err(|error| ProbeError::System { what: "cannot receive", error })?;
        let now = clock();
        if now >= next_tick {
            if observer(transport.schedule().known(), transport.schedule().done()).is_break() {
                return Ok(());
            }
            next_tick = now + TICK;
        }
        let mut until = now;
        while due.len() < BATCH {
            match transport.schedule().poll(now) {
                Next::Send(probe) => due.push_back(probe),
                Next::Wait(time) => {
                    until = time;
                    break;
                }
                Next::Done if due.is_empty() => return Ok(()),
                Next::Done => break,
            }
        }
        let mut interest = Interest::Read;
        match send(transport, &mut due, &clock) {
            Ok(Sent::All) => {}
            // Fewer answers may be outstanding now.
            Ok(Sent::SomeBlocked) => until = now,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                interest = Interest::ReadOrWrite;
                until = next_tick;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => until = now + FULL_QUEUE_DELAY,
            Err(error) => return Err(ProbeError::route(target, None, error)),
        }
        let wait = until.min(next_tick).saturating_sub(clock());
        if !wait.is_zero() {
            let descriptors = transport.descriptors();
            let interests = std::iter::once(interest).chain(std::iter::repeat(Interest::Read));
            match poll::wait(descriptors.into_iter().zip(interests), wait) {
                // A signal may be the reason for the observer to stop.
                Err(error) if error.kind() == ErrorKind::Interrupted => next_tick = Duration::ZERO,
                result => {
                    result.map_err(|error| ProbeError::System { what: "cannot wait for answers", error })?;
                }
            }
        }
    }
}

/// The result of sending all probes that are due.
enum Sent {
    All,
    /// This machine's own firewall blocked some of the probes.
    SomeBlocked,
}

/// Sends all probes that are due.
fn send(transport: &mut dyn Transport, due: &mut VecDeque<Probe>, clock: &dyn Fn() -> Duration) -> io::Result<Sent> {
    let mut result = Sent::All;
    while !due.is_empty() {
        match transport.send(due.make_contiguous(), clock) {
            Ok(count) => {
                due.drain(..count);
            }
            // EACCES, which std maps to the same error kind, means a `prohibit` route.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                if let Some(probe) = due.pop_front() {
                    transport.schedule().blocked(probe);
                    result = Sent::SomeBlocked;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(result)
}
