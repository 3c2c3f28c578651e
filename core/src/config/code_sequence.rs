//! Sequences that end with the code of an authenticator app, as in `7391,48213,21???,22???`.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use super::steps::{MAX_STEPS, Sequence, Step};
use crate::packet::Protocol;

/// Maximum number of digits of a code in one step.
const MAX_STEP_DIGITS: u8 = 4;
/// The numbers of digits of the codes that apps show.
const CODE_DIGITS: [u8; 2] = [6, 8];

/// A step whose port contains digits of a code: `21???` stands for the ports from 21000 to 21999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeStep {
    first: NonZeroU16,
    digits: u8,
    protocol: Protocol,
}

impl CodeStep {
    /// Returns the step for the digits before the question marks, as a number, and the number of
    /// question marks, 1 to 4. `None` if a value is not a port.
    pub fn new(prefix: u16, digits: u8, protocol: Protocol) -> Option<Self> {
        if !(1..=MAX_STEP_DIGITS).contains(&digits) {
            return None;
        }
        let size = 10_u16.pow(digits.into());
        let first = prefix.checked_mul(size).and_then(NonZeroU16::new)?;
        first.checked_add(size - 1)?;
        Some(Self { first, digits, protocol })
    }

    /// The ports.
    pub fn ports(&self) -> RangeInclusive<NonZeroU16> {
        self.first..=self.first.saturating_add(self.size() - 1)
    }

    /// Number of digits of the code.
    pub fn digits(&self) -> u8 {
        self.digits
    }

    /// The protocol of the packet.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// True if a packet to this port, with this protocol, can be the step.
    pub(crate) fn covers(&self, protocol: Protocol, port: u16) -> bool {
        let ports = self.ports();
        self.protocol == protocol && (ports.start().get()..=ports.end().get()).contains(&port)
    }

    /// Number of ports.
    pub(crate) fn size(&self) -> u16 {
        10_u16.pow(self.digits.into())
    }
}

/// `21???` for TCP, `21???:udp` for UDP.
impl fmt::Display for CodeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks = "?".repeat(self.digits.into());
        write!(f, "{}{marks}", self.first.get() / self.size())?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str(":udp"),
        }
    }
}

/// A sequence of fixed steps, which are secret, and then of the steps that contain the code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodeSequence {
    fixed: Box<[Step]>,
    code: Box<[CodeStep]>,
}

/// The reason why steps are not a valid [`CodeSequence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeSequenceError {
    /// There is no fixed step.
    #[error("the code needs secret fixed steps before it")]
    NoFixedStep,
    /// The number of digits is not that of an app. The value is the number.
    #[error("the steps contain {0} digits of the code; a code has 6 or 8 digits")]
    Digits(u8),
    /// There are more than [`MAX_STEPS`] steps. The value is their number.
    #[error("the sequence has {0} ports; the maximum is {MAX_STEPS}")]
    TooLong(usize),
    /// The ports of the code step at this index, counted from 0, contain another step.
    #[error("the ports of the step {1} overlap those of another step")]
    Overlap(usize, CodeStep),
}

impl CodeSequence {
    /// Creates a sequence from the fixed steps and the steps with digits of the code.
    ///
    /// # Errors
    /// See [`CodeSequenceError`].
    pub fn new(fixed: impl Into<Box<[Step]>>, code: impl Into<Box<[CodeStep]>>) -> Result<Self, CodeSequenceError> {
        let (fixed, code) = (fixed.into(), code.into());
        if fixed.is_empty() {
            return Err(CodeSequenceError::NoFixedStep);
        }
        if fixed.len() + code.len() > MAX_STEPS {
            return Err(CodeSequenceError::TooLong(fixed.len() + code.len()));
        }
        let digits = code.iter().fold(0, |sum: u8, step| sum.saturating_add(step.digits));
        if !CODE_DIGITS.contains(&digits) {
            return Err(CodeSequenceError::Digits(digits));
        }
        let overlaps = |index: &usize| {
            let step = &code[*index];
            let covers = |other: &CodeStep| {
                let (one, two) = (step.ports(), other.ports());
                step.protocol == other.protocol && one.start() <= two.end() && two.start() <= one.end()
            };
            code[..*index].iter().any(covers) || fixed.iter().any(|fixed| step.covers(fixed.protocol, fixed.port.get()))
        };
        match (0..code.len()).find(overlaps) {
            Some(index) => Err(CodeSequenceError::Overlap(index, code[index])),
            None => Ok(Self { fixed, code }),
        }
    }

    /// The fixed steps, at least one.
    pub fn fixed(&self) -> &[Step] {
        &self.fixed
    }

    /// The steps that contain the code.
    pub fn code(&self) -> &[CodeStep] {
        &self.code
    }

    /// Number of digits of the code: 6 or 8.
    pub fn digits(&self) -> u8 {
        self.code.iter().map(CodeStep::digits).sum()
    }

