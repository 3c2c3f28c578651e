//! Knocking until a port opens.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::{Hit, KnockError, KnockPlan};
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

impl KnockPlan {
    /// Knocks as [`KnockPlan::send`] does and then waits until the port is open at one of the addresses (see
    /// [`probe::wait_open`]); knocks again when it does not open in time, as often as `then.retries` allows.
    ///
    /// # Errors
    /// [`KnockError::NotOpen`] where it did not open after the last round, [`KnockError::Probe`] where it could not be
    /// looked at, and the errors of [`KnockPlan::send`].
    pub fn send_until_open(
        &self,
        addresses: &[SocketAddr],
        then: Then,
        observer: &mut dyn FnMut(Hit),
    ) -> Result<Opened, KnockError> {
        let port = then.port.get();
        let targets: Vec<SocketAddr> = addresses
            .iter()
            .map(|&address| {
                let mut target = address;
                target.set_port(port);
                target
            })
            .collect();
        let mut seen = PortState::Filtered;
        for _round in 0..=then.retries {
            self.send(addresses, observer)?;
            match probe::wait_open(&targets, self.source, Instant::now() + then.wait) {
                Ok(opened) => return Ok(opened),
                Err(NotOpen::Deadline { last, .. }) => seen = last,
                Err(NotOpen::Io(error)) => return Err(KnockError::Probe { host: self.host.clone(), port, error }),
            }
        }
        Err(KnockError::NotOpen { host: self.host.clone(), port, wait: then.wait, last: seen })
    }
}
