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

/// How long a port usually may take to open after the knocks.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// What is expected to happen after the knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Then {
    /// The TCP port that should open.
    pub port: NonZeroU16,
    /// How long it may take after the last knock of each round.
    pub wait: Duration,
    /// How many more rounds of knocking there are when it does not open; 0 for none.
    pub retries: u32,
}

/// A port that is to be watched while it is one of the steps too. Its display is a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedStep {
    /// The port.
    pub port: NonZeroU16,
}

impl fmt::Display for WatchedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        write!(f, "port {port} is one of the knocks too: each look whether it is open knocks there again")
    }
}

impl KnockPlan {
    /// The port that is watched, where it is one of the TCP steps too: to the daemon each try to connect is a knock, which
    /// can spoil the next round.
    pub fn watched_step(&self, then: Then) -> Option<WatchedStep> {
        let watched = Step { port: then.port, protocol: Protocol::Tcp };
        self.steps.contains(&watched).then_some(WatchedStep { port: then.port })
    }

    /// Knocks as [`KnockPlan::send`] does and then waits until the port is open at one of the addresses (see
    /// [`probe::wait_open`]); knocks again when it does not open in time, as often as `then.retries` allows.
    ///
    /// # Errors
    /// [`KnockError::NotOpen`] where it did not open after the last round, [`KnockError::Probe`] where it could not be
    /// looked at, and the errors of [`KnockPlan::send`]; [`KnockError::Stopped`] also while it waits.
    pub fn send_until_open(
        &self,
        addresses: &[SocketAddr],
        then: Then,
        observer: &mut Observer<'_>,
    ) -> Result<Opened, KnockError> {
        let port = then.port.get();
        let targets: Vec<SocketAddr> = addresses.iter().map(|&address| at_port(address, port)).collect();
        let mut seen = PortState::Filtered;
        for _round in 0..=then.retries {
            self.send(addresses, observer)?;
            let deadline = Instant::now() + then.wait;
            match probe::wait_open(&targets, self.source, deadline, &mut || observer(None)) {
                Ok(opened) => return Ok(opened),
                Err(NotOpen::Deadline { last, .. }) => seen = last,
                Err(NotOpen::Stopped) => return Err(KnockError::Stopped),
                Err(NotOpen::Io(error)) => return Err(KnockError::Probe { host: self.host.clone(), port, error }),
            }
        }
        Err(KnockError::NotOpen { host: self.host.clone(), port, wait: then.wait, last: seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::parse_steps;

    #[test]
    fn to_watch_a_step_is_worth_a_warning() {
        let plan = KnockPlan::new("127.0.0.1", parse_steps("7000,22,9000:udp").unwrap());
        let watched = |port| {
            let then = Then { port: NonZeroU16::new(port).unwrap(), wait: Duration::ZERO, retries: 0 };
            plan.watched_step(then).map(|step| step.to_string())
        };
        let warning = "port 22 is one of the knocks too: each look whether it is open knocks there again";
        assert_eq!(watched(22).as_deref(), Some(warning));
        assert_eq!((watched(9000), watched(80)), (None, None));
    }
}