    /// Returns the sequence that a client with this code sends.
    pub fn sequence(&self, code: u32) -> Sequence {
        let mut remaining = self.digits();
        let code_steps = self.code.iter().map(|step| {
            remaining -= step.digits;
            let digits = code / 10_u32.pow(remaining.into()) % u32::from(step.size());
            // Fewer than four digits fit.
            let port = step.first.saturating_add(u16::try_from(digits).unwrap_or(0));
            Step { port, protocol: step.protocol }
        });
        let steps: Vec<Step> = self.fixed.iter().copied().chain(code_steps).collect();
        // There is at least one fixed step, and `new` checked the maximum.
        #[allow(clippy::expect_used, reason = "the number of steps is valid")]
        Sequence::new(steps).expect("1 to 32 steps are a sequence")
    }

    /// True if a step uses TCP.
    pub(crate) fn has_tcp(&self) -> bool {
        let mut protocols =
            self.fixed.iter().map(|step| step.protocol).chain(self.code.iter().map(|step| step.protocol));
        protocols.any(|protocol| protocol == Protocol::Tcp)
    }
}

/// The canonical text, as in `7391,48213,21???,22???`.
impl fmt::Display for CodeSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.fixed {
            write!(f, "{step},")?;
        }
        for (i, step) in self.code.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Protocol::{Tcp, Udp};

    fn fixed(ports: &[u16]) -> Vec<Step> {
        ports.iter().map(|&port| Step { port: port.try_into().unwrap(), protocol: Tcp }).collect()
    }

    fn code(steps: &[(u16, u8)]) -> Vec<CodeStep> {
        steps.iter().map(|&(prefix, digits)| CodeStep::new(prefix, digits, Tcp).unwrap()).collect()
    }

    #[test]
    fn the_digits_of_a_code_are_those_of_the_ports_from_left_to_right() {
        let ports = |steps: &[(u16, u8)], number| {
            CodeSequence::new(fixed(&[7391]), code(steps)).unwrap().sequence(number).to_string()
        };
        assert_eq!(ports(&[(21, 3), (22, 3)], 287_082), "7391,21287,22082");
        assert_eq!(ports(&[(21, 3), (22, 3)], 7), "7391,21000,22007");
        assert_eq!(ports(&[(1, 4), (30, 2)], 287_082), "7391,12870,3082");
        assert_eq!(ports(&[(2, 4), (3, 4)], 94_287_082), "7391,29428,37082");
        assert_eq!(ports(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)], 123_456), "7391,11,22,33,44,55,66");
    }

    #[test]
    fn every_value_of_a_pattern_is_a_port() {
        for (prefix, digits, is_valid) in [
            (21, 3, true),
            (0, 3, false),
            (6, 4, false),
            (5, 4, true),
            (64, 3, true),
            (65, 3, false),
            (655, 2, false),
            (654, 2, true),
            (6552, 1, true),
            (6553, 1, false),
            (1, 5, false),
            (1, 0, false),
            (u16::MAX, 4, false),
        ] {
            assert_eq!(CodeStep::new(prefix, digits, Udp).is_some(), is_valid, "{prefix} {digits}");
        }
        let step = CodeStep::new(21, 3, Udp).unwrap();
        assert_eq!(
            (step.ports().start().get(), step.ports().end().get(), step.to_string()),
            (21_000, 21_999, "21???:udp".into())
        );
    }

    #[test]
    fn invalid_sequences_are_refused() {
        let of = |ports: &[u16], steps: &[(u16, u8)]| CodeSequence::new(fixed(ports), code(steps));
        assert_eq!(of(&[7391, 48_213], &[(21, 3), (22, 3)]).unwrap().to_string(), "7391,48213,21???,22???");
        assert_eq!(of(&[], &[(21, 3), (22, 3)]), Err(CodeSequenceError::NoFixedStep));
        assert_eq!(of(&[1], &[(21, 3)]), Err(CodeSequenceError::Digits(3)));
        assert_eq!(of(&[1], &[]), Err(CodeSequenceError::Digits(0)));
        assert_eq!(of(&[1; 31], &[(21, 3), (22, 3)]), Err(CodeSequenceError::TooLong(33)));
        for (ports, steps, index) in
            [(&[21_999][..], &[(21, 3), (22, 3)], 0), (&[1], &[(21, 3), (21, 3)], 1), (&[1], &[(2, 4), (216, 2)], 1)]
        {
            assert_eq!(of(ports, steps), Err(CodeSequenceError::Overlap(index, code(steps)[index])));
        }
        let udp = CodeStep::new(21, 3, Udp).unwrap();
        let mixed = CodeSequence::new(fixed(&[21_500]), [udp, code(&[(22, 3)])[0]]).unwrap();
        assert_eq!(mixed.to_string(), "21500,21???:udp,22???", "another protocol");
        assert!(mixed.has_tcp());
        let udp =
            CodeSequence::new([Step { protocol: Udp, ..fixed(&[1])[0] }], [udp, CodeStep::new(22, 3, Udp).unwrap()]);
        assert!(!udp.unwrap().has_tcp());
    }
}
