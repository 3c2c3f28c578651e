//! The knock client: sends a sequence of knocks, or a knock that a key authenticates, and checks
//! whether a port opens.
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
//!
//! With the file of a client's key:
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use portknock_core::client_file::ClientFile;
//! use portknock_core::knock::AuthenticatedKnock;
//!
//! let file = ClientFile::read("alice.key".as_ref())?;
//! let knock = AuthenticatedKnock::of_client("host.example.org", &file);
//! let addresses = knock.resolve()?;
//! knock.send(&addresses, &mut |_| ControlFlow::Continue(()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authenticated;
mod error;
mod packet;
mod pause;
mod steps;
mod until_open;

pub use authenticated::{AuthenticatedKnock, KnockForm, PacketRequest};
pub use error::KnockError;
use pause::pause;
pub use steps::{StepError, parse_steps};
pub use until_open::{DEFAULT_WAIT, ExpectedPort, WatchedStep};

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use crate::config::Step;
use crate::host;
pub use crate::host::Family;

/// The plan of a knock: the host, the steps and the way to send them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnockPlan {
    /// A name, an IPv4 address, or an IPv6 address with or without a zone (`fe80::1%eth0`).
    pub host: String,
    /// The knocks in order.
    pub steps: Vec<Step>,
    /// The IP versions to use. Default: any.
    pub family: Family,
    /// The delay between two knocks. Default: none. Without a delay, packets of one sender can
    /// overtake each other on the path.
    pub delay: Duration,
    /// The source address of the knocks. Default: the kernel's choice for the route.
    pub source: Option<IpAddr>,
    /// Send TCP knocks as bare SYNs through a raw socket, which needs the capability CAP_NET_RAW.
    /// Default: an ordinary connect(2), which needs no privilege.
    pub raw: bool,
    /// Knock at every address of the host, not only at the first. Default: no.
    pub all_addresses: bool,
}

/// One knock that is about to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hit {
    /// The destination, with the port of the step.
    pub address: SocketAddr,
    /// The step.
    pub step: Step,
}

/// A callback that receives each knock before it is sent, and `None` at least every tenth of a
/// second while nothing is sent. Returning `Break` stops the knocks.
pub type Observer<'a> = dyn FnMut(Option<Hit>) -> ControlFlow<()> + 'a;

impl KnockPlan {
    /// Creates a plan that sends `steps` to `host`, with the defaults of the other fields.
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

    /// Returns the addresses to knock at, with port 0: the host's first address that `family` and
    /// `source` permit, or all of them with `all_addresses`. Queries the name service if `host` is
    /// a name.
    ///
    /// # Errors
    /// [`KnockError::Host`].
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, KnockError> {
        Ok(host::resolve(&self.host, self.family, self.source, self.all_addresses)?)
    }

    /// Sends the whole sequence to one of `addresses` after the other. When it returns, every
    /// packet was passed to the network, in order. Blocks for the delays.
    ///
    /// # Errors
    /// [`KnockError::Raw`] and [`KnockError::Send`]; [`KnockError::Several`] if knocking failed at
    /// more than one address. A failure at one address does not keep the others from their knocks.
    /// [`KnockError::Stopped`] if the observer stopped the knocks.
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
        KnockError::of_all(errors)
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
    fn the_observer_receives_every_knock_and_can_stop_them() {
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
        // Stopping during a delay has the same result.
        plan.delay = Duration::MAX;
        let mut observer =
            |hit: Option<Hit>| if hit.is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert!(matches!(plan.send(&addresses, &mut observer), Err(KnockError::Stopped)));
    }
}
