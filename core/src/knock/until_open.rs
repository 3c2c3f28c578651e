//! Knocking until a port opens.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::{KnockError, KnockPlan, Observer};
use crate::config::Step;
use crate::host::at_port;
use crate::packet::Protocol;
use crate::probe::{self, NotOpen, Opened, PortState};

/// Default time that a port may take to open after the knocks.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// The port that is expected to open after the knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedPort {
    /// The TCP port.
    pub port: NonZeroU16,
    /// Time that it may take to open after the last knock of each round.
    pub wait: Duration,
    /// Number of additional rounds of knocks if the port does not open.
    pub retries: u32,
}

/// A port that is checked after the knocks and that is also one of the steps. Its message is a
/// warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedStep {
    /// The port.
    pub port: NonZeroU16,
}

impl fmt::Display for WatchedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        write!(f, "port {port} is also one of the knocks: each check whether it is open sends that knock again")
    }
}

impl KnockPlan {
    /// Returns the checked port if it is also one of the TCP steps. The daemon counts each
    /// connection to it as a knock, which can spoil the next round.
    pub fn watched_step(&self, expected: ExpectedPort) -> Option<WatchedStep> {
        let watched = Step { port: expected.port, protocol: Protocol::Tcp };
        self.steps.contains(&watched).then_some(WatchedStep { port: expected.port })
    }

    /// Knocks as [`KnockPlan::send`] does, then waits until the port is open at one of the
    /// addresses (see [`probe::wait_open`]). If it does not open in time, knocks again, at most
    /// `expected.retries` times.
    ///
    /// # Errors
    /// [`KnockError::NotOpen`] if the port did not open after the last round; [`KnockError::Probe`]
    /// if its state could not be checked; the errors of [`KnockPlan::send`].
    /// [`KnockError::Stopped`] also during the wait.
    pub fn send_until_open(
        &self,
        addresses: &[SocketAddr],
        expected: ExpectedPort,
        observer: &mut Observer<'_>,
    ) -> Result<Opened, KnockError> {
        self.rounds(addresses, expected, observer, |observer| self.send(addresses, observer))
    }

    /// Sends rounds of knocks with `send` until the port is open at one of the addresses.
    pub(super) fn rounds(
        &self,
        addresses: &[SocketAddr],
        expected: ExpectedPort,
        observer: &mut Observer<'_>,
        mut send: impl FnMut(&mut Observer<'_>) -> Result<(), KnockError>,
    ) -> Result<Opened, KnockError> {
        let port = expected.port.get();
        let targets: Vec<SocketAddr> = addresses.iter().map(|&address| at_port(address, port)).collect();
        let mut last_state = PortState::Filtered;
        for _round in 0..=expected.retries {
            send(observer)?;
            let deadline = Instant::now() + expected.wait;
            match probe::wait_open(&targets, self.source, deadline, &mut || observer(None)) {
                Ok(opened) => return Ok(opened),
                Err(NotOpen::Deadline { last, .. }) => last_state = last,
                Err(NotOpen::Stopped) => return Err(KnockError::Stopped),
                Err(NotOpen::Io(error)) => return Err(KnockError::Probe { host: self.host.clone(), port, error }),
            }
        }
        Err(KnockError::NotOpen { host: self.host.clone(), port, wait: expected.wait, last: last_state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::parse_steps;

    #[test]
    fn watching_a_step_causes_a_warning() {
        let plan = KnockPlan::new("127.0.0.1", parse_steps("7000,22,9000:udp").unwrap());
        let watched = |port| {
            let expected = ExpectedPort { port: NonZeroU16::new(port).unwrap(), wait: Duration::ZERO, retries: 0 };
            plan.watched_step(expected).map(|step| step.to_string())
        };
        let warning = "port 22 is also one of the knocks: each check whether it is open sends that knock again";
        assert_eq!(watched(22).as_deref(), Some(warning));
        assert_eq!((watched(9000), watched(80)), (None, None));
    }
}
