//! The knock client: sends a sequence of knocks, and sees whether a port opens.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use portknock_core::knock::{KnockPlan, parse_steps};
//!
//! let plan = KnockPlan::new("host.example.org", parse_steps("7000,8000:udp,9000")?);
//! let addresses = plan.resolve()?;
//! plan.send(&addresses, &mut |_| ControlFlow::Continue(()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod packet;
mod pause;
mod steps;
mod until_open;

pub use error::KnockError;
use pause::pause;
pub use steps::{StepError, parse_steps};
pub use until_open::{DEFAULT_WAIT, Then, WatchedStep};

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use crate::config::Step;
use crate::host;
pub use crate::host::Family;

/// Whom to knock at, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnockPlan {
    /// A name, an IPv4 address, or an IPv6 address with or without a zone (`fe80::1%eth0`).
    pub host: String,
    /// The knocks in order.
    pub steps: Vec<Step>,
    /// Which of the host's addresses are meant. Default: any.
    pub family: Family,
    /// The pause between one knock and the next. Default: none. Packets of one sender can overtake each other on
    /// their way where there is none.
    pub delay: Duration,
    /// The address of this machine that the knocks come from. Default: what the route says.
    pub source: Option<IpAddr>,
    /// Send TCP knocks as bare SYNs through a raw socket, which needs the capability CAP_NET_RAW. Default: by an
    /// ordinary connect(2), which needs no right.
    pub raw: bool,
    /// Knock at every address of the host, not only at the first. Default: no.
    pub all_addresses: bool,
}

/// One knock that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hit {
    /// To whom; the port is the step's.
    pub address: SocketAddr,
    /// The step.
    pub step: Step,
}

/// Is told of each knock before it is sent, asked at least every tenth of a second while nothing is sent (then without a
/// knock), and can stop it all.
pub type Observer<'a> = dyn FnMut(Option<Hit>) -> ControlFlow<()> + 'a;

impl KnockPlan {
    /// Knocks at `host` with the defaults of the fields.
    pub fn new(host: &str, steps: Vec<Step>) -> Self {
        Self {
            host: host.into(),
            steps,
            family: Family::Any,
            delay: Duration::ZERO,
            source: None,
            raw: false,
            all_addresses: false,
        }
    }

    /// The addresses to knock at: the host's first one that `family` and `source` allow, or all of those with
    /// `all_addresses`. Their port is 0. Asks the name service, where `host` is a name.
    ///
    /// # Errors
    /// [`KnockError::Host`].
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        Ok(host::resolve(&self.host, self.family, self.source, self.all_addresses)?)
    }

    /// Sends the whole sequence to one of `addresses` after the other. When this returns, every packet was handed to the
    /// network, in order. Blocks for the delays.
    ///
    /// # Errors
    /// [`KnockError::Raw`] and [`KnockError::Send`]; [`KnockError::Several`] where that happened at more than one
    /// address. What failed at one address does not keep the others from their knocks. [`KnockError::Stopped`] where the
    /// observer broke off.
    pub fn send(&self, addresses: &[SocketAddr], observer: &mut Observer<'_>) -> Result<(), KnockError> {
        let mut errors = Vec::new();
        for (i, &address) in addresses.iter().enumerate() {
            if i > 0 {
                pause(self.delay, observer)?;
            }
            match self.send_to(address, observer) {
                Err(KnockError::Stopped) => return Err(KnockError::Stopped),
                result => errors.extend(result.err()),
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(KnockError::Several(errors)),
        }
    }

    fn send_to(&self, address: SocketAddr, observer: &mut Observer<'_>) -> Result<(), KnockError> {
        let sender = packet::Sender::new(address, self.source, self.raw)?;
        for (i, &step) in self.steps.iter().enumerate() {
            if i > 0 {
                pause(self.delay, observer)?;
            }
            let mut address = address;
            address.set_port(step.port.get());
            if observer(Some(Hit { address, step })).is_break() {
                return Err(KnockError::Stopped);
            }
            sender.send(address, step.protocol).map_err(|error| KnockError::Send {
                address: address.ip(),
                step,
                error,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_observer_sees_every_knock_and_can_break_off() {
        let mut plan = KnockPlan::new("127.0.0.1", parse_steps("9:udp,10:udp,11:udp").unwrap());
        plan.delay = Duration::from_millis(1);
        let addresses = plan.resolve().unwrap();
        let mut seen = Vec::new();
        let mut observer = |hit: Option<Hit>| {
            seen.extend(hit.map(|hit| hit.step.port.get()));
            if seen.ends_with(&[10]) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert!(matches!(plan.send(&addresses, &mut observer), Err(KnockError::Stopped)));
        assert_eq!(seen, [9, 10]);
        // To break off while it pauses is the same.
        plan.delay = Duration::MAX;
        let mut observer =
            |hit: Option<Hit>| if hit.is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert!(matches!(plan.send(&addresses, &mut observer), Err(KnockError::Stopped)));
    }
}
