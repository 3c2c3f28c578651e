//! The loop between a schedule and the network: sends what is due, takes in what comes back, waits for what is next.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::error::ProbeError;
use super::schedule::{Next, Schedule, Try};
use crate::sys::poll::{self, Interest};
use crate::sys::raw::BATCH;
use crate::tick::TICK;

/// How long to leave a full queue of this machine alone.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// A way to send probes and to receive what comes back.
pub(super) trait Wire {
    /// What it sends and receives for.
    fn schedule(&mut self) -> &mut Schedule;

    /// Sends these probes, at most [`BATCH`], and gives how many were sent; an error where not even the first one was.
    /// `clock` has the time that is counted from the start.
    fn send(&mut self, probes: &[Try], clock: &dyn Fn() -> Duration) -> io::Result<usize>;

    /// Takes in what waits, and tells the schedule. `clock` has the time that is counted from the start.
    fn receive(&mut self, clock: &dyn Fn() -> Duration) -> io::Result<()>;

    /// The descriptors that are readable when something waits; the first one is for sending too.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;
}

/// Probes until all is known, the observer breaks off, or something fails. The observer is told how many ports are known
/// and about how much of the work is done.
pub(super) fn drive(
    wire: &mut dyn Wire,
    target: SocketAddr,
    observer: &mut dyn FnMut(usize, f32) -> ControlFlow<()>,
) -> Result<(), ProbeError> {
    let start = Instant::now();
    let clock = || start.elapsed();
    let mut due: VecDeque<Try> = VecDeque::with_capacity(BATCH);
    let mut next_tick = Duration::ZERO;
    loop {
        wire.receive(&clock).map_err(|error| ProbeError::System { what: "cannot receive", error })?;
        let now = clock();
        if now >= next_tick {
            if observer(wire.schedule().known(), wire.schedule().done()).is_break() {
                return Ok(());
            }
            next_tick = now + TICK;
        }
        let mut until = now;
        while due.len() < BATCH {
            match wire.schedule().poll(now) {
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
        match send(wire, &mut due, &clock) {
            Ok(Sent::All) => {}
            // There may be less to wait for.
            Ok(Sent::SomeDenied) => until = now,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                interest = Interest::ReadOrWrite;
                until = next_tick;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => until = now + FULL_QUEUE_PAUSE,
            Err(error) => return Err(ProbeError::route(target, None, error)),
        }
        let wait = until.min(next_tick).saturating_sub(clock());
        if !wait.is_zero() {
            let descriptors = wire.descriptors();
            let interests = std::iter::once(interest).chain(std::iter::repeat(Interest::Read));
            match poll::wait(descriptors.into_iter().zip(interests), wait) {
                // A signal may be why the observer breaks off.
                Err(error) if error.kind() == ErrorKind::Interrupted => next_tick = Duration::ZERO,
                result => {
                    result.map_err(|error| ProbeError::System { what: "cannot wait for answers", error })?;
                }
            }
        }
    }
}

enum Sent {
    All,
    /// This machine's own firewall did not let some of it out.
    SomeDenied,
}

/// Sends all that is due.
fn send(wire: &mut dyn Wire, due: &mut VecDeque<Try>, clock: &dyn Fn() -> Duration) -> io::Result<Sent> {
    let mut result = Sent::All;
    while !due.is_empty() {
        match wire.send(due.make_contiguous(), clock) {
            Ok(count) => {
                due.drain(..count);
            }
            // EACCES, which std calls by the same name, is a route that prohibits.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                if let Some(probe) = due.pop_front() {
                    wire.schedule().denied(probe);
                    result = Sent::SomeDenied;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(result)
}
