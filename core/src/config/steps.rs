//! The steps of a sequence.

use std::fmt;
use std::num::NonZeroU16;

use crate::packet::Protocol;

/// Maximum number of steps in a sequence (knockd's limit).
pub const MAX_STEPS: usize = 32;

/// One step of a sequence: a packet of this protocol to this port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// The destination port.
    pub port: NonZeroU16,
    /// The protocol of the packet.
    pub protocol: Protocol,
}

/// `7000` for TCP, `7000:udp` for UDP.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.port),
            Protocol::Udp => write!(f, "{}:udp", self.port),
        }
    }
}

/// The secret: 1 to [`MAX_STEPS`] steps in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequence(Box<[Step]>);

/// The reason why a list of steps is not a valid [`Sequence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// There is no step.
    #[error("the sequence is empty; it needs at least one port")]
    Empty,
    /// There are more than [`MAX_STEPS`] steps. The value is their number.
    #[error("the sequence has {0} ports; the maximum is {MAX_STEPS}")]
    TooLong(usize),
}

impl Sequence {
    /// Creates a sequence from the steps.
    ///
    /// # Errors
    /// Fails if there is no step, or if there are more than [`MAX_STEPS`].
    pub fn new(steps: impl Into<Box<[Step]>>) -> Result<Self, SequenceError> {
        let steps = steps.into();
        match steps.len() {
            0 => Err(SequenceError::Empty),
            len if len > MAX_STEPS => Err(SequenceError::TooLong(len)),
            _ => Ok(Self(steps)),
        }
    }

    /// Returns the steps in order, at least one.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// The canonical text, as in `7000,8000:udp,9000`.
impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}
